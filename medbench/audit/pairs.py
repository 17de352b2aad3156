"""Pairs of one picture: byte for byte, or resized, recompressed, mirrored, turned, cropped. Candidates come from `candidates`, `alignment` decides.

The candidates are tried nearest first, and the search goes on while it finds: it ends after `PATIENCE` in a row that are none, or at a limit.
What correlation means one picture differs between modalities (all chest films share ribs), so it is measured: pairs drawn at random say how
high two different pictures of this data set come, and the threshold lies `MARGIN` above the highest of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medbench.audit import candidates
from medbench.audit.alignment import Search, align

RANDOM = 160  # pairs drawn at random for the threshold
MARGIN = 0.12
LOWEST, HIGHEST = 0.5, 0.8  # of the threshold: what was seen on dermoscopy, endoscopy and chest films, see benchmarks/audit.py
PATIENCE = 384
LIMIT = 2_000  # pairs that are aligned, and one more for each image
_BLOCK = 64
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Pair:
    """i < j: rows. bits: in which their hashes differ (of 63; -1: not among the near). correlation: after alignment, 1 for the same bytes."""

    i: int
    j: int
    kind: str  # "identical" or "near"
    bits: int
    correlation: float
    overlap: float


@dataclass(frozen=True)
class Found:
    """pairs: best first. threshold, random: of the correlation, and the highest of random pairs. aligned: pairs that were looked at closely.
    complete: False where the limit ended the search before patience did."""

    pairs: list[Pair]
    threshold: float
    random: float
    aligned: int
    complete: bool


def identical(hashes: Sequence[str]) -> list[Pair]:
    """Each image with the first one of the same bytes."""
    first: dict[str, int] = {}
    return [Pair(j, i, "identical", 0, 1.0, 1.0) for i, name in enumerate(hashes) if (j := first.setdefault(name, i)) != i]


def near(pack: np.ndarray, features: np.ndarray | None, groups: np.ndarray, progress: Progress) -> Found:
    """Pairs of different groups that show one picture. pack (N, S, S, 3) uint8, features (N, D) float32 or None, groups (N,) int64."""
    n = len(pack)
    if n < 2:
        return Found([], LOWEST, 0.0, 0, True)
    by_hash = candidates.by_hash(candidates.hashes(pack), groups, lambda done, total: progress("comparing hashes", done, total))
    lists = [[(i, j) for i, j, _ in by_hash]]
    if features is not None:
        nearest = candidates.by_features(features, groups, lambda done, total: progress("comparing features", done, total))
        lists.append([(i, j) for i, j, _ in nearest])
    bits = {(i, j): distance for i, j, distance in by_hash}
    random = _random(pack, groups, progress)
    threshold = float(np.clip(random + MARGIN, LOWEST, HIGHEST))
    limit = LIMIT + n
    tried: dict[tuple[int, int], tuple[float, float]] = {}
    complete = True
    for order in lists:
        vain = 0
        queue = [pair for pair in order if pair not in tried]
        for start in range(0, len(queue), _BLOCK):
            if vain >= PATIENCE:
                break
            if len(tried) >= limit:
                complete = False
                break
            block = queue[start : start + _BLOCK]
            index = np.array(block)
            correlation, overlap, _ = align(pack[index[:, 0]], pack[index[:, 1]])
            tried.update(zip(block, zip(correlation.tolist(), overlap.tolist(), strict=True), strict=True))
            hits = np.flatnonzero(correlation >= threshold)
            vain = len(block) - 1 - int(hits[-1]) if len(hits) else vain + len(block)
            progress("aligning pairs", min(len(tried), limit - 1), limit)
    progress("aligning pairs", limit, limit)
    pairs = [Pair(i, j, "near", bits.get((i, j), -1), c, overlap) for (i, j), (c, overlap) in tried.items() if c >= threshold]
    return Found(sorted(pairs, key=lambda pair: (-pair.correlation, pair.i, pair.j)), threshold, random, len(tried), complete)


def _random(pack: np.ndarray, groups: np.ndarray, progress: Progress) -> float:
    """The highest correlation of random pairs of different groups. A copy among them would raise it, so the two highest in a hundred are left out
    where they stand apart: a copy's correlation is far above all others."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, len(pack), (4 * RANDOM, 2))
    index = index[groups[index[:, 0]] != groups[index[:, 1]]][:RANDOM]
    if not len(index):
        return 0.0
    values = np.sort(
        align(pack[index[:, 0]], pack[index[:, 1]], progress=lambda done, total: progress("aligning random pairs", done, total))[0]
    )
    spread = float(np.quantile(values, 0.9) - np.quantile(values, 0.5))
    usual = values[values <= np.quantile(values, 0.9) + 4 * spread]
    return float(usual[-1])


__all__ = ["Found", "Pair", "Search", "identical", "near"]
