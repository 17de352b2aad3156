"""One function a question.

Groups across parts, copies, conflicts, labels to look at, metadata that gives the label away, empty
classes.
"""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from medbench.audit.dataset.audited_data import Subject
from medbench.audit.dataset.duplicates import DuplicatePair
from medbench.audit.dataset.label_errors import ColumnAuc, Suspect
from medbench.audit.dataset.report import DatasetFinding, Severity
from medbench.schema import alike, counted, of_class

_EXAMPLES = 20
_SPELLED = "groups spelled in two ways"
#: What `check_parts` says of a run, too.
AT_PLAN = ("groups across parts", "identical copies across parts", _SPELLED)
BLANK = "images of a single colour"  # the name of the check
# lower end of the interval of the AUC from metadata alone: the label stands in the column
GIVEN_AWAY = 0.9
HELPED = 0.6  # above it, a model that sees the column needs few pixels


def torn_groups(subject: Subject) -> list[DatasetFinding]:
    """Find groups that stand in two parts: a leak for each two parts."""
    found = []
    word = subject.grouped or "image"
    members = {
        part: set(subject.groups[subject.parts == part].tolist()) for part in _parts(subject)
    }
    for a, b in combinations(members, 2):
        torn = sorted(members[a] & members[b])
        if torn:
            sentence = f"{counted(len(torn), word, ('is', 'are'))} in both {a} and {b}, of {len(members[b])} in {b}"
            found.append(
                DatasetFinding(
                    "groups across parts",
                    "leak",
                    len(torn),
                    sentence,
                    tuple(torn[:_EXAMPLES]),
                    "split by whole groups",
                )
            )
    return found


def spellings(subject: Subject) -> list[DatasetFinding]:
    """Find groups that look like one group spelled in two ways.

    It is a leak where the two stand in two parts.
    """
    if not subject.grouped:
        return []
    pairs = alike(subject.groups.tolist())
    where = {
        name: set(subject.parts[subject.groups == name].tolist()) for pair in pairs for name in pair
    }
    apart = sum(len(where[one] | where[other]) > 1 for one, other in pairs)
    if not pairs:
        return []
    sentence = (
        f"{len(pairs)} {subject.grouped}s look like another one that is spelled otherwise"
        + (f", and {apart} of these pairs are in two parts" if apart else "")
    )
    shown = tuple(f"{one!r} = {other!r}" for one, other in pairs[:_EXAMPLES])
    return [
        DatasetFinding(
            _SPELLED,
            "leak" if apart else "look",
            len(pairs),
            sentence,
            shown,
            "spell each of them in one way",
        )
    ]


def copies(subject: Subject, pairs: Sequence[DuplicatePair]) -> list[DatasetFinding]:
    """Find identical and near-identical images, across parts and within, and pairs that may be."""
    found = []
    kinds = (
        ("identical", "byte for byte"),
        ("near", "nearly: a copy that was changed, or the same thing taken again"),
        ("possible", "perhaps: they share more than all images here do, less than copies"),
    )
    for kind, word in kinds:
        between: dict[tuple[str, str], list[DuplicatePair]] = defaultdict(list)
        for pair in pairs:
            if pair.kind == kind:
                a, b = sorted((str(subject.parts[pair.i]), str(subject.parts[pair.j])), key=_order)
                between[a, b].append(pair)
        for (a, b), those in sorted(between.items(), key=lambda item: tuple(map(_order, item[0]))):
            found.append(
                _across(subject, kind, word, those, a, b)
                if a != b
                else _within(subject, kind, word, those, a)
            )
    return found


def _across(
    subject: Subject, kind: str, word: str, those: list[DuplicatePair], a: str, b: str
) -> DatasetFinding:
    rows = {row for pair in those for row in (pair.i, pair.j) if subject.parts[row] == b}
    total = int((subject.parts == b).sum())
    examples = tuple(_show(subject, pair) for pair in those[:_EXAMPLES])
    if kind == "possible":
        sentence = f"{len(rows)} of {total} images of {b} may also be in {a}, {word}"
        return DatasetFinding(
            f"{kind} copies across parts",
            "look",
            len(rows),
            sentence,
            examples,
            "look at them (--sheet draws the pairs)",
        )
    sentence = f"{len(rows)} of {total} images of {b} {'are' if len(rows) != 1 else 'is'} also in {a}, {word}"
    then = f"put both into one part ({_joining(subject)}), or remove one"
    return DatasetFinding(
        f"{kind} copies across parts", "leak", len(rows), sentence, examples, then
    )


