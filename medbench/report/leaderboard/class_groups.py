"""How many groups of each class a scored set has.

What its intervals and tests have degrees of freedom by.

The plan says it; a folder that is older than that has it in the labels that it saved; of one that
was shared without them it is worked out from the images of each class, which the rows name, as if
all groups were of one size. Which of the three is told by `ClassGroups.source`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from medbench.run.store import NoPredictions, Store
from medbench.schema import Note, Row
from medbench.stats import splits

Source = Literal["counted", "estimated", "unknown"]


@dataclass(frozen=True)
class ClassGroups:
    """How many groups each class has in a scored set.

    of_class: of each class (of a multi-label task of each label's positives); () where unknown.
    source: how that is known.
    """

    of_class: tuple[int, ...] = ()
    binary: bool = False
    source: Source = "unknown"


UNKNOWN = ClassGroups()


def class_groups(
    about: Mapping[str, Any], target: str, rows: Sequence[tuple[Row, Store]]
) -> ClassGroups:
    """Return how many groups each class of the scored set `target` has.

    As the plan's notes `about` the task count them; else counted or estimated from the set of one
    of `rows`, each with its store; UNKNOWN where it was not shared.
    """
    classes, binary = len(about["classes"]), about["kind"] == "binary"
    given = (about.get("class_groups") or {}).get(target, ())
    if len(given) == classes:
        return ClassGroups(tuple(given), binary, "counted")
    for row, store in rows[:1]:
        try:
            saved = store.target(str(row.provenance["target"]))
        except NoPredictions:
            break
        return ClassGroups(
            tuple(splits.class_groups(saved["labels"], saved["groups"], classes)), binary, "counted"
        )
    images, groups = about["parts"][target]
    for row, _ in rows:
        known = (row.provenance.get("parts") or {}).get(target) or {}
        if len(known.get("classes", ())) == classes:
            return ClassGroups(
                tuple(round(n * groups / images) or min(n, 1) for n in known["classes"]),
                binary,
                "counted" if images == groups else "estimated",
            )
    return UNKNOWN


def class_group_notes(found: ClassGroups, group: str) -> list[Note]:
    """Say what a reader of intervals must know of where the counts are from.

    group: what a group is.
    """
    if found.source == "counted":
        return []
    if found.source == "estimated":
        text = f"Intervals: the number of {group}s of each class is estimated from its images, because these results do not record it."
    else:
        text = f"Intervals: the number of {group}s of each class is unknown; all are counted, so that intervals of rare classes are too narrow."
    return [Note("class groups", text)]
