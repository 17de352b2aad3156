"""Results folders without a run: rows with given scores, and the plan beside them.

Never imports torch.
"""

from __future__ import annotations

import zlib
from itertools import product
from pathlib import Path

import numpy as np

from medbench import Store, stats
from medbench.schema import Cell, PlanFile, PlannedCell, Row, fingerprint
from medbench.stats import metrics

NOISE = np.random.default_rng(0).normal(0, 0.02, 1000)  # of the test set: the same for every method
ABOUT = {
    "identity": "data 1",
    "title": "T",
    "kind": "multiclass",
    "classes": ["a", "b", "c"],
    "metric": "auc",
    "groups": "patient",
    "marks": [],
    "parts": {"train": [70, 60], "test": [30, 25]},
}


def make(
    method: str,
    labels: str,
    seed: int,
    auc: float,
    *,
    task: str = "t",
    data: str = "T",
    own: float = 0.0,
) -> tuple[Row, np.ndarray]:
    """A row with that AUC; `own`.

    The sd of what its resamples do apart from the test set's noise.
    """
    cell = Cell(task, data, method, "imagenet", "net", "pool", 64, 0, "linear", labels, seed)
    n = {"1%": 1, "10%": 7, "100%": 70, "1/class": 3, "5/class": 15}[labels]
    provenance = {
        **{"weights": f"{method} weights", "trained_on": [], "precision": "fp32", "target": "none"},
        **{"marks": [], "budget": None, "member_weights": [], "device_kind": "cpu"},
    }
    metrics = {"auc": {"value": auc, "low": None, "high": None, "classes": 3}}
    row = Row(cell, fingerprint(str(cell)), metrics, n, n, {}, {"seconds": 1.0}, provenance)
    # the row's own numbers, whatever was made before it
    apart = np.random.default_rng(zlib.crc32(str(cell).encode())).normal(0, own, 1000)
    return row, np.stack([auc + NOISE + apart])


def fill(
    store: Store,
    rows: list[tuple[Row, np.ndarray]],
    *,
    left_out: int = 0,
    about: dict[str, object] = ABOUT,
    target: str = "target",
) -> None:
    planned = [
        PlannedCell(row.cell, row.fingerprint, row.n_requested, "setting", target)
        for row, _ in rows
    ]
    store.add_plan(
        PlanFile(
            tuple(planned), {f"{row.cell.task}|{row.cell.data}|test": about for row, _ in rows}
        )
    )
    for row, resamples in rows[: len(rows) - left_out]:
        store.add(row, {"metrics": np.array(["auc"]), "resamples": resamples.astype(np.float32)})


def study(
    folder: Path,
    tasks: int = 1,
    methods: tuple[str, ...] = ("random", "supervised", "sim$clr"),
    protocols: tuple[str, ...] = ("linear",),
) -> Store:
    """Rows with real scores.

    Binary tasks of 240 images, 120 patients; three methods, two budgets, two draws of the smaller.
    """
    store, rng, planned, abouts = Store(folder), np.random.default_rng(0), [], {}
    store.create()
    groups = np.arange(240) // 2
    weights = stats.group_weights(groups, 200)
    for t in range(tasks):
        labels = rng.integers(0, 2, 240)
        store.add_target(f"target{t}", np.arange(240).astype(str), labels, groups)
        abouts[f"task{t}|T|test"] = {
            **{
                "identity": "i",
                "kind": "binary",
                "classes": ["no", "yes"],
                "metric": "auc",
                "groups": "patient",
                "marks": [],
                "title": "T",
            },
            "parts": {"train": [100, 50], "test": [240, 120]},
        }
        for m, (method, protocol) in enumerate(product(methods, protocols)):
            for budget, n, seed in (("10%", 10, 0), ("10%", 10, 1), ("100%", 100, 0)):
                p = 1 / (1 + np.exp(-(labels - 0.5) * (0.5 + 2 * m) - rng.normal(0, 1, 240)))
                answer = (labels, np.stack([1 - p, p], 1), (p > 0.5).astype(int), "binary")
                plain, resampled = (
                    metrics.score(*answer).values,
                    metrics.score(*answer, weights).values,
                )
                cell = Cell(
                    f"task{t}",
                    "T",
                    method,
                    "imagenet",
                    "net",
                    "pool",
                    64,
                    0,
                    protocol,
                    budget,
                    seed,
                )
                provenance = {
                    "weights": "w",
                    "trained_on": [],
                    "precision": "fp32",
                    "target": f"target{t}",
                }
                values = {
                    name: {"value": value, "low": None, "high": None}
                    for name, value in plain.items()
                }
                row = Row(
                    cell,
                    fingerprint(str(cell)),
                    values,
                    n,
                    n,
                    {},
                    {"seconds": 1.0 + m, "embed_seconds": 10.0},
                    provenance,
                )
                arrays = {
                    "probabilities": answer[1],
                    "decisions": answer[2],
                    "metrics": np.array(list(resampled)),
                }
                store.add(
                    row,
                    {**arrays, "resamples": np.stack(list(resampled.values())).astype(np.float32)},
                )
                planned.append(PlannedCell(cell, row.fingerprint, n, "s", f"target{t}"))
    store.add_plan(PlanFile(tuple(planned), abouts))
    return store
