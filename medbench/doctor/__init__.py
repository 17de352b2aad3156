"""Does this encoder get its images as it was trained, and what does it run on? See `diagnosis`."""

from __future__ import annotations

from medbench.doctor.bug_report import device_report
from medbench.doctor.diagnosis import KNOWN, Candidate, Finding, Report, diagnose, examine, judge
from medbench.doctor.passing import is_norm, reference_images, resize, training_pixels
from medbench.doctor.subject import subject

__all__ = [
    "KNOWN",
    "Candidate",
    "Finding",
    "Report",
    "device_report",
    "diagnose",
    "examine",
    "is_norm",
    "judge",
    "reference_images",
    "resize",
    "subject",
    "training_pixels",
]
