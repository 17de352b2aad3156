"""`check_command`: reference numbers in CI."""

from __future__ import annotations

import shlex
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

    from medbench.report.check import Given


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
        help="Store the spread of the runs given with --rows as the tolerance; all must be of one version of medbench.",
    ),
]
Add = Annotated[
    bool,
    typer.Option(
        "--add",
        help="With --measure: compare the runs with the reference's own rows, and keep what was measured before.",
    ),
]
AllowNew = Annotated[
    bool,
    typer.Option("--allow-new", help="Let cells pass that the reference does not have."),
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
            help="The reference: its folder, or the rows.jsonl in it; repeatability.json lies beside it."
        ),
    ] = None,
    rows: Rows = None,
    explain: Explain = False,
    accept: Annotated[
        bool, typer.Option("--update", help="Show the changes and make the new rows the reference.")
    ] = False,
    measure: Measure = False,
    add: Add = False,
    allow_new: AllowNew = False,
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

    Exit code 1 where one is worse, better, missing, new or another experiment.
    """
    from medbench.cli import screen
    from medbench.report import check
    from medbench.report.check.reference_place import check_related, reference_file
    from medbench.report.check.reference_update import check_alone, update_text

    outputs(json_file, junit_file)
    with _told(json_file, junit_file, annotate, study):
        if study:
            from medbench.run.study import study_file

            place = shlex.quote(str(against)) if against else "reference/STUDY"
            study_file(study, f"medbench check FILE.py --against {place}")
        file, given_rows = reference_file(against, study), rows or []
        _check_sources(study, given_rows, file, out)
        if accept:  # which may be --rows, too
            check_writable(file, "name another place")
        if out:
            check_writable(out, "medbench check --out FOLDER", folder=True)
        making: dict[str, object] = (
            {"--out": out, "--device": device, "--rehash": rehash} if study is None else {}
        )
        telling: dict[str, object] = {
            "--explain": explain,
            "--json": json_file,
            "--junit": junit_file,
            "--github": annotate,
            "--allow-new": allow_new,
        }
        _refuse_unused(making | (telling if measure else {}), "--measure" if measure else "--rows")
        _refuse_unused({} if measure else {"--add": add}, "a check without --measure")
        if accept or measure:
            check_alone(file, given_rows)
        if measure:
            _measure(study, given_rows, file, accept, add)
            return
        again = _command(study, given_rows, file)
        reference = _reference(given_rows, file, accept, again)
        repeatability = check.Repeatability.beside(reference.file)
        with _rows(study, given_rows, reference, device, out) as (given, board):
            if accept:
                check_related(reference, list(given.rows))
            comparison = check.compare_rows(reference, given, repeatability, allow_new=allow_new)
            steps = [] if accept else check.next_steps(comparison, again, study)
            screen.show(
                check.check_terminal(comparison, explained=explain, updating=accept, steps=steps)
            )
            if json_file:
                put(check.json_text(comparison, steps), json_file)
            if junit_file:
                put(check.junit(comparison), junit_file)
            if annotate:
                print(
                    "".join(f"{line}\n" for line in check.github(comparison, study, steps)), end=""
                )
            if accept:
                check.update(reference.file, given, board=board)
                print(update_text(comparison, given))
        if comparison.red and not accept:
            raise typer.Exit(1)


@contextmanager
def _told(
    json_file: Path | None, junit_file: Path | None, annotate: bool, study: str | None
) -> Iterator[None]:
    """Tell a UserError, for which nothing is compared, in the formats that were asked for, too."""
    from medbench.report.check import formats

    try:
        yield
    except UserError as error:
        if json_file:
            put(formats.error_json(error), json_file)
        if junit_file:
            put(formats.error_junit(error), junit_file)
        if annotate:
            print(formats.error_github(error, study))
        raise


def _command(study: str | None, rows: list[Path], against: Path) -> str:
    """Return this command without the options that change no answer, for a message."""
    what = shlex.quote(study) if study else " ".join(f"--rows {shlex.quote(str(r))}" for r in rows)
    return f"medbench check {what} --against {shlex.quote(str(against))}"


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


def _measure(study: str | None, rows: list[Path], against: Path, accept: bool, add: bool) -> None:
    """Write the spread of several runs' rows beside the reference."""
    from medbench.report import check
    from medbench.report.check.reference_update import write_reference
    from medbench.report.check.tolerance import NAME

    if study or accept or not rows:
        then = f"medbench check --measure --rows A --rows B --against {against}"
        raise UserError("--measure takes --rows alone, of two runs at least.", then=then)
    file = against.with_name(NAME)
    check_writable(file, "name another place")
    runs = [check.read_rows(place) for place in rows]
    if add:
        known = check.Repeatability.beside(against)
        reference, _ = check.read_reference(against, f"{_command(None, rows, against)} --update")
        found = check.measure([reference, *runs])
        if known.environments:
            found = replace(found, environments=found.environments[1:])
        found = check.joined(known, found)
    else:
        found = check.measure(runs)
    write_reference(file, found.text())
    print(f"{file}: the spread of {len(found.environments)} runs. Commit it beside {against.name}")


def _reference(rows: list[Path], against: Path, accept: bool, again: str) -> Given:
    """Read the rows to compare with; none where this run makes them the first time.

    again: this command. Raises UserError for a file that holds none, or is damaged, unless this
    command replaces it.
    """
    from medbench.report import check
    from medbench.report.check.reference_place import no_reference

    if len(rows) > 1:
        raise UserError(
            f"--rows was given {len(rows)} times; only --measure takes several.",
            then="medbench merge A B --out C",
        )
    if not against.exists():
        if not accept:
            raise no_reference(against, again)
        return check.Given(against, {})
    reference, damage = check.read_reference(against, f"{again} --update", replaced=accept)
    if damage:
        print(f"medbench: {damage} It is replaced.", file=sys.stderr)
    return reference


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
        _run(study, folder, device or _kind(reference), reference)
        yield check.read_rows(folder), folder
    finally:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)


def _run(study: str, folder: Path, device: str, reference: Given) -> None:
    """Compute the study's cells with nothing from the cache.

    Code that changed without its version would hide behind what was kept.
    """
    from medbench.cli import screen
    from medbench.report import leaderboard
    from medbench.report.check.reference_place import check_related
    from medbench.run import execution, missing_cells, planning
    from medbench.run import study as studies
    from medbench.run.store import Store
    from medbench.system import devices

    chosen = studies.load_study(study)
    grid = chosen.grid
    devices.check_device(device, grid.precision)
    with screen.Screen(), chosen.blamed():
        planned = planning.plan(grid)
    check_related(reference, [one.cell for one in planned.cells])
    known = {"unaudited", "drawn"} if grid.data == "phantom" else {"unaudited"}
    for note in planned.notes:
        if note.kind not in known:  # the reference was made knowing it
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
