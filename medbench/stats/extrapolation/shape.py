"""What a learning curve looks like so far: whether there is anything to extrapolate."""

from __future__ import annotations

from typing import Literal

import numpy as np

Shape = Literal["rising", "flat", "falling", "perfect"]
#: An error so small is none to three digits.
NONE = 5e-4
#: Standard errors of its slope by which a curve must fall, and within which it is flat.
FALLS = 1.645


def steepness(sizes: np.ndarray, errors: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return by how many of its standard errors log(error) falls with log(n): (C,).

    sizes, errors, noise: (C, K), of C curves: labels in rising order, log errors, and the variances
    of their draws. Weighted least squares.
    """
    x, weight = np.log(sizes), 1 / noise
    centred = x - (weight * x).sum(1, keepdims=True) / weight.sum(1, keepdims=True)
    found: np.ndarray = -(weight * centred * errors).sum(1) / np.sqrt((weight * centred**2).sum(1))
    return found


def shape_of(sizes: np.ndarray, left: np.ndarray, errors: np.ndarray, noise: np.ndarray) -> Shape:
    """Return the shape of one curve of K > 1 sizes: perfect, falling, flat or rising.

    sizes, left, errors, noise: (K,) each, labels in rising order, errors, log errors (of errors
    that are not 0), and the variances of their draws.
    """
    if left[-1] <= NONE:
        return "perfect"
    steep = float(steepness(sizes[None], errors[None], noise[None])[0])
    return "falling" if steep < -FALLS else "flat" if steep < 1 else "rising"
