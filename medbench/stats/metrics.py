"""(labels, scores) -> numbers, for a test set or for all its bootstrap resamples at once.

A resample is a column of integer image weights: an image that was drawn twice has weight 2. Every
metric except AUC and ECE is a ratio of integer sums over images, ECE is linear in the weights
inside each bin: one matrix product gives them all. AUC sorts once a class, then needs one
cumulative sum of the weights in that order. All sums are of integers (but ECE's) and exact. Nothing
here draws a random number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from medbench.schema import Kind, UserError, written_by
from medbench.schema.errors import place_of
from medbench.schema.own_code import code_hash, imported


@dataclass(frozen=True)
class Metric:
    """What is known of a metric beside how `score` computes it.

    title: in tables and figures. low, high: its range. kinds: of the tasks that have it; () for
    all. grows_by_chance: chance makes it larger on fewer images, so that it is not compared between
    sets of unequal size. version: of its definition, an ingredient (`schema.ingredients`).
    of_counts: what computes a metric of decisions that `score` does not know by itself, from the
    weighted images that were decided rightly, are of, and were decided to be of each class: three
    arrays (Q, K, r) -> (r,), NaN = undefined. Q = 1 problem of K classes; of several labels Q
    labels of K = 2.
    """

    name: str
    title: str
    low: float = 0.0
    high: float = 1.0
    higher_is_better: bool = True
    kinds: tuple[Kind, ...] = ()
    grows_by_chance: bool = False
    version: int = 1
    of_counts: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None

    @property
    def code(self) -> str:
        """Hash (16 digits) of the file that computes an added metric; "" of medbench's own.

        A row keeps it, so that a table sees that a row's value is another definition's.
        """
        return _code_behind(self.of_counts) if self.of_counts else ""

    def counted(self, hits: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Return (r,) float64 of an added metric from counts (Q, K, r), as `of_counts` takes them.

        Raises UserError with file and line where that function fails or gives anything else.
        """
        assert self.of_counts, "medbench's own metrics are computed by `score`"
        r = hits.shape[-1]
        with written_by(self.of_counts, f"metric '{self.name}'"):
            # copies: what it writes into them would change medbench's own metrics
            given = self.of_counts(hits.copy(), support.copy(), predicted.copy())
        values = np.asarray(given) if isinstance(given, np.ndarray | np.generic | float) else None
        wrong = (
            type(given).__name__
            if values is None
            else f"{values.shape} of {values.dtype}"
            if values.shape != (r,) or values.dtype.kind not in "fiub"
            else self._beyond(values)
        )
        if wrong:
            raise UserError(
                f"{place_of(self.of_counts)}: metric '{self.name}' gave {wrong} for {r} resamples.",
                allowed=[f"({r},) floats from {self.low:g} to {self.high:g}, NaN where undefined"],
                then="fix that file",
            )
        return np.asarray(values, float)

    def _beyond(self, values: np.ndarray) -> str:
        beyond = values[(values < self.low - _ROUNDING) | (values > self.high + _ROUNDING)]
        return f"{beyond[0]:g}" if len(beyond) else ""

    @property
    def range(self) -> tuple[float, float]:
        """The ends of its values, (low, high), which an interval does not leave."""
        return self.low, self.high

    @property
    def sign(self) -> float:
        """1, or -1 where lower is better."""
        return 1.0 if self.higher_is_better else -1.0


@cache
def _code_behind(function: Callable[..., np.ndarray]) -> str:
    file = Path(place_of(function).rpartition(", line ")[0])
    return code_hash([file, *imported(file)])[:16]


_ALL = (
    Metric("accuracy", "accuracy"),
    Metric("balanced_accuracy", "balanced acc."),
    Metric("auc", "AUC"),
    Metric("f1", "macro F1"),
    Metric("kappa", "kappa", low=-1.0),
    Metric("weighted_kappa", "weighted kappa", low=-1.0, kinds=("ordinal",)),
    Metric("ece", "ECE", higher_is_better=False, grows_by_chance=True),
)
#: Name -> metric, in the order of tables.
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
#: Guo et al. (2017), section 2 and table 1: 15 bins.
ECE_BINS = 15
#: Elements of one chunk of weights. The cumulative sums of a chunk of this size stay in the
#: second-level cache.
_CHUNK = 200_000
_ROUNDING = 1e-9  # by which an added metric may leave its range
_NARROWEST = 40  # columns; below this numpy's cost a row outweighs the cache


def metric(name: str) -> Metric:
    """Return the metric of that name.

    For an unknown one, as in rows of a newer medbench or of `clinical`'s calibration, one that has
    its name as title, and values in [0, 1].
    """
    return METRICS.get(name) or Metric(name, name)


