"""A table of a paper beside our own.

Every cell is `ours (published)`, mean ± sd over draws; – where a run has no such cell.

    python benchmarks/published.py truong2021 B1 runs/truong2021
    python benchmarks/published.py nielsen2023 isic2019 runs/nielsen2023

Beside a number stands what was made from the same kind of weights, with the same readout, at the
same size, under the same protocol; what differs in those is left out and named; a drawn or
incomplete data set is marked. Below the table follow the marks of our data and the study's
departures from the paper: a difference is no verdict on either.

`published.csv` holds the numbers; `doubtful` marks cells that look like misprints or were read off
a hidden marker, and `note` says why. Truong et al. 2021 (PMLR 158:54-74): tables B1 to B8 and C1 to
C4 of the appendix, as printed. Nielsen et al. 2023: balanced accuracies read off the figure in
their repository (IPMI-ICNS-UKE/sparsam, imgs/balanced_acc.png, balanced_acc_250+.png), for no table
of them was found: about .002 off, .01 where a marker is hidden; recalls of bone marrow cells as
printed (imgs/cfm_BM.png). What they did on the classes with 250 training images alone (`...-250+`),
and literature values, have no counterpart of ours. Azizi et al. 2021: no table was found.
"""

from __future__ import annotations

import argparse
import ast
import csv
from pathlib import Path
from statistics import mean, stdev

from medbench import Store
from medbench.report import leaderboard
from medbench.schema import Mark, Row, UserError

PUBLISHED = Path(__file__).with_suffix(".csv")
KEY = ("task", "method", "encoder", "protocol", "labels", "metric")
MADE = ("source", "readout", "size")  # as in the paper, or not comparable
Cells = dict[tuple[str, ...], list[dict[str, str]]]


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def ours(folder: Path) -> Cells:
    """The finished lines of a results folder that were scored on the test part, by what a published
    cell is known by."""
    found: Cells = {}
    for row in rows(folder / "leaderboard.csv"):
        if row["status"] == "done" and row["target"] == "test":
            found.setdefault(tuple(row[name] for name in KEY), []).append(row)
    return found


def marks(folder: Path) -> dict[str, list[Mark]]:
    """What our tables say of the images, by "task|data|target"."""
    return {where: about["marks"] for where, about in Store(folder).plan().tasks.items()}


def number(mean: str, sd: str) -> str:
    return f"{float(mean):.3f} ± {float(sd):.3f}" if sd else f"{float(mean):.3f}"


def table(published: list[dict[str, str]], own: Cells, said: dict[str, list[Mark]]) -> list[str]:
    """Markdown lines; said: marks of our data.

    Label budgets in rows, the paper's columns. Raises ValueError where two of our lines answer to
    one cell.
    """
    columns = list(dict.fromkeys(row["column"] for row in published))
    metrics = list(dict.fromkeys(row["metric"] for row in published))
    # a table of one budget has the classes' recalls in its rows
    across = "labels" if len(metrics) == 1 else "metric"
    budgets = (
        sorted({row["labels"] for row in published}, key=_budget) if across == "labels" else metrics
    )
    cells: dict[tuple[str, str], str] = {}
    notes: list[str] = []
    others: set[str] = set()
    for row in published:
        found = own.get(tuple(row[name] for name in KEY), []) if row["method"] else []
        lines = [line for line in found if all(line[name] == row[name] for name in MADE)]
        if len(lines) > 1:
            raise ValueError(
                f"{row['method']} at {row['labels']} stands there for {' and '.join(sorted(line['data'] for line in lines))}"
            )
        others.update(
            f"not shown: {row['column']} with {name} {line[name]}; the paper's is {row[name]}"
            for line in found
            for name in MADE
            if line[name] != row[name]
        )
        mine = number(lines[0]["mean"], lines[0]["sd"]) if lines else "–"
        data = lines[0]["data"] if lines else ""
        about = said[f"{row['task']}|{data}|test"] if lines else []
        partial = any(mark.kind == "partial" for mark in about)
        images = " PHANTOM" if data == "phantom" else " PARTIAL" if partial else ""
        others.update(f"{data}: {mark}" for mark in about)
        doubt = " *" if row["doubtful"] else ""
        cells[row[across], row["column"]] = (
            f"{mine}{images} ({number(row['value'], row['sd'])}{doubt})"
        )
        notes += [f"* {row['column']}, {row[across]}: {row['note']}"] if doubt else []
    head = [across, *columns]
    body = [
        [budget, *(cells.get((budget, column), "") for column in columns)] for budget in budgets
    ]
    notes += sorted(others)
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body)] + (
        ["", *notes] if notes else []
    )


