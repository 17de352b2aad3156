"""A fitted model that has left its results: written to a folder, read again, and used on images."""

from medbench.models.exported.folder import Parts, write
from medbench.models.exported.head import HEADS, KEEP_VECTORS, ComponentHead, Head, LinearHead
from medbench.models.exported.loading import load
from medbench.models.exported.model import ExportedModel

__all__ = [
    "HEADS",
    "KEEP_VECTORS",
    "ComponentHead",
    "ExportedModel",
    "Head",
    "LinearHead",
    "Parts",
    "load",
    "write",
]
