"""What the best of several owes to having been chosen.

It is the best in truth, or it was lucky, and mostly both.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

#: Normal draws of all lines: the optimism is known to a seventieth of a standard error.
DRAWN = 5_000


def optimism(values: Sequence[float] | np.ndarray, covariance: np.ndarray) -> float:
    """Return how much higher the largest of K estimates is than what it estimates.

    As it was chosen for being the largest; at least 0. The bias of the maximum by the parametric
    bootstrap (Efron & Tibshirani 1993, section 10.3; of a chosen minimum, Tibshirani & Tibshirani
    2009, Annals of Applied Statistics 3(2):822, doi:10.1214/08-AOAS224): the estimates are drawn
    anew around themselves with their covariance, and what the largest of a draw has of chance is
    averaged. What all lines share moves none of them to the top, and need not be in the covariance.

    Of K equal true values it takes off 70 to 80 % of the bias (.44 of 1.48 standard errors are left
    of nine), of values that spread as much as their errors 80 to 95 %, and of one that stands far
    above the rest nothing. Empirical Bayes shrinkage takes more off where all are equal, and a
    whole standard error too much where one stands apart; one does in most tables.
    (`tests/test_answer.py` holds it.)

    Parameters
    ----------
    values : (K,), the larger the better.
    covariance : (K, K), of the estimates.
    """
    mean = np.asarray(values, float)
    if len(mean) < 2 or not np.isfinite(covariance).all():
        return 0.0
    size, vectors = np.linalg.eigh(covariance)
    chance = _normal(len(mean)) * np.sqrt(np.maximum(size, 0.0)) @ vectors.T
    largest = np.argmax(mean + chance, axis=1)
    return max(0.0, float(chance[np.arange(DRAWN), largest].mean()))


@lru_cache(maxsize=4)
def _normal(k: int) -> np.ndarray:
    """(DRAWN, K), each column of mean 0."""
    drawn = np.random.default_rng(0).standard_normal((DRAWN, k))
    centred: np.ndarray = drawn - drawn.mean(0)
    return centred
