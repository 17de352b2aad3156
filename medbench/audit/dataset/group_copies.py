"""Look-alikes inside a group whose labels contradict each other.

Elsewhere images of one group are not compared: that two pictures of one patient are alike is no
fault. With two labels it is worth a look.
"""

from __future__ import annotations

import numpy as np

from medbench.audit.dataset import candidate_pairs, duplicates
from medbench.audit.dataset.pack_rows import Rows
from medbench.system.progress_listener import report_progress

_BLOCK = 256  # images that are compared with all of their group at once


def with_two_labels(
    pack: np.ndarray | Rows,
    groups: np.ndarray,
    labels: np.ndarray,
    threshold: duplicates.Threshold,
    effort: duplicates.Effort,
) -> list[duplicates.DuplicatePair]:
    """Find pairs of one group that show one picture and have two labels, best first.

    pack (N, S, S, 3) uint8, groups (N,) int64, labels (N,) int or (N, C) float with NaN. threshold:
    of pairs of different groups, as `duplicates.near` found it.
    """
    bits = _candidates(pack, groups, _label_codes(labels), effort.far)
    judge = duplicates.Judge(pack)
    order = sorted(bits, key=lambda pair: (bits[pair], pair))
    judge.search(order, threshold.sure, effort.patience, effort.limit)
    report_progress("aligning pairs", effort.limit, effort.limit, "pairs")
    found = [
        duplicates.DuplicatePair(i, j, kind, bits[i, j], own, judge.tried[i, j].overlap)
        for (i, j), (own, kind) in judge.verdicts(threshold).items()
        if kind == "near"
    ]
    return sorted(found, key=lambda pair: (-pair.correlation, pair.i, pair.j))


def _label_codes(labels: np.ndarray) -> np.ndarray:
    """(N,) int64, one number for each label or combination of labels."""
    rows = np.nan_to_num(labels.reshape(len(labels), -1).astype(float), nan=-1.0)
    codes: np.ndarray = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
    return codes


def _candidates(
    pack: np.ndarray | Rows, groups: np.ndarray, labels: np.ndarray, far: int
) -> dict[tuple[int, int], int]:
    """Return pairs of one group and two labels -> in how many bits of their hashes they differ.

    The nearest `NEIGHBOURS` of each image, at most `far` bits away.
    """
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    mixed = [rows for rows in members if len(np.unique(labels[rows])) > 1]
    found: dict[tuple[int, int], int] = {}
    for rows in mixed:
        parts = (rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK))
        hashes = np.concatenate([candidate_pairs.hashes(pack[part]) for part in parts], axis=1)
        ways = 2.0 * hashes - 1  # (8, n, 63) of -1 and 1
        for start in range(0, len(rows), _BLOCK):
            some = rows[start : start + _BLOCK]
            agree = (ways[:, start : start + _BLOCK] @ ways[0].T).max(0)
            bits = ((candidate_pairs.BITS - agree) / 2).astype(int)
            bits[labels[some][:, None] == labels[rows]] = candidate_pairs.BITS
            nearest = np.argsort(bits, axis=1, kind="stable")[:, : candidate_pairs.NEIGHBOURS]
            for a, those in enumerate(nearest.tolist()):
                for b in those:
                    if bits[a, b] <= far:
                        pair = min(some[a], rows[b]), max(some[a], rows[b])
                        found[pair] = min(int(bits[a, b]), found.get(pair, candidate_pairs.BITS))
    return {(int(i), int(j)): bits for (i, j), bits in found.items()}
