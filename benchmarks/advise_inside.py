"""How `medbench advise` does with labelled images alone.

Curves by cross-validation inside 5 or 10 % of a pool, held against test parts.

    python benchmarks/advise_inside.py FOLDER PARTS     # after advise_curves.py: the starts and their truths are the same
    python benchmarks/advise_inside.py --judge           # the committed results/advise/inside.npz, without any image

Of each start the labelled images are the draw of 5 or 10 % of its pool. Their curve is that of
`run.own_labels`; the truth is what `advise_curves.py` scored on both test parts with 2, 5 and 10
times as many. The test parts are never looked at for the prediction.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from advise_choice import HORIZONS, Calibrated, Process, cases, rising, shipped
from advise_curves import COMMITTED, SETS, SHARES, features, start

from medbench.run.own_labels import curve_inside
from medbench.schema import parse_budget, registry
from medbench.stats import splits
from medbench.stats.extrapolation import prediction

STARTS = 15
FAMILIES = (
    "ham10000 supervised linear",
    "lower-gi supervised linear",
    "colitis supervised linear",
    "pneumonia supervised linear",
)
INSIDE = COMMITTED.with_name("inside.npz")


def collect(folder: Path, parts: Path) -> None:
    """Write the curves of `FAMILIES` that are not in `parts` yet, and all of them as `INSIDE`."""
    for family in FAMILIES:
        name, method, protocol = family.split()
        file = parts / f"inside {family}.npy"
        if file.exists():
            continue
        of_set = next(found for found in features(SETS[name], folder) if found[0] == method)
        _, of, kind, classes, x = of_set
        begun, made = time.process_time(), []
        for seed in range(STARTS):
            pool = start(of.labels, of.groups, seed)[0]
            for share in (5, 10):
                drawn = pool[
                    splits.draws(
                        of.labels[pool], of.groups[pool], parse_budget(str(share)), [seed]
                    )[0]
                ]
                inside = of.take(drawn)
                curve, _ = curve_inside(
                    family,
                    registry.protocol(protocol),
                    x[drawn],
                    inside,
                    kind,
                    classes,
                    "auc",
                    draws=3,
                )  # type: ignore[arg-type]
                row = np.full((6, 4), np.nan)
                row[:4, : len(curve.sizes)] = curve.sizes, curve.scores, curve.errors, curve.draws
                row[4:, 0] = curve.shared, curve.labelled
                made.append(row)
        np.save(file, np.reshape(made, (STARTS, 2, 6, 4)))
        print(f"{file.name}: {time.process_time() - begun:.0f} s CPU", flush=True)
    found = {
        family: np.load(parts / f"inside {family}.npy").astype(np.float32)
        for family in FAMILIES
        if (parts / f"inside {family}.npy").exists()
    }
    np.savez_compressed(INSIDE, **found)


def judge() -> list[str]:
    """Coverage, width and interval score of each horizon, sources left out of the constants in
    turn."""
    saved, truths, every = np.load(INSIDE), np.load(COMMITTED), cases()
    process = Calibrated(Process(every), np.ones(len(every.sizes), bool))
    process.kept = rising(every, process.numbers(frozenset()))
    inside: dict[tuple[str, float], list[tuple[bool, float]]] = {}
    refused = total = 0
    for family in saved.files:
        source = SETS[family.split()[0]].source
        prediction.LEARNT = shipped(process, frozenset({source}))
        truth = truths[f"{family}|auc"] / 1e4
        for seed, share in np.ndindex(STARTS, 2):
            sizes, scores, errors, draws, (shared, *_), (labelled, *_) = saved[family][
                seed, share
            ].astype(float)
            known, total = np.isfinite(sizes), total + 1
            if labelled < prediction.FEWEST or known.sum() < 3:
                refused += 1
                continue
            asked = (5.0, 10.0)[share]
            at = labelled * np.array(HORIZONS)
            found = prediction.predict(
                sizes[known],
                scores[known],
                at,
                errors[known],
                draws[known],
                labelled=labelled,
                shared=float(shared),
            )
            if found.shape in ("falling", "perfect"):
                refused += 1
                continue
            for i, times in enumerate(HORIZONS):
                there = truth[seed, SHARES.index(times * asked)]
                held = bool(found.low[i] <= there <= found.high[i])
                inside.setdefault((source, times), []).append(
                    (held, float(found.high[i] - found.low[i]))
                )
                inside.setdefault(("all", times), []).append(
                    (held, float(found.high[i] - found.low[i]))
                )
    said = [f"refused {refused} of {total}"]
    for (source, times), each in sorted(inside.items()):
        held, width = np.mean(each, axis=0)
        said.append(
            f"{source}, {times:g} times: {100 * held:.0f} % of {len(each)}, width {width:.3f}"
        )
    return said


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("parts", type=Path, nargs="?")
    parser.add_argument("--judge", action="store_true")
    given = parser.parse_args()
    if given.folder is not None and given.parts is not None:
        collect(given.folder, given.parts)
    print("\n".join(judge()))
