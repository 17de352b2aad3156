"""What one step of each path asks of a GPU, counted on a pretended one, and of the CPU, measured.

Waits of the host, kernels, copies, bytes; before a change and after it. Needs no GPU.

    PYTHONPATH=. python benchmarks/speed/gpu_counts.py --out benchmarks/speed/gpu_counts.txt
    PYTHONPATH=. python benchmarks/speed/gpu_counts.py --only fusion --places    # by line of medbench

Each path is measured in a process of its own, by the code here and by that of the commit before
(--before), which is cloned into a temporary folder; the file is rewritten after each.

The counts are those of a mean step, the first two left out, which make constants of the device.

What a loop no longer waits for must not move to the CPU instead. So the same steps are made on the
CPU, without any pretending, by both versions in turn; shown are CPU seconds of all threads, from
one step to the next, medians, and their ratio. A small network and small images leave the most to
what surrounds them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
#: The commit before the loops stopped waiting.
BEFORE = "9061dfd"
HALF = (0.5, 0.5, 0.5)
SIZE, N, BATCH = 32, 256, 16
WARM, STEPS = 2, 5
COLUMNS = {
    "waits": "waits",
    "kernels": "kernels",
    "kernels in float64": "of them float64",
    "copies to the GPU": "copies to the GPU",
    "copies to the CPU": "copies to the CPU",
    "bytes to the GPU": "bytes to the GPU",
    "bytes to the CPU": "bytes to the CPU",
}
Found = dict[str, float]


# -- one path in one version, in a process of its own
# --------------------------------------------------------------------------------------------------


class Paths:
    """What the child process measures: imports are those of the version that PYTHONPATH names."""

    def __init__(self) -> None:
        import numpy as np
        import torch

        torch.set_num_threads(1)
        spec = importlib.util.spec_from_file_location(
            "pretended_gpu", HERE / "tests/fakes/pretended_gpu.py"
        )
        assert spec is not None and spec.loader is not None
        self.fake = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.fake)
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 255, (N, SIZE, SIZE, 3), np.uint8)
        self.names = np.arange(N).astype(str)
        self.labels = rng.integers(0, 3, N)
        self.rng = rng

    @staticmethod
    def build() -> Any:
        import timm
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return timm.create_model("test_resnet", num_classes=0).eval()

    # each: what is done on a device, and whose calls are its steps

    def embedding(self, precision: str) -> Found:
        import numpy as np

        from medbench.models import encoders, features

        class Pack:
            array = np.tile(self.pixels, (8, 1, 1, 1))

            def __len__(self) -> int:
                return 8 * N

        encoder = replace(encoders.encoder(encoders.EMBEDDED, SIZE), mean=HALF, std=HALF)
        count = Steps()
        with self.fake.pretended_gpu() as counts:
            wanted = np.arange(8 * N)
            for _ in features.forward(self.build(), Pack(), wanted, encoder, "cuda", precision):
                count.step(counts)
        return count.mean(WARM, 8)  # before the last ones, for which nothing more is read ahead

    def pretraining(
        self, name: str, device: str, steps: int, budget: str = "quick", *, fuse: bool = False
    ) -> Steps:
        import importlib

        import numpy as np

        from medbench.models import pretrain
        from medbench.models.pretrain import loop

        method = getattr(importlib.import_module(f"medbench.methods.{name}"), name.upper())
        recipe = method.recipes("dermoscopy", budget, N, "imagenet+task")[0]
        hyper = dict(recipe.hyper)
        if "prototypes" in hyper:
            hyper |= {"prototypes": 64, "hidden": 64, **({"queue": 32} if "queue" in hyper else {})}
        views = round(steps * BATCH * recipe.views_an_image(SIZE) + 1)
        recipe = recipe.having(batch=BATCH, accumulate=1, views=views, hyper=hyper)
        index = np.arange(N)
        data = (self.pixels, index, self.names, self.names, None, self.build, HALF, HALF, SIZE)
        self.without_looks(loop)
        loop.FUSED_FROM = 0 if fuse else 10**9  # type: ignore[misc]
        with tempfile.TemporaryDirectory() as folder, self.stepping(loop, "_step", device) as seen:
            pretrain.pretrain(*data, [recipe], seed=0, folder=Path(folder), device=device)
        return seen

    @staticmethod
    def without_looks(loop: Any) -> None:
        """They are a twentieth of a job, not of a step. In the commit before they stood in the loop."""
        where, name = (loop.looks, "look") if hasattr(loop, "looks") else (loop, "_look")
        setattr(where, name, lambda training, step: None)

    def resumed(self) -> Steps:
        """Killed after the 20th step, where a GPU keeps a checkpoint, and gone on with."""
        import numpy as np

        from medbench.methods.simclr import SIMCLR
        from medbench.models import pretrain
        from medbench.models.pretrain import checkpointing, loop

        steps = 21 + WARM + STEPS
        recipe = SIMCLR.recipes("dermoscopy", "quick", N, "imagenet+task")[0]
        views = round(steps * BATCH * recipe.views_an_image(SIZE) + 1)
        recipe = recipe.having(batch=BATCH, accumulate=1, views=views)
        index = np.arange(N)
        data = (self.pixels, index, self.names, self.names, None, self.build, HALF, HALF, SIZE)
        self.without_looks(loop)
        checkpointing.CheckpointWriter.due = lambda self: True  # type: ignore[method-assign]
        real = loop._step

        def killed(training: Any, step: int, *given: Any) -> Any:
            if step == 21:
                raise KeyboardInterrupt
            return real(training, step, *given)

        with tempfile.TemporaryDirectory() as folder:
            again = lambda: pretrain.pretrain(
                *data, [recipe], seed=0, folder=Path(folder), device="cuda"
            )
            loop._step = killed
            try:
                with self.fake.pretended_gpu():
                    again()
            except KeyboardInterrupt:
                loop._step = real
            with self.stepping(loop, "_step", "cuda") as seen:
                again()
        return seen

    def fine_tuning(self, device: str, steps: int, memory: int = 140 << 30) -> Steps:
        import numpy as np

        from medbench.models.finetune import MODERN, loop
        from medbench.protocols import finetune
        from medbench.schema import Network, Train

        network = Network(self.build, None, SIZE, HALF, HALF, "dermoscopy", "fp32")
        recipe = replace(MODERN, steps=steps, epochs=0.01, rates=(1e-4,), evaluations=1)
        with (
            tempfile.TemporaryDirectory() as folder,
            self.stepping(loop.FineTuning, "_step", device, memory) as seen,
        ):
            more = {"seeds": [0], "folders": [Path(folder)], "network": network}
            given = Train(self.pixels, self.labels, self.names, "multiclass", 3, device, **more)
            list(finetune.evaluate(given, {"t": self.pixels[:16]}, [np.arange(N)], recipe=recipe))
        return seen

    def solving(self, kind: Any) -> Steps:
        """An iteration of the linear probe's solver, what lies around it left out."""
        import numpy as np

        from medbench.models.logistic import fitting, lbfgs, search
        from medbench.protocols import linear
        from medbench.schema import Train

        x = self.rng.normal(size=(N, 64)).astype(np.float32)
        many = (self.rng.random((N, 5)) < 0.3).astype(float)
        y, c = (self.labels, 3) if kind == "multiclass" else (many, 5)
        with self.stepping(lbfgs, "_advance", "cuda", most=64) as seen:
            for owner in (fitting, search):
                owner.solve = seen.apart(lbfgs.solve)
            given = Train(x, y, self.names, kind, c, "cuda")
            list(linear.evaluate(given, {"t": x}, [np.arange(200)]))
        return seen

    def neighbours(self) -> Found:
        """A call: k chosen among 4,096 labelled images, 1,024 others scored."""
        import numpy as np

        from medbench.protocols import knn
        from medbench.schema import Train

        n = 16 * N
        x = self.rng.normal(size=(n, 64)).astype(np.float32)
        given = Train(
            x, self.rng.integers(0, 3, n), np.arange(n).astype(str), "multiclass", 3, "cuda"
        )
        count = Steps()
        with self.fake.pretended_gpu() as counts:
            for _ in range(2):
                count.step(counts)
                list(knn.knn(given, {"t": x[: n // 4]}, [np.arange(n)]))
            count.step(counts)
        return count.mean(1, 2)

    def fusing(self) -> Steps:
        """From one batch of a fused head to the next."""
        import numpy as np

        from medbench.models.fusion import FusionRecipe, fit_predict
        from medbench.models.fusion.draw_state import DrawState

        sources = [self.rng.normal(size=(N, d)).astype(np.float32) for d in (40, 64)]
        recipe = FusionRecipe("short", epochs=2, rates=(1e-3,))
        data = (
            sources,
            self.labels,
            self.names,
            "multiclass",
            3,
            {"t": sources},
            [np.arange(N)],
            [0],
        )
        with self.stepping(DrawState, "next_batch", "cuda", most=LONG) as seen:
            list(fit_predict(*data, tokens="none", device="cuda", recipe=recipe))
        return seen

    @contextmanager
    def stepping(
        self, owner: Any, name: str, device: str, memory: int = 140 << 30, most: int = 1000
    ) -> Iterator[Steps]:
        """Notes what lies between two calls of a function, on a pretended GPU or on the CPU.

        most: calls, after which the work is left.
        """
        real, seen = getattr(owner, name), Steps()

        def noted(*args: Any, **kwargs: Any) -> Any:
            seen.step(counts)
            if len(seen.spent) > most:
                raise Enough
            return real(*args, **kwargs)

        setattr(owner, name, noted)
        counts: Any = None
        try:
            if device == "cpu":
                yield seen
            else:
                with self.fake.pretended_gpu(memory) as counts:
                    yield seen
        except Enough:
            pass
        finally:
            setattr(owner, name, real)


class Enough(Exception):
    """Steps have been seen."""


class Steps:
    """What was asked of a GPU, and spent by the CPU, until each step."""

    def __init__(self) -> None:
        self.all: list[Counter[str]] = []
        self.spent: list[float] = []
        self.left_out: set[int] = set()

    def step(self, counts: Any) -> None:
        self.spent.append(1e3 * time.process_time())
        if counts is None:
            return
        now: Counter[str] = Counter(counts.of)
        now["waits"] = counts.waits
        for (kind, place), n in counts.places.items():
            if kind.startswith("waits: "):
                now[f"{kind} {place}"] = n
        self.all.append(now)

    def apart(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What lies between the last step of one call and the first of the next is no step."""

        def called(*args: Any, **kwargs: Any) -> Any:
            self.left_out.add(len(self.all) - 1)
            return function(*args, **kwargs)

        return called

    def mean(self, first: int, last: int | None = None) -> Found:
        """From the step with this number on."""
        whole: Counter[str] = Counter()
        steps = [i for i in range(first, last or len(self.all) - 1) if i not in self.left_out]
        for i in steps:
            whole.update(self.all[i + 1])
            whole.subtract(self.all[i])
        return {name: n / len(steps) for name, n in whole.items() if n}

    def milliseconds(self) -> list[float]:
        """CPU time of each step, those that warm up left out."""
        return [b - a for a, b in zip(self.spent[WARM:], self.spent[WARM + 1 :], strict=False)]


LONG = WARM + STEPS + 1
COUNTED: dict[str, Callable[[Paths], Found]] = {
    "embed, fp32": lambda on: on.embedding("fp32"),
    "embed, bf16": lambda on: on.embedding("bf16"),
    "pretrain simclr": lambda on: on.pretraining("simclr", "cuda", LONG).mean(WARM),
    "pretrain simclr, fused": lambda on: on.pretraining("simclr", "cuda", LONG, fuse=True).mean(
        WARM
    ),
    "pretrain simclr, LARS": lambda on: on.pretraining("simclr", "cuda", LONG, "paper").mean(WARM),
    "pretrain simclr, resumed": lambda on: on.resumed().mean(WARM),
    "pretrain swav": lambda on: on.pretraining("swav", "cuda", LONG).mean(WARM),
    "pretrain swav, fused": lambda on: on.pretraining("swav", "cuda", LONG, fuse=True).mean(WARM),
    "pretrain dino": lambda on: on.pretraining("dino", "cuda", LONG).mean(WARM),
    "pretrain dino, fused": lambda on: on.pretraining("dino", "cuda", LONG, fuse=True).mean(WARM),
    "fine-tune": lambda on: on.fine_tuning("cuda", LONG).mean(WARM),
    "fine-tune, pixels read": lambda on: on.fine_tuning("cuda", LONG, memory=1).mean(WARM),
    "linear, multiclass": lambda on: on.solving("multiclass").mean(WARM),
    "linear, multi-label": lambda on: on.solving("multilabel").mean(WARM),
    "knn, a call": lambda on: on.neighbours(),
    "fusion": lambda on: on.fusing().mean(WARM),
}
TIMED: dict[str, Callable[[Paths], Steps]] = {
    "pretrain simclr": lambda on: on.pretraining("simclr", "cpu", 14),
    "pretrain swav": lambda on: on.pretraining("swav", "cpu", 10),
    "pretrain dino": lambda on: on.pretraining("dino", "cpu", 10),
    "fine-tune": lambda on: on.fine_tuning("cpu", 20),
}


def child(asked: argparse.Namespace) -> None:
    """--one: the counts of a path. --serve: CPU times of its steps, again for each line that comes."""
    warnings.simplefilter("ignore")
    on = Paths()
    if asked.one:
        print(json.dumps(COUNTED[asked.one](on)))
        return
    for _ in sys.stdin:
        print(json.dumps(TIMED[asked.serve](on).milliseconds()), flush=True)


# -- both versions
# --------------------------------------------------------------------------------------------------


class Table:
    """What has been found so far, on the terminal and in a file, which keeps the rows of earlier
    calls."""

    HEAD = """Made by benchmarks/speed/gpu_counts.py on a pretended GPU. Nothing here was run on a real one.
before: {before}; after: the code that this file lies beside. -: the pretended GPU cannot run it.
"""
    TIMES = """
CPU ms a step on a CPU, without any pretending: one thread, medians, the versions by turns.
"""

    def __init__(self, out: Path | None, before: str):
        self.out, self.before = out, before
        self.rows: dict[str, str] = {}
        if out is not None and out.exists():
            for line in out.read_text().splitlines():
                if line.startswith("| ") and not line.startswith("| a step"):
                    self.rows[self.key(line)] = line

    @staticmethod
    def key(line: str) -> str:
        """Path and version; of a time the path alone."""
        name, when = (cell.strip() for cell in line.split("|")[1:3])
        return f"{name} | {when}" if when in ("before", "after") else name

    def say(self, line: str) -> None:
        print(line, flush=True)
        self.rows[self.key(line)] = line
        if self.out is not None:
            self.out.write_text(self.text())

    def text(self) -> str:
        counted = [f"{name} | {when}" for name in COUNTED for when in ("before", "after")]
        columns = " | ".join(COLUMNS.values())
        parts = (
            (
                self.HEAD.format(before=self.before),
                counted,
                f"| a step of | | {columns} |",
                "|---|---|" + "---:|" * len(COLUMNS),
            ),
            (
                self.TIMES,
                list(TIMED),
                "| a step of | before | after | after / before | rounds |",
                "|---|---:|---:|---:|---|",
            ),
        )
        lines = []
        for head, names, *title in parts:
            found = [self.rows[name] for name in names if name in self.rows]
            lines += [head, *title, *found] if found else []
        return "\n".join(lines) + "\n"


def command(*given: str) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), *given]


def surroundings(code: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}


def count(code: Path, name: str) -> Found | None:
    """None where this version does not know the path."""
    given = command("--one", name)
    done = subprocess.run(given, env=surroundings(code), capture_output=True, text=True)
    if done.returncode:
        print(f"{name} in {code.name}: {done.stderr.strip()[-600:]}", file=sys.stderr)
        return None
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def shown(found: Found | None) -> list[str]:
    if found is None:
        return ["-"] * len(COLUMNS)
    return [
        f"{round(found.get(name, 0.0), 2) + 0.0:,.2f}".rstrip("0").rstrip(".") for name in COLUMNS
    ]


def counts_of(table: Table, versions: dict[str, Path], asked: argparse.Namespace) -> None:
    for name in COUNTED:
        if not name.startswith(asked.only):
            continue
        for when, code in versions.items():
            if when == "before" and "fused" in name:  # there were no fused kernels
                continue
            found = count(code, name)
            table.say(f"| {name} | {when} | " + " | ".join(shown(found)) + " |")
            for place, n in sorted((found or {}).items(), key=lambda one: -one[1]):
                if asked.places and place.startswith("waits: ") and " " in place[7:] and n > 0.05:
                    print(f"    {n:.1f} {place}")


def times_of(table: Table, versions: dict[str, Path], asked: argparse.Namespace) -> None:
    """By turns, so that what else the machine does falls on both alike."""
    for name in TIMED:
        if not name.startswith(asked.only):
            continue
        each = [
            subprocess.Popen(
                command("--serve", name),
                env=surroundings(code),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for code in versions.values()
        ]
        took: list[list[float]] = [[] for _ in each]
        for turn in range(asked.rounds + 1):
            order = list(enumerate(each))
            for i, process in order if turn % 2 else order[::-1]:
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write("go\n")
                process.stdin.flush()
                took[i].append(statistics.median(json.loads(process.stdout.readline())))
        for process in each:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
        took = [one[1:] for one in took]  # the first compiles, and reads code
        before, after = (statistics.median(one) for one in took)
        ratios = sorted(b / a for a, b in zip(*took, strict=True))
        table.say(
            f"| {name} | {before:.1f} | {after:.1f} | {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", default=BEFORE, help="the commit to compare with")
    parser.add_argument("--only", default="", help="paths that begin so")
    parser.add_argument("--parts", default="counts,times")
    parser.add_argument("--places", action="store_true", help="the line of each wait")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one or asked.serve:
        child(asked)
        return
    git = lambda *given: subprocess.run(
        ["git", "-C", str(HERE), *given], check=True, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as temporary:
        old = Path(temporary) / "before"
        git("worktree", "add", "--detach", str(old), asked.before)
        try:
            table = Table(asked.out, asked.before)
            versions = {"before": old, "after": HERE}
            parts = {"counts": counts_of, "times": times_of}
            for part in asked.parts.split(","):
                parts[part](table, versions, asked)
        finally:
            git("worktree", "remove", "--force", str(old))


if __name__ == "__main__":
    main()
