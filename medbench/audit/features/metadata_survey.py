"""Every metadata column of one part of a task, against its class or each of its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medbench.audit.features.columns import FEWEST, MetadataColumn, cramers_v, read_column
from medbench.audit.features.metadata_probe import Auc, mean_auc, out_of_fold
from medbench.audit.features.robustness_index import Index, K, nearest, robustness
from medbench.schema import Kind, Note, Split, UserError

CONFOUNDED = 0.1  # Cramér's V from which on a table says so: Cohen (1988), small
MOST = 10_000  # images; of more, whole groups are taken until there are so many


@dataclass(frozen=True)
class ColumnFinding:
    """One column against the class (label "") or against one label of a multi-label task.

    images, groups: that have both. values: of the column. cramers_v: how strongly the two go
    together, in [0, 1]. column_auc, class_auc: how well a linear probe tells them from the
    features. index: whose neighbours. None or NaN: not defined, and `notes` say why.
    """

    column: str
    label: str
    images: int
    groups: int
    values: tuple[str, ...]
    missing: int
    cramers_v: float
    column_auc: Auc | None
    class_auc: Auc | None
    index: Index | None
    notes: tuple[Note, ...]

    @property
    def verdict(self) -> str:
        """By the interval of the index's difference from what it were without a shortcut."""
        if self.index is None or np.isnan(self.index.difference_high):
            return "-"
        if self.index.difference_high < 0:
            return "follows the column"
        return "no shortcut shown" if self.index.difference_low <= 0 else "away from the column"

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; what is undefined is null."""
        return {
            **_plain(asdict(self)),
            "notes": [note.text for note in self.notes],
            "verdict": self.verdict,
        }


def chosen_columns(split: Split, named: Sequence[str], task: str) -> list[str]:
    """Return the named columns, or all.

    Raises UserError for an unknown one, and where there are none.
    """
    if not split.meta:
        raise UserError(
            f"'{task}' has no metadata columns: nothing to look for.", then="medbench list tasks"
        )
    unknown = [name for name in named if name not in split.meta]
    if unknown:
        raise UserError(
            f"'{task}' has no metadata column '{unknown[0]}'.", allowed=split.meta, given=unknown[0]
        )
    return list(dict.fromkeys(named)) or list(split.meta)


def survey(
    features: np.ndarray,
    split: Split,
    kind: Kind,
    classes: Sequence[str],
    columns: Sequence[str],
    *,
    k: int = K,
    device: str = "cpu",
) -> list[ColumnFinding]:
    """Measure what features know of metadata: one finding a column.

    Of a multi-label task one a column and label. features: (N, D) float32, of the split's images in
    its order. columns: names of `split.meta`. k: neighbours of an image whose values are compared.
    Ordinal classes count as names. Uncertain labels are left out for that label alone. Of more than
    `MOST` images a part is taken: whole groups in an order of their names' hashes.
    """
    kept = _few(split.groups)
    part, features = split.take(kept), np.asarray(features[kept], np.float32)
    notes = (
        (Note("column", f"{len(kept)} of {len(split)} images"),) if len(kept) < len(split) else ()
    )
    tells = _class_aucs(features, part, kind, classes, device)
    cache: dict[bytes, np.ndarray] = {}
    found = []
    for name in columns:
        column = read_column(name, part.meta[name], part.groups)
        seen = column.codes >= 0
        usable = len(column.values) > 1
        why = (
            ()
            if usable
            else (Note("column", "constant" if column.values else f"no value has {FEWEST} groups"),)
        )
        told = _column_auc(features, column, part.groups, device) if usable else None
        for label, labels in _labels(part, kind, classes):
            both = seen & (labels >= 0)
            here = (
                _finding(column, label, labels, both, part.groups, k, features, cache)
                if usable
                else None
            )
            v, index, extra = here or (float("nan"), None, ())
            found.append(
                ColumnFinding(
                    column=name,
                    label=label,
                    images=int(both.sum()),
                    groups=len(np.unique(part.groups[both])),
                    values=column.values,
                    missing=column.missing,
                    cramers_v=v,
                    column_auc=told,
                    class_auc=tells.get(label),
                    index=index,
                    notes=(*notes, *column.notes, *why, *extra),
                )
            )
    return found


def _finding(
    column: MetadataColumn,
    label: str,
    labels: np.ndarray,
    both: np.ndarray,
    groups: np.ndarray,
    k: int,
    features: np.ndarray,
    cache: dict[bytes, np.ndarray],
) -> tuple[float, Index | None, tuple[Note, ...]]:
    """Cramér's V, the index, and what is to be said of them."""
    n_groups = len(np.unique(groups[both]))
    v = cramers_v(column.codes[both], labels[both], n_groups)
    if len(np.unique(labels[both])) < 2 or len(np.unique(column.codes[both])) < 2:
        return v, None, (Note("column", "one class, or one value, where both are known"),)
    key = both.tobytes()
    if key not in cache:
        cache[key] = nearest(features[both], groups[both], k)
    index = robustness(cache[key], labels[both], column.codes[both], groups[both])
    what = f"goes with the {'label' if label else 'class'} (V = {v:.2f}): a probe for one may read the other"
    return v, index, (Note("confounded", what),) if v >= CONFOUNDED else ()