def _budget(text: str) -> tuple[bool, bool, int]:
    """Few labels to many, all of them, and lines across every number of them."""
    number = text.strip("n%").removesuffix("/class")
    return text == "any", "%" in text, int(number) if number.isdigit() else 0


def recalls(folder: Path) -> Cells:
    """The share of each class's test images that is decided rightly, of finished lines with saved
    predictions, as `ours`."""
    found: Cells = {}
    for board in leaderboard.at_home(leaderboard.leaderboards(Store(folder))):
        for line in (
            line
            for line in board.lines
            if line.complete and board.target == "test" and board.about["kind"] != "multilabel"
        ):
            common = {
                name: str(getattr(line.cell, name)) for name in ("data", "target", *KEY[:-1], *MADE)
            }
            each = [
                _class_recalls(store, row, len(board.about["classes"]))
                for store, row in zip(line.stores, line.rows, strict=True)
            ]
            for name, values in zip(board.about["classes"], zip(*each, strict=True), strict=True):
                sd = str(stdev(values)) if len(values) > 1 else ""
                made = {**common, "metric": f"recall {name}", "mean": str(mean(values)), "sd": sd}
                found.setdefault(tuple(made[key] for key in KEY), []).append(made)
    return found


def _class_recalls(store: Store, row: Row, classes: int) -> list[float]:
    """NaN for a class without a test image."""
    labels, decisions = (
        store.target(row.provenance["target"])["labels"],
        store.scores(row)["decisions"],
    )
    return [
        float((decisions[labels == c] == c).mean()) if (labels == c).any() else float("nan")
        for c in range(classes)
    ]


def departures(study: str) -> str:
    """The part of a study's header that says where its grid is not the paper's."""
    header = (
        ast.get_docstring(ast.parse(PUBLISHED.with_name(f"{study}.py").read_text(encoding="utf-8")))
        or ""
    )
    return header[header.index("Where this departs from the paper:") :]


def main() -> None:
    every = rows(PUBLISHED)
    parser = argparse.ArgumentParser(description="A table of a paper beside our own.")
    parser.add_argument("study", choices=list(dict.fromkeys(row["study"] for row in every)))
    parser.add_argument("table")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    tables = list(dict.fromkeys(row["table"] for row in every if row["study"] == args.study))
    if args.table not in tables:
        parser.error(f"{args.study} has no table '{args.table}': {', '.join(tables)}")
    lacks = [
        name for name in ("leaderboard.csv", "plan.json") if not (args.folder / name).is_file()
    ]
    if lacks:
        parser.error(
            f"{args.folder} has no {lacks[0]}: medbench run benchmarks/{args.study}.py, or medbench table {args.folder}"
        )
    published = [row for row in every if (row["study"], row["table"]) == (args.study, args.table)]
    first = published[0]
    kind = {"printed": "printed", "digitised": "read off a figure"}[first["kind"]]
    print(
        f"{args.study}, {args.table}: {first['task']}, {first['metric'].partition(' ')[0]}; ours (published, {kind})\n"
    )
    try:
        own = recalls(args.folder) if first["metric"].startswith("recall ") else ours(args.folder)
        print(
            "\n".join(table(published, own, marks(args.folder))), departures(args.study), sep="\n\n"
        )
    except UserError as error:
        parser.error(str(error))
    except ValueError as error:
        parser.error(f"{error}: give a folder that holds one of them")


if __name__ == "__main__":
    main()
