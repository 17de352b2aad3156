"""What is labelled, drawn and scored: an image, or a case with all its images.

The one place where a run learns which of the two.

By case every image of a part has its case's label, and images of cases without one are left out. So
networks, packs and features stay of images, while budgets, draws, scores and their intervals are of
the cases that `examples_of` gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from medbench.schema import BY_CASE, CASE, Mark, Split, Task, UserError, counted, fingerprint
from medbench.stats.case_labels import RULES, cases_of, label_cases


@dataclass(frozen=True, eq=False)
class Examples:
    """What is labelled, drawn and scored: images, or cases of several.

    split: M images; or M cases, each with the id and picture of its first image and the metadata
    that all its images share. of: (N,) int64, the case of each of N images; None: each image is an
    example of its own.
    """

    split: Split
    of: np.ndarray | None = None


def examples_of(split: Split, by: str) -> Examples:
    """Return the examples of images, those of `label_by_case` or any."""
    if by != CASE:
        return Examples(split)
    first, case = cases_of(split.groups, split.bags)
    meta = {name: _shared(column, first, case) for name, column in split.meta.items()}
    return Examples(replace(split.take(first), meta=meta), case)


def contents(of: Examples, hashes: Sequence[str]) -> list[str]:
    """Return what each of M examples is: the content of its image, or of all its images.

    A hash each. hashes: of the N images, in their order.
    """
    if of.of is None:
        return list(hashes)
    found: list[list[str]] = [[] for _ in range(len(of.split))]
    for case, sha256 in zip(of.of.tolist(), hashes, strict=True):
        found[case].append(sha256)
    return [fingerprint(*each) for each in found]


def _shared(column: np.ndarray, first: np.ndarray, case: np.ndarray) -> np.ndarray:
    """(M,) the value that all images of a case have; missing (NaN, "") where they have several."""
    values = column[first]
    numbers = column.dtype.kind == "f"
    differs = np.zeros(len(first), bool)
    same = column == values[case]
    if numbers:
        same |= np.isnan(column) & np.isnan(values[case])
    np.logical_or.at(differs, case, ~same)
    if not differs.any() or numbers or column.dtype.kind in "US":
        return np.where(differs, np.nan if numbers else "", values)
    return np.where(differs, np.nan, values.astype(float))


def in_cases_of(split: Split, some: np.ndarray) -> np.ndarray:
    """Return (N,) bool: the images of cases of which one is among `some` (N,) bool."""
    first, case = cases_of(split.groups, split.bags)
    touched = np.zeros(len(first), bool)
    touched[case[some]] = True
    found: np.ndarray = touched[case]
    return found


def label_by_case(
    task: Task, parts: Mapping[str, Split]
) -> tuple[Task, dict[str, Split], list[Mark]]:
    """Return the task of the cases, its parts and what to say of them.

    Each image with its case's label, without images of cases that have none. Raises UserError where
    nobody says which images are one case, and for a case in two parts.
    """
    if task.bags is None:
        then = (
            "give the table a column bag, or group"
            if task.name.startswith("folder:")
            else "run it by image"
        )
        raise UserError(f"Nobody says which images of '{task.name}' are one case.", then=then)
    for a, b in combinations(parts, 2):
        torn = sorted(_names(parts[a]) & _names(parts[b]))
        if torn:
            what = f"The case '{torn[0][1]}' has images in both {a} and {b} ({counted(len(torn), 'such case')}): a case is of one part."
            raise UserError(what, then="fix the split, or run it by image")
    made, marks = (
        {},
        [
            Mark(
                "remark",
                f"by case: a case is all images of one {task.bags}; budgets, draws and scores count cases",
            )
        ],
    )
    for name, split in parts.items():
        first, case = cases_of(split.groups, split.bags)
        found = label_cases(split.labels, case, task.case_rule)
        labelled = replace(split, labels=found.labels[case].astype(split.labels.dtype))
        made[name] = labelled.take(np.flatnonzero(found.kept[case]))
        if found.mixed.any():
            what = f"{int(found.mixed.sum())} of {len(first)} cases of the {name} part have images of several labels"
            marks.append(Mark("remark", f"{what}; the label is {RULES[task.case_rule]}"))
        if unknown := int((~found.kept & ~found.mixed).sum()):
            marks.append(
                Mark(
                    "remark",
                    f"{unknown} of {len(first)} cases of the {name} part are left out: no label of theirs is known",
                )
            )
    settings = {**task.settings, "by": CASE, "cases": task.case_rule}
    return (
        replace(task, name=task.name + BY_CASE, title=f"{task.title}, by case", settings=settings),
        made,
        marks,
    )


def _names(split: Split) -> set[tuple[str, str]]:
    return set(zip(split.groups.tolist(), split.bags.tolist(), strict=True))
