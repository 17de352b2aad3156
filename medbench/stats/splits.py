"""Splits and label budgets: grouped, stratified, nested, and the same for every method.

Order comes from SHA-256 of the group's name, never from a random generator: a draw is the same on every machine and with every library
version, and does not change for one group because another was added. Images of one group always stay together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from medbench.schema import ALL, Budget

#: Ingredients (`schema.ingredients`): which images a budget draws, how a labelled subset is divided for choosing inside it, and when a fine-tuning of
#: several labels an image has a validation part (2: as a fusion has, see `validation_part`).
DRAWS, FOLDS, VALIDATION = 1, 1, 2
MIN_HELD_OUT = 20  # images of a validation part: with fewer, a score says less than a rule


def partition(labels: np.ndarray, groups: np.ndarray, shares: Sequence[float], key: str) -> np.ndarray:
    """Parts (N,) int64: which of the `shares` (relative sizes, e.g. 0.7, 0.1, 0.2) each image goes to.

    Iterative stratification (Sechidis et al. 2011) over whole groups: the rarest class first, larger groups before smaller, each to the
    part that holds the smallest fraction of what it should of that class. A share of 0 gets nothing. labels (N,) int, or (N, C) float with
    NaN = uncertain; groups (N,) str; `key` names the split, another key gives another one.
    """
    names, member = np.unique(groups, return_inverse=True)
    counts = _class_counts(labels, member, len(names))
    size = np.bincount(member, minlength=len(names))
    rank = _hash_rank(names, key)
    order = sorted(range(len(names)), key=lambda g: (-size[g], rank[g]))
    shares_ = np.asarray(shares, float) / np.sum(shares)
    used = [p for p in np.argsort(-shares_, kind="stable") if shares_[p] > 0]  # ties go to the larger part: train, test, val
    filled = np.zeros((len(shares_), counts.shape[1]))
    total = np.zeros(len(shares_))
    part = np.full(len(names), -1)
    for c in np.argsort(counts.sum(0), kind="stable"):
        for g in order:
            if part[g] >= 0 or counts[g, c] == 0:
                continue
            best = min(used, key=lambda p: (filled[p, c] / shares_[p], total[p] / shares_[p]))
            part[g] = best
            filled[best] += counts[g]
            total[best] += size[g]
    placed: np.ndarray = part[member]
    return placed


def folds(labels: np.ndarray, groups: np.ndarray, k: int) -> np.ndarray:
    """Folds (n,) int64 in [0, k) for cross-validation inside a labelled subset. Depends on the subset alone, not on a seed."""
    return partition(labels, groups, [1.0] * k, key="folds")


def n_folds(labels: np.ndarray, groups: np.ndarray, most: int) -> int:
    """min(`most`, the smallest number of groups of a class present); 1 where a class has one group or is alone.

    Multi-label: the smallest over positives and negatives of the labels that have two groups of both; 1 where no label has.
    """
    if labels.ndim == 1:
        sizes = [len(set(groups[labels == c])) for c in np.unique(labels)]
        return min(most, *sizes) if len(sizes) > 1 else 1
    pairs = [min(len(set(groups[column == value])) for value in (0, 1)) for column in labels.T]
    return min([most, *(size for size in pairs if size >= 2)]) if max(pairs) >= 2 else 1


def cross_validation(labels: np.ndarray, groups: np.ndarray, most: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(training, held-out) positions of each of `n_folds` folds; [] where a class has one group or is alone, so that nothing can be held out."""
    k = n_folds(labels, groups, most)
    if k < 2:
        return []
    fold = folds(labels, groups, k)
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]


def validation_part(labels: np.ndarray, groups: np.ndarray, share: float, key: str) -> np.ndarray:
    """(n,) bool: `held_out`, whole groups, stratified; empty where it would hold fewer than `MIN_HELD_OUT` images, or one class alone.

    Multilabel: every label that has both values must have both among the others, and one label at least both in the validation part.
    """
    held = held_out(labels, groups, share, key)
    if held.sum() < MIN_HELD_OUT:
        return np.zeros_like(held)
    if labels.ndim == 1:
        fits = len(set(labels[held])) > 1
    else:
        whole, left, out = (np.stack([(part == value).any(0) for value in (0, 1)]).all(0) for part in (labels, labels[~held], labels[held]))
        fits = bool((left == whole).all() and out.any())
    return held if fits else np.zeros_like(held)


def held_out(labels: np.ndarray, groups: np.ndarray, share: float, key: str) -> np.ndarray:
    """(n,) bool: about `share` of a labelled subset, whole groups, stratified, for validation inside it.

    A class of which that part would hold every image stays among the others: `partition` places one that has a single group wherever there is
    room.
    """
    held = partition(labels, groups, [1 - share, share], key=key) == 1
    matrix = class_matrix(labels) > 0
    lost = matrix[held].any(0) & ~matrix[~held].any(0)
    back: np.ndarray = held & ~np.isin(groups, groups[held & matrix[:, lost].any(1)])
    return back


