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

from medbench.cli.options import app, outputs, path_option, put
from medbench.schema import UserError, check_writable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medbench.report.check import Given


@app.command("check")
def check_command(
    study: Annotated[str | None, typer.Argument(help="A study: its cells are run first, with nothing from the cache.")] = None,
    against: Annotated[Path | None, path_option(help="The reference: a rows.jsonl or its folder, with repeatability.json in it.")] = None,
    rows: Annotated[
        list[Path] | None, typer.Option(help="Instead of a study: a results folder or a rows.jsonl. With --measure several.")
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Name the part that moved: data, split, weights, preprocessing, readout, probe, metrics, library, device."
        ),
    ] = False,
    accept: Annotated[bool, typer.Option("--update", help="Show what changed, and make it the reference.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Store the spread of the runs given with --rows, all of one commit, as the tolerance.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda. Default: the kind that the reference was made on.")] = "",
    out: Annotated[
        Path | None, path_option(help="Keep the rows here, and go on with those that are there. Default: a temporary folder.")
    ] = None,
    json_file: Annotated[Path | None, path_option("--json", help="Write everything to this file.")] = None,
    junit_file: Annotated[Path | None, path_option("--junit", help="Write JUnit XML to this file.")] = None,
    annotate: Annotated[bool, typer.Option("--github", help="Print annotations for GitHub Actions.")] = False,
) -> None:
    """Compare cells with committed reference rows. Exit code 1 where one is worse, better, missing or another experiment."""
    from medbench.cli import screen
    from medbench.report import check

    given_rows = rows or []
    if against is None:
        raise UserError("check needs a reference.", then="medbench check benchmarks/smoke.py --against results/smoke/rows.jsonl")
    against = against / "rows.jsonl" if against.is_dir() else against
    if out and out.resolve() == against.resolve().parent:
        raise UserError(
            f"--out {out} is the reference's own folder: its rows would be compared with themselves.", then="medbench check --out FOLDER"
        )
    if (study is None) == (not given_rows):
        raise UserError("check takes a study to run, or --rows, and one of them.", then=f"medbench check STUDY.py --against {against}")
    outputs(json_file, junit_file, against if accept or measure else None)
    if out:
        check_writable(out, "medbench check --out FOLDER")
    unused: dict[str, object] = {"--out": out, "--device": device} if study is None else {}
    if measure:
        unused |= {"--explain": explain, "--json": json_file, "--junit": junit_file, "--github": annotate}
    for option in (option for option, value in unused.items() if value):
        raise UserError(f"{option} does not apply to {'--measure' if measure else '--rows'}.", then=f"leave {option} out")
    if measure:
        if study or accept:
            raise UserError(
                "--measure takes --rows alone, of two runs at least.",
                then=f"medbench check --measure --rows A --rows B --against {against}",
            )
        found = check.measure([check.read_rows(place) for place in given_rows])
        from medbench.report.check.reference_update import write_reference
        from medbench.report.check.tolerance import NAME

        write_reference(against.with_name(NAME), found.text())
        print(f"{against.with_name(NAME)}: the spread of {len(found.environments)} runs")
        return
    if len(given_rows) > 1:
        raise UserError(f"--rows was given {len(given_rows)} times; only --measure takes several.", then="medbench merge A B --out C")
    first = accept and not against.exists()
    make = {"then": f"medbench check {study} --against {against} --update, which makes it the first time"} if study else {}
    reference = check.Given(against, {}) if first else check.read_rows(against, **make)
    if not reference.rows and not first:
        raise UserError(f"The reference {against} holds no row.", then=f"medbench check {study or 'STUDY.py'} --against {against} --update")
    repeatability = check.Repeatability.beside(reference.file)
    with _rows(study, given_rows, reference, device, out) as (given, board):
        comparison = check.compare_rows(reference, given, repeatability)
        screen.show(check.check_terminal(comparison, explained=explain))
        if json_file:
            put(check.json_text(comparison), json_file)
        if junit_file:
            put(check.junit(comparison), junit_file)
        if annotate:
            print("\n".join(check.github(comparison)), end="\n" if comparison.red else "")
        if accept:
            check.update(reference.file, given, board=board)
            print(f"{reference.file} holds these {len(given.rows)} rows now. Look at the difference before you commit it")
    if comparison.red and not accept:
        raise typer.Exit(1)


@contextmanager
def _rows(study: str | None, rows: list[Path], reference: Given, device: str, out: Path | None) -> Iterator[tuple[Given, Path | None]]:
    """The rows to compare, and the results folder they lie in, if they lie in one."""
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
    """The study's cells, computed with nothing from the cache: code that changed without its version would hide behind what was kept."""
    from medbench.cli import screen
    from medbench.report import leaderboard
    from medbench.run import execution, planning
    from medbench.run import study as studies
    from medbench.run.store import Store
    from medbench.system import devices

    grid = studies.load_study(study).grid
    devices.check_device(device, grid.precision)
    with screen.Screen() as display:
        planned = planning.plan(grid, display.stage)
    for note in planned.notes:
        print(note, file=sys.stderr)
    store = Store(folder)
    cache = folder / "cache"
    planned = replace(planned, cache_dir=cache)
    with screen.Screen(len(execution.missing(planned, store)), lambda: leaderboard.terminal(store)) as display:
        execution.execute(planned, folder, device=device, progress=display.stage, on_row=display.row)
    shutil.rmtree(cache, ignore_errors=True)
    leaderboard.write(store)


def _kind(reference: Given) -> str:
    """The kind of device that the reference was made on; its tolerance holds there."""
    devices = {str(row.provenance.get("device", "cpu")) for row in reference.rows.values()}
    return "cpu" if all(device.startswith("cpu") for device in devices) else "auto"
