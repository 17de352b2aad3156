"""A Gaussian process on the logarithm of the number of labels, of the logarithm of the error.

A power law that may be wrong.

The error is the distance to the metric's best value, so that nothing that is predicted passes it.
On the two logarithms a power law without an asymptote is a straight line. Its steepness has a prior
that other curves taught; what a curve does beyond a line is a random walk on log(n), whose variance
grows with the distance from the largest number of labels that was scored. Chance of the draws is
independent noise, smaller with more labels. The size of all of this together is learnt from the
curve, too, so that the predictive distribution is Student's t.

Harvey et al. 2023 (arXiv:2311.18025) have a Gaussian process on log(n) of the score, with a power
law as its mean, and cut it at the ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FLAT = 1e2  # prior variance of the level: it says nothing
#: Of a log error: below, a score is taken for perfect to so much.
SMALLEST = 2e-3


@dataclass(frozen=True)
class Constants:
    """What other curves taught (`benchmarks/advise_choice.py`).

    slope, slope_sd: of the prior of the steepness of log(error) on log(labels). walk: sd of the
    random walk at a distance of 1. noise, decay: the draws' sd of a log error is noise * n **
    -decay. tilt: all of these are as large as said where the error is 1, and error ** -tilt times
    that elsewhere: 0 says that curves are alike on the log of the error, 1 that they are on the
    score itself. prior: degrees of freedom that their size is known with beforehand. factors,
    factors_decided: (horizon, factor) of the half width of a 90 % interval by which curves of a
    source that taught nothing were held: of the AUC, and of metrics of decisions.
    """

    slope: float
    slope_sd: float
    walk: float
    noise: float
    decay: float
    tilt: float
    prior: float
    factors: tuple[tuple[float, float], ...] = ()
    factors_decided: tuple[tuple[float, float], ...] = ()


def noise_of(n: np.ndarray, last: np.ndarray | float, of: Constants) -> np.ndarray:
    """Return the variance that one draw makes of a log error at n labels: (m,).

    n: (m,) numbers of labels. last: the log error of the largest size.
    """
    variance: np.ndarray = (of.noise * n**-of.decay * np.exp(-of.tilt * last)) ** 2
    return variance


def posterior(
    sizes: np.ndarray,
    errors: np.ndarray,
    noise: np.ndarray,
    at: np.ndarray,
    noise_at: np.ndarray,
    of: Constants,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return location and scale (C, H) of log errors at sizes `at`, and the degrees of freedom.

    There are C curves. sizes, errors, noise: (C, K): labels in rising order, log errors, and the
    variances of their draws. at, noise_at: (C, H): labels, and what a draw makes there.
    """
    x, new = np.log(sizes / sizes[:, -1:]), np.log(at / sizes[:, -1:])
    unit = np.exp(-of.tilt * errors[:, -1:])
    slope, slope_variance, walk = of.slope * unit, (of.slope_sd * unit) ** 2, (of.walk * unit) ** 2
    rest = errors + slope * x
    own = _covariance(x, x, slope_variance, walk) + noise[:, :, None] * np.eye(sizes.shape[1])
    cross = _covariance(x, new, slope_variance, walk)
    solved = np.linalg.solve(own, np.concatenate([rest[..., None], cross], axis=2))
    location = -slope * new + (cross * solved[..., :1]).sum(1)
    before = _FLAT + slope_variance * new**2 + walk * np.abs(new) + noise_at
    variance = before - (cross * solved[..., 1:]).sum(1)
    df = of.prior + sizes.shape[1] - 1
    size = (of.prior + (rest * solved[..., 0]).sum(1)) / df
    return location, np.sqrt(np.maximum(variance, 1e-12) * size[:, None]), float(df)


def _covariance(a: np.ndarray, b: np.ndarray, slope: np.ndarray, walk: np.ndarray) -> np.ndarray:
    """Return the covariance of log errors at distances a (C, K) and b (C, H): (C, K, H).

    On log(n) from the largest size, draws aside. slope, walk: (C, 1) variances.
    """
    one, other = a[:, :, None], b[:, None, :]
    steps = np.where(one * other > 0, np.minimum(np.abs(one), np.abs(other)), 0.0)
    covariance: np.ndarray = _FLAT + slope[..., None] * one * other + walk[..., None] * steps
    return covariance


def factor(times: np.ndarray, of: Constants, *, decided: bool) -> np.ndarray:
    """Return what the half width is multiplied by at so many times the labels.

    Between the horizons on log(n), beyond them the nearest. decided: of a metric of decisions.

    times: (m,); returns (m,).
    """
    horizons, values = np.array(of.factors_decided if decided else of.factors).T
    found: np.ndarray = np.interp(np.log(np.maximum(times, 1.0)), np.log(horizons), values)
    return found
