"""Procedural stand-ins for the tasks' images: a task without its data runs on them, and every table says so. A file a modality."""

from medbench.tasks.phantom.dermoscopy import derm
from medbench.tasks.phantom.histology import lymph
from medbench.tasks.phantom.ophthalmoscopy import retina
from medbench.tasks.phantom.radiography import chest

__all__ = ["chest", "derm", "lymph", "retina"]
