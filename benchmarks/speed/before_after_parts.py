"""One part of `before_after.py`, in the version of the code that PYTHONPATH names.

    python benchmarks/speed/before_after_parts.py PART FILE.npz

Prints the CPU seconds of the work alone. It runs with every commit since fe542a5, so it takes names
from where they lay then, too.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import tempfile
import time
from collections.abc import Callable
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


def main() -> None:
    part, file = sys.argv[1:]
    torch.set_num_threads(1)
    if part == "pack":
        start = time.process_time()
        packed(file)
        print(time.process_time() - start)
        return
    with np.load(file) as stored:
        data = {name: stored[name] for name in stored.files}
    draws = [data[name] for name in sorted(data) if name.startswith("draw")]
    work = fused if part == "fusion" else lambda *given: judged(part, *given)
    few = {**data, "images": data["images"][:2]}
    if part != "fusion":
        work(few, draws[:1])  # the first call pays for starting
    start = time.process_time()
    work(data, draws)
    print(time.process_time() - start)


if __name__ == "__main__":
    main()
