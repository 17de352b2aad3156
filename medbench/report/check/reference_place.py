"""Where a reference lies, from the path that was given."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path

from medbench.report.check.reference_rows import Given, read_rows
from medbench.report.check.replaced_cells import replaced_cells
from medbench.schema import Cell, UserError, counted


def reference_file(against: Path | None, study: str | None) -> Path:
    """Return the reference's rows.jsonl; a path that does not end in .jsonl is its folder.

    Raises UserError where no reference was named, or what was named is no reference.
    """
    name = shlex.quote(study) if study else "STUDY.py"
    if against is None:
        kept = f"reference/{Path(study).stem if study else 'STUDY'}"
        raise UserError(
            "check needs a reference.",
            then=f"medbench check {name} --against {kept}; with --update it is made the first time",
        )
    if against.is_file() and against.suffix != ".jsonl":
        beside = against.with_name("rows.jsonl")
        lies = f"; {beside} lies beside it" if beside.is_file() else ""
        raise UserError(
            f"{against} is not a reference, which is a folder with a rows.jsonl{lies}.",
            then=f"medbench check {name} --against {against.parent}",
        )
    if against.suffix == ".jsonl" and not against.is_dir():
        return against
    file = against / "rows.jsonl"
    inside = sorted(one.parent.name for one in against.glob("*/rows.jsonl"))
    if inside and not file.exists():
        raise UserError(
            f"{against} is no reference itself, but holds {counted(len(inside), 'reference')}.",
            allowed=inside,
            then=f"medbench check {name} --against {against / inside[0]}",
        )
    return file


def no_reference(against: Path, again: str) -> UserError:
    """Name what lies where a reference was looked for."""
    missing = against if against.parent.is_dir() else against.parent
    while not missing.parent.is_dir():
        missing = missing.parent
    kept = (
        [one.name for one in missing.parent.glob("*.jsonl")]
        if missing == against
        else [one.parent.name for one in missing.parent.glob("*/rows.jsonl")]
    )
    return UserError(
        f"There is no reference {against}: no '{missing.name}' in {missing.parent}.",
        allowed=sorted(kept),
        given=missing.name,
        then=f"correct the path, or git restore {against}, or make a new reference there: {again} --update",
    )


def check_related(reference: Given, cells: Collection[Cell]) -> None:
    """Check that a reference has a cell in common with others, or one that was replaced by theirs.

    Raises UserError, which names a reference beside it that has.
    """
    kept = list(reference.rows)
    if not kept or not cells or _related(kept, cells):
        return
    folder = reference.file.parent
    matching = [
        str(file.parent)
        for file in sorted(folder.parent.glob("*/rows.jsonl"))
        if file != reference.file and _related(_cells(file), cells)
    ]
    near = f" Did you mean {matching[0]}?" if matching else ""
    raise UserError(
        f"The reference {reference.file} is of another study: none of its {counted(len(kept), 'cell')} (the first: {kept[0]}) "
        f"is among the {counted(len(cells), 'cell')} to compare (the first: {next(iter(cells))}).{near}",
        then=f"--against the study's own reference, or a new folder with --update; or delete {folder} if its study is gone",
    )


def _related(kept: Collection[Cell], cells: Collection[Cell]) -> bool:
    return bool(set(kept) & set(cells) or replaced_cells(list(kept), list(cells)))


def _cells(file: Path) -> Collection[Cell]:
    try:
        return list(read_rows(file).rows)
    except UserError:  # damaged: it is not the one that was asked for
        return ()
