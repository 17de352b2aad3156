"""The spread of runs that should be equal: what `--measure` stores beside a reference."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from medbench.report.check.reference_rows import Given
from medbench.report.check.tolerance import BOUNDS, Repeatability, row_key, sketched
from medbench.schema import Row, UserError, counted
from medbench.stats.array_sketch import distance

AGAIN = "install one version of medbench on every machine, and run the study there again (medbench check STUDY.py --out FOLDER)"


def measure(runs: Sequence[Given]) -> Repeatability:
    """Measure the spread of one version's rows over several runs of one study.

    Raises UserError where they are not that.
    """
    if len(runs) < 2:
        raise UserError(
            "A spread needs the rows of two runs at least.",
            then="medbench check --measure --rows A --rows B --against rows.jsonl, or --add to compare one run with the reference",
        )
    first = runs[0]
    spread: dict[str, dict[str, float]] = {}
    for cell, row in first.rows.items():
        rows = [run.rows.get(cell) for run in runs]
        lacking = [run.file for run, found in zip(runs, rows, strict=True) if found is None]
        if lacking:
            raise UserError(
                f"{lacking[0]} holds other cells than {first.file}: it lacks '{cell}'. A spread is of one study.",
                then="run the same study on every machine (medbench check STUDY.py --out FOLDER)",
            )
        same = [
            other for other in rows if other is not None and other.fingerprint == row.fingerprint
        ]
        if len(same) < len(runs):
            other = next(
                run.file
                for run, found in zip(runs, rows, strict=True)
                if found is None or found.fingerprint != row.fingerprint
            )
            raise UserError(
                f"{other} has not the cell '{cell}' as {first.file} has it: a spread is of one study and one version of medbench.",
                then=AGAIN,
            )
        _check_one_code(runs, same)
        known = spread.setdefault(row_key(row), {})
        for name, width in _widths(same).items():
            known[name] = max(known.get(name, 0.0), width)
    _refuse_copies(runs)
    return Repeatability(
        {name: {k: float(f"{v:.3g}") for k, v in of.items()} for name, of in spread.items()},
        tuple(_environment(run) for run in runs),
    )


def joined(known: Repeatability, found: Repeatability) -> Repeatability:
    """Add what was found in further environments to what was known: of each number the larger."""
    spread = {key: dict(of) for key, of in known.spread.items()}
    for key, of in found.spread.items():
        mine = spread.setdefault(key, {})
        mine |= {name: max(width, mine.get(name, 0.0)) for name, width in of.items()}
    return Repeatability(spread, (*known.environments, *found.environments))


def _check_one_code(runs: Sequence[Given], rows: Sequence[Row]) -> None:
    """Raise UserError for rows of several versions of medbench's code.

    A change of code would pass for what repeating does.
    """
    codes = [row.provenance.get("commit") for row in rows]
    if len(set(codes)) > 1:
        made = [
            f"{run.file} by {code or 'an installed medbench that did not say so'}"
            for run, code in zip(runs, codes, strict=True)
        ]
        what = f"These rows were made by several versions of medbench's code ({'; '.join(made)}): their differences are not those of machines alone."
        raise UserError(what, then=AGAIN)


def _refuse_copies(runs: Sequence[Given]) -> None:
    """Raise UserError for two runs that are one.

    A copy repeats nothing, and its spread of 0 would make every later difference a regression.
    """
    for one, other in combinations(runs, 2):
        shared = [cell for cell in one.rows if cell in other.rows]
        same = [cell for cell in shared if _computed(one.rows[cell]) == _computed(other.rows[cell])]
        if 2 * len(same) >= max(len(shared), 1):
            what = f"{other.file} is a copy of {one.file}: {len(same)} of {counted(len(shared), 'row')} took the same times on the same machine."
            raise UserError(
                f"{what} A copy is not a second run.",
                then="run the study again, into a folder of its own",
            )


def _computed(row: Row) -> tuple[Any, ...]:
    """Return what no second run repeats.

    The seconds of all stages and the memory, and where it was.
    """
    return row.cost, row.provenance.get("device"), row.provenance.get("versions")


def _widths(rows: Sequence[Row]) -> dict[str, float]:
    """Return the largest difference between two rows of one cell, for all that has a tolerance."""
    found: dict[str, float] = {}
    for metric in rows[0].metrics:
        for bound in BOUNDS:
            values = [row.metrics[metric][bound] for row in rows]
            defined = [float(value) for value in values if value is not None]
            if defined:
                found[metric if bound == "value" else f"{metric} {bound}"] = max(defined) - min(
                    defined
                )
    for name in ("features", "scores"):
        pairs = [sketched(row, name) for row in rows]
        if len({len(pair) for pair in pairs}) > 1:
            raise UserError(
                f"The rows of '{rows[0].cell}' do not all have sketches of the same {name}: a spread is of one study and one version of medbench.",
                then=AGAIN,
            )
        apart = [
            distance(x, y) for a, b in combinations(pairs, 2) for x, y in zip(a, b, strict=True)
        ]
        if apart:
            found[name] = max(apart)
    return found


def _environment(run: Given) -> dict[str, Any]:
    row = next(iter(run.rows.values()))
    return {
        name: row.provenance.get(name) for name in ("device", "vector_units", "versions", "commit")
    }
