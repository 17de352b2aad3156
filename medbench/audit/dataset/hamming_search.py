"""The nearest of N codes of 63 bits to each image, without comparing all pairs.

Distances are Hamming's. Multi-index hashing (Norouzi, Punjani & Fleet 2012,
doi:10.1109/CVPR.2012.6248043): codes are cut into m chunks. Of two codes that differ in at most m w
+ c bits, one of the chunks 0 to c differs in at most w, or one of the others in less than w. So
codes that share a chunk are looked up, then those one bit away in a chunk, and so on. Each step
makes one more bit sure, and what is sure is given at once: whoever needs the nearest alone stops
there. An image whose neighbours are sure is done. Where looking up would take longer than
comparing, all codes are compared.

Three chunks of 21 bits are for the nearest: films of one kind share many of 16. Of images with one
code all are as far from any other, so that a few of them stand for all.

Own code: none of the packages that medbench needs searches codes exactly, and eight ways of an
image are eight searches to all that do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np

from medbench.system.progress_listener import report_progress

BITS = 63
#: Chunks that codes are cut into, until so many bits are sure; four go to the end.
_FEW, _MANY = 3, 4
_FEW_BITS, _CROWDED_BITS = 5, 8
_LARGE = 4096  # images from which on the tables of large chunks are worth being made
_CROWD = 2.0  # codes that share one of many chunks with one: more of them are looked up by few
#: What a look-up takes, and a code that it gives, in comparisons of two codes.
_LOOK_UP, _GIVEN = 3, 8
_BLOCK = 200_000  # numbers that are worked on at once, that they stay near a core
_TOGETHER = 3  # codes under one value that are taken with those under others
_IMAGES = 2048  # that are searched for together


class _Step(NamedTuple):
    """Codes that differ in `weight` bits of one of so many chunks are looked up.

    sure: once that is done, all codes are known that differ in so many bits.
    """

    chunks: int
    chunk: int
    weight: int
    sure: int


@dataclass
class _Searched:
    """Images that are searched for together.

    left: those that are not done. found: (P, 3) of image, bits, other, the k best so far.
    """

    left: np.ndarray
    found: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))


class _Index:
    """Codes by the value of one of their chunks.

    Those with value v are rows[start[v] : start[v] + count[v]], in `codes` too.
    """

    def __init__(self, values: np.ndarray, codes: np.ndarray, rows: np.ndarray, bits: int):
        order = np.argsort(values[rows], kind="stable")
        self.rows = rows[order]
        self.codes = codes[self.rows]
        self.count = np.bincount(values[rows], minlength=1 << bits).astype(np.int32)
        self.there = self.count > 0
        self.start = np.cumsum(self.count, dtype=np.int32) - self.count


class _Chunks:
    """Codes cut into so many chunks.

    Bits are dealt by how often they are set: films of one kind agree in some of them, and a chunk
    of such bits alone would be shared by all.
    """

    def __init__(self, ways: np.ndarray, codes: np.ndarray, rows: np.ndarray, count: int):
        self.bits = -(-BITS // count)
        order = np.argsort(np.abs(ways[0].mean(0) - 0.5), kind="stable")
        own = [ways[..., order[chunk::count]] for chunk in range(count)]
        self.values = [bits @ (1 << np.arange(bits.shape[-1], dtype=np.int32)) for bits in own]
        self.index = [_Index(values[0], codes, rows, self.bits) for values in self.values]

    def crowd(self) -> float:
        """Return how many codes share a chunk with one, on average."""
        pairs = zip(self.index, self.values, strict=True)
        return float(np.mean([index.count[values].mean() for index, values in pairs]))


class Search:
    """Of each image the k nearest of other groups, at most `far` bits away.

    Among equally near ones, those with the lowest number. ways: (W, N, 63) bool, the codes of N
    images in W ways; an image is as far from another as the nearest of its ways is from the other's
    first. groups: (N,) int.
    """

    def __init__(self, ways: np.ndarray, groups: np.ndarray, k: int, far: int):
        self.ways, self.groups, self.k, self.far = ways, groups, k, far
        self.n = len(groups)
        self.codes = np.packbits(ways, axis=-1).view(np.uint64)[..., 0]
        self.rows = _standing_for_all(self.codes[0], groups, k)

    @cached_property
    def few(self) -> _Chunks:
        """The codes cut into few chunks, by which most are looked up."""
        return _Chunks(self.ways, self.codes[0], self.rows, _FEW)

    @cached_property
    def many(self) -> _Chunks:
        """The codes cut into one chunk more, by which crowded ones are looked up."""
        return _Chunks(self.ways, self.codes[0], self.rows, _MANY)

    def of(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield (P, 3) int64 of image, bits, other: what has become sure, step after step.

        It comes by image, bits and other, and never nearer than what came before it.
        """
        blocks = [_Searched(rows[at : at + _IMAGES]) for at in range(0, len(rows), _IMAGES)]
        before = -1
        for step in _steps(self.far, self._few_bits()):
            for block in blocks:
                report_progress("comparing hashes", max(before, 0), self.far, "bits")
                self._advance(block, step)
            bits = [block.found[:, 1] for block in blocks]
            yield np.concatenate(
                [np.zeros((0, 3), np.int64)]
                + [
                    block.found[(before < own) & (own <= step.sure)]
                    for block, own in zip(blocks, bits, strict=True)
                ]
            )
            before = max(before, step.sure)
        self.end()

    def end(self) -> None:
        """End the search: nothing more is taken of what `of` yields."""
        report_progress("comparing hashes", self.far, self.far, "bits")

    def _few_bits(self) -> int:
        """Return how many bits few chunks make sure; -1: none."""
        if self.n < _LARGE:
            return -1
        crowded = self.many.crowd() > _CROWD
        return min(self.far, _CROWDED_BITS if crowded else _FEW_BITS)

    def _advance(self, block: _Searched, step: _Step) -> None:
        """Take one step for those that are not done."""
        if not len(block.left):
            return
        given = self._looked_up(block.left, step)
        if given is None:
            block.found = self._best([block.found, *self._compared(block.left)])
            block.left = block.left[:0]
            return
        if given:
            block.found = self._best([block.found, *given])
        near = np.bincount(block.found[block.found[:, 1] <= step.sure, 0], minlength=self.n)
        block.left = block.left[near[block.left] < self.k]

    def _looked_up(self, rows: np.ndarray, step: _Step) -> list[np.ndarray] | None:
        """Look up what the images' codes give in a step.

        None where that costs more than a fair part of comparing them all.
        """
        chunks = self.few if step.chunks == _FEW else self.many
        index, masks = chunks.index[step.chunk], _masks(chunks.bits, step.weight)
        price = len(self.rows) // step.chunks  # comparisons, per image and way
        if len(masks) * _LOOK_UP > price:
            return None
        values = chunks.values[step.chunk][:, rows].ravel()
        codes, images = self.codes[:, rows].ravel(), np.tile(rows, len(self.codes))
        given: list[np.ndarray] = []
        total, size = 0, max(1, _BLOCK // len(values))
        each = np.tile(codes, min(size, len(masks)))
        for start in range(0, len(masks), size):
            asked = (values ^ masks[start : start + size, None]).ravel()
            hits = np.flatnonzero(index.there[asked])
            found = asked[hits]
            counts = index.count[found]
            total += int(counts.sum())
            if total * _GIVEN > price * len(values):
                return None
            given += self._given(index, found, counts, each[hits], images, hits)
        return given

    def _given(
        self,
        index: _Index,
        found: np.ndarray,
        counts: np.ndarray,
        codes: np.ndarray,
        images: np.ndarray,
        hits: np.ndarray,
    ) -> Iterator[np.ndarray]:
        """Yield the near ones of the codes that an index has under the values `found`.

        counts: of each. codes: which asks for it; hits: modulo their number, of which image. Most
        values have one or two codes: the first ones of all values are taken together, then the
        second ones.
        """
        place = index.start[found]
        for _ in range(_TOGETHER):
            near, bits = self._near(codes, index.codes[place])
            asking = images[hits[near] % len(images)]
            yield self._of_other_groups(asking, bits, index.rows[place[near]])
            more = np.flatnonzero(counts > 1)
            if not len(more):
                return
            codes, hits = codes[more], hits[more]
            place, counts = place[more] + 1, counts[more] - 1
        for part in _split(counts, _BLOCK):
            many = counts[part]
            ends = np.cumsum(many)
            places = np.repeat(place[part] - (ends - many), many) + np.arange(ends[-1])
            near, bits = self._near(np.repeat(codes[part], many), index.codes[places])
            asking = images[hits[part][np.searchsorted(ends, near, side="right")] % len(images)]
            yield self._of_other_groups(asking, bits, index.rows[places[near]])

    def _near(self, codes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which of these pairs of codes are near, and in how many bits they differ."""
        bits = np.bitwise_count(codes ^ others)
        near = np.flatnonzero(bits <= self.far)
        return near, bits[near]

    def _compared(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """All codes near these images."""
        others = self.codes[0, self.rows]
        step = max(1, _BLOCK // len(others))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            bits = np.bitwise_count(self.codes[0, part, None] ^ others)
            for way in self.codes[1:]:
                np.minimum(bits, np.bitwise_count(way[part, None] ^ others), out=bits)
            i, j = np.nonzero(bits <= self.far)
            yield self._of_other_groups(part[i], bits[i, j], self.rows[j])

    def _of_other_groups(self, i: np.ndarray, bits: np.ndarray, j: np.ndarray) -> np.ndarray:
        """(P, 3) of the pairs of two groups."""
        other = self.groups[i] != self.groups[j]
        return np.column_stack([i[other], bits[other], j[other]]).astype(np.int64)

    def _best(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the k nearest of each image, each once, by image, bits and other."""
        i, bits, j = np.concatenate(parts).T
        pairs = np.sort((i * self.n + j) * 64 + bits)
        pairs = pairs[np.diff(pairs >> 6, prepend=-1) != 0]  # in the way in which they are nearest
        i, j, bits = (pairs >> 6) // self.n, (pairs >> 6) % self.n, pairs & 63
        order = np.sort((i * 64 + bits) * self.n + j)
        i, bits, j = order // self.n // 64, order // self.n % 64, order % self.n
        near = _rank(i) < self.k
        return np.column_stack([i[near], bits[near], j[near]])


def nearest(ways: np.ndarray, groups: np.ndarray, k: int, far: int) -> np.ndarray:
    """Return all that `Search` finds: (P, 3) int64 of image, bits, other, nearest first.

    ways: (W, N, 63) bool, groups: (N,) int, k and far: as `Search` takes them.
    """
    every = np.arange(len(groups))
    found = np.concatenate([np.zeros((0, 3), np.int64), *Search(ways, groups, k, far).of(every)])
    return found[np.lexsort((found[:, 2], found[:, 1], found[:, 0]))]


def _steps(far: int, few_bits: int) -> Iterator[_Step]:
    """Yield steps until `far` bits are sure, the first `few_bits` by few chunks."""
    for chunks, last in ((_FEW, few_bits), (_MANY, far if few_bits < far else -1)):
        for sure in range(last + 1):
            yield _Step(chunks, sure % chunks, sure // chunks, sure)


def _standing_for_all(codes: np.ndarray, groups: np.ndarray, k: int) -> np.ndarray:
    """Return the rows that can be among the k nearest of any image, ascending.

    Of one code, and for a group that is left out, these are the k lowest of the others: of each
    group the first k, and the groups that come first, one more than k.
    """
    order = np.lexsort((np.arange(len(codes)), groups, codes))
    code = np.unique(codes[order], return_inverse=True)[1]
    new = (np.diff(code, prepend=-1) != 0) | (np.diff(groups[order], prepend=groups[order[0]]) != 0)
    part = np.cumsum(new) - 1  # of one code and one group
    first = order[new]  # its lowest row
    within = _rank(part)
    by_first = np.lexsort((first, code[new]))
    rank = np.empty(len(first), np.int64)
    rank[by_first] = _rank(code[new][by_first])
    return np.sort(order[(within < k) & (rank[part] <= k)])


def _rank(values: np.ndarray) -> np.ndarray:
    """Return the place of each among its equals, which stand together in ascending order."""
    found: np.ndarray = np.arange(len(values)) - np.searchsorted(values, values)
    return found


def _split(counts: np.ndarray, most: int) -> Iterator[slice]:
    """Places of counts whose sum is about `most`."""
    ends = (
        np.searchsorted(np.cumsum(counts), np.arange(most, counts.sum() + most, most), side="left")
        + 1
    )
    start = 0
    for end in ends.tolist():
        if start < min(end, len(counts)):
            yield slice(start, min(end, len(counts)))
            start = end


def _masks(bits: int, weight: int) -> np.ndarray:
    """(M,) int32 with `weight` of so many bits set."""
    return np.array(
        [sum(1 << bit for bit in chosen) for chosen in combinations(range(bits), weight)], np.int32
    )
