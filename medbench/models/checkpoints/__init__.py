"""Official checkpoints by name, and the layouts in which networks are saved.

The top level stays light.
"""

from medbench.models.checkpoints.bit import content_hash
from medbench.models.checkpoints.catalogue import (
    CHECKPOINTS,
    Checkpoint,
    checkpoint_named,
    default_checkpoint,
)
from medbench.models.checkpoints.download import lines, records, remember, weights
from medbench.models.checkpoints.state_dicts import OWN, recognise, state_dict
from medbench.system.download import sha256

__all__ = [
    "CHECKPOINTS",
    "OWN",
    "Checkpoint",
    "checkpoint_named",
    "content_hash",
    "default_checkpoint",
    "lines",
    "recognise",
    "records",
    "remember",
    "sha256",
    "state_dict",
    "weights",
]
