"""DVME beside its paper (Truong et al. 2021).

Table G1, trainable parameters, and figure F1, the attention between sources.

    python benchmarks/dvme.py G1
    python benchmarks/dvme.py F1 runs/truong2021

Every cell is `ours (published)`; the printed numbers lie in `dvme.csv`. Heads of G1 are of five
classes, whose counts fit the printed ones. F1: rows attend to columns. With how many labels the
paper's maps were made is NOT FOUND: ours are of the most that are finished, mean over labelled
images and draws. A map of one draw may look otherwise than the next: no verdict hangs on it.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medbench import Store
from medbench.report import leaderboard
from medbench.schema import UserError

PRINTED = Path(__file__).with_suffix(".csv")
CLASSES = 5
Cells = Mapping[tuple[str, str], float]


def printed(table: str, task: str = "") -> dict[tuple[str, str], float]:
    with PRINTED.open(encoding="utf-8", newline="") as stream:
        rows = [
            row for row in csv.DictReader(stream) if (row["table"], row["task"]) == (table, task)
        ]
    return {(row["row"], row["column"]): float(row["value"]) for row in rows}


def parameters() -> dict[tuple[str, str], float]:
    """Trainable parameters as table G1 counts them.

    Of a linear layer or the fused head alone, and with all that is fine-tuned.
    """
    import timm

    from medbench.models.fusion import loop

    def count(module: object) -> int:
        return sum(parameter.numel() for parameter in module.parameters())  # type: ignore[attr-defined]

    resnet, vit = (
        count(timm.create_model(name, num_classes=0))
        for name in ("resnet50", "vit_small_patch8_224")
    )
    widths = {"ResNet-50": 2048, "ViT": 4 * 384}
    heads = {name: (width + 1) * CLASSES for name, width in widths.items()}
    heads["DVME"] = count(loop.head((2048, 2048, 4 * 384), CLASSES, tokens="scalar"))
    bodies = {"ResNet-50": resnet, "ViT": vit, "DVME": 2 * resnet + vit}
    return {
        (name, kind): heads[name] + (bodies[name] if kind == "fine-tuned" else 0)
        for name in heads
        for kind in ("linear", "fine-tuned")
    }


def attention(folder: Path) -> dict[str, tuple[str, Cells]]:
    """By task the budget with the most labels, and the mean map of its finished line of simclr,
    swav and dino."""
    found: dict[str, tuple[str, Cells]] = {}
    for board in leaderboard.at_home(leaderboard.leaderboards(Store(folder))):
        for line in board.lines:  # budgets from few labels to many
            maps = [row.provenance.get("protocol", {}).get("attention") for row in line.rows]
            members = [
                str(name).partition("@")[0]
                for name in line.cell.method.partition(":")[2].split("+")
            ]
            if line.complete and all(maps) and members == ["simclr", "swav", "dino"]:
                mean = np.mean(maps, axis=0)
                cells = {
                    (a, b): float(mean[i, j])
                    for i, a in enumerate(members)
                    for j, b in enumerate(members)
                }
                found[board.task] = (
                    f"{line.cell.method} at {line.cell.labels}{', drawn images' if board.data == 'phantom' else ''}",
                    cells,
                )
    return found


def table(ours: Cells, published: Cells, form: str) -> list[str]:
    """Markdown lines."""
    columns = list(dict.fromkeys(column for _, column in published))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    for row in dict.fromkeys(row for row, _ in published):
        cells = [
            f"{ours[row, column]:{form}}" if (row, column) in ours else "–" for column in columns
        ]
        lines.append(
            [
                row,
                *(
                    f"{own} ({published[row, column]:{form}})"
                    for own, column in zip(cells, columns, strict=True)
                ),
            ]
        )
    return [f"| {' | '.join(line)} |" for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description="DVME beside its paper: table G1, figure F1.")
    parser.add_argument("table", choices=["G1", "F1"])
    parser.add_argument("folder", nargs="?", type=Path)
    args = parser.parse_args()
    if args.table == "G1":
        print(
            "\n".join(
                [
                    "Trainable parameters, ours (published)",
                    "",
                    *table(parameters(), printed("G1"), ",.0f"),
                ]
            )
        )
        return
    if args.folder is None or not (args.folder / "plan.json").is_file():
        parser.error("F1 needs a results folder: medbench run benchmarks/truong2021.py")
    try:
        found = attention(args.folder)
    except UserError as error:
        parser.error(str(error))
    for task in ("lymph-kaggle", "retina", "pneumonia", "nih-expert"):
        said, ours = found.get(task, ("no finished line of dvme:simclr+swav+dino", {}))
        print(
            "\n".join(
                [
                    f"{task}: {said}; ours (published)",
                    "",
                    *table(ours, printed("F1", task), ".2g"),
                    "",
                ]
            )
        )


if __name__ == "__main__":
    main()
