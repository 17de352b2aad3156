"""The nearest of N codes of 63 bits to each image, without comparing all pairs.

By Hamming distance. Multi-index hashing (Norouzi, Punjani & Fleet 2012,
doi:10.1109/CVPR.2012.6248043): codes are cut into four chunks, and of two codes that differ in at
most 4 w + 3 bits one chunk differs in at most w. So codes that share a chunk are looked up, then
those one bit away in a chunk, and so on; an image whose neighbours are nearer than all that was not
looked up is done. Where looking up would take longer than comparing, all codes are compared.

Own code: none of the packages that medbench needs searches codes exactly, and eight ways of an
image are eight searches to all that do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from medbench.system.progress_listener import report_progress

CHUNKS, CHUNK_BITS = 4, 16
#: What a look-up takes, and a code that it gives, in comparisons of two codes.
_LOOK_UP, _GIVEN = 3, 8
_BLOCK = 200_000  # numbers that are worked on at once, that they stay near a core
_IMAGES = 2048  # that are searched for together


def nearest(ways: np.ndarray, groups: np.ndarray, k: int, far: int) -> np.ndarray:
    """Return (P, 3) int64 of image, bits, other: each image's k nearest of other groups.

    They are at most `far` bits away, nearest first; of equally near ones those with the lowest
    number. ways: (W, N, 63) bool, the codes of N images in W ways; an image is as far from another
    as the nearest of its ways is from the other's first. groups: (N,) int.
    """
    packed, n = _packed(ways), len(groups)
    search = _Search(packed, groups, k, far)
    found = [np.zeros((0, 3), np.int64)]
    for start in range(0, n, _IMAGES):
        rows = np.arange(start, min(start + _IMAGES, n))
        found.append(search.nearest_of(rows))
        report_progress("comparing hashes", int(rows[-1]) + 1, n, "images")
    return np.concatenate(found)


def _packed(ways: np.ndarray) -> np.ndarray:
    """Pack the codes into chunks: (W, N, 4) uint16.

    Bit b of a code is in chunk b mod 4, as neighbouring frequencies go together.
    """
    w, n, bits = ways.shape
    padded = np.zeros((w, n, CHUNK_BITS, CHUNKS), bool)
    padded.reshape(w, n, -1)[:, :, :bits] = ways
    weights = 1 << np.arange(CHUNK_BITS, dtype=np.int32)
    packed = np.stack([padded[:, :, :, chunk] @ weights for chunk in range(CHUNKS)], -1)
    return packed.astype(np.uint16)


def _whole(packed: np.ndarray) -> np.ndarray:
    """(..., 4) uint16 -> (...) uint64."""
    return np.ascontiguousarray(packed).view(np.uint64)[..., 0]


class _Index:
    """Codes by the value of one of their chunks.

    Those with value v are order[start[v] : start[v] + count[v]], in `codes` too.
    """

    def __init__(self, packed: np.ndarray, chunk: int):
        self.order = np.argsort(packed[:, chunk], kind="stable")
        self.codes = _whole(packed[self.order])
        self.count = np.bincount(packed[:, chunk], minlength=1 << CHUNK_BITS)
        self.there = self.count > 0
        self.start = np.cumsum(self.count) - self.count


class _Search:
    """See `nearest`.

    radii: of each chunk, how many bits away it is looked up at most: two codes that differ by `far`
    have one as near.
    """

    def __init__(self, packed: np.ndarray, groups: np.ndarray, k: int, far: int):
        self.packed, self.groups, self.k, self.far = packed, groups, k, far
        self.ways, self.n = packed.shape[:2]
        self.codes = _whole(packed)
        each, more = divmod(far + 1, CHUNKS)
        self.radii = [each - 1 + (chunk < more) for chunk in range(CHUNKS)]
        self.index = [_Index(packed[0], chunk) for chunk in range(CHUNKS)]

    def nearest_of(self, rows: np.ndarray) -> np.ndarray:
        """`nearest` of these images."""
        found, left = np.zeros((0, 3), np.int64), rows
        for weight in range(max(self.radii) + 1):
            chunks = [chunk for chunk, radius in enumerate(self.radii) if radius >= weight]
            for chunk in chunks:
                given = self._looked_up(left, chunk, weight, self.n // len(chunks))
                if given is None:
                    return self._best([found, *self._compared(left)])
                found = self._best([found, *given])
            sure = sum(min(weight, radius) + 1 for radius in self.radii) - 1
            left = left[~self._done(found, left, sure)]
            if not len(left):
                break
        return found

    def _done(self, found: np.ndarray, rows: np.ndarray, sure: int) -> np.ndarray:
        """Whether these images have k neighbours of at most `sure` bits."""
        near = np.bincount(found[found[:, 1] <= sure, 0], minlength=self.n)
        done: np.ndarray = near[rows] >= self.k
        return done

    def _looked_up(
        self, rows: np.ndarray, chunk: int, weight: int, price: int
    ) -> list[np.ndarray] | None:
        """Look up what the images' codes give that differ in so many bits of a chunk.

        None where that costs more than `price` comparisons per image and way.
        """
        index, masks = self.index[chunk], _masks(weight)
        values = self.packed[:, rows, chunk].ravel()
        codes, images = self.codes[:, rows].ravel(), np.tile(rows, self.ways)
        if len(masks) * _LOOK_UP > price:
            return None
        given, total = [], 0
        step = max(1, _BLOCK // len(values))
        for start in range(0, len(masks), step):
            asked = (values ^ masks[start : start + step, None]).ravel()
            hits = np.flatnonzero(index.there[asked])
            found = asked[hits]
            counts = index.count[found]
            total += int(counts.sum())
            if total * _GIVEN > price * len(values):
                return None
            for part in _split(counts, _BLOCK):
                repeated = np.repeat(np.arange(part.start, part.stop), counts[part])
                before = np.cumsum(counts[part]) - counts[part]
                within = np.arange(len(repeated)) - np.repeat(before, counts[part])
                place = index.start[found[repeated]] + within
                query = hits[repeated] % len(values)
                given.append(
                    self._kept(codes[query] ^ index.codes[place], images[query], index.order[place])
                )
        return given

    def _compared(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """All codes near these images."""
        step = max(1, _BLOCK // self.n)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            bits = np.bitwise_count(self.codes[0, part, None] ^ self.codes[0])
            for way in self.codes[1:]:
                np.minimum(bits, np.bitwise_count(way[part, None] ^ self.codes[0]), out=bits)
            i, j = np.nonzero(bits <= self.far)
            other = self.groups[part[i]] != self.groups[j]
            yield np.column_stack([part[i[other]], bits[i[other], j[other]], j[other]]).astype(
                np.int64
            )

    def _kept(self, differing: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """(P, 3) of those pairs (i, j) that are near and of other groups.

        differing: their codes, exclusive or.
        """
        bits = np.bitwise_count(differing)
        near = np.flatnonzero(bits <= self.far)
        near = near[self.groups[i[near]] != self.groups[j[near]]]
        return np.column_stack([i[near], bits[near], j[near]]).astype(np.int64)

    def _best(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the k nearest of each image, each once, by image, bits and other."""
        i, bits, j = np.concatenate(parts).T
        pairs = np.sort((i * self.n + j) * 64 + bits)
        pairs = pairs[np.diff(pairs >> 6, prepend=-1) != 0]  # in the way in which they are nearest
        i, j, bits = (pairs >> 6) // self.n, (pairs >> 6) % self.n, pairs & 63
        order = np.sort((i * 64 + bits) * self.n + j)
        i, bits, j = order // self.n // 64, order // self.n % 64, order % self.n
        first = np.searchsorted(i, i)
        near = np.arange(len(i)) - first < self.k
        return np.column_stack([i[near], bits[near], j[near]])


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


def _masks(weight: int) -> np.ndarray:
    """(M,) uint16 with so many bits set."""
    return np.array(
        [sum(1 << bit for bit in bits) for bits in combinations(range(CHUNK_BITS), weight)],
        np.uint16,
    )
