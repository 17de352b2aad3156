"""Does attention find what some of a case's images show? `case-attention` and `case-mean` against the
mean of image scores, on drawn cases.

    python benchmarks/cases.py > benchmarks/cases.txt          # 2 minutes of one CPU core

250 cases to learn from and 250 to be scored, half of them positive, three initialisations; features
are noise, and an image that shows the sign has it along one direction. AUC less that of the mean of
image scores (`linear` by case), paired on the cases, with the interval of `medbench compare`.

`case-attention` was tuned on the first two phantoms: its start, its number of steps and its rates
were chosen by looking at them (other draws of the same kind). What they say is what it was made for.
The three others were drawn after that and looked at once: other widths, cases of two to nine images,
another number of images that show the sign, a weaker one.
"""

from __future__ import annotations

import csv
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medbench import Grid
from medbench.report import leaderboard
from medbench.report.compare import compare
from medbench.run.execution import run

CASES, SEEDS = 250, 3


@dataclass(frozen=True)
class Phantom:
    """sizes: images of a case, from, to.

    shown: how many of them show the sign, at most; 0: all. strength: of the sign, in standard
    deviations of the noise.
    """

    name: str
    tuned_on: bool
    features: int
    sizes: tuple[int, int]
    shown: int
    strength: float


PHANTOMS = (
    Phantom("one image of five shows it", True, 12, (5, 5), 1, 4.0),
    Phantom("all five show a little of it", True, 12, (5, 5), 0, 0.8),
    Phantom("two of two to nine images show it, 64 features", False, 64, (2, 9), 2, 3.0),
    Phantom(
        "all of two to nine images show a little of it, 64 features", False, 64, (2, 9), 0, 0.8
    ),
    Phantom("a case has one image", False, 12, (1, 1), 0, 1.5),
)


def write(phantom: Phantom, place: Path) -> tuple[str, str]:
    """(task, encoder): a table of the cases' images, a patient each, and their features."""
    rng = np.random.default_rng(20261201)
    direction = rng.normal(size=phantom.features)
    direction /= np.linalg.norm(direction)
    rows, features = [], []
    for case in range(2 * CASES):
        size = rng.integers(phantom.sizes[0], phantom.sizes[1] + 1)
        images = rng.normal(size=(size, phantom.features))
        shows = rng.permutation(size)[: phantom.shown or size]
        images[shows] += phantom.strength * (case % 2) * direction
        features.append(images)
        for i in range(size):
            name = f"c{case}-{i}.png"
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(place / name)
            about = "positive" if case % 2 else "negative", "train" if case < CASES else "test"
            rows.append([name, about[0], f"p{case}", f"b{case}", about[1]])
    with (place / "cases.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "label", "group", "bag", "split"], *rows])
    ids = np.array([row[0] for row in rows])
    np.savez(place / "f.npz", ids=ids, features=np.concatenate(features).astype(np.float32))
    return f"folder:{place / 'cases.csv'}", f"features:{place / 'f.npz'}"


def signed(value: float) -> str:
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text


def line(phantom: Phantom, place: Path) -> str:
    """A line of the table."""
    task, encoder = write(phantom, place)
    grid = Grid(
        (task,),
        ("all",),
        methods=("given",),
        encoders=(encoder,),
        protocols=("linear", "case-mean", "case-attention"),
        by="case",
        seeds=SEEDS,
        audit=False,
    )
    (board,) = leaderboard.leaderboards(run(grid, place / "out"))
    found = {one.cell.protocol: one.plain["auc"].mean() for one in board.lines}
    cells = [f"{found['linear']:.2f}"]
    for protocol in ("case-mean", "case-attention"):
        for pair in compare(board, "auc", 0.0):
            names = [one.cell.protocol for one in (pair.first, pair.second)]
            if {*names} == {protocol, "linear"}:
                sign = 1 if names[1] == "linear" else -1
                low, high = sorted(sign * end for end in pair.verdict.difference.interval())
                value = sign * pair.verdict.difference.value
                cells.append(f"{signed(value)} [{signed(low)}, {signed(high)}]")
    seen = "yes" if phantom.tuned_on else "no"
    return f"| {phantom.name} | {seen} | {' | '.join(cells)} |"


def main() -> None:
    print("| the sign | tuned on | mean of image scores | `case-mean` | `case-attention` |")
    print("|---|---|---|---|---|")
    for phantom in PHANTOMS:
        with tempfile.TemporaryDirectory() as place:
            print(line(phantom, Path(place)), flush=True)


if __name__ == "__main__":
    main()