def metric_names(kind: Kind) -> tuple[str, ...]:
    """Return the metrics that a task of this kind has.

    Weighted kappa needs classes in an order.

    >>> metric_names("binary")[:6]
    ('accuracy', 'balanced_accuracy', 'auc', 'f1', 'kappa', 'ece')
    """
    return tuple(
        metric.name for metric in METRICS.values() if not metric.kinds or kind in metric.kinds
    )


@dataclass(frozen=True, eq=False)
class Result:
    """Hold the metrics of one set of answers.

    values: metric -> float without weights, (R,) float64 with them, each in its own range (not
    percent), NaN = undefined. auc_classes: over how many classes (labels, if multilabel) the mean
    AUC was taken: int, or (R,) int64. Less than all of them means that a class had no positive or
    no negative image.
    """

    values: dict[str, Any]
    auc_classes: Any


def score(
    labels: np.ndarray,
    probabilities: np.ndarray,
    decisions: np.ndarray,
    kind: Kind,
    weights: np.ndarray | None = None,
) -> Result:
    """Return every metric of `metric_names(kind)` on N images, or on R weighted resamples of them.

    labels: (N,) int in [0, C), or (N, C) float of 0, 1 and NaN if multilabel; an uncertain (NaN)
    label is left out of everything for that label alone. probabilities: (N, C) float in [0, 1], C =
    2 if binary. decisions: (N,) int in [0, C), or (N, C) of 0 and 1. weights: (N, R) integers >= 0,
    as `stats.group_weights` makes them; None: each image once.

    A class "occurs" where one of its images has a weight above 0:
    - accuracy: the share of right decisions. Multilabel: of each label, then the mean over labels.
    - balanced_accuracy: mean recall over the classes that occur among the labels (Brodersen et al.
      2010; scikit-learn's `balanced_accuracy_score`). Multilabel: of each label's two classes, then
      the mean over labels.
    - auc: the probability that a positive image scores above a negative one, ties counting half
      (Hanley & McNeil 1982). Binary: of class 1. Multiclass and ordinal: one class against the
      rest, unweighted mean over classes (scikit-learn's `multi_class="ovr"`, `average="macro"`),
      not the pairwise mean of Hand & Till (2001). Multilabel: mean over labels. A class without a
      positive or without a negative image is left out of the mean and not counted in
      `auc_classes`; it never enters as 0.5.
    - f1: 2 TP / (2 TP + FP + FN), mean over the classes that occur among labels or decisions
      (scikit-learn's `average="macro"`, `zero_division=0`). Binary: both classes. Multilabel: of
      each label's positive class, mean over the labels where it occurs.
    - kappa: (p_o - p_e) / (1 - p_e) (Cohen 1960). Multilabel: of each label, then the mean over
      labels.
    - weighted_kappa: with quadratic weights (i - j)^2 between class numbers (Cohen 1968;
      `cohen_kappa_score(weights="quadratic")` with all C classes named). Ordinal only.
    - ece: sum over bins of (bin's share) x |accuracy - mean confidence|, 15 bins (lower, upper] of
      equal width over [0, 1], confidence = the largest probability, right = that class is the
      label's (Guo et al. 2017, eq. 3; the decisions play no part). Multilabel: pooled over
      image-label pairs, confidence max(p, 1 - p), positive if p > 0.5.
    What is undefined (0 / 0; no class left to average over) is NaN; a label where a metric is
    undefined is left out of its mean.

    Raises ValueError for shapes that do not fit, numbers out of range, and NaN where only labels
    may have it.
    """
    multilabel = kind == "multilabel"
    _check(labels, probabilities, decisions, kind)
    resampled = np.ones((len(labels), 1), np.uint8) if weights is None else weights
    _check_weights(resampled, len(labels))
    # Every kind is Q problems with K classes each: multilabel Q = C and K = 2, all others Q = 1 and
    # K = C.
    truth, decided = (labels.T, decisions.T) if multilabel else (labels[None], decisions[None])
    k = 2 if multilabel else probabilities.shape[1]
    summands = np.concatenate(
        [_counted(truth, decided, k), calibration_gaps(labels, probabilities, multilabel)], axis=1
    )
    rankings = list(_rankings(labels, probabilities, kind))
    step = max(_NARROWEST, _CHUNK // len(labels))
    parts = []
    for start in range(0, resampled.shape[1], step):
        chunk = resampled[:, start : start + step]
        sums = summands.T @ chunk.astype(np.float64)
        gaps, squares = sums[-ECE_BINS:], sums[-ECE_BINS - 1]
        hits, support, predicted = sums[: -ECE_BINS - 1].reshape(3, len(truth), k, -1)
        part = _agreement(hits, support, predicted, multilabel)
        if kind == "ordinal":
            part["weighted_kappa"] = _weighted_kappa(support[0], predicted[0], squares)
        for name in metric_names(kind):
            if METRICS[name].of_counts:
                part[name] = METRICS[name].counted(hits, support, predicted)
        part["ece"] = ratio(np.abs(gaps).sum(0), support.sum((0, 1)))
        integers = np.ascontiguousarray(chunk, np.int32)
        aucs = np.stack([_auc(integers, *ranking) for ranking in rankings])
        part["auc"] = _mean(aucs)
        part["auc_classes"] = (~np.isnan(aucs)).sum(0)
        parts.append(part)
    whole = {
        name: np.concatenate([part[name] for part in parts])
        for name in (*metric_names(kind), "auc_classes")
    }
    if weights is None:
        whole = {name: values[0].item() for name, values in whole.items()}
    counted = whole.pop("auc_classes")
    return Result(whole, counted)


def class_counts(
    labels: np.ndarray, decisions: np.ndarray, classes: int, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hits, support and predicted, each (Q, K, R) float64: what `Metric.of_counts` takes.

    labels (N,) or (N, C), decisions and weights (N, R) as `score` takes them; classes: C.
    """
    several = labels.ndim == 2
    truth, decided = (labels.T, decisions.T) if several else (labels[None], decisions[None])
    k = 2 if several else classes
    sums = _counted(truth, decided, k)[:, :-1].T @ weights.astype(np.float64)
    hits, support, predicted = sums.reshape(3, len(truth), k, -1)
    return hits, support, predicted


def decided(probabilities: np.ndarray, multilabel: bool) -> np.ndarray:
    """Return the decisions that probabilities (N, C) make.

    The most probable class (N,) int64, or (N, C) int64 the labels from 0.5 on.

    >>> decided(np.array([[0.5, 0.2], [0.1, 0.9]]), multilabel=True).tolist()
    [[1, 0], [0, 1]]
    """
    decisions: np.ndarray = (
        (probabilities >= 0.5).astype(np.int64) if multilabel else probabilities.argmax(1)
    )
    return decisions


def _check(
    labels: np.ndarray, probabilities: np.ndarray, decisions: np.ndarray, kind: Kind
) -> None:
    if probabilities.ndim != 2:
        raise ValueError(f"probabilities must be (N, C); got {probabilities.shape}")
    n, c = probabilities.shape
    shape = (n, c) if kind == "multilabel" else (n,)
    if n == 0 or labels.shape != shape or decisions.shape != shape or (kind == "binary" and c != 2):
        raise ValueError(
            f"shapes do not fit a {kind} task: labels {labels.shape}, probabilities {(n, c)}, decisions {decisions.shape}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities must lie in [0, 1]; NaN is not allowed")
    allowed = range(2) if kind == "multilabel" else range(c)
    known = labels[~np.isnan(labels)] if kind == "multilabel" else labels
    for what, values in (("labels", known), ("decisions", decisions)):
        if not np.isin(values, allowed).all():
            raise ValueError(
                f"{what} of a {kind} task must be whole numbers from 0 to {allowed[-1]}"
            )


def _check_weights(weights: np.ndarray, n: int) -> None:
    if (
        weights.ndim != 2
        or weights.shape[0] != n
        or weights.shape[1] == 0
        or not np.issubdtype(weights.dtype, np.integer)
    ):
        raise ValueError(
            f"weights must be integers of shape ({n}, R), R > 0; got {weights.dtype} {weights.shape}"
        )
    # twice a column's sum must fit an int32
    if weights.min() < 0 or int(weights.max()) * n >= 2**30:
        raise ValueError("weights must be >= 0, and a resample smaller than 2^30 images")


def _counted(truth: np.ndarray, decided: np.ndarray, k: int) -> np.ndarray:
    """(N, 3 Q K + 1) float64.

    What each image adds to the integer sums, from truth (Q, N) with NaN where unknown and decided
    (Q, N).

    Hits, support, predicted, each (Q, K): the image is of the class and was decided so, is of it,
    was decided to be it. Last: (label - decision)^2.
    """
    known = ~np.isnan(truth)
    support = truth[..., None] == np.arange(k)  # (Q, N, K); NaN equals nothing
    predicted = (decided[..., None] == np.arange(k)) & known[..., None]
    per_class = np.stack([support & predicted, support, predicted]).transpose(2, 0, 1, 3)
    squares = np.where(known, np.subtract(truth, decided, dtype=np.float64) ** 2, 0).sum(0)
    return np.column_stack([per_class.reshape(len(squares), -1), squares])


def calibration_gaps(labels: np.ndarray, probabilities: np.ndarray, multilabel: bool) -> np.ndarray:
    """Return each image's confidence minus 1 where it is right, in the bin of its confidence.

    (N, ECE_BINS) float64; minus 0 where it is wrong. Summed over an image's labels if multilabel.
    labels, probabilities: as `score` takes them. The ECE needs no more: a bin's share x |accuracy -
    confidence| = |sum of these| / n.
    """
    p = probabilities.astype(np.float64)
    if multilabel:
        confidence, right = np.maximum(p, 1 - p), (p > 0.5) == labels
        gap = np.where(np.isnan(labels), 0, confidence - right)
    else:
        confidence = p.max(1, keepdims=True)
        gap = confidence - (p.argmax(1) == labels)[:, None]
    upper = np.arange(1, ECE_BINS) / ECE_BINS  # the last bin has no end, the first no beginning
    table = np.zeros((len(p), ECE_BINS))
    np.add.at(
        table, (np.arange(len(p))[:, None], np.searchsorted(upper, confidence, side="left")), gap
    )
    return table


def _agreement(
    hits: np.ndarray, support: np.ndarray, predicted: np.ndarray, multilabel: bool
) -> dict[str, np.ndarray]:
    """accuracy, balanced_accuracy, f1, kappa, each (r,), from sums (Q, K, r)."""
    n = support.sum(1)
    chance = (support * predicted).sum(1)  # n^2 p_e
    f1 = ratio(2 * hits, support + predicted)
    return {
        "accuracy": _mean(ratio(hits.sum(1), n)),
        "balanced_accuracy": _mean(_mean(ratio(hits, support).swapaxes(0, 1))),
        "f1": _mean(f1[:, 1] if multilabel else f1[0]),
        "kappa": _mean(ratio(n * hits.sum(1) - chance, n * n - chance)),
    }


def _weighted_kappa(support: np.ndarray, predicted: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """1 - observed / expected disagreement, (r,), from sums (K, r) and (r,)."""
    n = support.sum(0)
    i = np.arange(len(support))
    # n sum_ij (i - j)^2 a_i b_j / n
    expected = n * (i**2 @ (support + predicted)) - 2 * (i @ support) * (i @ predicted)
    return 1 - ratio(n * squares, expected)


def _rankings(
    labels: np.ndarray, probabilities: np.ndarray, kind: Kind
) -> Iterator[tuple[np.ndarray, ...]]:
    """For each class that has an AUC of its own: what `_auc` needs beside the weights."""
    for c in [1] if kind == "binary" else range(probabilities.shape[1]):
        known = (
            np.flatnonzero(~np.isnan(labels[:, c]))
            if kind == "multilabel"
            else np.arange(len(labels))
        )
        positive = labels[known, c] == 1 if kind == "multilabel" else labels == c
        order, positives, first, past = _ranking(positive, probabilities[known, c])
        yield known[order], known[positives], first, past


def _ranking(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, ...]:
    """order, positives, first, past as `_auc` takes them, of positive (N,) bool and scores (N,)."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    of_positive = ranked[positive[order]]
    first = np.searchsorted(ranked, of_positive, side="left")
    past = np.searchsorted(ranked, of_positive, side="right")
    return order, order[positive[order]], first, past


def auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute `score`'s AUC of one class against the rest: (R,) float64.

    NaN without positives or negatives. positive (N,) bool, scores (N,) float, weights (N, R) as
    `score` takes them.
    """
    ranking, step = _ranking(positive, scores), max(_NARROWEST, _CHUNK // max(len(scores), 1))
    chunks = (weights[:, start : start + step] for start in range(0, weights.shape[1], step))
    return np.concatenate(
        [_auc(np.ascontiguousarray(chunk, np.int32), *ranking) for chunk in chunks]
    )


def _auc(
    weights: np.ndarray,
    order: np.ndarray,
    positives: np.ndarray,
    first: np.ndarray,
    past: np.ndarray,
) -> np.ndarray:
    """AUC (r,) float64, NaN without positives or negatives. weights (N, r) int32.

    order: images by rising score. positives: the positive ones, in that order. first, past: where
    the run of images with a positive's score begins and ends in `order`. The weight below a
    positive plus half the weight tied with it is (T[first] + T[past]) / 2, T the cumulative weight.
    Pairs of two positives add to exactly half the square of their weight, whatever the scores, and
    are taken off.
    """
    cumulative = np.empty((len(order) + 1, weights.shape[1]), np.int32)
    cumulative[0] = 0
    # "raise", the default, would buffer the output
    np.take(weights, order, axis=0, out=cumulative[1:], mode="clip")
    np.cumsum(cumulative[1:], axis=0, out=cumulative[1:])
    own = weights[positives]
    doubled = np.multiply(own, cumulative[first] + cumulative[past], dtype=np.int64).sum(0)
    positive = own.sum(0, dtype=np.int64)
    return ratio(doubled - positive**2, 2 * positive * (cumulative[-1] - positive))


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Divide top by bottom, float arrays of one shape; NaN where bottom is 0."""
    quotient = np.full(bottom.shape, np.nan)
    np.divide(top, bottom, out=quotient, where=bottom != 0)
    return quotient


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is defined, NaN where nothing is."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(0), defined.sum(0))
