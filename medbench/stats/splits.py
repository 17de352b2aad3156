"""Splits and label budgets: grouped, stratified, nested, and the same for every method.

Order comes from SHA-256 of the group's name, never from a random generator: a draw is the same on
every machine and with every library version, and does not change for one group because another was
added. Images of one group always stay together.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np

from medbench.schema import ALL, Budget

#: Ingredients (`schema.ingredients`): which images a budget draws, how a labelled subset is divided
#: for choosing inside it, when a fine-tuning of several labels an image has a validation part (2:
#: as a fusion has, see `validation_part`), and how a draw is divided where that is not as each draw
#: once said by itself (2: whether, as its budget says; 3: as `held_out_fold`, a class of few groups
#: without a say).
DRAWS, FOLDS, VALIDATION, DIVISION = 1, 1, 2, 3
MAX_FOLDS = 5  # of a cross-validation. A class of fewer groups is rare: a fold lacks it
MIN_HELD_OUT = 20  # images: with fewer held out, a score says less than a rule
# the rule of a choice for which nothing was held out
UNDIVIDED = "fixed: too few images to hold out"


def partition(
    labels: np.ndarray, groups: np.ndarray, shares: Sequence[float], key: str
) -> np.ndarray:
    """Return which of the `shares` each image goes to: (N,) int64.

    Relative sizes, e.g. 0.7, 0.1, 0.2. Iterative stratification over whole groups after Sechidis et
    al. (2011), with rules of its own. They take the label that is rarest among what is left, and
    place an image where most of that label is still lacking, as a number, ties at random. Here the
    classes come in one order, the rarest of the whole first; of a class larger groups go before
    smaller ones, ties by hash; and a group goes to the part that holds the smallest fraction of
    what it should of that class, then of all images, then to the larger part. So each part gets a
    group of a class before any gets a second: of two groups the two largest parts get one each.
    From about ten groups of a class on, its shares are those asked for. A share of 0 gets nothing.
    labels (N,) int, or (N, C) float with NaN = uncertain; groups (N,) str; `key` names the split,
    another key gives another one.
    """
    names, member = np.unique(groups, return_inverse=True)
    counts = _class_counts(labels, member, len(names))
    size = np.bincount(member, minlength=len(names))
    rank = _hash_rank(names, key)
    order = sorted(range(len(names)), key=lambda g: (-size[g], rank[g]))
    shares_ = np.asarray(shares, float) / np.sum(shares)
    # ties go to the larger part: train, test, val
    used = [p for p in np.argsort(-shares_, kind="stable") if shares_[p] > 0]
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
    """Return the folds (n,) int64 in [0, k) for cross-validation inside a labelled subset.

    labels, groups: as `partition` takes them. Depends on the subset alone, not on a seed.
    """
    return partition(labels, groups, [1.0] * k, key="folds")


def divides(labels: np.ndarray, groups: np.ndarray, budget: Budget) -> bool:
    """Return whether the subsets of a budget are cross-validated.

    One answer for all draws, protocols and methods. labels (N,) or (N, C), groups (N,): of the
    pool.

    They are where two classes fill two groups each and the classes that do hold `MIN_HELD_OUT`
    images, at what the budget asks of each class and with groups of the class's mean size; or where
    each of several classes reaches `MAX_FOLDS` groups. A class that is too rare for either has no
    say. In a multi-label task the classes are one label's positives and its negatives, and one
    label will do.
    """
    share = requested(labels, budget) / len(labels)
    matrix = class_matrix(labels)
    asked = _asked(matrix.sum(0), budget, share)
    if labels.ndim == 1:
        return _fill([(column == 1, n) for column, n in zip(matrix.T, asked, strict=True)], groups)
    # `class_matrix` has one more, of the images without a positive
    occurring = [column for column in labels.T if (column == 1).any()]
    return any(
        _fill([(column == 1, n), (column == 0, share * (column == 0).sum())], groups)
        for column, n in zip(occurring, asked[: len(occurring)], strict=True)
    )


def _fill(classes: Sequence[tuple[np.ndarray, float]], groups: np.ndarray) -> bool:
    """Answer what `divides` asks, of classes as (N,) bool and the images that a budget asks for."""
    filled = [_groups_of(groups, of_class, images) for of_class, images in classes]
    foldable = [images for (_, images), n in zip(classes, filled, strict=True) if n >= 2]
    enough = len(foldable) > 1 and sum(foldable) >= MIN_HELD_OUT
    return enough or (len(filled) > 1 and min(map(np.ceil, filled)) >= MAX_FOLDS)


def _asked(available: np.ndarray, budget: Budget, share: float) -> np.ndarray:
    """(C,) float: images that a budget asks for of each class. share: of all images."""
    if budget.unit == "percent":
        return np.asarray(share * available)
    if budget.unit == "per_class":
        return np.asarray(np.minimum(budget.amount, available))
    # equal numbers; a class that has run out lets the others go on
    total = min(budget.amount, available.sum())
    level = bisect_left(
        range(int(available.max())), total, key=lambda most: np.minimum(most, available).sum()
    )
    return np.asarray(np.minimum(level, available))


def _groups_of(groups: np.ndarray, of_class: np.ndarray, images: float) -> float:
    """Return how many groups of a class hold so many of its images.

    Where each holds as many as they do on average.
    """
    own = groups[of_class]
    return images * len(np.unique(own)) / max(len(own), 1)


def held_out_fold(
    labels: np.ndarray, groups: np.ndarray, most: int = MAX_FOLDS, divided: bool | None = None
) -> np.ndarray:
    """Return (n,) int64: in which of `most` folds each image of a labelled subset is held out; -1.

    In none, it is always trained on.

    Every training part has every class, in a multi-label task both values of every label: a class
    of one group is never held out, and one of two or more in turn, its other groups trained on. So
    a class has no say in how many folds there are. All -1 where fewer than two classes
    (multi-label: the values of no label) have two groups, and where `divided`, what `divides` says
    of the subset's budget, is False. None: of a subset without a budget, whose own images say it.

    Measured, `linear` on frozen features at 64 px, kappa on the test part beside that of a fixed
    penalty where a class had one group, or of as many folds as the smallest class had: 10 % of
    HyperKvasir's lower tract (112 images, 6 draws) .484 and .435; 3 % (34) .315 and .284; 3 % of
    HAM10000 (212 images, 12 draws) .164 and .127. At 1 % of HAM10000 (70 images), where the fixed
    penalty was found, .094 and .106, within its chance.
    """
    divided = divides(labels, groups, ALL) if divided is None else divided
    kept = _kept(labels)
    pairs = (
        [kept]
        if labels.ndim == 1
        else [kept[:, [c, c + labels.shape[1]]] for c in range(labels.shape[1])]
    )
    if not divided or not any(_foldable(values, groups) for values in pairs):
        return np.full(len(labels), -1)
    fold = folds(labels, groups, most)
    for i in range(most):
        fold[(fold == i) & ~_left_one(fold == i, kept, groups)] = -1
    # a fold without images is none
    return np.unique(fold, return_inverse=True)[1] - int((fold == -1).any())


def _kept(labels: np.ndarray) -> np.ndarray:
    """(n, K) bool, what a training part must have.

    For exclusive classes each, for several labels the positives of each, then the negatives.
    """
    return (
        class_matrix(labels) > 0
        if labels.ndim == 1
        else np.column_stack([labels == 1, labels == 0])
    )


def _foldable(classes: np.ndarray, groups: np.ndarray) -> bool:
    """Whether two of the classes, (n, K) bool, have two groups."""
    return sum(len(np.unique(groups[of_class])) > 1 for of_class in classes.T) > 1


def cross_validation(
    labels: np.ndarray, groups: np.ndarray, most: int = MAX_FOLDS, divided: bool | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (training, held-out) positions of each fold of `held_out_fold`, int64 each.

    Arguments as there. [] where nothing can be held out, or is to be.
    """
    fold = held_out_fold(labels, groups, most, divided)
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(fold.max() + 1)]


