"""The ways to extrapolate a learning curve that `advise_choice.py` judges, on many curves at once.

Scores (C, K) at sizes (C, K) to (C, H) at others.

Each gives its mean and its own standard deviation, of a next draw. use (C, K) bool: which of the
scores count. Scores lie below 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

Extrapolated = tuple[np.ndarray, np.ndarray]
_SHRUNK = 1e-6  # ridge on what a few points cannot tell


def last_value(
    sizes: np.ndarray, scores: np.ndarray, use: np.ndarray, at: np.ndarray
) -> Extrapolated:
    """The last score, for ever.

    Its deviation that of the scores from their own line over log(n).
    """
    x = np.log(sizes / sizes[:, -1:])
    _, sd, _ = _line(np.stack([np.ones_like(x), x], 2), scores, use.astype(float))
    return np.repeat(scores[:, -1:], at.shape[1], 1), np.repeat(sd[:, None], at.shape[1], 1)


def power_law(
    sizes: np.ndarray, scores: np.ndarray, use: np.ndarray, at: np.ndarray
) -> Extrapolated:
    """POW3, c - a n**-b by least squares weighted by n, a >= 0, c <= 1.

    The deviation by the delta method from the residuals.
    """
    weight = use * sizes / sizes[:, -1:]
    found = [
        _shape(sizes, scores, weight, at, lambda n, b=b: -((n / sizes[:, -1:]) ** -b), 3)
        for b in np.geomspace(0.03, 2.0, 40)
    ]
    cost = np.stack([each[2] for each in found])
    mean, sd = (np.stack([each[i] for each in found]) for i in (0, 1))
    best = cost.argmin(0)
    pick = best, np.arange(len(scores))
    # exponents that fit about as well
    spread = np.where((cost < 2 * cost.min(0) + 1e-6)[..., None], mean, mean[pick]).std(0)
    return mean[pick], np.hypot(sd[pick], spread)


def ensemble(
    sizes: np.ndarray, scores: np.ndarray, use: np.ndarray, at: np.ndarray
) -> Extrapolated:
    """POW3, POW4, MMF4, arctan and log, averaged by how well each shape fits, shapes of one family
    sharing its weight."""
    top = sizes[:, -1:]
    shapes: list[list[Callable[[np.ndarray], np.ndarray]]] = [
        [lambda n, b=b: -((n / top) ** -b) for b in np.geomspace(0.03, 2.0, 12)],
        [
            lambda n, b=b, d=d: -((n / top + d) ** -b)
            for b, d in product(np.geomspace(0.05, 3.0, 8), (0.1, 0.5, 2.0))
        ],
        [
            lambda n, b=b, d=d: -1 / (1 + (n / top / d) ** b)
            for b, d in product(np.geomspace(0.2, 3.0, 8), (0.05, 0.3, 1.0, 4.0))
        ],
        [
            lambda n, d=d: 2 / np.pi * np.arctan(np.pi / 2 * n / top / d)
            for d in np.geomspace(0.02, 20, 12)
        ],
        [lambda n: np.log(n / top)],
    ]
    means, sds, logs = [], [], []
    for family in shapes:
        for shape in family:
            mean, sd, cost = _shape(sizes, scores, use.astype(float), at, shape, 2)
            means.append(mean)
            sds.append(sd)
            logs.append(-cost / 2 / 0.02**2 - np.log(len(family)))
    log, mean, sd = np.stack(logs), np.stack(means), np.stack(sds)
    weight = np.exp(log - log.max(0))
    weight = (weight / weight.sum(0))[..., None]
    centre = (weight * mean).sum(0)
    return centre, np.sqrt((weight * (sd**2 + (mean - centre) ** 2)).sum(0))


def harvey(arctan: bool) -> Callable[..., Extrapolated]:
    """Harvey et al. 2023 with a power law or arctan as the mean, their priors (models.py, priors.py
    of their code), the posterior's mode on a grid.

    Scale of the kernel: as their prior's, 6 sd over the range that is left equals five eighths of
    it. Its other numbers and the noise: on the grid.
    """

    def extrapolate(
        sizes: np.ndarray, scores: np.ndarray, use: np.ndarray, at: np.ndarray
    ) -> Extrapolated:
        best = np.full(len(scores), -np.inf)
        mean, sd = np.zeros((2, *at.shape))
        for noise, length in product((0.006, 0.01, 0.015, 0.025), (0.2, 0.6, 1.5)):
            prior = -((noise - 0.01) ** 2) / 2 / 0.005**2 - (length + 1.23) ** 2 / 2 / 2.12**2
            kernel = _kernel(sizes, scores, use, at, noise, length)
            for log, m, s in _means(sizes, scores, at, kernel, arctan):
                better = log + prior > best
                best = np.where(better, log + prior, best)
                mean[better], sd[better] = m[better], s[better]
        return mean, sd

    return extrapolate


def _kernel(
    sizes: np.ndarray,
    scores: np.ndarray,
    use: np.ndarray,
    at: np.ndarray,
    noise: float,
    length: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(inverse (C, K, K), its log determinant, cross (C, K, H), sd (C, H)) of the squared
    exponential on log10(n)."""
    scale = np.maximum((5 / 8 * (1 - scores[:, -1]) / 6) ** 2 - 0.01**2, 1e-6)[:, None, None]
    x, new = np.log10(sizes), np.log10(at)
    own = scale * np.exp(-((x[:, :, None] - x[:, None]) ** 2) / 2 / length**2)
    own += np.eye(x.shape[1]) * np.where(use, noise**2, 1e3)[:, :, None]
    cross = scale * np.exp(-((x[:, :, None] - new[:, None]) ** 2) / 2 / length**2)
    inverse = np.linalg.inv(own)
    variance = scale[:, 0] + noise**2 - np.einsum("ckh,ckj,cjh->ch", cross, inverse, cross)
    return inverse, np.linalg.slogdet(own)[1], cross, np.sqrt(np.maximum(variance, 1e-9))


