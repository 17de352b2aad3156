"""A fitted model that has left its results: written to a folder, read again, and used on images."""

from medbench.models.exported.folder import write
from medbench.models.exported.head import HEADS, KEEP_VECTORS, ComponentHead, Head, LinearHead
from medbench.models.exported.layout import Parts, Tower
from medbench.models.exported.loading import load
from medbench.models.exported.model import ExportedModel
from medbench.models.exported.trained_heads import FusedHead, LayerHead
from medbench.models.exported.training_vectors import NeighbourHead, SupportHead

__all__ = [
    "HEADS",
    "KEEP_VECTORS",
    "ComponentHead",
    "ExportedModel",
    "FusedHead",
    "Head",
    "LayerHead",
    "LinearHead",
    "NeighbourHead",
    "Parts",
    "SupportHead",
    "Tower",
    "load",
    "write",
]
