"""Images whose label the others contradict, and columns that give the label away.

Everything is cross-validated over whole groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medbench import stats
from medbench.audit.dataset.audited_data import Subject
from medbench.schema import Kind, Train
from medbench.stats import metrics, splits
from medbench.stats.metadata_levels import texts
from medbench.system.progress_listener import report_progress

# images that the probe learns from: beyond, a part of the groups, the same ones each time
MOST = 20_000
SHOWN = 50
_FOLDS = 5
_RARE = 10  # images with one value of a column: with fewer it counts as missing


@dataclass(frozen=True)
class Suspect:
    """An image whose label is not what its features say.

    margin: how much more probable the other class is, in [-1, 1]; own: the given one.
    """

    row: int
    label: str
    likely: str
    own: float
    other: float
    column: str = ""  # of a multi-label task

    @property
    def margin(self) -> float:
        """By how much the other class is more probable than the image's own."""
        return self.other - self.own


def suspects(subject: Subject, rows: np.ndarray, features: np.ndarray) -> tuple[list[Suspect], int]:
    """Return the images to look at, most suspicious first, and how many seem mislabelled.

    Scores are out of fold: of the suite's linear probe, by grouped cross-validation on the images
    `rows` (n,) with features (n, D). Confident learning counts an image where another class is more
    probable than it is, on average, among that class's own images, and its own is not (Northcutt,
    Jiang & Chuang 2021, doi:10.1613/jair.1.12125, section 3.1); the ranking is by margin. ([], 0)
    where classes are too small to be held out.
    """
    from medbench.protocols.linear import LINEAR

    assert subject.labels is not None, "no labels, no suspects"
    labels, groups = subject.labels[rows], subject.groups[rows]
    chosen = _at_most(groups, MOST)
    rows, labels, groups, features = (
        rows[chosen],
        labels[chosen],
        groups[chosen],
        np.asarray(features)[chosen],
    )
    train = Train(features, labels, groups, subject.kind, len(subject.classes), seeds=[0])
    scores = next(iter(LINEAR.evaluate(train, {"none": features[:1]}, [np.arange(len(rows))])))[
        "none"
    ]
    if scores.held_out is None:
        return [], 0
    index, probabilities = scores.held_out.index, scores.held_out.probabilities
    found, count = [], 0
    for c, name in enumerate(subject.classes if labels.ndim > 1 else ("",)):
        own_labels = labels[index, c] if labels.ndim > 1 else labels[index]
        known = ~np.isnan(own_labels) if labels.ndim > 1 else np.ones(len(index), bool)
        p = (
            np.column_stack([1 - probabilities[:, c], probabilities[:, c]])
            if labels.ndim > 1
            else probabilities
        )
        usable = known & np.isfinite(p).all(1)
        y, p, at = own_labels[usable].astype(int), p[usable], rows[index[usable]]
        usual = np.array(
            [p[y == k, k].mean() if (y == k).any() else np.inf for k in range(p.shape[1])]
        )
        own = p[np.arange(len(y)), y]
        others = np.where(np.arange(p.shape[1]) == y[:, None], -1.0, p)
        likely = others.argmax(1)
        other = others.max(1)
        count += int(((other >= usual[likely]) & (own < usual[y])).sum())
        words = ("no", "yes") if labels.ndim > 1 else subject.classes
        ranked = np.argsort(own - other, kind="stable")[:SHOWN]
        found += [
            Suspect(int(at[i]), words[y[i]], words[likely[i]], float(own[i]), float(other[i]), name)
            for i in ranked
            if other[i] > own[i]
        ]
    return sorted(found, key=lambda suspect: -suspect.margin)[:SHOWN], count


@dataclass(frozen=True)
class ColumnAuc:
    """How well metadata alone, a column or all of them, predicts the label.

    auc, low, high: mean AUC over classes and its 95 % interval.
    """

    name: str
    auc: float
    low: float
    high: float


