"""Plans and rows as they are read.

What an older medbench kept as words, or did not keep, becomes today's values. No other module reads
a text back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, get_args

from medbench.schema.notes import HEADED, Mark, MarkKind

#: How the marks of older folders begin, where their kind is not written in capitals.
_BEGINNINGS: Mapping[str, MarkKind] = {"no image of ": "absent", "split made by medbench": "split"}
_HEADINGS: Mapping[str, MarkKind] = {
    f"{kind.upper()}: ": kind for kind in get_args(MarkKind) if kind in HEADED
}
#: The last word of the weights' name, after a comma, of an older row whose weights were trained by
#: medbench.
_BUDGETS = ("quick", "standard", "paper")
_JOINED = " + "  # the names of a fusion's weights, in an older row


def marks_of(records: Sequence[Any]) -> list[Mark]:
    """Read the marks of a plan or a row; plain texts in an older one.

    Raises TypeError or ValueError for what is none.

    >>> marks_of(["LEAK: 2 patients stand in both train and test", {"kind": "remark", "text": "patient unknown"}])
    [Mark(kind='leak', text='2 patients stand in both train and test'), Mark(kind='remark',
    text='patient unknown')]
    """
    return [
        _mark_of(record) if isinstance(record, str) else Mark.from_json(record)
        for record in records
    ]


@cache
def _mark_of(text: str) -> Mark:
    for heading, kind in _HEADINGS.items():
        if text.startswith(heading):
            return Mark(kind, text.removeprefix(heading))
    return Mark(
        next((kind for start, kind in _BEGINNINGS.items() if text.startswith(start)), "remark"),
        text,
    )


def todays(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a row's provenance with what older rows lack or say in words alone.

    marks: as `marks_of`. budget: of the pretraining on the task's images, None where there was
    none. member_weights: the names of a fusion's weights, [] of one encoder. device_kind, of the
    row and of its features: cpu or cuda.
    """
    found = {**provenance, "marks": marks_of(provenance.get("marks", ()))}
    if "budget" not in provenance:
        names = provenance["weights"].split(_JOINED)
        found["budget"] = next(
            (word for name in names if (word := name.rpartition(", ")[2]) in _BUDGETS), None
        )
        found["member_weights"] = names if len(names) > 1 else []
    if "features" in provenance:
        found["features"] = [
            _with_kind(made) if isinstance(made, Mapping) else made
            for made in provenance["features"]
        ]
    return _with_kind(found)


def _with_kind(made: Mapping[str, Any]) -> dict[str, Any]:
    """With the kind of the device that a machine's record names."""
    return {
        "device_kind": "cpu" if str(made.get("device", "cpu")).startswith("cpu") else "cuda",
        **made,
    }
