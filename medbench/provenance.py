"""What a row says about how it was made: cost, data, weights, machine, versions, commit."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from medbench import sampling
from medbench.embed import Features
from medbench.grid import Unit


def cost(seconds: float, features: Features, device: str) -> dict[str, Any]:
    """seconds: solving and scoring this cell (a batched protocol's first cell carries the shared work). Memory: peak of the process."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes on Linux
    memory = {"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)}
    if device != "cpu":
        import torch

        memory["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return {
        "seconds": round(seconds, 3),
        "embed_seconds": round(features.seconds, 3),
        "embed_images_per_second": features.images_per_second and round(features.images_per_second, 1),
        **memory,
    }


def provenance(unit: Unit, draw: np.ndarray, target: str, device: str, extra: dict[str, Any]) -> dict[str, Any]:
    pool, encoder = unit.data.pool, unit.encoder
    counts = _class_counts(pool.labels[draw], unit.data.task.classes)
    return {
        "data_sha256": unit.data.sha256,
        "weights": unit.weights.name,
        "weights_sha256": unit.weights.sha256,
        "trained_on": list(unit.weights.trained_on),
        "subset_sha256": sampling.ids_hash(pool.ids[draw]),
        "subset_classes": counts,
        "target": target,
        "marks": list(unit.data.marks),
        "preprocessing": f"squash to {encoder.size} px {encoder.interpolation}, mean {encoder.mean}, std {encoder.std}"
        if encoder.kind != "features"
        else "features as given",
        "precision": unit.precision,
        "protocol": extra,
        **_machine(device),
    }


@cache
def _machine(device: str) -> dict[str, Any]:
    import torch

    packages = ("medbench", "numpy", "scikit-learn", "timm", "torch")
    name = platform.processor() or platform.machine()
    return {
        "device": torch.cuda.get_device_name(device) if device != "cpu" else f"cpu ({name}, {torch.get_num_threads()} threads)",
        "versions": {"python": platform.python_version(), **{package: metadata.version(package) for package in packages}},
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The git commit of medbench's own source, with `+` where files differ from it; None for an installed package."""
    source = Path(__file__).resolve().parent
    if not (source.parent / ".git").exists():
        return None
    git = ["git", "-C", str(source)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "--", "."], capture_output=True, text=True)
    return head.stdout.strip() + ("+" if changed.stdout else "") if head.returncode == 0 else None


def _class_counts(labels: np.ndarray, classes: tuple[str, ...]) -> dict[str, int]:
    count = [(labels == c).sum() if labels.ndim == 1 else (labels[:, c] == 1).sum() for c in range(len(classes))]
    return {name: int(n) for name, n in zip(classes, count, strict=True)}
