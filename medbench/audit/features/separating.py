"""Single features that tell a class by themselves.

A label, a row number or a diagnosis that was left among them, whatever it is called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medbench.schema import Kind, Split, of_class
from medbench.stats.mean_ranks import mean_ranks

AUC = 0.99  # of a feature alone, one class against the rest, ties counted against it
# chance at most that features which know nothing of the classes get a mark, all features and
# classes together
FALSE_ALARM = 1e-3
MOST = 5_000  # groups that are looked at
_BLOCK = 256  # features ranked at once
_SHOWN = 3


@dataclass(frozen=True)
class Separating:
    """A feature that tells a class or label by itself.

    Feature number `feature` tells `name` with this AUC on one image each of so many groups.
    """

    feature: int
    name: str
    auc: float
    groups: int


def separating(
    features: np.ndarray, split: Split, kind: Kind, classes: Sequence[str]
) -> list[Separating]:
    """Return the features that separate a class from the rest, best first.

    The rule. One image a group, the first by id, so that images of one patient do not count twice.
    A feature separates a class of n images from m others where its AUC, or 1 - AUC, is at least
    `AUC` with every tie counted against it, and where so few inversions u = (1 - AUC) n m are too
    improbable for a feature that knows nothing: all C(n + m, n) orders of the two classes are
    equally probable then, and the number of those with at most u inversions is at most that of the
    partitions of 0, 1, ..., u, which is below (u + 1) exp(pi sqrt(2 u / 3)) (Hardy and Ramanujan
    1918; Apostol 1976, theorem 14.5). Twice that share, for both directions, times the number of
    features and of classes must be at most `FALSE_ALARM` (Bonferroni). Without an inversion this is
    the exact rank test, 2 / C(n + m, n). So few images never give a mark by chance, however many
    the features.

    Parameters
    ----------
    features : ndarray of shape (N, D)
        Finite numbers.
    split : Split
        What is known of the same N images.
    kind : str
        Of the task. Uncertain labels of a multi-label task are left out for that label.
    classes : sequence of str
        Names, in the order of the labels.

    Returns
    -------
    list of Separating
    """
    order = np.argsort(split.ids, kind="stable")
    _, first = np.unique(split.groups[order], return_index=True)
    rows = np.sort(order[first])[:: -(-len(first) // MOST)]
    values = np.asarray(features)[rows]
    labels = split.labels[rows]
    # of two classes, one says it all
    told = [c for c in range(len(classes)) if c or len(classes) > 2 or kind == "multilabel"]
    found = []
    for c in told:
        known = np.ones(len(rows), bool) if labels.ndim == 1 else ~np.isnan(labels[:, c])
        of = of_class(labels[known], c)
        n, m = int(of.sum()), int((~of).sum())
        if min(n, m) and _log_chance(0, n, m) + math.log(values.shape[1] * len(told)) <= math.log(
            FALSE_ALARM
        ):
            for feature, u in _inversions(values[known], of):
                if u <= (1 - AUC) * n * m and _log_chance(u, n, m) + math.log(
                    values.shape[1] * len(told)
                ) <= math.log(FALSE_ALARM):
                    found.append(Separating(feature, classes[c], 1 - u / (n * m), n + m))
    return sorted(found, key=lambda one: (-one.auc, one.feature))


def sentences(found: Sequence[Separating], names: Sequence[str], group: str) -> list[str]:
    """Return one mark on all of them, [] where there are none.

    names: of the features; group: what a group is.
    """
    if not found:
        return []
    shown = [f"{names[one.feature]} tells {one.name} (AUC {one.auc:.3f})" for one in found[:_SHOWN]]
    features = len({one.feature for one in found})
    more = (
        f", and {features} features do"
        if features > len({one.feature for one in found[:_SHOWN]})
        else ""
    )
    return [
        f"single features tell a class by themselves, among {found[0].groups} {group}s of train: {', '.join(shown)}{more}. Is it the label?"
    ]


def _inversions(values: np.ndarray, of: np.ndarray) -> list[tuple[int, int]]:
    """Return (feature, inversions) of the features that may have few of them.

    Inversions are pairs of two classes in the wrong order or tied, in the better direction. By rank
    sums of all features at once, where a tie is half a pair; the few that are left are counted by
    hand.
    """
    n, m = int(of.sum()), int((~of).sum())
    likely: list[int] = []
    for start in range(0, values.shape[1], _BLOCK):
        above = mean_ranks(values[:, start : start + _BLOCK])[of].sum(0) - n * (n + 1) / 2
        likely += (
            start + np.flatnonzero(np.minimum(above, n * m - above) <= (1 - AUC) * n * m)
        ).tolist()
    found = []
    for feature in likely:
        own, other = values[of, feature], np.sort(values[~of, feature])
        # where the class should lie above: others that are not below
        lower = int((m - np.searchsorted(other, own, side="left")).sum())
        upper = int(np.searchsorted(other, own, side="right").sum())
        found.append((feature, min(lower, upper)))
    return found


def _log_chance(u: int, n: int, m: int) -> float:
    """Return the logarithm of the bound on the chance of at most u inversions.

    In either direction, see `separating`.
    """
    orders = math.lgamma(n + m + 1) - math.lgamma(n + 1) - math.lgamma(m + 1)
    return math.log(2 * (u + 1)) + math.pi * math.sqrt(2 * u / 3) - orders
