"""What a row says about how it was made: cost, data, weights, machine, versions, commit."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from medbench import sampling
from medbench.embed import Features
from medbench.machine import machine
from medbench.units import Unit


def cost(seconds: float, features: Sequence[Features], device: str) -> dict[str, Any]:
    """seconds: solving and scoring this cell (a batched protocol's first cell carries the shared work). Memory: peak of the process so far.

    features: of each member of a fusion, else one; none where the protocol trains on pixels.
    """
    speeds = [made.images_per_second for made in features if made.images_per_second]
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes on Linux
    memory = {"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)}
    if device != "cpu":
        import torch

        memory["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 2**20)
    return {
        "seconds": round(seconds, 3),
        "embed_seconds": round(sum(made.seconds for made in features), 3),
        "embed_images_per_second": round(speeds[0], 1) if len(speeds) == 1 else None,
        **memory,
    }


def provenance(unit: Unit, draw: np.ndarray, features: Sequence[Features], device: str, extra: dict[str, Any]) -> dict[str, Any]:
    """extra: what the protocol has to say of its solution. `features` are often older than the row: their machine stands beside its own."""
    pool, encoder = unit.data.pool, unit.encoder
    counts = _class_counts(pool.labels[draw], unit.data.task.classes)
    return {
        "data_sha256": unit.data.sha256,
        "weights": unit.weights.name,
        "weights_sha256": unit.weights.sha256,
        "trained_on": list(unit.weights.trained_on),
        "subset_sha256": sampling.ids_hash(pool.ids[draw]),
        "subset_classes": counts,
        "target": unit.cells[0].target,
        "marks": list(unit.data.marks),
        "preprocessing": f"squash to {encoder.size} px {encoder.interpolation}, mean {encoder.mean}, std {encoder.std}"
        if encoder.kind != "features"
        else "features as given",
        "precision": unit.precision,
        "features": [made.made_with for made in features],
        "protocol": extra,
        **machine(device),
    }


def _class_counts(labels: np.ndarray, classes: tuple[str, ...]) -> dict[str, int]:
    count = [(labels == c).sum() if labels.ndim == 1 else (labels[:, c] == 1).sum() for c in range(len(classes))]
    return {name: int(n) for name, n in zip(classes, count, strict=True)}
