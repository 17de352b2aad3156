"""What a results folder's `plan.json` holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medbench.schema.grid import Cell
from medbench.schema.json_records import checked
from medbench.schema.older_records import marks_of
from medbench.schema.plain_text import is_plain
from medbench.schema.tasks import CASE_RULES, KINDS, PRIMARY


@dataclass(frozen=True)
class PlannedCell:
    """A cell that was asked for, and the fingerprint its row must have.

    setting: hash of everything beside the cell's fields that can change its result; seeds are
    averaged only within one. target: the name of the scored set; only scores on one set are
    compared.
    """

    cell: Cell
    fingerprint: str
    n_requested: int
    setting: str
    target: str

    @staticmethod
    def from_json(record: Any) -> PlannedCell:
        """Read a planned cell. Raises TypeError or ValueError for a record that is none."""
        checked(
            record,
            {"cell": dict, "fingerprint": str, "n_requested": int, "setting": str, "target": str},
        )
        return PlannedCell(**{**record, "cell": Cell.from_json(record["cell"])})


@dataclass(frozen=True)
class PlanFile:
    """Hold what `plan.json` holds.

    tasks: "task|data|target" -> kind, classes, metric, groups, marks (`Mark`s), as a table needs
    them. commands: those that made the folder, without places on the machine
    (`command_line.command`). settings: setting -> its identity (`schema.ingredients`). Older plans
    have neither commands nor settings.
    """

    cells: tuple[PlannedCell, ...] = ()
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @staticmethod
    def from_json(record: Any) -> PlanFile:
        """Read a plan. Raises TypeError or ValueError for any other record."""
        checked(record, {"cells": list, "tasks": dict})
        plan = PlanFile(
            tuple(map(PlannedCell.from_json, record["cells"])),
            {key: _typed(about) for key, about in record["tasks"].items()},
            tuple(record.get("commands", ())),
            record.get("settings", {}),
        )
        checked(plan.settings, dict.fromkeys(plan.settings, dict), "settings")
        for key in {
            f"{entry.cell.task}|{entry.cell.data}|{entry.cell.target}" for entry in plan.cells
        }:
            checked(plan.tasks, {key: dict}, "tasks")
            _check_about(plan.tasks[key], key.rpartition("|")[2])
        return plan


_ABOUT: dict[str, type | tuple[type, ...]] = {
    "identity": str,
    "title": str,
    "kind": str,
    "classes": list,
    "metric": str,
    "groups": (str, type(None)),
    "marks": list,
    "parts": dict,
}


def _typed(about: Any) -> Any:
    """Turn the marks and the audit of an evaluation set's record into `Mark`s.

    Raises TypeError or ValueError for other marks.
    """
    if not isinstance(about, Mapping):
        return about  # refused where a cell needs it
    for name in ("marks", "audit"):
        checked(about, {name: list} if name in about else {}, "tasks")
    return {
        **about,
        **{name: marks_of(about[name]) for name in ("marks", "audit") if name in about},
    }


def _check_about(about: Any, target: str) -> None:
    """Check that a plan says of an evaluation set what tables read.

    Raises TypeError or ValueError.
    """
    checked(about, _ABOUT)
    checked(about["parts"], dict.fromkeys([target, *about["parts"]], list), "parts")
    if about["kind"] not in KINDS or about["metric"] not in PRIMARY.values():
        raise ValueError(f"kind and metric are {about['kind']!r:.60} and {about['metric']!r:.60}")
    if about.get("cases", "same") not in CASE_RULES.values():
        raise ValueError(f"cases is {about['cases']!r:.60}")
    if not about["classes"] or not all(isinstance(text, str) for text in about["classes"]):
        raise TypeError("classes are not texts")
    if not all(map(is_plain, [about["title"], *about["classes"]])):
        raise ValueError("title and classes hold control characters")
    if not all(
        len(pair) == 2 and all(isinstance(n, int) for n in pair) for pair in about["parts"].values()
    ):
        raise ValueError(f"parts are {about['parts']!r:.60}, not images and groups of each")
