"""CPU seconds of tables, figures and the page over 10,000 made-up rows with saved scores.

    uv run python benchmarks/speed/report.py [--folder FOLDER] [--rows 10000]

5 tasks x 20 methods x 4 protocols x 5 label budgets x 5 draws; every row has 6 metrics with 1,000
resamples and the probabilities of 400 test images. Each command runs once to compile, then three
times; the medians of user + system time and of wall time are shown (the latter says something on a
quiet machine alone), beside an interpreter that does nothing, and beside `import numpy`, which all
of them need.

Making the folder takes about a minute and 0.4 GB; --folder keeps it for the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np

from medbench.run.store import Store
from medbench.schema import Cell, PlanFile, PlannedCell, Row, fingerprint

METRICS = ("accuracy", "balanced_accuracy", "auc", "f1", "kappa", "ece")
CLASSES = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
BUDGETS = {"1%": 70, "5%": 350, "10%": 700, "25%": 1750, "100%": 7000}
PROTOCOLS = ("linear", "knn", "svm", "logreg")
IMAGES, GROUPS = 400, 300
KINDS = ("curves", "heatmap", "cd", "cost", "reliability", "confusion")  # what made-up rows have
VERSIONS = {
    "python": "3.11.7",
    "medbench": "0.1.0",
    "numpy": "2.4.6",
    "scikit-learn": "1.9.1",
    "timm": "1.0.31",
    "torch": "2.15.0",
}


def make(folder: Path, n_rows: int) -> None:
    """A results folder of `n_rows` rows as a run writes them; all numbers are drawn."""
    rng, store = np.random.default_rng(0), Store(folder)
    store.create()
    groups = np.sort(rng.integers(0, GROUPS, IMAGES)).astype(str)
    planned, lines, abouts = [], [], {}
    noise = rng.normal(0, 0.015, (len(METRICS), 1000))
    cells = product(range(5), range(20), PROTOCOLS, BUDGETS.items(), range(5))
    for (task, method, protocol, (labels, n), seed), _ in zip(cells, range(n_rows), strict=False):
        name, target = f"task{task}", f"task{task}-0123456789abcdef"
        if f"{name}|Made|test" not in abouts:
            truth = rng.integers(0, len(CLASSES), IMAGES)
            store.add_target(target, np.arange(IMAGES).astype(str), truth, groups)
            abouts[f"{name}|Made|test"] = {
                **{
                    "identity": "i",
                    "title": f"Made-up task {task}",
                    "kind": "multiclass",
                    "classes": CLASSES,
                    "metric": "auc",
                },
                **{"groups": "patient", "marks": [], "data_sha256": "0" * 64},
                "parts": {"train": [7000, 5000], "test": [IMAGES, len(np.unique(groups))]},
            }
        cell = Cell(
            name,
            "Made",
            f"method{method:02d}",
            "imagenet",
            "resnet50",
            "pool",
            224,
            0,
            protocol,
            labels,
            seed,
        )
        level = 0.6 + 0.01 * method + 0.05 * np.log10(n) + rng.normal(0, 0.01)
        values = {
            m: {"value": level + 0.01 * i, "low": level - 0.03, "high": level + 0.03}
            for i, m in enumerate(METRICS)
        }
        made_with = {"device": "cpu (x86_64, 1 threads)", "versions": VERSIONS, "commit": "0" * 40}
        provenance = {
            **{
                "data_sha256": "0" * 64,
                "weights": f"weights of method{method:02d}",
                "weights_sha256": f"{method:064d}",
                "members": [],
            },
            **{
                "trained_on": ["ImageNet-1k"],
                "pretraining": [],
                "subset_sha256": "0" * 64,
                "target": target,
                "marks": [],
            },
            **{
                "subset_classes": dict.fromkeys(CLASSES, n // 7),
                "preprocessing": "squash to 224 px bicubic",
                "precision": "fp32",
            },
            **{"features": [made_with], "protocol": {"iterations": 24, "gap": 1e-16}, **made_with},
        }
        cost = {
            "seconds": 1.0,
            "pretrain_seconds": 0.0,
            "embed_seconds": 30.0,
            "embed_images_per_second": 300.0,
            "peak_memory_mb": 1000,
        }
        row = Row(
            cell,
            fingerprint(str(cell), protocol),
            values,
            n,
            n,
            {"penalty": 1.0, "rule": "grouped"},
            cost,
            provenance,
        )
        p = rng.dirichlet(np.ones(len(CLASSES)), IMAGES).astype(np.float32)
        resamples = (
            level
            + 0.01 * np.arange(len(METRICS))[:, None]
            + noise
            + rng.normal(0, 0.005, noise.shape)
        )
        arrays = {
            "probabilities": p,
            "decisions": p.argmax(1),
            "metrics": np.array(METRICS),
            "resamples": resamples.astype(np.float32),
        }
        # as Store writes them, without its fsync
        np.savez(folder / "scores" / f"{row.fingerprint[:32]}.npz", **arrays)
        lines.append(row)
        planned.append(PlannedCell(cell, row.fingerprint, n, f"setting {method}", target))
    store.add_plan(PlanFile(tuple(planned), abouts))
    store.write_text(
        "rows.jsonl", "".join(json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in lines)
    )


def seconds(arguments: list[str], bytecode: str) -> tuple[float, float]:
    """Median CPU and wall time of three runs after one that compiles.

    bytecode: a folder where it is kept, whatever the environment says, as an installation keeps it.
    """
    times = []
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    for _ in range(4):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            [sys.executable, *arguments],
            check=True,
            capture_output=True,
            env={**environment, "PYTHONPYCACHEPREFIX": bytecode},
        )
        after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
        times.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall))
    cpu, wall = (statistics.median(of) for of in zip(*times[1:], strict=True))
    return cpu, wall


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary) / "made"
        if not (folder / "rows.jsonl").exists():
            make(folder, asked.rows)
        medbench = ["-m", "medbench"]
        plot = [*medbench, "plot", str(folder), "--out", f"{temporary}/figures"]
        commands = {
            "nothing": ["-c", "pass"],
            "import numpy": ["-c", "import numpy"],
            "table (writes leaderboard.md and .csv)": [*medbench, "table", str(folder)],
            "table --format csv": [*medbench, "table", str(folder), "--format", "csv"],
            **{f"plot --kind {kind} (pdf and png)": [*plot, "--kind", kind] for kind in KINDS},
            "plot (all of these, svg)": [*plot, "--format", "svg"],
            "plot (all of these, pdf and png)": plot,
            "report": [*medbench, "report", str(folder), "--out", f"{temporary}/page.html"],
        }
        print(f"{asked.rows} rows; CPU seconds, wall seconds:")
        for name, arguments in commands.items():
            cpu, wall = seconds(arguments, f"{temporary}/bytecode")
            print(f"  {cpu:6.2f} {wall:6.2f}  {name}", flush=True)
        size = (Path(temporary) / "page.html").stat().st_size
        print(f"page: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