def _means(
    sizes: np.ndarray,
    scores: np.ndarray,
    at: np.ndarray,
    kernel: tuple[np.ndarray, ...],
    arctan: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(log posterior (C,), mean (C, H), sd (C, H)) of each mean function on a grid; epsilon's prior
    falls from 0 to what the last score leaves."""
    inverse, determinant, cross, sd = kernel
    left, top = 1 - scores[:, -1:], sizes[:, -1:]

    def posterior(
        rest: np.ndarray, new: np.ndarray, epsilon: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        weighted = np.einsum("ckj,cj->ck", inverse, rest)
        log = (
            -0.5 * (rest * weighted).sum(1)
            - 0.5 * determinant
            + np.log(np.maximum(1 - (epsilon / np.maximum(left, 1e-6))[:, 0], 1e-3))
        )
        return log, new + np.einsum("ckh,ck->ch", cross, weighted), sd

    def fitted(basis: np.ndarray, rest: np.ndarray) -> np.ndarray:
        solved = np.einsum("ckj,cj->ck", inverse, basis)
        return ((solved * rest).sum(1) / (solved * basis).sum(1))[:, None]

    if arctan:
        for steep, offset in product(np.geomspace(0.02, 20, 8), np.geomspace(0.1, 3, 7)):
            function = lambda n, a=steep, b=offset: (
                2 / np.pi * np.arctan(a * np.pi / 2 * n / top + b)
            )
            rest = scores - function(sizes)
            epsilon = np.clip(-fitted(np.ones_like(rest), rest), 0, left)
            yield posterior(rest + epsilon, function(at) - epsilon, epsilon)
    else:
        for share, power in product((0.0, 0.2, 0.4, 0.6, 0.8, 0.95), np.geomspace(0.05, 0.95, 10)):
            epsilon, basis = share * left, -(sizes**-power)
            slope = np.maximum(fitted(basis, scores - (1 - epsilon)), 1e-6)
            yield posterior(
                scores - (1 - epsilon) - slope * basis, 1 - epsilon - slope * at**-power, epsilon
            )


def _shape(
    sizes: np.ndarray,
    scores: np.ndarray,
    weight: np.ndarray,
    at: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    used: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and deviation (C, H) and cost (C,) of c + a f(n), a >= 0 and at most 1 for ever."""
    known, new = function(sizes), function(at)
    design = np.stack([np.ones_like(known), known], 2)
    coefficients, sd, cost = _line(design, scores, weight, used)
    level, slope = coefficients[:, :1], np.maximum(coefficients[:, 1:], 0.0)
    flat = (weight * scores).sum(1, keepdims=True) / weight.sum(1, keepdims=True)
    level = np.where(coefficients[:, 1:] < 0, flat, level)
    gram = np.einsum("ck,cki,ckj->cij", weight, design, design) + _SHRUNK * np.eye(2)
    future = np.stack([np.ones_like(new), new], 2)
    spread = np.einsum("chi,cij,chj->ch", future, np.linalg.inv(gram), future)
    fitted = level + slope * known
    cost = (weight * (scores - fitted) ** 2).sum(1)
    return np.minimum(level + slope * new, 1.0), sd[:, None] * np.sqrt(1 + spread), cost


def _line(
    design: np.ndarray, scores: np.ndarray, weight: np.ndarray, used: int = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients (C, 2), residual deviation and cost (C,) of weighted least squares."""
    gram = np.einsum("ck,cki,ckj->cij", weight, design, design) + _SHRUNK * np.eye(2)
    right = np.einsum("ck,cki,ck->ci", weight, design, scores)
    coefficients = np.linalg.solve(gram, right[..., None])[..., 0]
    cost = (weight * (scores - np.einsum("cki,ci->ck", design, coefficients)) ** 2).sum(1)
    left = np.maximum((weight > 0).sum(1) - used, 1)
    return coefficients, np.sqrt(cost / left), cost


CANDIDATES: dict[str, Callable[..., Extrapolated]] = {
    "last value": last_value,
    "power law": power_law,
    "GP, power law (Harvey)": harvey(arctan=False),
    "GP, arctan (Harvey)": harvey(arctan=True),
    "ensemble": ensemble,
}
