"""Calibration slope and intercept.

The logistic regression of a label on the logit of its probability, on every resample at once (Cox
1958).
"""

from __future__ import annotations

import numpy as np

from medbench.schema import counted

_COLUMNS = 100  # resamples at a time
# of Newton's method, halved where it would lose: fifteen do unless the classes hardly overlap
_STEPS = 200
_SETTLED = 1e-9  # of the log-likelihood's gain that is left, a unit of weight


def recalibration(
    logits: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return slope and intercept (R,) of the logistic regression of outcomes on logits.

    positive (N,) bool on logits (N,), weighted by each column of weights (N, R). NaN where no line
    is the most likely (`without_slope`).
    """
    slopes, intercepts = np.full(weights.shape[1], np.nan), np.full(weights.shape[1], np.nan)
    centre, scale = logits.mean(), logits.std() or 1.0
    z = np.column_stack([np.ones(len(logits)), (logits - centre) / scale])
    there = np.flatnonzero(~without_slope(logits, positive, weights))
    for start in range(0, len(there), _COLUMNS):
        columns = there[start : start + _COLUMNS]
        b0, b1 = _most_likely(z, positive.astype(float), weights[:, columns].astype(float))
        slopes[columns], intercepts[columns] = b1 / scale, b0 - b1 * centre / scale
    return slopes, intercepts


def without_slope(logits: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return which resamples have no recalibration slope: (R,) bool.

    logits, positive, weights: as `recalibration` takes them. A threshold separates the classes of a
    resample, both may lie on it, or one class is absent: then the likelihood grows without an end
    (Albert & Anderson 1984, Biometrika 71:1), or does not depend on a slope.
    """
    drawn = weights > 0

    def ends(members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and the highest logit among the drawn members, per resample."""
        z, there = logits[members, None], drawn[members]
        return np.where(there, z, np.inf).min(0, initial=np.inf), np.where(there, z, -np.inf).max(
            0, initial=-np.inf
        )

    (low_negative, high_negative), (low_positive, high_positive) = ends(~positive), ends(positive)
    parted: np.ndarray = (high_negative <= low_positive) | (high_positive <= low_negative)
    return parted


def _most_likely(z: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (2, r) coefficients of the logistic regression of y (N,) on z (N, 2).

    A column of weights (N, r) each, by Newton's method. The log-likelihood is concave: a step that
    is halved until it gains enough (Armijo) comes to its top from anywhere.
    """
    from scipy.special import expit

    total = weights.sum(0)
    share = y @ weights / total
    beta = np.stack([np.log(share / (1 - share)), np.zeros(len(share))])
    going = np.arange(len(share))
    loss = _loss(z, y, weights, beta)
    for _ in range(_STEPS):
        w, b = weights[:, going], beta[:, going]
        p = expit(z @ b)
        gradient, curvature = z.T @ (w * (y[:, None] - p)), w * p * (1 - p)
        h00, h01, h11 = curvature.sum(0), z[:, 1] @ curvature, z[:, 1] ** 2 @ curvature
        h00, h11 = h00 * (1 + 1e-12) + 1e-300, h11 * (1 + 1e-12) + 1e-300
        step = np.stack(
            [h11 * gradient[0] - h01 * gradient[1], h00 * gradient[1] - h01 * gradient[0]]
        ) / (h00 * h11 - h01**2)
        gain = (gradient * step).sum(0)
        length = np.ones(len(going))
        for _ in range(60):
            tried = _loss(z, y, w, b + length * step)
            worse = tried > loss[going] - 1e-4 * length * gain
            if not worse.any():
                break
            length[worse] /= 2
        beta[:, going], loss[going] = b + length * step, tried
        going = going[gain > _SETTLED * total[going]]
        if not len(going):
            return beta
    raise ArithmeticError(
        f"the recalibration of {counted(len(going), 'resample')} did not settle in {_STEPS} steps"
    )


def _loss(z: np.ndarray, y: np.ndarray, weights: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """(r,) minus the log-likelihood: log(1 + exp(-t)) of t, the logit of what is true."""
    t = (z @ beta) * np.where(y[:, None] == 1, -1.0, 1.0)
    losses: np.ndarray = (weights * np.logaddexp(0, t)).sum(0)
    return losses