def _within(
    subject: Subject, kind: str, word: str, those: list[DuplicatePair], part: str
) -> DatasetFinding:
    torn = [bool(subject.groups[pair.i] != subject.groups[pair.j]) for pair in those]
    apart, rest = sum(torn), ""
    if subject.grouped and apart:
        those = [those[k] for k in np.argsort(np.logical_not(torn), kind="stable")]
        one, other = (subject.groups[i] for i in (those[0].i, those[0].j))
        rest = f", {apart} of them of two {subject.grouped}s ('{one}' and '{other}'): are they one {subject.grouped}?"
    sentence = f"{len(those)} {'pairs' if len(those) != 1 else 'pair'} of one picture within {part}, {word}{rest}"
    severity: Severity = "look" if apart and subject.grouped and kind != "possible" else "note"
    then = (
        f"{_joining(subject)}, so that no other split can part them" if severity == "look" else ""
    )
    examples = tuple(_show(subject, pair) for pair in those[:_EXAMPLES])
    return DatasetFinding(
        f"{kind} copies within {part}", severity, len(those), sentence, examples, then
    )


def _joining(subject: Subject) -> str:
    """How a person joins the groups of copies; of a folder there is a command for it."""
    own = subject.name.startswith("folder:")
    return f"join their groups{': the same audit with --groups FILE.csv' if own else ''}"


def read_so(subject: Subject) -> list[DatasetFinding]:
    """Report what is odd in how a folder was read: groups joined, images that are called masks."""
    marks = subject.data.marks if subject.data else ()
    return [
        DatasetFinding("reading", "look", 1, mark.text) for mark in marks if mark.kind == "look"
    ]


def conflicts(subject: Subject, pairs: Sequence[DuplicatePair]) -> list[DatasetFinding]:
    """Find copies with two labels; [] where there are none, or no labels."""
    labels = subject.labels
    if labels is None:
        return []
    those = [
        pair
        for pair in pairs
        if not np.array_equal(labels[pair.i], labels[pair.j], equal_nan=labels.ndim > 1)
    ]
    if not those:
        return []
    sentence = f"{len(those)} {'pairs of copies have' if len(those) != 1 else 'pair of copies has'} two labels"
    return [
        DatasetFinding(
            "label conflicts",
            "conflict",
            len(those),
            sentence,
            _both_labels(subject, those),
            "look at both and fix the label, or remove both",
        )
    ]


def look_alikes(subject: Subject, pairs: Sequence[DuplicatePair]) -> list[DatasetFinding]:
    """Report look-alikes of one group with two labels (`pairs`).

    No conflict: two images of one patient may be alike and show different things.
    """
    if not pairs:
        return []
    check, then = "look-alikes of one group with two labels", "look at both: is one label wrong?"
    many, one = f"pair{'s' * (len(pairs) != 1)} of images", subject.grouped or "group"
    sentence = f"{len(pairs)} {many} of one {one} with two labels: the images look alike"
    examples = _both_labels(subject, pairs)
    return [DatasetFinding(check, "look", len(pairs), sentence, examples, then)]


def _both_labels(subject: Subject, pairs: Sequence[DuplicatePair]) -> tuple[str, ...]:
    return tuple(
        f"{_show(subject, pair)}: {subject.label(pair.i)} / {subject.label(pair.j)}"
        for pair in pairs[:_EXAMPLES]
    )


def suspicious(subject: Subject, suspects: Sequence[Suspect], count: int) -> list[DatasetFinding]:
    """Report labels that the other images contradict."""
    if not suspects:
        return []
    examples = tuple(
        f"{_called(subject, s.row)}: {f'{s.column} ' if s.column else ''}{s.label}, {s.likely} looks likelier ({s.own:.2f} against {s.other:.2f})"
        for s in suspects[:_EXAMPLES]
    )
    sentence = (
        f"{count} labels are contradicted by the features of the other images (probe, out of fold). A list to look at, not a verdict:"
        f" hard images stand in it too"
    )
    return [
        DatasetFinding(
            "suspicious labels",
            "look" if count else "note",
            count,
            sentence,
            examples,
            "look at the first ones (--json has 50)",
        )
    ]


