"""Probabilities at another temperature."""

from __future__ import annotations

import numpy as np

from medbench.schema import Kind

#: Below it a probability counts as this in a logarithm: the resolution of float32, in which scores
#: are saved (scikit-learn's choice too).
SMALLEST = float(np.finfo(np.float32).eps)


def tempered(
    probabilities: np.ndarray, t: float, kind: Kind, possible: np.ndarray | None = None
) -> np.ndarray:
    """Return probabilities at temperature t > 0: (M, C) float64.

    softmax(log p / t), of several labels sigmoid(logit p / t) (Guo et al. 2017). probabilities: (M,
    C) in [0, 1]. Those below float32's resolution count as that, but a class without any
    probability keeps none: those that are not `possible` (C,) bool; None: those of which no image
    here has any.
    """
    p = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    if kind == "multilabel":
        scaled: np.ndarray = 1 / (1 + np.exp(-np.log(p / (1 - p)) / t))
        return scaled
    shown = (probabilities > 0).any(0) if possible is None else possible
    logits = np.where(shown, np.log(p) / t, -np.inf)
    raised = np.exp(logits - logits.max(1, keepdims=True))
    softened: np.ndarray = raised / raised.sum(1, keepdims=True)
    return softened
