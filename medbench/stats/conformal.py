"""Sets of classes that hold the right one with a stated probability.

Whatever the model (split conformal prediction), calibrated by groups. An image's score is 1 - the
probability of its right class; a set holds every class whose own score is at most a quantile of
these (Sadinle, Lei & Wasserman 2019, JASA 114:223, the least ambiguous sets). Images of one patient
are alike: each group counts once, whatever its number of images, as groups are what is exchangeable
(Dunn, Wasserman & Ramdas 2022, JASA 118:2491, pooled CDFs). The promise is for an image of a new
group.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

#: Coverages that a model keeps a quantile for.
COVERAGES = tuple(round(0.5 + i / 100, 2) for i in range(50))


def calibrate(right: np.ndarray, groups: np.ndarray) -> dict[str, float | None]:
    """Find for each coverage the quantile of held-out scores: "0.90" -> quantile.

    Split conformal prediction with the score 1 - p of the right class; each group weighs as one.

    Parameters
    ----------
    right : ndarray (n,)
        The probability in [0, 1] that each held-out image's right class was given.
    groups : ndarray (n,)
        The group of each image.

    Returns
    -------
    dict
        Quantiles in [0, 1]; None where there are too few groups to promise the coverage.
    """
    names, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    scores = 1 - np.asarray(right, float)
    order = np.argsort(scores, kind="stable")
    share = np.cumsum((1 / sizes[member] / (len(names) + 1))[order])  # a new group is one more
    found: dict[str, float | None] = {}
    for coverage in COVERAGES:
        place = int(np.searchsorted(share, coverage - 1e-9))
        found[f"{coverage:.2f}"] = float(scores[order][place]) if place < len(scores) else None
    return found


def sets(probabilities: np.ndarray, quantile: float) -> np.ndarray:
    """Return the classes in each image's set: (M, C) bool.

    probabilities: (M, C) in [0, 1]. quantile: of `calibrate`. The most probable class always is in,
    so that no set is empty.
    """
    inside: np.ndarray = 1 - probabilities.astype(float) <= quantile + 1e-12
    inside[np.arange(len(inside)), probabilities.argmax(1)] = True
    return inside


def quantile_of(quantiles: Mapping[str, float | None], coverage: float) -> float | None:
    """Return the quantile of a coverage in [0, 1], by whole percent; None where there is none."""
    return quantiles.get(f"{coverage:.2f}")
