"""Features with a class and a site in them."""

from __future__ import annotations

import numpy as np


def drawn(
    strength: float, seed: int, n_groups: int = 120, skew: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, 16), classes, codes and groups.

    Three images a patient, classes that half overlap, a scanner that shifts one direction.
    """
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), 3)
    classes = (rng.random(n_groups) < 0.3).astype(int)[groups]
    codes = (rng.random(n_groups) < np.where(rng.permutation(n_groups) < 0, 0, skew)).astype(int)[
        groups
    ]
    features = rng.normal(size=(n_groups, 16))[groups] + 0.7 * rng.normal(size=(len(groups), 16))
    features[:, 0] += 2.5 * classes
    features[:, 1] += strength * (2 * codes - 1)
    return features, classes, codes, groups.astype(str)
