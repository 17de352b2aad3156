"""`check_command`: reference numbers in CI."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medbench.cli.options import Rehash, app, outputs, path_option, put
from medbench.schema import UserError, check_writable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medbench.report.check import Comparison, Given


Explain = Annotated[
    bool,
    typer.Option(
        "--explain",
        help="Name the part that changed: data, split, weights, preprocessing, readout, probe, metrics, library, device.",
    ),
]
Measure = Annotated[
    bool,
    typer.Option(
        "--measure",
        help="Store the spread of the runs given with --rows as the tolerance; all must be of one commit.",
    ),
]
Rows = Annotated[
    list[Path] | None,
    typer.Option(
        help="Compare a results folder or a rows.jsonl instead of running a study. Repeat it with --measure."
    ),
]
Kept = Annotated[
    Path | None,
    path_option(
        help="Keep the rows in this folder, and continue with those in it. Default: a temporary folder."
    ),
]


@app.command("check")
def check_command(
    study: Annotated[
        str | None,
        typer.Argument(help="A study, which is run first without the cache."),
    ] = None,
    against: Annotated[
        Path | None,
        path_option(
            help="The reference: a rows.jsonl or its folder, with repeatability.json in it."
        ),
    ] = None,
    rows: Rows = None,
    explain: Explain = False,
    accept: Annotated[
        bool, typer.Option("--update", help="Show the changes and make the new rows the reference.")
    ] = False,
    measure: Measure = False,
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda. Default: the kind of device that made the reference."),
    ] = "",
    rehash: Rehash = False,
    out: Kept = None,
    json_file: Annotated[
        Path | None, path_option("--json", help="Write the comparison to this JSON file.")
    ] = None,
    junit_file: Annotated[
        Path | None, path_option("--junit", help="Write JUnit XML to this file.")
    ] = None,
    annotate: Annotated[
        bool, typer.Option("--github", help="Print annotations for GitHub Actions.")
    ] = False,
) -> None:
    """Compare cells with committed reference rows.

    Exit code 1 where one is worse, better, missing or another experiment.
    """
    from medbench.report import check

    file, given_rows = _reference_file(against), rows or []
    _check_sources(study, given_rows, file, out)
    outputs(json_file, junit_file, file if accept or measure else None)
    if out:
        check_writable(out, "medbench check --out FOLDER")
    making: dict[str, object] = (
        {"--out": out, "--device": device, "--rehash": rehash} if study is None else {}
    )
    telling: dict[str, object] = {
        "--explain": explain,
        "--json": json_file,
        "--junit": junit_file,
        "--github": annotate,
    }
    _refuse_unused(making | (telling if measure else {}), "--measure" if measure else "--rows")
    if measure:
        _measure(study, given_rows, file, accept)
        return
    reference = _reference(study, given_rows, file, accept)
    repeatability = check.Repeatability.beside(reference.file)
    with _rows(study, given_rows, reference, device, out) as (given, board):
        comparison = check.compare_rows(reference, given, repeatability)
        _tell(comparison, explain, json_file, junit_file, annotate)
        if accept:
            check.update(reference.file, given, board=board)
            print(
                f"{reference.file} holds these {len(given.rows)} rows now. Look at the difference before you commit it"
            )
    if comparison.red and not accept:
        raise typer.Exit(1)


def _reference_file(against: Path | None) -> Path:
    """Return the reference's rows.jsonl. Raises UserError where no reference was named."""
    if against is None:
        raise UserError(
            "check needs a reference.",
            then="medbench check benchmarks/smoke.py --against results/smoke/rows.jsonl",
        )
    return against / "rows.jsonl" if against.is_dir() else against


def _check_sources(study: str | None, rows: list[Path], against: Path, out: Path | None) -> None:
    """Check that the rows to compare come from one place, and not from the reference's own.

    Raises UserError.
    """
    if out and out.resolve() == against.resolve().parent:
        what = f"--out {out} is the reference's own folder: its rows would be compared with themselves."
        raise UserError(what, then="medbench check --out FOLDER")
    if (study is None) == (not rows):
        raise UserError(
            "check takes a study to run, or --rows, and one of them.",
            then=f"medbench check STUDY.py --against {against}",
        )


