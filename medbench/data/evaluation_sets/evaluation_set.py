"""One scored set, and how a protocol's answer is read in its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from medbench import images
from medbench.data.examples import Examples, contents, examples_of
from medbench.data.part_digest import part_digest
from medbench.data.task_data import TaskData
from medbench.images.corruptions.catalogue import Corruption
from medbench.schema import IMAGE, Mark, Scores, Split, Task, fingerprint

VERSION = 1  # of how labels are mapped and answers are read


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Hold one set that a fit is scored on.

    name: as in `Cell.target`. part: the task's own part that it is, is made of, or is compared
    with. file: the name under which a results folder keeps its ids and labels. split: its images,
    labels as index into `classes`. identity: what can change a score on it beside the cell's own
    setting; "" for the task's own part. hashes: of the images' content; [] where they lie in the
    task's own pack. own: (K,) int, the task's column of each of `classes`; None: all, in their
    order. corruption: kind and level of damage to the task's own part. rows: the images of that
    part that are scored; None: all. groups: what a group is. shift: what plan.json says of it; {}
    for the task's own part. by: whether its images or its cases are scored.
    """

    name: str
    part: str
    file: str
    split: Split
    classes: tuple[str, ...]
    groups: str | None
    marks: tuple[Mark, ...]
    identity: str = ""
    hashes: list[str] = field(default_factory=list)
    own: np.ndarray | None = None
    corruption: tuple[Corruption, int] | None = None
    rows: np.ndarray | None = None
    shift: Mapping[str, Any] = field(default_factory=dict)
    by: str = IMAGE

    @cached_property
    def examples(self) -> Examples:
        """The examples that are scored: images, or cases where `by` says so."""
        return examples_of(self.split, self.by)

    @cached_property
    def digest(self) -> dict[str, Any]:
        """What the set's examples are in a few words, as `TaskData.digests` has it of a part.

        Damaged images are told by what was done to them.
        """
        content = contents(self.examples, self.hashes or [self.identity] * len(self.split))
        return part_digest(self.examples.split, content, len(self.classes))

    @cached_property
    def pixels(self) -> dict[str, int]:
        """What makes its pixels: ingredient -> version, as `images.pixel_ingredients` gives them.

        The decoder of each file format and the resize. {} for images of the task's own pack, whose
        ingredients the task's setting names.
        """
        return images.pixel_ingredients(self.hashes) if self.elsewhere else {}

    @property
    def elsewhere(self) -> bool:
        """Whether its images are another data set's."""
        return bool(self.hashes)

    @property
    def apart(self) -> bool:
        """Whether its pixels are not those of the task's own pack as they are."""
        return self.elsewhere or self.corruption is not None

    def setting(self, setting: str) -> str:
        """Return the hash of everything that can change a score on this set.

        setting: that of everything that can change a score on the task's own part, which is
        returned for that part.
        """
        return fingerprint(setting, self.identity) if self.identity else setting

    def read(self, scores: Scores) -> Scores:
        """Translate a protocol's answer on the task's classes into this set's classes.

        Of exclusive classes, probabilities are divided by their sum over the common ones, and a
        decision for another class becomes the most probable of them. Held-out scores stay where all
        classes are common: a part of them would tell nothing of the whole.
        """
        if self.own is None:
            return scores
        probabilities = scores.probabilities[:, self.own]
        if scores.decisions.ndim == 2:
            return replace(
                scores,
                probabilities=probabilities,
                decisions=scores.decisions[:, self.own],
                held_out=None,
            )
        total = probabilities.sum(1, keepdims=True)
        equal = np.full_like(probabilities, 1 / len(self.own))
        probabilities = np.divide(probabilities, total, out=equal, where=total > 0)
        place = np.full(scores.probabilities.shape[1], -1)
        place[self.own] = np.arange(len(self.own))
        decisions = place[scores.decisions]
        decisions = np.where(decisions < 0, probabilities.argmax(1), decisions)
        return replace(scores, probabilities=probabilities, decisions=decisions, held_out=None)


def own_part(data: TaskData, part: str) -> EvaluationSet:
    """Return the task's own images of a part, unchanged, as a set to be scored."""
    return EvaluationSet(
        part,
        part,
        data.target(part),
        data.parts[part],
        data.task.classes,
        data.task.groups,
        data.marks,
        by=data.by,
    )


def common(data: TaskData, part: str, away: EvaluationSet) -> EvaluationSet:
    """Return the task's own images of the classes that another data set has, too.

    A score there must be compared with them.
    """
    assert away.own is not None, "not all classes are common"
    split = data.parts[part]
    if split.labels.ndim == 2:
        rows, labels = np.arange(len(split)), split.labels[:, away.own]
    else:
        rows = np.flatnonzero(np.isin(split.labels, away.own))
        labels = np.searchsorted(away.own, split.labels[rows])
    identity = fingerprint("common", VERSION, away.classes)
    about = Mark(
        "common",
        f"the {part} images of the classes that {away.name} has, too; {what_then(data.task)}",
    )
    return EvaluationSet(
        f"{part}-common-{away.name}",
        part,
        f"{data.task.name.partition(':')[0]}-{fingerprint(data.identity, part, identity)[:16]}",
        replace(split.take(rows), labels=labels),
        away.classes,
        data.task.groups,
        (about, *data.marks),
        identity,
        own=away.own,
        rows=rows,
        shift={"kind": "common", "with": away.name, "of": part},
        by=data.by,
    )


def what_then(task: Task) -> str:
    """Say what to do where a class of the task is missing."""
    if task.kind == "multilabel":
        return "the other labels are scored"
    return "probabilities are divided by their sum over the common classes, decisions are the most probable of them"