def _labels(part: Split, kind: Kind, classes: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """Label name ("" for the class) and (N,) int64, -1 where uncertain."""
    if kind != "multilabel":
        return [("", part.labels)]
    return [
        (name, np.where(np.isnan(part.labels[:, c]), -1, part.labels[:, c]).astype(np.int64))
        for c, name in enumerate(classes)
    ]


def _class_aucs(
    features: np.ndarray, part: Split, kind: Kind, classes: Sequence[str], device: str
) -> dict[str, Auc]:
    """ "" -> the class's AUC, or label -> its own, from one probe."""
    labels = part.labels
    if kind != "multilabel":
        _, labels = np.unique(labels, return_inverse=True)
    n = labels.shape[1] if kind == "multilabel" else int(labels.max()) + 1
    as_kind: Kind = kind if kind == "multilabel" else "binary" if n == 2 else "multiclass"
    scores = None
    if n > 1 or kind == "multilabel":
        scores = out_of_fold(features, labels, part.groups, as_kind, n, device, "probing the class")
    if scores is None:
        return {}
    if kind != "multilabel":
        return {"": mean_auc(labels, scores, part.groups, as_kind)}
    found = {}
    for c, (name, values) in enumerate(_labels(part, kind, classes)):
        known = values >= 0
        if len(np.unique(values[known])) == 2:
            pair = np.column_stack([1 - scores[known, c], scores[known, c]])
            found[name] = mean_auc(values[known], pair, part.groups[known], "binary")
    return found


def _column_auc(
    features: np.ndarray, column: MetadataColumn, groups: np.ndarray, device: str
) -> Auc | None:
    seen = column.codes >= 0
    codes, n = column.codes[seen], len(column.values)
    kind: Kind = "binary" if n == 2 else "multiclass"
    stage = f"probing {column.name}"
    scores = out_of_fold(features[seen], codes, groups[seen], kind, n, device, stage)
    return None if scores is None else mean_auc(codes, scores, groups[seen], kind)


def _few(groups: np.ndarray) -> np.ndarray:
    """Index of all images, or of whole groups with `MOST` images together."""
    if len(groups) <= MOST:
        return np.arange(len(groups))
    import hashlib

    names, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = sorted(
        range(len(names)), key=lambda g: hashlib.sha256(f"shortcuts {names[g]}".encode()).digest()
    )
    taken = np.zeros(len(names), bool)
    total = 0
    for g in order:
        if total + sizes[g] > MOST:
            break
        taken[g], total = True, total + sizes[g]
    return np.flatnonzero(taken[member])


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
