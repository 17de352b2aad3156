"""A learning curve as it was scored, of one method and protocol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medbench.stats.extrapolation.prediction import Prediction, predict
from medbench.stats.extrapolation.shape import NONE
from medbench.stats.metrics import metric as metric_of


@dataclass(frozen=True, eq=False)
class ScoredCurve:
    """Hold the scores of one leaderboard line at K numbers of labels.

    name: of the line, in words. sizes, scores, errors, draws (K,): as `predict` takes them, sizes
    in rising order. shared: the standard error that the test images give the last score. labelled:
    the images that have labels. held_out: the last score on images that were held out inside the
    labelled subset, by which lines are chosen among; NaN where there is none. luck: what a line
    owes to having been chosen by these scores, by which `predicted` lowers its curve.
    """

    name: str
    metric: str
    sizes: np.ndarray
    scores: np.ndarray
    errors: np.ndarray
    draws: np.ndarray
    shared: float
    labelled: float
    held_out: float = float("nan")
    luck: float = 0.0

    @property
    def sign(self) -> float:
        """1 where a higher score is better, else -1."""
        return metric_of(self.metric).sign

    @property
    def best(self) -> float:
        """The metric's best value."""
        low, high = metric_of(self.metric).range
        return high if self.sign > 0 else low

    @property
    def perfect(self) -> bool:
        """Whether the score is the metric's best at every size.

        Then nothing can be seen of how it came there.
        """
        return bool((np.abs(self.best - self.scores) <= NONE).all())

    def predicted(self, at: np.ndarray | None = None) -> Prediction:
        """Predict the curve at other numbers of labels, see `predict`, where errors are named, too.

        at: (m,) numbers of labels; None: a grid.
        """
        low, high = metric_of(self.metric).range
        best, worst = (high, low) if self.sign > 0 else (low, high)
        scores = np.clip(self.scores - self.sign * self.luck, low, high)
        about = {"labelled": self.labelled, "shared": self.shared, "best": best, "worst": worst}
        return predict(
            self.sizes, scores, at, self.errors, self.draws, **about, decided=self.metric != "auc"
        )
