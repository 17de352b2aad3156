"""Procedural stand-ins for the tasks' images.

A task without its data runs on them, and every table says so. A file a modality.
"""

from medbench.tasks.phantoms.chest_xray import chest
from medbench.tasks.phantoms.dermoscopy import derm
from medbench.tasks.phantoms.fundus import retina
from medbench.tasks.phantoms.histology import lymph

__all__ = ["chest", "derm", "lymph", "retina"]