def given_away(columns: Sequence[ColumnAuc]) -> list[DatasetFinding]:
    """Find the metadata that predicts the label without the image, a finding a column.

    "look" where the AUC is shown to lie above GIVEN_AWAY, "note" where it is above HELPED alone.
    """
    found = []
    for column in columns:
        what = f"{column.name} without the image: AUC {column.auc:.2f} (95 % {column.low:.2f} to {column.high:.2f}) for the label"
        if column.low > GIVEN_AWAY:
            then = "do not give it to a model; ask whether what it records came after the diagnosis, and whether it shows in the pixels"
            found.append(
                DatasetFinding(
                    "metadata predicts the label",
                    "look",
                    1,
                    f"{what}: it gives the label away",
                    (),
                    then,
                )
            )
        elif column.low > HELPED:
            then = "report scores by this column too; a model may read it off the pixels"
            found.append(DatasetFinding("metadata predicts the label", "note", 1, what, (), then))
    return found


def blank(subject: Subject, rows: np.ndarray) -> list[DatasetFinding]:
    """Report the images of a single colour (`rows`), and whether they are of one class.

    rows: (n,) int, their places in the subject.
    """
    if not len(rows):
        return []
    parts = Counter(subject.parts[rows].tolist())
    words = [f"{part} {parts[part]}" for part in _parts(subject) if part in parts]
    classes = Counter(subject.label(int(row)) for row in rows) if subject.labels is not None else {}
    labels = [f"{label} {n}" for label, n in sorted(classes.items())]
    several = len(rows) != 1
    sentence = f"{len(rows)} of {len(subject)} images {'are' if several else 'is'} of a single colour ({', '.join([*words, *labels])})"
    examples = tuple(_called(subject, row) for row in rows[:_EXAMPLES])
    then = "look at them: failed exports show nothing of the task, and how often they fail may go with the class; leave them out"
    return [DatasetFinding(BLANK, "look", len(rows), sentence, examples, then)]


def classes(subject: Subject) -> list[DatasetFinding]:
    """Find the classes that a part lacks, a finding for each such part."""
    if subject.labels is None:
        return []
    found = []
    for name, part in counts(subject).items():
        absent = [label for label, n in part["classes"].items() if n == 0]
        if absent:
            sentence = f"{name} has no image of {', '.join(absent)}"
            found.append(
                DatasetFinding(
                    "classes a part",
                    "look",
                    len(absent),
                    sentence,
                    (),
                    "add images, or leave the class out of the task",
                )
            )
    return found


def counts(subject: Subject) -> dict[str, Any]:
    """Count images, groups and images of each class (multi-label: positives) of each part.

    Part -> {"images", "groups", "classes": {class: images}}; no classes where there are no labels.
    """
    found: dict[str, Any] = {}
    for part in _parts(subject):
        rows = subject.parts == part
        labels = subject.labels
        each = (
            {}
            if labels is None
            else {
                name: int(of_class(labels[rows], c).sum()) for c, name in enumerate(subject.classes)
            }
        )
        found[part] = {
            "images": int(rows.sum()),
            "groups": len(np.unique(subject.groups[rows])),
            "classes": each,
        }
    return found


def _parts(subject: Subject) -> list[str]:
    return sorted(Counter(subject.parts.tolist()), key=_order)


def _order(part: str) -> tuple[int, str]:
    known = ("train", "val", "test")
    return (known.index(part) if part in known else len(known), part)


def _show(subject: Subject, pair: DuplicatePair) -> str:
    a, b = (f"{_called(subject, row)} ({subject.parts[row]})" for row in (pair.i, pair.j))
    return f"{a} = {b}" + (
        f", correlation {pair.correlation:.2f}" if pair.kind != "identical" else ""
    )


def _called(subject: Subject, row: int) -> str:
    """Return an image's name as a shell takes it.

    One that holds spaces is quoted, so that a line of several names has one reading.
    """
    return shlex.quote(str(subject.ids[row]))
