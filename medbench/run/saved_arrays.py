"""What the arrays of a results folder must be.

Folders are copied, edited and shared, and a table must not count what does not belong together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]


def check_target(arrays: Arrays) -> None:
    """Check the arrays of a scored set: ids, labels, groups and what was saved beside them.

    All of the same M images, of the dtypes and ranges that `Store.add_target` writes. Raises
    ValueError.
    """
    _check(arrays, "ids", 1, "US")
    n = len(arrays["ids"])
    labels = arrays.get("labels")
    if labels is not None and labels.ndim == 2:
        _check(arrays, "labels", 2, "iufb", n)
        _check_values("labels", labels, 0, 1)
    else:
        _check(arrays, "labels", 1, "iu", n)
        _check_values("labels", arrays["labels"], 0, np.inf)
    _check(arrays, "groups", 1, "iufbUS", n)
    for name in arrays.keys() - {"ids", "labels", "groups"}:
        _check(arrays, name, 1, "iufbUS", n)


def check_scores(arrays: Arrays) -> None:
    """Check the arrays of a row: probabilities and decisions of the same images, and resamples.

    In the ranges and dtypes that `StoredResults.scores` states. Raises ValueError.
    """
    if "probabilities" in arrays:
        _check(arrays, "probabilities", 2, "f")
        probabilities = arrays["probabilities"]
        if not ((probabilities >= 0) & (probabilities <= 1)).all():  # NaN is none either
            raise ValueError("probabilities lie outside of 0 to 1")
        several = arrays.get("decisions", np.empty(0)).ndim == 2
        _check(
            arrays,
            "decisions",
            2 if several else 1,
            "iufb" if several else "iu",
            len(probabilities),
        )
        if several and arrays["decisions"].shape != probabilities.shape:
            raise ValueError(
                f"decisions are {_what(arrays['decisions'])} beside probabilities {probabilities.shape}"
            )
        _check_values(
            "decisions", arrays["decisions"], 0, 1 if several else probabilities.shape[1] - 1
        )
    check_resamples(arrays.get("resamples"))
    if "metrics" in arrays:
        _check(arrays, "metrics", 1, "U", len(arrays["resamples"]))


def check_resamples(values: np.ndarray | None) -> None:
    """Raise ValueError for other than numbers, a row per metric.

    values: (metrics, R) float.
    """
    _check({} if values is None else {"resamples": values}, "resamples", 2, "f")


def check_together(target: Arrays, scores: Arrays, classes: int | None) -> None:
    """Check that a row's scores are of the images and classes of a scored set.

    classes: of the plan, where it says so. Raises ValueError.
    """
    labels, probabilities = target["labels"], scores["probabilities"]
    width = probabilities.shape[1]
    if len(labels) != len(probabilities):
        raise ValueError(
            f"it holds {len(probabilities)} answers, and the scored set {len(labels)} images"
        )
    if (labels.ndim == 2) != (scores["decisions"].ndim == 2):
        raise ValueError("one of it and the scored set has several labels an image")
    needed = labels.shape[1] if labels.ndim == 2 else int(labels.max(initial=-1)) + 1
    if needed > width or (labels.ndim == 2 and needed < width) or classes not in (None, width):
        raise ValueError(
            f"it holds probabilities of {width} classes, and the scored set has {classes or needed}"
        )


def _check(arrays: Arrays, name: str, ndim: int, kinds: str, n: int | None = None) -> None:
    if name not in arrays:
        raise ValueError(f"it lacks {name}")
    if (
        arrays[name].ndim != ndim
        or arrays[name].dtype.kind not in kinds
        or n not in (None, len(arrays[name]))
    ):
        raise ValueError(f"{name} are {_what(arrays[name])}" + ("" if n is None else f", of {n}"))


def _check_values(name: str, values: np.ndarray, low: float, high: float) -> None:
    """Whole numbers from low to high, or NaN, which is unknown."""
    if ((values < low) | (values > high) | ((values % 1 != 0) & (values == values))).any():
        raise ValueError(f"{name} are not whole numbers from {low:g} to {high:g}")


def _what(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"
