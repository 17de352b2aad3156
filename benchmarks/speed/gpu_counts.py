"""What one step of each path asks of a GPU, counted on a pretended one.

Waits of the host, kernels, copies, bytes, and CPU seconds beside them.

    PYTHONPATH=. python benchmarks/speed/gpu_counts.py                    # a table; needs no GPU
    PYTHONPATH=. python benchmarks/speed/gpu_counts.py --places           # and the line of medbench that asks for each wait

A step is the difference of two runs, the longer less the shorter, over the steps that it has more.
CPU seconds are those of this process less those that went into pretending, so that what a loop no
longer waits for is seen where it moves to the CPU instead. A network and images that are small:
counts do not hang on their sizes, CPU seconds hardly.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from medbench.methods.dino import DINO
from medbench.methods.simclr import SIMCLR
from medbench.methods.swav import SWAV
from medbench.models import encoders, features, pretrain
from medbench.models.finetune import MODERN
from medbench.models.fusion import FusionRecipe, fit_predict
from medbench.models.fusion.draw_state import DrawState
from medbench.models.logistic import lbfgs
from medbench.models.pretrain import loop
from medbench.protocols import finetune, linear
from medbench.schema import Network, Train
from tests.fakes.pretended_gpu import Counts, pretended_gpu

HALF = (0.5, 0.5, 0.5)
SIZE, N, BATCH = 32, 256, 16
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 255, (N, SIZE, SIZE, 3), np.uint8)
NAMES = np.arange(N).astype(str)
LABELS = RNG.integers(0, 3, N)
COLUMNS = (
    "waits",
    "kernels",
    "copies to the GPU",
    "copies to the CPU",
    "bytes to the GPU",
    "late",
    "CPU ms",
)


def build() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net: torch.nn.Module = timm.create_model("test_resnet", num_classes=0).eval()
    return net


class Pack:
    """Four times the images, as an embedding reads them."""

    array = np.tile(PIXELS, (4, 1, 1, 1))

    def __len__(self) -> int:
        return 4 * N


def counted(work: Callable[[], object]) -> Counter[str]:
    with pretended_gpu() as counts:
        start = time.process_time()
        work()
        spent = time.process_time() - start
    return whole(counts, spent)


def whole(counts: Counts, spent: float) -> Counter[str]:
    found: Counter[str] = Counter(counts.of)
    found["waits"] = counts.waits
    found["CPU ms"] = 1e3 * (spent - counts.inside)  # type: ignore[assignment]
    found.update(
        {
            f"{kind} {place}": n
            for (kind, place), n in counts.places.items()
            if kind.startswith("waits: ")
        }
    )
    return found


def a_step(short: Callable[[], object], long: Callable[[], object], steps: int) -> dict[str, float]:
    counted(short)  # constants of the device, code that is read for the first time
    less, more = counted(short), counted(long)
    return {name: (more[name] - less[name]) / steps for name in more}


def embedding(precision: str) -> dict[str, float]:
    encoder = replace(encoders.encoder(encoders.EMBEDDED, SIZE), mean=HALF, std=HALF)
    run = lambda n: (
        lambda: list(
            features.forward(
                build(), Pack(), np.arange(n * features.BATCH), encoder, "cuda", precision
            )
        )
    )
    return a_step(run(3), run(7), 4)


def pretraining(method: Any, budget: str = "quick", *, fuse: bool = False) -> dict[str, float]:
    def run(steps: int) -> Callable[[], object]:
        recipe = method.recipes("dermoscopy", budget, N, "imagenet+task")[0]
        hyper = dict(recipe.hyper)
        if "prototypes" in hyper:
            hyper |= {"prototypes": 64, "hidden": 64, **({"queue": 32} if "queue" in hyper else {})}
        views = round(steps * BATCH * recipe.views_an_image(SIZE) + 1)
        recipe = recipe.having(batch=BATCH, accumulate=1, views=views, hyper=hyper)

        def work() -> None:
            with tempfile.TemporaryDirectory() as folder:
                data = (PIXELS, np.arange(N), NAMES, NAMES, None, build, HALF, HALF, SIZE, [recipe])
                pretrain.pretrain(*data, seed=0, folder=Path(folder), device="cuda")

        return work

    before, look = loop.FUSED_FROM, loop._look
    loop.FUSED_FROM, loop._look = 0 if fuse else 10**9, lambda training, step: None
    try:
        return a_step(run(3), run(7), 4)
    finally:
        loop.FUSED_FROM, loop._look = before, look


def fine_tuning() -> dict[str, float]:
    def run(steps: int) -> Callable[[], object]:
        network = Network(build, None, SIZE, HALF, HALF, "dermoscopy", "fp32")
        recipe = replace(MODERN, steps=steps, epochs=0.01, rates=(1e-4,), evaluations=1)

        def work() -> None:
            with tempfile.TemporaryDirectory() as folder:
                given = Train(
                    PIXELS,
                    LABELS,
                    NAMES,
                    "multiclass",
                    3,
                    "cuda",
                    seeds=[0],
                    folders=[Path(folder)],
                    network=network,
                )
                list(finetune.evaluate(given, {"t": PIXELS[:16]}, [np.arange(N)], recipe=recipe))

        return work

    return a_step(run(4), run(8), 4)


def solving(kind: Any) -> dict[str, float]:
    """An evaluation of the linear probe, what lies around it left out."""
    x = RNG.normal(size=(N, 64)).astype(np.float32)
    y = LABELS if kind == "multiclass" else (RNG.random((N, 5)) < 0.3).astype(float)
    return called(
        lbfgs,
        "_advance",
        lambda: list(
            linear.evaluate(
                Train(x, y, NAMES, kind, 3 if kind == "multiclass" else 5, "cuda"),
                {"t": x},
                [np.arange(200)],
            )
        ),
    )


def fusing() -> dict[str, float]:
    """From one batch of a fused head to the next."""
    sources = [RNG.normal(size=(N, d)).astype(np.float32) for d in (40, 64)]
    recipe = FusionRecipe("short", epochs=2, rates=(1e-3,))
    data = (sources, LABELS, NAMES, "multiclass", 3, {"t": sources}, [np.arange(N)], [0])
    return called(
        DrawState,
        "next_batch",
        lambda: list(fit_predict(*data, tokens="none", device="cuda", recipe=recipe)),
        between=True,
    )


def called(
    owner: Any, name: str, work: Callable[[], object], *, between: bool = False
) -> dict[str, float]:
    """The median of what a call of a function asks for; between: from one call to the next."""
    real, found = getattr(owner, name), []
    with pretended_gpu() as counts:
        began = [time.process_time()]

        def noted() -> None:
            found.append(whole(counts, time.process_time() - began[0]))

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if between:
                noted()
            counts.clear()
            began[0] = time.process_time()
            out = real(*args, **kwargs)
            if not between:
                noted()
            return out

        setattr(owner, name, wrapped)
        try:
            work()
        finally:
            setattr(owner, name, real)
    kept = found[2:]
    return {key: float(np.median([one[key] for one in kept])) for one in kept for key in one}


PATHS: dict[str, Callable[[], dict[str, float]]] = {
    "embed, fp32": lambda: embedding("fp32"),
    "embed, bf16": lambda: embedding("bf16"),
    "pretrain simclr": lambda: pretraining(SIMCLR),
    "pretrain simclr, fused": lambda: pretraining(SIMCLR, fuse=True),
    "pretrain simclr, LARS": lambda: pretraining(SIMCLR, "paper"),
    "pretrain swav": lambda: pretraining(SWAV),
    "pretrain swav, fused": lambda: pretraining(SWAV, fuse=True),
    "pretrain dino": lambda: pretraining(DINO),
    "pretrain dino, fused": lambda: pretraining(DINO, fuse=True),
    "fine-tune": fine_tuning,
    "linear, multiclass": lambda: solving("multiclass"),
    "linear, multi-label": lambda: solving("multilabel"),
    "fusion": fusing,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="paths that begin so")
    parser.add_argument("--places", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print("| a step of | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    for name, path in PATHS.items():
        if not name.startswith(asked.only):
            continue
        found = path()
        print(
            f"| {name} | " + " | ".join(f"{found.get(column, 0):.1f}" for column in COLUMNS) + " |",
            flush=True,
        )
        for place, n in sorted(found.items(), key=lambda one: -one[1]):
            if asked.places and place.startswith("waits: ") and " " in place and n > 0.05:
                print(f"    {n:.1f} {place}")


if __name__ == "__main__":
    main()