def columns(subject: Subject) -> list[ColumnAuc]:
    """Return the AUC of a logistic regression on each metadata column and on all, best first.

    Out of fold over whole groups. A text column becomes one indicator a value (those of fewer than
    10 images are joined), a number its value and whether it is missing. Constant columns are left
    out. [] where there are no columns, no labels or too few groups.
    """
    if subject.labels is None or not subject.meta:
        return []
    values = {name: _encoded(column) for name, column in subject.meta.items()}
    values = {name: matrix for name, matrix in values.items() if matrix.shape[1]}
    if len(values) > 1:
        values["all columns"] = np.concatenate(list(values.values()), axis=1)
    rows = _at_most(subject.groups, MOST)
    labels, groups = subject.labels[rows], subject.groups[rows]
    found = []
    for done, (name, matrix) in enumerate(values.items()):
        report_progress("probing metadata", done, len(values), "columns")
        column = _auc(name, matrix[rows], labels, groups, subject.kind)
        found += [column] if column else []
    report_progress("probing metadata", len(values), len(values), "columns")
    return sorted(found, key=lambda column: -column.auc)


def _auc(
    name: str, matrix: np.ndarray, labels: np.ndarray, groups: np.ndarray, kind: Kind
) -> ColumnAuc | None:
    from sklearn.linear_model import LogisticRegression

    fold = splits.folds(labels, groups, _FOLDS)
    scores = np.full(
        (len(labels), int(labels.max()) + 1) if labels.ndim == 1 else labels.shape, np.nan
    )
    for c in range(labels.shape[-1]) if labels.ndim > 1 else (0,):
        y = labels[:, c] if labels.ndim > 1 else labels
        for held in range(_FOLDS):
            fit, out = (fold != held) & np.isfinite(y), fold == held
            if len(np.unique(y[fit])) < 2 or not out.any():
                continue
            model = LogisticRegression(C=1.0, max_iter=500).fit(matrix[fit], y[fit].astype(int))
            p = model.predict_proba(matrix[out])
            if labels.ndim > 1:
                scores[out, c] = p[:, 1]
            else:
                scores[np.ix_(out, model.classes_)] = p
    scores = np.nan_to_num(scores, nan=0.0)
    decisions = metrics.decided(scores, labels.ndim > 1)
    auc = metrics.score(labels, scores, decisions, kind).values["auc"]
    resampled = metrics.score(labels, scores, decisions, kind, stats.group_weights(groups)).values[
        "auc"
    ]
    low, high = stats.expanded_interval(resampled, len(np.unique(groups)))
    if auc is None or not np.isfinite([auc, low, high]).all():
        return None
    return ColumnAuc(name, float(auc), float(low), float(high))


def _encoded(column: np.ndarray) -> np.ndarray:
    """Encode a metadata column as (N, d) float64.

    A number is standardised, with 0 for a missing one and a column that says so. Text becomes an
    indicator of each common value, a missing one among them however it is spelled.
    """
    if np.issubdtype(column.dtype, np.number):
        missing = ~np.isfinite(column.astype(float))
        known = column[~missing].astype(float)
        if not len(known) or (known.std() == 0 and not missing.any()):
            return np.empty((len(column), 0))
        value = np.where(
            missing,
            0.0,
            (np.nan_to_num(column.astype(float)) - known.mean()) / (known.std() or 1.0),
        )
        return (
            np.column_stack([value, value**2, missing])
            if missing.any()
            else np.column_stack([value, value**2])
        )
    names, member, counts = np.unique(texts(column), return_inverse=True, return_counts=True)
    common = np.flatnonzero(counts >= _RARE)
    if not len(common) or len(common) == len(names) == 1:
        return np.empty((len(column), 0))
    indicators: np.ndarray = (member[:, None] == common).astype(float)
    return indicators


def _at_most(groups: np.ndarray, n: int) -> np.ndarray:
    """Index (m,) of about n images, or of all where there are no more: every k-th group, whole."""
    if len(groups) <= n:
        return np.arange(len(groups))
    kept = np.unique(groups)[:: -(-len(groups) // n)]
    return np.flatnonzero(np.isin(groups, kept))
