"""A fitted model that has left its results: written to a folder, read again, and used on images."""

from medbench.models.exported.folder import Parts, write
from medbench.models.exported.head import HEADS, ComponentHead, Head, LinearHead
from medbench.models.exported.model import ExportedModel, load

__all__ = ["HEADS", "ComponentHead", "ExportedModel", "Head", "LinearHead", "Parts", "load", "write"]
