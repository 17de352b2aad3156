"""Does this encoder get its images as it was trained, and what does it run on? See `diagnosis`."""

from __future__ import annotations

from medbench.audit.encoder.activations import (
    is_norm,
    reference_images,
    resize_images,
    training_pixels,
)
from medbench.audit.encoder.diagnosis import diagnose, judge
from medbench.audit.encoder.encoder_report import Candidate, EncoderFinding, EncoderReport
from medbench.audit.encoder.environment_report import device_report
from medbench.audit.encoder.loading import subject
from medbench.audit.encoder.preprocessing_trials import KNOWN, try_preprocessings

__all__ = [
    "KNOWN",
    "Candidate",
    "EncoderFinding",
    "EncoderReport",
    "device_report",
    "diagnose",
    "is_norm",
    "judge",
    "reference_images",
    "resize_images",
    "subject",
    "training_pixels",
    "try_preprocessings",
]