def validation_part(
    labels: np.ndarray, groups: np.ndarray, share: float, key: str, requested: int | None = None
) -> np.ndarray:
    """Return what of a labelled subset is held out to stop a training: (n,) bool.

    It also chooses the rate. It is made by `held_out`, which says what labels, groups, share and
    key are. requested: images that the subset's budget asks for. Nothing is held out where `share`
    of these are fewer than `MIN_HELD_OUT`: one answer for all draws of a budget. Of a label of
    several, both values stay among the others where both are there. None: a subset without a
    budget. Nothing where the part would hold fewer than `MIN_HELD_OUT` images, or one class alone;
    multi-label: where a label would lose a value among the others, or none would have both in the
    part.
    """
    held = held_out(labels, groups, share, key)
    several = labels.ndim > 1
    if requested is not None:
        held = _left_one(held, _kept(labels), groups) if several else held
        return held if share * requested >= MIN_HELD_OUT else np.zeros_like(held)
    if held.sum() < MIN_HELD_OUT:
        return np.zeros_like(held)
    if several:
        whole, left, out = (
            np.stack([(part == value).any(0) for value in (0, 1)]).all(0)
            for part in (labels, labels[~held], labels[held])
        )
        fits = bool((left == whole).all() and out.any())
    else:
        fits = len(set(labels[held])) > 1
    return held if fits else np.zeros_like(held)