def _refuse_unused(options: dict[str, object], mode: str) -> None:
    """Raise UserError for the first given option that does not apply in this mode."""
    for option in (option for option, value in options.items() if value):
        raise UserError(f"{option} does not apply to {mode}.", then=f"leave {option} out")


def _measure(study: str | None, rows: list[Path], against: Path, accept: bool) -> None:
    """Write the spread of several runs' rows beside the reference."""
    from medbench.report import check
    from medbench.report.check.reference_update import write_reference
    from medbench.report.check.tolerance import NAME

    if study or accept:
        then = f"medbench check --measure --rows A --rows B --against {against}"
        raise UserError("--measure takes --rows alone, of two runs at least.", then=then)
    found = check.measure([check.read_rows(place) for place in rows])
    write_reference(against.with_name(NAME), found.text())
    print(f"{against.with_name(NAME)}: the spread of {len(found.environments)} runs")


def _reference(study: str | None, rows: list[Path], against: Path, accept: bool) -> Given:
    """Read the rows to compare with; none where this run makes them the first time.

    Raises UserError for a file that holds none.
    """
    from medbench.report import check

    if len(rows) > 1:
        raise UserError(
            f"--rows was given {len(rows)} times; only --measure takes several.",
            then="medbench merge A B --out C",
        )
    if accept and not against.exists():
        return check.Given(against, {})
    make = (
        {
            "then": f"medbench check {study} --against {against} --update, which makes it the first time"
        }
        if study
        else {}
    )
    reference = check.read_rows(against, **make)
    if not reference.rows:
        raise UserError(
            f"The reference {against} holds no row.",
            then=f"medbench check {study or 'STUDY.py'} --against {against} --update",
        )
    return reference


def _tell(
    comparison: Comparison,
    explain: bool,
    json_file: Path | None,
    junit_file: Path | None,
    annotate: bool,
) -> None:
    """Show what a comparison found, and write it into the files that were named."""
    from medbench.cli import screen
    from medbench.report import check

    screen.show(check.check_terminal(comparison, explained=explain))
    if json_file:
        put(check.json_text(comparison), json_file)
    if junit_file:
        put(check.junit(comparison), junit_file)
    if annotate:
        print("".join(f"{line}\n" for line in check.github(comparison)), end="")


@contextmanager
def _rows(
    study: str | None, rows: list[Path], reference: Given, device: str, out: Path | None
) -> Iterator[tuple[Given, Path | None]]:
    """Yield the rows to compare, and the results folder they lie in, if they lie in one."""
    from medbench.report import check

    if study is None:
        yield check.read_rows(rows[0]), rows[0] if rows[0].is_dir() else None
        return
    folder = out or Path(tempfile.mkdtemp(prefix="medbench-check-"))
    try:
        _run(study, folder, device or _kind(reference))
        yield check.read_rows(folder), folder
    finally:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)


def _run(study: str, folder: Path, device: str) -> None:
    """Compute the study's cells with nothing from the cache.

    Code that changed without its version would hide behind what was kept.
    """
    from medbench.cli import screen
    from medbench.report import leaderboard
    from medbench.run import execution, missing_cells, planning
    from medbench.run import study as studies
    from medbench.run.store import Store
    from medbench.system import devices

    grid = studies.load_study(study).grid
    devices.check_device(device, grid.precision)
    with screen.Screen():
        planned = planning.plan(grid)
    for note in planned.notes:
        print(note, file=sys.stderr)
    store = Store(folder)
    cache = folder / "cache"
    planned = replace(planned, cache_dir=cache)
    with screen.of_run(planned, store, missing_cells.missing(planned, store), device) as display:
        execution.execute(planned, store, device=device, on_row=display.row)
    shutil.rmtree(cache, ignore_errors=True)
    leaderboard.write(store)


def _kind(reference: Given) -> str:
    """Return the kind of device that the reference was made on; its tolerance holds there."""
    return (
        "cpu"
        if all(row.provenance["device_kind"] == "cpu" for row in reference.rows.values())
        else "auto"
    )
