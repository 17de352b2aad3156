"""Official checkpoints by name, and the layouts in which networks are saved. The top level stays light."""

from medbench.checkpoints.fetching import lines, remember, sha256, weights
from medbench.checkpoints.layouts import OWN, recognise, state_dict
from medbench.checkpoints.official import CHECKPOINTS, Checkpoint, listed, named

__all__ = ["CHECKPOINTS", "OWN", "Checkpoint", "lines", "listed", "named", "recognise", "remember", "sha256", "state_dict", "weights"]