def held_out(labels: np.ndarray, groups: np.ndarray, share: float, key: str) -> np.ndarray:
    """Return about `share` of a labelled subset, for validation inside it: (n,) bool.

    labels, groups, key: as `partition` takes them. Whole groups, stratified. A class of which that
    part would hold every image stays among the others: `partition` places one that has a single
    group wherever there is room.
    """
    return _left_one(
        partition(labels, groups, [1 - share, share], key=key) == 1,
        class_matrix(labels) > 0,
        groups,
    )


def _left_one(held: np.ndarray, matrix: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Take out of `held` (n,) groups that would leave a column no image among the others.

    Columns are those of `matrix` (n, C).
    """
    lost = matrix[held].any(0) & ~matrix[~held].any(0)
    back: np.ndarray = held & ~np.isin(groups, groups[held & matrix[:, lost].any(1)])
    return back


def draws(
    labels: np.ndarray, groups: np.ndarray, budget: Budget, seeds: Sequence[int]
) -> list[np.ndarray]:
    """Return one sorted index array (n,) int64 into the pool for each seed.

    For one seed every budget is a prefix of one sequence of whole groups, so that budgets nest:
    percentages of the sequence that keeps the classes in proportion, counts (`5/class`, `n50`) of
    the one that keeps them equal. Each begins with one group of every class, the rarest first.
    Groups are taken until the count of images is reached; a class that has run out lets the others
    go on (Truong et al. 2021 draw their NIH subsets so). In a multi-label task an image counts for
    each of its positives, and images without any positive form one more class.

    So a percentage is no plain random share: a class that would have less than one image has one,
    at the cost of the others, and of images with several labels more are drawn, as each serves
    several classes. A published fraction may be without some classes.
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
    """Return how many images a budget asks for.

    The draw may hold more, since groups stay whole and every class gets an image. labels: (N,) or
    (N, C), of the pool.
    """
    if budget.unit == "per_class":
        return int(np.minimum(class_matrix(labels).sum(0), budget.amount).sum())
    return (
        int(budget.amount)
        if budget.unit == "total"
        else max(1, round(budget.amount / 100 * len(labels)))
    )


def class_matrix(labels: np.ndarray) -> np.ndarray:
    """Return which classes an image counts for: (N, C') int64 of 0 and 1.

    labels: (N,) int, or (N, C) float with NaN. Classes that do not occur have no column; of several
    labels one more column stands for images without a positive, where there are any.
    """
    if labels.ndim == 1:
        matrix = np.equal(labels[:, None], np.unique(labels))
    else:
        positive = labels == 1  # NaN, uncertain, is not counted as positive
        matrix = np.column_stack([positive, ~positive.any(1)])
    occurring: np.ndarray = matrix[:, matrix.any(0)].astype(np.int64)
    return occurring


def class_groups(labels: np.ndarray, groups: np.ndarray, classes: int) -> list[int]:
    """Count the groups of each class, in a multi-label task those with a positive of each label.

    labels: (N,) int in [0, classes), or (N, classes) float. groups: (N,).
    """
    of_class = labels == 1 if labels.ndim == 2 else labels[:, None] == np.arange(classes)
    return [len(np.unique(groups[column])) for column in of_class.T]


def ids_hash(ids: Sequence[str] | np.ndarray) -> str:
    """Return 64 hex digits that name a set of images: SHA-256 of the sorted ids, one a line.

    ids: (N,) str.
    """
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
    """Yield groups in the order in which budgets take them.

    Next is always a group of the class that is furthest behind.
    """
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


def _reached(
    budget: Budget, held: np.ndarray, available: np.ndarray, images: int, wanted: int
) -> bool:
    if not held.all():
        return False
    if budget.unit == "per_class":
        return bool((held >= np.minimum(budget.amount, available)).all())
    return images >= wanted
