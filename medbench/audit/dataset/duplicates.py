"""Pairs of one picture: byte for byte, or resized, recompressed, mirrored, turned, cropped. Candidates come from `candidate_pairs` and
`local_points`, `registration` lays one over the other, and their `likeness` decides.

A lesion or a chest that was taken twice within minutes is found too: for a split it is the same thing.

The candidates are tried nearest first, and the search goes on while it finds: it ends after `Effort.patience` in a row that are none, or at a limit.

What likeness means one picture differs between modalities, so it is measured: pairs of different groups, drawn at random and laid over each other in
the same way, say what two different pictures of this data set come to. In Fisher's z they are taken as normal, with their median and the spread from it
to their ninth tenth. N images have N (N - 1) / 2 pairs: a pair is a copy from where less than `SURE` of a false pair an image is to be expected among
all of them, and a possible one from `POSSIBLE` on. Neither is less than `Effort.lowest`. How the constants were chosen and judged: benchmarks/copies.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medbench.audit.dataset import candidate_pairs, local_points
from medbench.audit.dataset.likeness import likeness
from medbench.audit.dataset.pack_rows import Rows
from medbench.audit.dataset.registration import align
from medbench.system.progress_listener import report_progress

SURE, POSSIBLE = 1e-3, 1e-1  # false pairs an image
_TAIL = 1.1  # likeness of different pictures reaches further than a normal one, and its spread is an estimate
_LESS_SURE = 0.935  # of `Effort.lowest`, for a possible copy
_USUAL, _WEIGHT = (0.7, 0.2), 20  # median and spread in Fisher's z of other data sets, and of how many pairs they are worth
_NEIGHBOURS = 4  # candidates an image, by points
_BLOCK = 64


@dataclass(frozen=True)
class Effort:
    """far: bits between hashes of a candidate. points: whether images that share places are candidates too. random: pairs for the threshold.
    lowest: of the threshold. patience: see above. limit, per_image: aligned pairs at most."""

    far: int = 14
    points: bool = True
    random: int = 320
    lowest: float = 0.92
    patience: int = 384
    limit: int = 2_000
    per_image: int = 1


#: While a run is planned: seconds for some thousand images, most of them for decoding. Copies alone: two films of one patient are for a person to judge.
QUICK = Effort(far=8, points=False, random=160, patience=128, limit=400, per_image=0)


@dataclass(frozen=True)
class DuplicatePair:
    """i < j: rows. bits: in which their hashes differ (of 63; -1: not among the near). correlation: their likeness after
    alignment; 1 for the same bytes."""

    i: int
    j: int
    kind: str  # "identical", "near", or "possible"
    bits: int
    correlation: float
    overlap: float


@dataclass(frozen=True)
class Threshold:
    """Correlations from which on a pair is a copy and a possible one. random: the median of pairs drawn at random."""

    sure: float
    possible: float
    random: float = 0.0


@dataclass(frozen=True)
class Found:
    """pairs: best first. aligned: pairs that were looked at closely. complete: False where the limit ended the search before patience did."""

    pairs: list[DuplicatePair]
    threshold: Threshold
    aligned: int = 0
    complete: bool = True


def identical(hashes: Sequence[str]) -> list[DuplicatePair]:
    """Each image with the first one of the same bytes."""
    first: dict[str, int] = {}
    return [DuplicatePair(j, i, "identical", 0, 1.0, 1.0) for i, name in enumerate(hashes) if (j := first.setdefault(name, i)) != i]


def near(pack: np.ndarray | Rows, groups: np.ndarray, effort: Effort) -> Found:
    """Pairs of different groups that show one picture. pack (N, S, S, 3) uint8, groups (N,) int64."""
    if len(pack) < 2:
        return Found([], _threshold(np.zeros(0), len(pack), effort.lowest))
    by_hash = candidate_pairs.by_hash(candidate_pairs.hashes(pack), groups, effort.far)
    by_points = local_points.by_points(pack, groups, _NEIGHBOURS) if effort.points else []
    lists = [[(i, j) for i, j, _ in found] for found in (by_points, by_hash)]  # points first: they tell copies from look-alikes better
    if not any(lists):
        return Found([], _threshold(np.zeros(0), len(pack), effort.lowest))
    judge = _Judge(pack)
    threshold = _threshold(judge.random(groups, effort.random), len(pack), effort.lowest)
    limit = effort.limit + effort.per_image * len(pack)
    complete = all(judge.search(order, threshold.sure, effort.patience, limit) for order in lists)  # a limit ends them all
    report_progress("aligning pairs", limit, limit, "pairs")
    bits = {(i, j): distance for i, j, distance in by_hash}
    pairs = [
        DuplicatePair(i, j, "near" if own >= threshold.sure else "possible", bits.get((i, j), -1), own, overlap)
        for (i, j), (own, overlap) in judge.tried.items()
        if own >= threshold.possible
    ]
    return Found(sorted(pairs, key=lambda pair: (-pair.correlation, pair.i, pair.j)), threshold, len(judge.tried), complete)


class _Judge:
    """tried: pair -> its likeness and overlap."""

    def __init__(self, pack: np.ndarray | Rows):
        self.pack = pack
        self.tried: dict[tuple[int, int], tuple[float, float]] = {}

    def random(self, groups: np.ndarray, n: int) -> np.ndarray:
        """Likeness of n random pairs of different groups at most."""
        index = np.random.default_rng(0).integers(0, len(groups), (4 * n, 2))
        index = index[groups[index[:, 0]] != groups[index[:, 1]]][:n]
        _, _, maps = align(self.pack, index, all_the_way=True, stage="aligning random pairs")
        return likeness(self.pack, index, maps)

    def search(self, order: Sequence[tuple[int, int]], sure: float, patience: int, limit: int) -> bool:
        """Try pairs in this order while copies are among them. False where the limit of tried pairs ended it."""
        vain, step = 0, min(_BLOCK, patience)
        queue = [pair for pair in order if pair not in self.tried]
        for start in range(0, len(queue), step):
            if vain >= patience:
                return True
            if len(self.tried) >= limit:
                return False
            block = queue[start : start + step]
            hits = np.flatnonzero(self._try(block) >= sure)
            vain = len(block) - 1 - int(hits[-1]) if len(hits) else vain + len(block)
            report_progress("aligning pairs", min(len(self.tried), limit - 1), limit, "pairs")
        return True

    def _try(self, block: list[tuple[int, int]]) -> np.ndarray:
        index = np.array(block)
        whole, overlap, maps = align(self.pack, index)
        own = np.zeros(len(block))
        on = whole > 0  # else no plausible map was found, or the pair was left on the way
        own[on] = likeness(self.pack, index[on], maps[on])
        self.tried.update(zip(block, zip(own.tolist(), overlap.tolist(), strict=True), strict=True))
        return own


def _threshold(random: np.ndarray, images: int, lowest: float) -> Threshold:
    """Of the likeness of pairs of different groups. Median and ninth tenth: a few of the pairs may be copies."""
    from scipy.stats import norm

    z = np.arctanh(np.clip(random, -0.999, 0.999))
    median, high = np.quantile(z, [0.5, 0.9]) if len(z) else (0.0, 0.0)
    share = len(z) / (len(z) + _WEIGHT)
    median = share * median + (1 - share) * _USUAL[0]
    spread = share * (high - median) / norm.isf(0.1) + (1 - share) * _USUAL[1]
    far = [_TAIL * norm.isf(min(0.5, rate * 2 / max(images - 1, 1))) for rate in (SURE, POSSIBLE)]
    sure, possible = (float(np.tanh(median + spreads * spread)) for spreads in far)
    return Threshold(max(sure, lowest), max(possible, _LESS_SURE * lowest), float(np.tanh(median)))
