"""Pairs of one picture: byte for byte, or resized, recompressed, mirrored, turned, cropped. Candidates come from `candidate_pairs`, `registration` decides.

A lesion or a chest that was taken twice within minutes is found too: for a split it is the same thing.

The candidates are tried nearest first, and the search goes on while it finds: it ends after `Effort.patience` in a row that are none, or at a limit.
What correlation means one picture differs between modalities (all chest films share ribs), so it is measured: pairs drawn at random say how
high two different pictures of this data set come, and the threshold lies `MARGIN` above the highest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medbench.audit.dataset import candidate_pairs
from medbench.audit.dataset.pack_rows import Rows
from medbench.audit.dataset.registration import align
from medbench.system.progress_listener import report_progress

MARGIN = 0.15
HIGHEST = 0.8  # of the threshold: what was seen on dermoscopy, endoscopy and chest films, see benchmarks/audit.py
_BLOCK = 64


@dataclass(frozen=True)
class Effort:
    """far: bits between hashes of a candidate. random: pairs for the threshold. lowest: of the threshold. patience: see above. limit, per_image:
    aligned pairs at most."""

    far: int = 14
    random: int = 160
    lowest: float = 0.5
    patience: int = 384
    limit: int = 2_000
    per_image: int = 1


#: While a run is planned: seconds for some thousand images, most of them for decoding. Copies alone: two films of one patient are for a person to judge.
QUICK = Effort(far=8, random=64, lowest=0.75, patience=128, limit=400, per_image=0)


@dataclass(frozen=True)
class DuplicatePair:
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

    pairs: list[DuplicatePair]
    threshold: float
    random: float
    aligned: int
    complete: bool


def identical(hashes: Sequence[str]) -> list[DuplicatePair]:
    """Each image with the first one of the same bytes."""
    first: dict[str, int] = {}
    return [DuplicatePair(j, i, "identical", 0, 1.0, 1.0) for i, name in enumerate(hashes) if (j := first.setdefault(name, i)) != i]


def near(pack: np.ndarray | Rows, features: np.ndarray | None, groups: np.ndarray, effort: Effort) -> Found:
    """Pairs of different groups that show one picture. pack (N, S, S, 3) uint8, features (N, D) float32 or None, groups (N,) int64."""
    n = len(pack)
    if n < 2:
        return Found([], effort.lowest, 0.0, 0, True)
    by_hash = candidate_pairs.by_hash(candidate_pairs.hashes(pack), groups, effort.far)
    lists = [[(i, j) for i, j, _ in by_hash]]
    if features is not None:
        nearest = candidate_pairs.by_features(features, groups)
        lists.append([(i, j) for i, j, _ in nearest])
    bits = {(i, j): distance for i, j, distance in by_hash}
    if not any(lists):
        return Found([], effort.lowest, 0.0, 0, True)
    random = _random(pack, groups, effort.random)
    threshold = float(np.clip(random + MARGIN, effort.lowest, HIGHEST))
    limit = effort.limit + effort.per_image * n
    tried: dict[tuple[int, int], tuple[float, float]] = {}
    complete = True
    for order in lists:
        vain = 0
        queue = [pair for pair in order if pair not in tried]
        step = min(_BLOCK, effort.patience)
        for start in range(0, len(queue), step):
            if vain >= effort.patience:
                break
            if len(tried) >= limit:
                complete = False
                break
            block = queue[start : start + step]
            correlation, overlap, _ = align(pack, np.array(block))
            tried.update(zip(block, zip(correlation.tolist(), overlap.tolist(), strict=True), strict=True))
            hits = np.flatnonzero(correlation >= threshold)
            vain = len(block) - 1 - int(hits[-1]) if len(hits) else vain + len(block)
            report_progress("aligning pairs", min(len(tried), limit - 1), limit, "pairs")
    report_progress("aligning pairs", limit, limit, "pairs")
    pairs = [DuplicatePair(i, j, "near", bits.get((i, j), -1), c, overlap) for (i, j), (c, overlap) in tried.items() if c >= threshold]
    return Found(sorted(pairs, key=lambda pair: (-pair.correlation, pair.i, pair.j)), threshold, random, len(tried), complete)


def _random(pack: np.ndarray | Rows, groups: np.ndarray, n: int) -> float:
    """The highest correlation of n random pairs of different groups, but for those that stand far above all others: a copy may be among them."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, len(pack), (4 * n, 2))
    index = index[groups[index[:, 0]] != groups[index[:, 1]]][:n]
    if not len(index):
        return 0.0
    values = np.sort(align(pack, index, all_the_way=True, stage="aligning random pairs")[0])
    spread = float(np.quantile(values, 0.9) - np.quantile(values, 0.5))
    usual = values[values <= np.quantile(values, 0.9) + 4 * spread]
    return float(usual[-1])
