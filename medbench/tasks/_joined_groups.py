"""Groups that are one after all: of copies, of one lesion under two names."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def joined(ids: np.ndarray, groups: np.ndarray, pairs: Iterable[tuple[str, str]]) -> np.ndarray:
    """Join the groups (N,) str of each pair of ids, called by the first of their names.

    Pairs that are not among ids do nothing.
    """
    group_of = dict(zip(ids.tolist(), groups.tolist(), strict=True))
    into: dict[str, str] = {}

    def head(group: str) -> str:
        while group in into:
            group = into[group]
        return group

    for one, other in pairs:
        if one in group_of and other in group_of:
            first, second = sorted((head(group_of[one]), head(group_of[other])))
            if first != second:
                into[second] = first
    return np.array([head(group) for group in groups.tolist()])
