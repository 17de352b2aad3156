"""What is said of data and results: a kind that programs go by, and a text that people read.

Nothing reads the text back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from medbench.schema.json_records import checked

#: Of images, labels and parts; every table of them says it.
#:
#: leak       an image, or a group, stands in two parts: scores are too good
#: conflict   one image has two labels
#: partial    a part of the data set is missing
#: absent     a class has no image
#: blank      images are of a single colour: they show nothing
#: look       an audit found what a person should look at
#: telling    a feature of an encoder's tells a class by itself, as the label would
#: encoder    an encoder gets its images as it was not trained with them, gives all of them the same
#: features, or lacks weights
#: examined   an encoder of the hub, in which the doctor found nothing wrong
#: unlabelled a pretraining on the task's images saw some without labels, too
#: split      medbench divided the images into parts: none are published
#: shift      the scored images are another data set's
#: common     of the task's own images those of the classes that another data set has, too
#: corrupted  the scored images were damaged
#: remark     anything else that a reader must know
MarkKind = Literal[
    "leak",
    "conflict",
    "partial",
    "absent",
    "blank",
    "look",
    "telling",
    "encoder",
    "examined",
    "unlabelled",
    "split",
    "shift",
    "common",
    "corrupted",
    "remark",
]

#: Of a plan, a leaderboard, a page or an audit, beside the marks of its data.
#:
#: drawn       a plan: a task's images were not found, its phantom stands in
#: phantom     a table: its images are drawn
#: left out    a method, a data set or a corruption that does not fit
#: unaudited   images were too many to audit, or by hashes alone
#: selection   not all lines are shown
#: seen        weights have seen the scored data
#: quick       weights come from a pretraining of seconds
#: setting     networks, precision, protocols, scored images
#: chance      what intervals and a metric hold of it, and what they do not
#: weights     where a method's weights come from
#: failed      a line without a result, and why
#: legend      what the signs of a table mean
#: mean rank   how ranks were averaged
#: rank test   Friedman's and Nemenyi's tests
#: area        a method's mean score over its label curve
#: savings     the labels that a method saves
#: pairs       how many pairs of a pretraining are two images of a bag
#: column      how a metadata column was read
#: confounded  a metadata column goes with the class
#: class groups  where the groups of each class, which intervals rest on, were not counted
#: baseline    which lines are better or worse than the supervised one
#: reference   which lines are medbench's own rows, put beside those of a folder
#: judged      how many lines were ever judged on these images
#: rare        classes of too few groups
#: worst class what the best line finds of it
#: enriched    a percentage of labels that holds more of a class than of the images
#: degenerate  lines that decide nearly all images for one class, or none for a frequent one
#: external    somebody else's predictions stand beside the lines: what is not known of them
NoteKind = (
    MarkKind
    | Literal[
        "drawn",
        "phantom",
        "left out",
        "unaudited",
        "selection",
        "seen",
        "quick",
        "setting",
        "chance",
        "weights",
        "failed",
    ]
    | Literal[
        "legend", "mean rank", "rank test", "area", "savings", "pairs", "column", "confounded"
    ]
    | Literal["class groups", "baseline", "reference"]
    | Literal["judged", "rare", "worst class", "enriched", "degenerate", "external"]
)
#: Kinds that begin with a word in capitals where they are shown.
HEADED = frozenset(
    {
        "leak",
        "conflict",
        "partial",
        "blank",
        "look",
        "telling",
        "encoder",
        "shift",
        "common",
        "corrupted",
        "phantom",
        "selection",
        "seen",
        "rare",
        "degenerate",
        "external",
    }
)


@dataclass(frozen=True)
class Note:
    """A sentence of a plan, a table, a page or an audit.

    >>> str(Note("leak", "2 patients stand in both train and test")), str(Note("left out", "micle is left out: no bags"))
    ('LEAK: 2 patients stand in both train and test', 'micle is left out: no bags')
    """

    kind: NoteKind
    text: str

    @property
    def heading(self) -> str:
        """The kind in capitals; "" of a kind that is shown without."""
        return self.kind.upper() if self.kind in HEADED else ""

    def __str__(self) -> str:
        return f"{self.heading}: {self.text}" if self.heading else self.text


@dataclass(frozen=True)
class Mark(Note):
    """State what every table of these images must say.

    Attributes
    ----------
    kind : str
        One of `MarkKind`. Programs go by it.
    text : str
        A sentence. People read it.
    """

    kind: MarkKind

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Mark:
        """Read a mark. Raises TypeError or ValueError for a record that is none."""
        checked(record, {"kind": str, "text": str}, "mark")
        if record["kind"] not in get_args(MarkKind):
            raise ValueError(f"mark kind is {record['kind']!r:.60}")
        return Mark(**record)
