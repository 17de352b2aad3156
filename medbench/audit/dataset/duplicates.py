"""Pairs of one picture: byte for byte, or resized, recompressed, mirrored, turned, cropped.

Candidates come from `candidate_pairs` and `local_points`, `registration` lays one over the other,
and their `likeness` decides; where that leaves it open, a `closer_look`.

A lesion or a chest that was taken twice within minutes is found too: for a split it is the same
thing.

The candidates are tried nearest first, and the search goes on while it finds: it ends after
`Effort.patience` in a row that are none, or at a limit.

What likeness means one picture differs between modalities, so it is measured: pairs of different
groups, drawn at random and laid over each other in the same way, say what two different pictures of
this data set come to. In Fisher's z they are taken as normal, with their median and the spread from
it to their ninth tenth. N images have N (N - 1) / 2 pairs: a pair is a copy from where less than
`SURE` of a false pair an image is to be expected among all of them, and a possible one from
`POSSIBLE` on. Neither is less than `Effort.lowest`. Pairs about the threshold, some of the random
ones among them, are read again finer, and judged by thresholds of that look. How the constants were
chosen and judged: benchmarks/copies.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from medbench.audit.dataset import candidate_pairs, closer_look, local_points
from medbench.audit.dataset.likeness import likeness
from medbench.audit.dataset.pack_rows import Rows
from medbench.audit.dataset.registration import align
from medbench.system.progress_listener import report_progress

SURE, POSSIBLE = 1e-3, 1e-1  # false pairs an image
_TAIL, _CLOSER_TAIL = (
    1.1,
    1.3,
)  # likeness of different pictures reaches further than a normal one, of those in doubt furthest; a spread is an estimate
_LESS_SURE = 0.935  # of `Effort.lowest`, for a possible copy
# median and spread in Fisher's z of other data sets, and of how many pairs they are worth
_USUAL, _WEIGHT = (1.0, 0.2), 20
# of the way from random pairs to the threshold, in Fisher's z: between these, a pair is read again
_IN_DOUBT = (0.5, 1.5)
_AHEAD = 0.25  # of that way, by which a pair that is in doubt must be ahead of others of its images
_NEIGHBOURS = 4  # candidates an image, by points
_BLOCK = 64


@dataclass(frozen=True)
class Effort:
    """How far and how long copies are searched for.

    far: bits between hashes of a candidate. points: whether images that share places are candidates
    too. random: pairs for the threshold. lowest: of the threshold. patience: see above. limit,
    per_image: aligned pairs at most. closer: pairs for the threshold of the closer look; and that
    many others are read again, and one for ten images more.
    """

    far: int = 14
    points: bool = True
    random: int = 320
    lowest: float = 0.93
    patience: int = 384
    limit: int = 2_000
    per_image: int = 1
    closer: int = 160


#: While a run is planned: seconds for some thousand images, most of them for decoding. Copies
#: alone: two films of one patient are for a person to judge.
QUICK = Effort(far=8, points=False, random=160, patience=128, limit=400, per_image=0, closer=96)


@dataclass(frozen=True)
class DuplicatePair:
    """Two images that show one picture, or may. i < j: their rows.

    bits: in which their hashes differ (of 63; -1: not among the near). correlation: their likeness
    in [-1, 1] after alignment, at the size at which they were judged; 1 for the same bytes.
    overlap: in [0, 1], of the first one's picture.
    """

    i: int
    j: int
    kind: str  # "identical", "near", or "possible"
    bits: int
    correlation: float
    overlap: float


@dataclass(frozen=True)
class Threshold:
    """Correlations from which on a pair is a copy and a possible one.

    random: the median of pairs drawn at random.
    """

    sure: float
    possible: float
    random: float = 0.0

    def kind(self, likeness: float) -> str:
        """Name the kind of a pair; "" of none."""
        return "near" if likeness >= self.sure else "possible" if likeness >= self.possible else ""

    def on_the_way(self, share: float) -> float:
        """Return the correlation at this share of the way from random pairs to the sure ones.

        In Fisher's z.
        """
        middle, sure = np.arctanh([self.random, self.sure])
        return float(np.tanh(middle + share * (sure - middle)))


@dataclass(frozen=True)
class Found:
    """Hold the pairs of copies that a search found, best first.

    aligned: pairs that were laid over each other. complete: False where the limit ended the search
    before patience did. closer: the threshold of pairs that were read again, of which there are
    `reread`; None where none was.
    """

    pairs: list[DuplicatePair]
    threshold: Threshold
    aligned: int = 0
    complete: bool = True
    closer: Threshold | None = None
    reread: int = 0


class _Pairs(NamedTuple):
    """Pairs (P, 2) that were laid over each other: their maps (P, 2, 3) and likeness (P,)."""

    pairs: np.ndarray
    maps: np.ndarray
    likeness: np.ndarray


class _Tried(NamedTuple):
    likeness: float
    overlap: float
    map: np.ndarray


def identical(hashes: Sequence[str]) -> list[DuplicatePair]:
    """Pair each image with the first one of the same bytes."""
    first: dict[str, int] = {}
    return [
        DuplicatePair(j, i, "identical", 0, 1.0, 1.0)
        for i, name in enumerate(hashes)
        if (j := first.setdefault(name, i)) != i
    ]


def near(
    pack: np.ndarray | Rows,
    groups: np.ndarray,
    effort: Effort,
    read: closer_look.Read | None = None,
) -> Found:
    """Find pairs of different groups that show one picture.

    pack (N, S, S, 3) uint8, groups (N,) int64. read: images again, finer; None where that shows no
    more.
    """
    n = len(pack)
    nothing = Found([], _threshold(np.zeros(0), n, effort.lowest))
    if n < 2:
        return nothing
    near_hashes = candidate_pairs.NearHashes(candidate_pairs.hashes(pack), groups, effort.far)
    by_points = local_points.by_points(pack, groups, _NEIGHBOURS) if effort.points else []
    by_hash = iter(near_hashes)
    nearest = list(islice(by_hash, 1))
    if not by_points and not nearest:
        near_hashes.end()
        return nothing
    judge = Judge(pack)
    random = judge.random(groups, effort.random)
    threshold = _threshold(random.likeness, n, effort.lowest)
    limit = effort.limit + effort.per_image * n
    # points first: they tell copies from look-alikes better; a limit ends both
    complete = all(
        judge.search(order, threshold.sure, effort.patience, limit)
        for order in (((i, j) for i, j, _ in by_points), chain(nearest, by_hash))
    )
    near_hashes.end()
    report_progress("aligning pairs", limit, limit, "pairs")
    verdicts = judge.verdicts(threshold)
    doubtful = judge.doubtful(threshold)[: effort.closer + n // 10] if read else []
    closer = None
    if read and doubtful:
        seen = _looked_at_closer(read, random, doubtful, judge.tried, effort.closer)
        closer = _threshold(seen[: -len(doubtful)], n, effort.lowest, _CLOSER_TAIL)
        verdicts |= {
            pair: (own, closer.kind(own))
            for pair, own in zip(doubtful, seen[-len(doubtful) :].tolist(), strict=True)
        }
    bits = near_hashes.bits([pair for pair, (_, kind) in verdicts.items() if kind])
    pairs = [
        DuplicatePair(i, j, kind, bits.get((i, j), -1), own, judge.tried[i, j].overlap)
        for (i, j), (own, kind) in verdicts.items()
        if kind
    ]
    pairs.sort(key=lambda pair: (pair.kind != "near", -pair.correlation, pair.i, pair.j))
    return Found(pairs, threshold, len(judge.tried), complete, closer, len(doubtful))


def _looked_at_closer(
    read: closer_look.Read,
    random: _Pairs,
    doubtful: list[tuple[int, int]],
    tried: dict[tuple[int, int], _Tried],
    most: int,
) -> np.ndarray:
    """Compare `most` random pairs, and the doubtful ones after them, in images read again.

    Likeness (P,).
    """
    pairs = np.concatenate([random.pairs[:most], np.array(doubtful)])
    maps = np.concatenate([random.maps[:most], np.stack([tried[pair].map for pair in doubtful])])
    return closer_look.likeness_of(read, pairs, maps)


class Judge:
    """Lay pairs of images over each other, each pair once.

    pack: (N, S, S, 3) uint8. tried: pair -> its likeness, overlap and map.
    """

    def __init__(self, pack: np.ndarray | Rows):
        self.pack = pack
        self.tried: dict[tuple[int, int], _Tried] = {}

    def random(self, groups: np.ndarray, n: int) -> _Pairs:
        """Lay n random pairs of different groups at most over each other.

        groups: (N,) int64.
        """
        index = np.random.default_rng(0).integers(0, len(groups), (4 * n, 2))
        index = index[groups[index[:, 0]] != groups[index[:, 1]]][:n]
        _, _, maps = align(self.pack, index, all_the_way=True, stage="aligning random pairs")
        return _Pairs(index, maps, likeness(self.pack, index, maps))

    def doubtful(self, threshold: Threshold) -> list[tuple[int, int]]:
        """List pairs too near the threshold to be judged at this size, the likest first."""
        low, high = map(threshold.on_the_way, _IN_DOUBT)
        return sorted(
            (pair for pair, tried in self.tried.items() if low <= tried.likeness < high),
            key=lambda pair: -self.tried[pair].likeness,
        )

    def verdicts(self, threshold: Threshold) -> dict[tuple[int, int], tuple[float, str]]:
        """Judge each pair at this size: its likeness and kind.

        In a pair in doubt one image may be nearly as much like a third one: then many pictures of
        this data set are alike in that way, and it is no more than possible.
        """
        high = threshold.on_the_way(_IN_DOUBT[1])
        beside: dict[int, dict[int, float]] = defaultdict(dict)
        for (i, j), tried in self.tried.items():
            if tried.likeness < high:
                beside[i][j] = beside[j][i] = tried.likeness
        found = {}
        for pair, tried in self.tried.items():
            kind = threshold.kind(tried.likeness)
            if kind == "near" and tried.likeness < high:
                rival = max(
                    (
                        other
                        for row in pair
                        for third, other in beside[row].items()
                        if third not in pair
                    ),
                    default=threshold.random,
                )
                ahead = np.arctanh(tried.likeness) - np.arctanh(rival)
                kind = (
                    kind
                    if ahead
                    >= _AHEAD * np.subtract(*np.arctanh([threshold.sure, threshold.random]))
                    else "possible"
                )
            found[pair] = (tried.likeness, kind)
        return found

    def search(
        self, order: Iterable[tuple[int, int]], sure: float, patience: int, limit: int
    ) -> bool:
        """Try pairs in this order while copies are among them; no more are taken from it than that.

        sure: the correlation of a copy. patience: pairs in a row without one after which it ends.
        Returns False where the limit of tried pairs ended it.
        """
        vain, step = 0, min(_BLOCK, patience)
        queue = (pair for pair in order if pair not in self.tried)
        while vain < patience:
            full = len(self.tried) >= limit
            block = list(islice(queue, 1 if full else step))
            if not block or full:
                return not block
            report_progress("aligning pairs", min(len(self.tried), limit - 1), limit, "pairs")
            hits = np.flatnonzero(self._try(block) >= sure)
            vain = len(block) - 1 - int(hits[-1]) if len(hits) else vain + len(block)
        return True

    def _try(self, block: list[tuple[int, int]]) -> np.ndarray:
        index = np.array(block)
        whole, overlap, maps = align(self.pack, index)
        own = np.zeros(len(block))
        on = whole > 0  # else no plausible map was found, or the pair was left on the way
        own[on] = likeness(self.pack, index[on], maps[on])
        self.tried.update(
            zip(block, map(_Tried, own.tolist(), overlap.tolist(), maps), strict=True)
        )
        return own


def _threshold(random: np.ndarray, images: int, lowest: float, tail: float = _TAIL) -> Threshold:
    """Of the likeness of pairs of different groups.

    Median and ninth tenth: a few of the pairs may be copies.
    """
    from scipy.stats import norm

    z = np.arctanh(np.clip(random, -0.999, 0.999))
    median, high = np.quantile(z, [0.5, 0.9]) if len(z) else (0.0, 0.0)
    share = len(z) / (len(z) + _WEIGHT)
    median = share * median + (1 - share) * _USUAL[0]
    spread = share * (high - median) / norm.isf(0.1) + (1 - share) * _USUAL[1]
    far = [tail * norm.isf(min(0.5, rate * 2 / max(images - 1, 1))) for rate in (SURE, POSSIBLE)]
    sure, possible = (float(np.tanh(median + spreads * spread)) for spreads in far)
    return Threshold(max(sure, lowest), max(possible, _LESS_SURE * lowest), float(np.tanh(median)))
