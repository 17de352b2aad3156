"""What a row says about how it was made: cost, data, weights, machine, versions, commit."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medbench.data.evaluation_sets import EvaluationSet
from medbench.images.cropping import SQUASH, crop_of
from medbench.models.features import Features
from medbench.run.units import Unit
from medbench.schema import Encoder, Scores, fingerprint, of_class
from medbench.stats import splits
from medbench.stats.array_sketch import sketch
from medbench.system.environment import machine


def _peak_memory() -> int | None:
    """Megabytes; None where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def row_cost(
    seconds: float,
    features: Sequence[Features],
    pretrainings: Sequence[Mapping[str, Any]],
    device: str,
) -> dict[str, Any]:
    """Return what a row keeps of its cost: seconds of its steps, and memory in MB.

    seconds: solving and scoring this cell (a batched protocol's first cell carries the shared
    work). Memory: peak of the process so far, of a GPU, too. features, pretrainings: of each member
    of a fusion, else one; no features where the protocol trains on pixels.
    """
    speeds = [made.images_per_second for made in features if made.images_per_second]
    memory = {"peak_memory_mb": _peak_memory()}
    if device != "cpu":
        import torch

        memory["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 2**20)
    return {
        "seconds": round(seconds, 3),
        "pretrain_seconds": round(sum(made.get("seconds", 0.0) for made in pretrainings), 1),
        "embed_seconds": round(sum(made.seconds for made in features), 3),
        "embed_images_per_second": round(speeds[0], 1) if len(speeds) == 1 else None,
        **memory,
    }


def provenance(
    unit: Unit,
    target: EvaluationSet,
    draw: np.ndarray,
    features: Sequence[Features],
    pretrainings: Sequence[Mapping[str, Any]],
    device: str,
    scores: Scores,
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a row keeps of its making, as JSON values.

    target: what was scored. draw: (n,) index into the pool. scores: of the target. identity: of the
    cell's setting, see `ingredients.identity`.

    The machine of `features` stands beside the row's own, as they are often older than the row.
    `parts`, `identity`, the features' `checks` and the sketch of the scores serve `check`: they
    tell which part of a row's making moved.
    """
    pool = unit.data.examples["train"].split
    counts = _class_counts(pool.labels[draw], unit.data.task.classes)
    return {
        "data_sha256": unit.data.sha256,
        "parts": {
            **unit.data.digests,
            **({} if target.name in unit.data.parts else {target.name: target.digest}),
        },
        "identity": dict(identity),
        "weights": unit.weights.name,
        "weights_sha256": unit.weights.sha256,
        "budget": unit.weights.budget,
        "members": [member.method.name for member in unit.members],
        "member_weights": list(unit.weights.members),
        "trained_on": list(unit.weights.trained_on),
        "pretraining": [
            _stages(part, made)
            for part, made in zip(unit.members or (unit,), pretrainings, strict=True)
            if part.recipes
        ],
        "subset_sha256": splits.ids_hash(pool.ids[draw]),
        "subset_classes": counts,
        "target": target.file,
        "marks": [*target.marks, *unit.marks],
        "preprocessing": _preprocessing(unit),
        "precision": unit.precision,
        "features": [
            made.made_with and {**made.made_with, "checks": dict(made.checks)} for made in features
        ],
        "protocol": dict(scores.extra),
        "scores": {
            "probabilities": sketch(scores.probabilities),
            "decisions": fingerprint(scores.decisions.tolist())[:16],
        },
        **machine(device),
    }


def _preprocessing(unit: Unit) -> str:
    """In words; of a fusion, what its members have, each once."""
    if unit.encoder.kind == "features":
        return "features as given"
    encoders = [part.encoder for part in unit.members or (unit,)]
    return "; ".join(
        dict.fromkeys(
            f"{_fitted(e)} {e.interpolation}, mean {e.mean}, std {e.std}" for e in encoders
        )
    )


def _fitted(encoder: Encoder) -> str:
    if encoder.crop == SQUASH:
        return f"squash to {encoder.size} px"
    return f"{encoder.crop.split()[0]} crop: {crop_of(encoder.crop).words(encoder.size)} px,"


def _stages(unit: Unit, history: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of every stage, and how it went.

    The last loss, the share of pairs from two images, the watch at its start and end.
    """
    steps = history.get("steps", [])
    watch = [step["knn_auc"] for step in steps if "knn_auc" in step]
    pairs = [step["from_two_images"] for step in steps if "from_two_images" in step]
    return {
        "method": unit.method.name,
        "stages": [recipe.settings() for recipe in unit.recipes],
        "views": steps[-1]["views"] if steps else None,
        "views_per_second": history.get("views_per_second"),
        "final_loss": next((step["loss"] for step in reversed(steps) if "loss" in step), None),
        "pairs_from_two_images": float(np.mean(pairs)) if pairs else None,
        "knn_auc": [watch[0], watch[-1]] if watch else None,
    }


def _class_counts(labels: np.ndarray, classes: tuple[str, ...]) -> dict[str, int]:
    return {name: int(of_class(labels, c).sum()) for c, name in enumerate(classes)}
