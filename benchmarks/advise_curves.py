"""Draw the learning curves by which `medbench advise` was chosen and is calibrated:
`results/advise/curves.npz`.

    python benchmarks/evidence_csvs.py FOLDER          # once: hyperkvasir.csv and films.csv, which `folder:` reads
    python benchmarks/advise_curves.py FOLDER PARTS     # an archive a curve family into PARTS; goes on where it was stopped
    python benchmarks/advise_curves.py --join PARTS     # all of them into results/advise/curves.npz

FOLDER holds ham10000/, hyperkvasir/, kermany/ and hannover_cxr/ in their official layouts. Each
data set is embedded once at 64 px, and every fifth feature kept. A *start* is a random division of
the images by groups into a pool, a test part A and a test part B, and in the pool nested draws of
`SHARES` percent, as `medbench run` draws them, each fitted by the protocols as they are. At the end
of a pool stands "100 %" of that start. Starts share images, as few sets are as large as fifty
independent pools would need: their number is not the number of independent curves.

Saved, as whole numbers of ten-thousandths: the AUC on A, on B and on both, accuracy and balanced
accuracy on both, the labelled images of each draw, and the standard error of the AUC on A by 100
resamples of its groups.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medbench.run import planning, prepare
from medbench.schema import Grid, Protocol, Split, Train, join_parts, parse_budget, registry
from medbench.stats import group_weights, metrics, splits

#: Percent of a pool. From 5 and 10 %, with an eighth, a quarter and a half of them, to 2, 5 and 10
#: times as many.
SHARES = (0.625, 1.25, 2.5, 5, 10, 20, 25, 50, 100)
STARTS = 50
EVERY = 5  # so many features one is kept of: 256 of 1,280 cost a fifth of the time
PARTS = (0.6, 0.15, 0.25)  # pool, test A, test B
# images of each: of a larger part so many are taken at random, so that "100 %" can be fitted 50
# times
MOST = (1200, 400, 800)
VALUES = ("auc", "auc_a", "auc_b", "accuracy", "balanced_accuracy")
COMMITTED = Path(__file__).parents[1] / "results" / "advise" / "curves.npz"


@dataclass(frozen=True)
class DataSet:
    """source: the images' origin, which is left out as a whole where constants are judged.

    families: method -> the protocols that judge it.
    """

    task: str
    source: str
    families: Mapping[str, tuple[str, ...]]
    phantom: bool = False


TWO = {"random": ("linear",), "supervised": ("linear", "knn")}
THREE = {**TWO, "simclr": ("linear", "knn")}
REAL = {**THREE, "supervised": ("linear", "knn", "logreg")}
SETS = {
    "ham10000": DataSet("derm", "HAM10000", REAL),
    "lower-gi": DataSet("folder:hyperkvasir.csv", "HyperKvasir", REAL),
    "colitis": DataSet(
        "uc-grade", "HyperKvasir", {**TWO, "supervised": ("linear", "knn", "logreg")}
    ),
    "pneumonia": DataSet("pneumonia", "Kermany", REAL),
    "films": DataSet("folder:films.csv", "Hannover", TWO),
    "phantom-derm": DataSet("derm", "phantom derm", THREE, phantom=True),
    "phantom-chest": DataSet("chest", "phantom chest", TWO, phantom=True),
    "phantom-retina": DataSet("retina", "phantom retina", TWO, phantom=True),
    "phantom-lymph": DataSet("lymph", "phantom lymph", TWO, phantom=True),
}


def features(of: DataSet, folder: Path) -> Iterator[tuple[str, Split, str, int, np.ndarray]]:
    """(method, all images of the set, kind, classes, features (N, D)), method after method."""
    task = (
        f"folder:{folder / of.task.removeprefix('folder:')}"
        if of.task.startswith("folder:")
        else of.task
    )
    data = "phantom" if of.phantom else str(folder)
    grid = Grid(
        tasks=(task,),
        methods=tuple(of.families),
        protocols=("knn",),
        labels=("100",),
        size=64,
        data=data,
        allow_partial=True,
    )
    plan = planning.plan(grid)
    for unit in plan.units:
        ready = (
            unit if prepare.have_features(plan, unit, "cpu") else prepare.trained(plan, unit, "cpu")
        )
        (found,) = prepare.unit_features(plan, ready, "cpu")
        yield (
            unit.method.name,
            join_parts(unit.data.parts.values()),
            unit.data.task.kind,
            len(unit.data.task.classes),
            np.asarray(found.array)[:, ::EVERY],
        )


def start(labels: np.ndarray, groups: np.ndarray, seed: int) -> list[np.ndarray]:
    """Positions of a pool, of test A and of test B; whole groups."""
    part, found = splits.partition(labels, groups, PARTS, f"advise start {seed}"), []
    for i, most in enumerate(MOST):
        where = np.flatnonzero(part == i)
        if len(where) > most:
            shares = (most / len(where), 1 - most / len(where))
            where = where[
                splits.partition(labels[where], groups[where], shares, f"advise part {seed}") == 0
            ]
        found.append(where)
    return found


def curve(
    protocol: Protocol,
    found: np.ndarray,
    of: Split,
    kind: str,
    classes: int,
    seed: int,
    shares: Sequence[float],
) -> tuple[list[int], list[list[float]], list[float]]:
    """Labelled images (K,), `VALUES` (K, 5) and standard errors of the AUC on A (K,) of one
    start."""
    pool, a, b = start(of.labels, of.groups, seed)
    budgets = [parse_budget(str(share)) for share in shares]
    drawn = [
        splits.draws(of.labels[pool], of.groups[pool], budget, [seed])[0] for budget in budgets
    ]
    divided = [splits.divides(of.labels[pool], of.groups[pool], budget) for budget in budgets]
    train = Train(
        found[pool],
        of.labels[pool],
        of.groups[pool],
        kind,  # type: ignore[arg-type]
        classes,
        seeds=[seed] * len(drawn),
        requested=[splits.requested(of.labels[pool], budget) for budget in budgets],
        divided=divided,
    )
    both = np.concatenate([a, b])
    weights = group_weights(of.groups[a], 100)
    values, errors = [], []
    for scores in protocol.evaluate(train, {"both": found[both]}, drawn):
        p, d = scores["both"].probabilities, scores["both"].decisions
        on = {
            name: metrics.score(of.labels[both][where], p[where], d[where], kind).values  # type: ignore[arg-type]
            for name, where in (
                ("both", slice(None)),
                ("a", slice(0, len(a))),
                ("b", slice(len(a), None)),
            )
        }
        resampled = metrics.score(of.labels[a], p[: len(a)], d[: len(a)], kind, weights).values[
            "auc"
        ]  # type: ignore[arg-type]
        values.append(
            [
                on["both"]["auc"],
                on["a"]["auc"],
                on["b"]["auc"],
                on["both"]["accuracy"],
                on["both"]["balanced_accuracy"],
            ]
        )
        errors.append(float(np.nanstd(resampled)))
    return [len(draw) for draw in drawn], values, errors


def collect(folder: Path, parts: Path, names: Sequence[str]) -> None:
    """Write an archive for each set, method and protocol that has none in `parts` yet."""
    parts.mkdir(parents=True, exist_ok=True)
    for name in names:
        families = SETS[name].families
        if all(
            (parts / f"{name} {method} {protocol}.npz").exists()
            for method, each in families.items()
            for protocol in each
        ):
            continue
        for method, of, kind, classes, found in features(SETS[name], folder):
            for protocol in families[method]:
                file = parts / f"{name} {method} {protocol}.npz"
                if file.exists():
                    continue
                begun = time.process_time()
                made = [
                    curve(registry.protocol(protocol), found, of, kind, classes, seed, SHARES)
                    for seed in range(STARTS)
                ]
                sizes, values, errors = (np.array(each) for each in zip(*made, strict=True))
                np.savez(file, sizes=sizes, values=values, errors=errors)
                print(
                    f"{file.name}: {len(of)} images, {time.process_time() - begun:.0f} s CPU",
                    flush=True,
                )


def join(parts: Path) -> None:
    """Write all archives of `parts` as one. Ten-thousandths in uint16; 65535: undefined."""

    def whole(values: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(values), 65535, np.round(values * 1e4)).astype(np.uint16)

    joined: dict[str, np.ndarray] = {}
    for file in sorted(parts.glob("*.npz")):
        found = np.load(file)
        joined[f"{file.stem}|sizes"] = found["sizes"].astype(np.uint16)
        for place, value in enumerate(VALUES):
            joined[f"{file.stem}|{value}"] = whole(found["values"][..., place])
        joined[f"{file.stem}|auc_a_error"] = whole(found["errors"])
    COMMITTED.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(COMMITTED, **joined)
    print(
        f"{COMMITTED}: {len(joined) // (len(VALUES) + 2)} families of {STARTS} curves, {COMMITTED.stat().st_size / 1e3:.0f} kB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("parts", type=Path)
    parser.add_argument("--join", action="store_true")
    parser.add_argument("--sets", default=",".join(SETS))
    asked = parser.parse_args()
    if asked.join:
        join(asked.parts)
    else:
        collect(asked.folder, asked.parts, asked.sets.split(","))


if __name__ == "__main__":
    main()
