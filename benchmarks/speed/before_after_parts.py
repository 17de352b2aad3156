"""One part of `before_after.py`, in the version of the code that PYTHONPATH names.

    python benchmarks/speed/before_after_parts.py linear|knn|fusion|scikit-learn FILE.npz
    python benchmarks/speed/before_after_parts.py pack FOLDER
    python benchmarks/speed/before_after_parts.py first FOLDER GRID.json

Prints JSON: the CPU seconds of the work alone, the clock's, and what else was measured. It runs
with every commit since fe542a5, so it takes names from where they lay then, too.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch


def found(*places: str) -> Any:
    """The first of `module:name` that this version has."""
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(import_module(module), name)
        except (ModuleNotFoundError, AttributeError):
            continue
    raise SystemExit(f"this version has none of {', '.join(places)}")


def accepted(function: Callable[..., Any], **given: Any) -> dict[str, Any]:
    """Those arguments that this version knows."""
    return {key: v for key, v in given.items() if key in inspect.signature(function).parameters}


def judged(protocol: str, data: dict[str, np.ndarray], draws: list[np.ndarray]) -> None:
    """Every draw by a protocol, all of them divided into folds."""
    evaluate = found(f"medbench.protocols.{protocol}:{protocol.upper()}").evaluate
    train_class = found("medbench.schema:Train", "medbench.spec:Train")
    kind = "binary" if data["labels"].max() == 1 else "multiclass"
    train = train_class(
        data["features"],
        data["labels"],
        data["groups"],
        kind,
        int(data["labels"].max()) + 1,
        **accepted(train_class, divided=[True] * len(draws)),
    )
    for _ in evaluate(train, {"test": data["images"]}, draws):
        pass


def fused(data: dict[str, np.ndarray], draws: list[np.ndarray]) -> None:
    """Heads on two halves of the columns as members."""
    fit = found("medbench.models.fusion:fit_predict", "medbench.fusion:fit_predict")
    halves = [np.ascontiguousarray(x) for x in np.array_split(data["features"], 2, 1)]
    images = [np.ascontiguousarray(x) for x in np.array_split(data["images"], 2, 1)]
    labels = data["labels"]
    classes = int(labels.max()) + 1
    kind = "binary" if classes == 2 else "multiclass"
    seeds = list(range(len(draws)))
    wanted = accepted(fit, requested=[len(draw) for draw in draws])
    for _ in fit(
        halves, labels, data["groups"], kind, classes, {"test": images}, draws, seeds, **wanted
    ):
        pass


def packed(folder: str) -> None:
    """The pack of a folder of JPEGs at 64 px, without the hashes of their content."""
    pack = found("medbench.images.packing:pack")
    files = sorted(Path(folder).glob("*.jpg"))
    hashes = [hashlib.sha256(f.name.encode()).hexdigest() for f in files]
    with tempfile.TemporaryDirectory() as cache:
        pack(files, hashes, 64, "bicubic", Path(cache), workers=1)


def by_scikit_learn(data: dict[str, np.ndarray], draws: list[np.ndarray]) -> None:
    """Fit LogisticRegressionCV to every draw, warm: a fold's next penalty starts from its last."""
    from sklearn.linear_model import LogisticRegressionCV

    penalties = found("medbench.protocols.linear:PENALTIES")
    folds = found(
        "medbench.stats.splits:cross_validation",
        "medbench.sampling:cross_validation",
        "medbench.sampling.splits:cross_validation",
    )
    for draw in draws:
        x, y = data["features"][draw], data["labels"][draw]
        mean, deviation = x.mean(0), x.std(0)
        scale = np.where(deviation > 0, 1 / np.where(deviation > 0, deviation, 1), 0)
        model = LogisticRegressionCV(
            Cs=[1 / (len(draw) * 0.8 * penalty) for penalty in reversed(penalties)],
            cv=folds(y, data["groups"][draw], 5, True),
            tol=1e-4,
            max_iter=10_000,
            scoring="neg_log_loss",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of newer names, and of fits that reach max_iter
            model.fit((x - mean) * scale, y).predict_proba((data["images"] - mean) * scale)


def cpu() -> float:
    """User + system seconds of this process and of those that it has ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class ByRows:
    """The time left as it was told at fe542a5: as long for each row as for those so far."""

    def __init__(self, plan: Any):
        self.began, self.cells, self.done = cpu(), len(plan.cells), 0

    def heard(self, _: object) -> None:
        """Take what a stage reports: it told nothing of the time left."""

    def row(self, _: object) -> None:
        self.done += 1

    def seconds(self) -> float | None:
        if not self.done:
            return None
        return (cpu() - self.began) / self.done * (self.cells - self.done)


@contextmanager
def listening(heard: Callable[[object], None]) -> Iterator[None]:
    """Hear every report of progress, where this version has that."""
    try:
        listen = import_module("medbench.system.progress_listener").listening
    except ModuleNotFoundError:
        yield
        return
    with listen(heard):
        yield


def first(folder: str, asked: str) -> dict[str, float | None]:
    """Run a grid, and tell when its first rows came and how right the time left was."""
    grid = found("medbench:Grid")(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(asked).items()
        }
    )
    plan = found("medbench.run.planning:plan", "medbench.grid:plan")(grid)
    out = Path(folder, "out")
    try:
        out = import_module("medbench.run.store").Store(out)
        left = import_module("medbench.run.time_left").TimeLeft(plan, out, "cpu", clock=cpu)
    except (ModuleNotFoundError, AttributeError):
        left = ByRows(plan)
    said: list[tuple[float, float | None]] = [(cpu(), left.seconds())]
    rows: list[tuple[float, str]] = []

    def heard(progress: object) -> None:
        left.heard(progress)
        said.append((cpu(), left.seconds()))

    def row(one: Any) -> None:
        left.row(one)
        said.append((cpu(), left.seconds()))
        rows.append((cpu(), one.cell.method))

    with listening(heard):
        found("medbench.run.execution:execute", "medbench.run:execute")(
            plan, out, device="cpu", on_row=row
        )
    end = cpu()
    second = next(when for when, method in rows if method != rows[0][1])
    return {
        "first row, s": rows[0][0],
        "first board of two methods, s": second,
        **{
            f"time left told / taken at {s:.0%}": told_to_taken(said, s, end)
            for s in (0.1, 0.25, 0.5)
        },
        "seconds": end,
    }


def told_to_taken(said: list[tuple[float, float | None]], share: float, end: float) -> float | None:
    """Divide what was told last before a share of the run, less the time since, by what it took."""
    now = share * end
    when, told = [(0.0, None), *(one for one in said if one[0] <= now)][-1]
    return None if told is None else max(told - (now - when), 0.0) / (end - now)


def main() -> None:
    part, file, *more = sys.argv[1:]
    torch.set_num_threads(1)
    if part == "first":
        print(json.dumps(first(file, *more)))
        return
    draws: list[np.ndarray] = []
    if part == "pack":
        data: Any = file
    else:
        with np.load(file) as stored:
            data = {name: stored[name] for name in stored.files}
        draws = [data[name] for name in sorted(data) if name.startswith("draw")]
    work: Callable[..., None] = {
        "pack": lambda folder, _: packed(folder),
        "fusion": fused,
        "scikit-learn": by_scikit_learn,
    }.get(part, lambda *given: judged(part, *given))
    if part in ("linear", "knn"):
        # the first call pays for starting
        work({**data, "images": data["images"][:2]}, draws[:1])
    start, clock = cpu(), time.perf_counter()
    work(data, draws)
    print(json.dumps({"seconds": cpu() - start, "clock": time.perf_counter() - clock}))


if __name__ == "__main__":
    main()
