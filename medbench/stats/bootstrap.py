"""Resamples of the test set: whole groups drawn with replacement, or exchanged between two methods.

What a row depends on lies here.

The resamples are the same matrix for every method, seed and metric, so that any two can be compared
image for image. Whole groups (patients, lesions) are drawn, because images of one group are not
independent (Davison & Hinkley 1997, section 3.8, strategy 1).
"""

from __future__ import annotations

import numpy as np

RESAMPLES = 1  # an ingredient, see `schema.ingredients`


def group_weights(groups: np.ndarray, n_resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Count how often each of N images is in each of R resamples: (N, R) uint8.

    As `metrics.score` takes them. As many whole groups as there are are drawn with replacement.
    Depends on the group names and the seed alone: images in another order keep their weights, and
    more resamples begin with the same ones. groups: (N,) of anything that sorts.
    """
    group_names, member = np.unique(groups, return_inverse=True)
    n = len(group_names)
    rng = np.random.default_rng(seed)
    # more than 255 of one group: only if over 255 groups, with odds below 1 in 255!
    counts = np.empty((n, n_resamples), np.uint8)
    for r in range(n_resamples):
        counts[:, r] = np.bincount(rng.integers(n, size=n), minlength=n)
    return counts[member]
