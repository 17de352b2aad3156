"""JPEGs as no camera writes them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def many_scans(pixels: np.ndarray, scans: int) -> bytes:
    """A progressive JPEG of grey pixels whose last pass over them comes so many times more."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * (scans + 1) + content[-2:]