def draws(labels: np.ndarray, groups: np.ndarray, budget: Budget, seeds: Sequence[int]) -> list[np.ndarray]:
    """One sorted index array (n,) int64 into the pool for each seed.

    For one seed every budget is a prefix of one sequence of whole groups, so that budgets nest: percentages of the sequence that keeps the
    classes in proportion, counts (`5/class`, `n50`) of the one that keeps them equal. Each begins with one group of every class, the
    rarest first. Groups are taken until the count of images is reached; a class that has run out lets the others go on (Truong et al.
    2021 draw their NIH subsets so). In a multi-label task an image counts for each of its positives, and images without any
    positive form one more class.
    """
    n = len(groups)
    if budget == ALL:
        return [np.arange(n) for _ in seeds]
    names, member = np.unique(groups, return_inverse=True)
    counts = _class_counts(labels, member, len(names))
    size = np.bincount(member, minlength=len(names))
    available = counts.sum(0)
    wanted = requested(labels, budget)
    chosen = []
    for seed in seeds:
        held = np.zeros_like(available)
        taken = np.zeros(len(names), bool)
        images = 0
        for g in _sequence(counts, names, seed, balanced=budget.unit != "percent"):
            if _reached(budget, held, available, images, wanted):
                break
            taken[g] = True
            held += counts[g]
            images += size[g]
        chosen.append(np.flatnonzero(taken[member]))
    return chosen


def requested(labels: np.ndarray, budget: Budget) -> int:
    """Images a budget asks for; the draw may hold more, since groups stay whole and every class gets an image."""
    if budget.unit == "per_class":
        return int(np.minimum(class_matrix(labels).sum(0), budget.amount).sum())
    return int(budget.amount) if budget.unit == "total" else max(1, round(budget.amount / 100 * len(labels)))


def class_matrix(labels: np.ndarray) -> np.ndarray:
    """(N, C) int64 0/1: which classes an image counts for. Classes that do not occur have no column."""
    if labels.ndim == 1:
        matrix = np.equal(labels[:, None], np.unique(labels))
    else:
        positive = labels == 1  # NaN, uncertain, is not counted as positive
        matrix = np.column_stack([positive, ~positive.any(1)])
    occurring: np.ndarray = matrix[:, matrix.any(0)].astype(np.int64)
    return occurring


def ids_hash(ids: Sequence[str] | np.ndarray) -> str:
    """64 hex digits that name a set of images: SHA-256 of the sorted ids, one a line."""
    return hashlib.sha256("\n".join(sorted(map(str, ids))).encode()).hexdigest()


def _class_counts(labels: np.ndarray, member: np.ndarray, n_groups: int) -> np.ndarray:
    """(G, C) images of each class in each group."""
    matrix = class_matrix(labels)
    counts = np.zeros((n_groups, matrix.shape[1]), np.int64)
    np.add.at(counts, member, matrix)
    return counts


def _hash_rank(names: np.ndarray, key: str) -> list[bytes]:
    return [hashlib.sha256(f"{key}:{name}".encode()).digest() for name in names]


def _sequence(counts: np.ndarray, names: np.ndarray, seed: int, *, balanced: bool) -> Iterator[int]:
    """Groups in the order in which budgets take them: next is always a group of the class that is furthest behind."""
    rank = _hash_rank(names, f"draw {seed}")
    order = sorted(range(len(names)), key=rank.__getitem__)
    queues = [iter([g for g in order if counts[g, c]]) for c in range(counts.shape[1])]
    available = counts.sum(0)
    rarest_first = np.argsort(available, kind="stable")
    goal = np.ones(len(available)) if balanced else available.astype(float)
    held = np.zeros(len(available))
    taken = np.zeros(len(names), bool)
    open_ = np.ones(len(available), bool)
    while open_.any():
        behind = np.where(held == 0, -1.0, held / goal)  # a class without any image comes first
        behind[~open_] = np.inf
        c = int(rarest_first[np.argmin(behind[rarest_first])])
        g = next((g for g in queues[c] if not taken[g]), None)
        if g is None:
            open_[c] = False
            continue
        taken[g] = True
        held += counts[g]
        yield g


def _reached(budget: Budget, held: np.ndarray, available: np.ndarray, images: int, wanted: int) -> bool:
    if not held.all():
        return False
    if budget.unit == "per_class":
        return bool((held >= np.minimum(budget.amount, available)).all())
    return images >= wanted
