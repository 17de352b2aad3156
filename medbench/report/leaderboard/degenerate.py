"""Lines whose decisions hang little on the image.

Nearly all of one class, or none of a frequent one. Counted from saved decisions.

The rule, for exclusive classes. A line *answers one class* if, in the median of its draws, it
decides for all others together less than `SELDOM` times as often as they occur. It *never decides*
for a class that no draw gives any image. Two conditions keep ordinary lines out:
- Frequent: the class (the others together) is at least a third as frequent as the most frequent
  class (the answered one): a share of `FREQUENT` of the two.
  A calibrated classifier seldom decides for what is rarer, however well it ranks: it takes the
  likelier class. On HAM10000 linear probes on all labels decide no image for the class that 1 % of
  the images have.
- Enough: so many of its groups are scored that none, or one in twenty, is no chance. Two normal
  scores with an AUC of .7, at odds of 3 to 1,
  decide for the rarer class .23 times as often as it occurs; with `ENOUGH` groups none has a
  probability of e^-4.6, .01.
Of several labels each is a task of its own, its two values the classes; so only a label that 25 to
75 % of the images have is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medbench.run.store import NoPredictions, Store
from medbench.schema import Row

SELDOM = 0.05
FREQUENT = 0.25
ENOUGH = 20


@dataclass(frozen=True)
class Degenerate:
    """Hold what is wrong with the decisions of a line.

    answer: the class (its index) decided for nearly everywhere, None where there is none; decided,
    share: how often, and how often it occurs. never: frequent classes that no draw decides for.
    labels: of several labels, those decided alike everywhere: index and value.
    """

    answer: int | None = None
    decided: float = 0.0
    share: float = 0.0
    never: tuple[int, ...] = ()
    labels: tuple[tuple[int, int], ...] = ()

    def __bool__(self) -> bool:
        return self.answer is not None or bool(self.never or self.labels)


def degenerate(
    labels: np.ndarray, groups: np.ndarray, decisions: Sequence[np.ndarray], classes: int
) -> Degenerate:
    """Find what is degenerate in the decisions of one line.

    labels (M,) or (M, C) with NaN where unknown, groups (M,) of the scored images; decisions: of
    each draw, shaped as labels.
    """
    if labels.ndim == 1:
        return _exclusive(labels, groups, decisions, classes)
    alike = []
    for c in range(labels.shape[1]):
        known = ~np.isnan(labels[:, c])
        if known.any():
            found = _exclusive(
                labels[known, c].astype(int), groups[known], [of[known, c] for of in decisions], 2
            )
            alike += [(c, found.answer)] if found.answer is not None else []
    return Degenerate(labels=tuple(alike))


def _exclusive(
    labels: np.ndarray, groups: np.ndarray, decisions: Sequence[np.ndarray], classes: int
) -> Degenerate:
    occurs = np.bincount(labels, minlength=classes) / len(labels)
    # (S, C)
    decided = np.array([np.bincount(of.astype(int), minlength=classes) for of in decisions]) / len(
        labels
    )
    middle = np.median(decided, axis=0)
    top, common = int(middle.argmax()), float(occurs.max())
    others = 1 - occurs[top]
    told = (
        others >= FREQUENT and _enough(labels != top, groups) and 1 - middle[top] < SELDOM * others
    )
    never = tuple(
        c
        for c in np.flatnonzero((decided == 0).all(0) & (occurs > 0)).tolist()
        if occurs[c] >= FREQUENT * (occurs[c] + common) and _enough(labels == c, groups)
    )
    return (
        Degenerate(top, float(middle[top]), float(occurs[top]), never)
        if told
        else Degenerate(never=never)
    )


def _enough(images: np.ndarray, groups: np.ndarray) -> bool:
    return len(np.unique(groups[images])) >= ENOUGH


def of_rows(rows: Sequence[Row], stores: Sequence[Store]) -> Degenerate:
    """Find what is degenerate in the rows of one line, each in its results folder.

    Nothing where predictions were not shared.
    """
    try:
        target = stores[0].target(str(rows[0].provenance["target"]))
        scores = [store.scores(row) for store, row in zip(stores, rows, strict=True)]
    except NoPredictions:
        return Degenerate()
    classes = scores[0]["probabilities"].shape[1]
    return degenerate(
        target["labels"], target["groups"], [of["decisions"] for of in scores], classes
    )
