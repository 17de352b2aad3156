"""Official checkpoints by name, and the layouts in which networks are saved. The top level stays light."""

from medbench.checkpoints.fetching import lines, remember, weights
from medbench.checkpoints.layouts import OWN, recognise, state_dict
from medbench.checkpoints.official import CHECKPOINTS, Checkpoint, listed, named
from medbench.fetch import sha256

__all__ = ["CHECKPOINTS", "OWN", "Checkpoint", "lines", "listed", "named", "recognise", "remember", "sha256", "state_dict", "weights"]
