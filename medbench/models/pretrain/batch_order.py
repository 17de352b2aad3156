"""Which images make a batch.

A function of (seed, stage, epoch) alone, so that a resumed run goes on with the same ones.
"""

from __future__ import annotations

from collections import deque

import numpy as np

HELD_OUT = 0.05  # share of the training images whose groups are never trained on, for the watch
_FEWEST = 200  # images: of fewer, nothing is held out
_MOST = 1_000


def monitored_part(groups: np.ndarray) -> np.ndarray:
    """Return (n,) bool: whole groups with about 5 % of the images, at most 1,000 of them.

    The same for all seeds and methods.

    They are left out of every pretraining with a watch, one by the `paper` budget too, whose steps
    are counted on all images: the others are seen 1.05 times as often as its epochs say.
    """
    out = np.zeros(len(groups), bool)
    names, member = np.unique(groups, return_inverse=True)
    if len(groups) < _FEWEST or len(names) < _FEWEST // 10:
        return out
    sizes = np.bincount(member)
    order = np.random.default_rng(0).permutation(len(names))
    wanted = min(HELD_OUT * len(groups), _MOST)
    chosen = order[np.cumsum(sizes[order]) <= wanted]
    out[np.isin(member, chosen)] = True
    return out


def epoch(
    bags: np.ndarray, groups: np.ndarray, batch: int, rng: np.random.Generator, *, paired: bool
) -> np.ndarray:
    """Return the images of an epoch's batches: (batches, B, 2) int, positions in `bags`.

    Two, for the two views of each member of a batch. Not paired: each image once, both views from
    it; what fills no batch is left out until the next epoch. Paired: each bag with two images once,
    two different ones of it, as Azizi et al. 2021 run this stage on cases with several images;
    never two bags of a group in one batch: they would be each other's negatives. Where such bags
    fill no batch, those of one image come in, each as two views of it: ours, what the paper does
    with one image was NOT FOUND.
    """
    n = len(bags)
    if not paired:
        order = rng.permutation(n)[: n // batch * batch]
        return np.stack([order, order], 1).reshape(-1, batch, 2)
    order = rng.permutation(n)
    # a bag's images in random order: the first two are its pair
    by_bag = order[np.argsort(bags[order], kind="stable")]
    count = np.unique(bags, return_counts=True)[1]
    start = np.cumsum(count) - count
    pairs = np.stack([by_bag[start], by_bag[start + (count > 1)]], 1)
    true_pairs = pairs[count > 1]
    if len(np.unique(groups[true_pairs[:, 0]])) >= batch:
        pairs = true_pairs
    return _batched(pairs[rng.permutation(len(pairs))], groups, batch)


def _batched(pairs: np.ndarray, groups: np.ndarray, batch: int) -> np.ndarray:
    """Batches in the order of `pairs`.

    A pair whose group is in the batch already waits for the next one, where it goes first.
    """
    batches: list[np.ndarray] = []
    waiting, coming = deque[int](), deque(range(len(pairs)))
    while True:
        chosen: list[int] = []
        seen: set[str] = set()
        again: deque[int] = deque()
        while len(chosen) < batch and (waiting or coming):
            i = (waiting or coming).popleft()
            group = groups[pairs[i, 0]]
            (again if group in seen else chosen).append(i)
            seen.add(group)
        if len(chosen) < batch:
            return np.array(batches, dtype=int).reshape(-1, batch, 2)
        batches.append(pairs[chosen])
        waiting = again + waiting


def largest_batch(bags: np.ndarray, groups: np.ndarray, *, paired: bool) -> int:
    """Return the most images, or bags of different groups, that a batch can hold.

    bags, groups: (N,), of the training images.
    """
    return len(np.unique(groups)) if paired else len(bags)
