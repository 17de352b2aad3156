"""CPU seconds before a change and after it, by turns: parts of the work, and whole commands.

    uv run python benchmarks/speed/before_after.py [--base fe542a5] [--rounds 3] [--quick]
    uv run python benchmarks/speed/before_after.py --only 'probe wide,fusion' --wide FILE.npz --narrow FILE.npz

The commit is checked out as a git worktree in a temporary folder; the code beside this script is
what it is compared with. One thread each. The two take turns, so that what else the machine does
falls on both alike; each runs commands once to compile and to make rows. Shown are medians of user
+ system time, their ratio (before / after), the ratios of single rounds, and how busy the cores
were: on a busy machine only the ratio says something.

What is timed (`--only`: those whose name begins with one of these words):

- probe: the linear probe on wide (1,280) and narrow (512, binary) features, one draw of 1, 10 and
  100 % of the pool; `many`: twenty draws of 1 %, ten of 10 %. In both versions every draw is
  divided into folds, and has at least six images of each class.
- knn: the three budgets; fusion: two DVME heads (quick: one) on two halves of the wide features.
- pack: photographs of 600 x 450 to 64 px.
- audit: the whole command over a folder, and the exponent between a third of it and all of it.
- nothing: a run of drawn images that finds all its rows (328; quick 28). compare: every pair of
  each version's own results/derm.
- first: the whole first command of the README (quick: with two methods at 32 px).

Features are drawn, with a spectrum as a network's, where no --wide or --narrow names a file that
`probe.py --save FILE.npz` has made. Fusion heads and whole commands depend on no speed alone: a
version may train for longer.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parents[2]
PHANTOM = ["run", "--task", "derm", "--data", "phantom"]
ONE_THREAD = {
    f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "VECLIB_MAXIMUM", "NUMEXPR")
}
Measure = Callable[["Version"], float]


class Failed(Exception):
    """What one version cannot do."""


class Version:
    """One version of the code with a cache, bytecode and results of its own."""

    def __init__(self, name: str, code: Path, scratch: Path):
        self.name, self.code, self.scratch = name, code, scratch / name
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        folders = {
            "MEDBENCH_CACHE": self.scratch / "cache",
            "PYTHONPYCACHEPREFIX": self.scratch / "bytecode",
            "PYTHONPATH": code,
        }
        places = {key: str(place) for key, place in folders.items()}
        self.environment = {**kept, **ONE_THREAD, **places}
        self.out = self.scratch / "out"

    def part(self, name: str, file: Path) -> float:
        """Seconds that a part of the work says of itself."""
        script = HERE / "benchmarks" / "speed" / "before_after_parts.py"
        return float(self._done([str(script), name, str(file)]).split()[-1])

    def command(self, *arguments: str) -> float:
        """User + system time of one command."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._done(["-m", "medbench", *arguments])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def _done(self, arguments: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.code,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["nothing"]
            raise Failed(f"{self.name} ended with {done.returncode}: {last[0][:200]}")
        return done.stdout


@dataclass(frozen=True)
class Line:
    """What is timed, of either version, as one line of the table."""

    name: str
    measure: Measure
    command: bool = False  # of a whole process: the first round compiles, and does not count


def drawn_features(n: int, columns: int, classes: int, seed: int) -> dict[str, np.ndarray]:
    """Features with a spectrum as a network's: the k-th direction has a share of k ** -1."""
    rng = np.random.default_rng(seed)
    share = np.arange(1, classes + 1) ** -1.0
    labels = rng.choice(classes, n + n // 5, p=share / share.sum())
    spread = np.sqrt(columns * np.arange(1, columns + 1) ** -1.0 / np.log(columns))
    turn = np.linalg.qr(rng.normal(size=(columns, columns)))[0]
    centres = rng.normal(size=(classes, columns)) * 0.5
    x = ((rng.normal(size=(len(labels), columns)) + centres[labels]) * spread) @ turn
    groups = np.array([f"g{i}" for i in range(n)])
    x = x.astype(np.float32)
    return {"features": x[:n], "labels": labels[:n], "groups": groups, "images": x[n:]}


def draw(labels: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """About `count` images, one a group, at least six of each class that has as many."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    _, first = np.unique(groups[order], return_index=True)
    order = order[np.sort(first)]
    least = [order[labels[order] == c][:6] for c in np.unique(labels)]
    rest = np.setdiff1d(order[: max(count, 1)], np.concatenate(least), assume_unique=True)
    left = max(count - sum(map(len, least)), 0)
    return np.sort(np.concatenate([*least, rng.permutation(rest)[:left]]))


class Work:
    """All lines, and the files that they need."""

    def __init__(self, asked: argparse.Namespace, scratch: Path):
        self.scratch, self.quick = scratch, asked.quick
        n = 300 if asked.quick else 5000
        wide, narrow = (96, 48) if asked.quick else (1280, 512)
        self.features = {
            "wide": self._features(asked.wide, n, wide, 7, 0),
            "narrow": self._features(asked.narrow, n, narrow, 2, 1),
        }

    def _features(
        self, file: str | None, n: int, columns: int, classes: int, seed: int
    ) -> dict[str, np.ndarray]:
        if file is None:
            return drawn_features(n, columns, classes, seed)
        with np.load(file) as stored:
            return {name: stored[name] for name in ("features", "labels", "groups", "images")}

    def lines(self) -> Iterator[Line]:
        for width in ("wide", "narrow"):
            n, columns = self.features[width]["features"].shape
            for share in (0.01, 0.1, 1):
                file = self._draws(width, share, 1)
                name = f"probe {width} {share:.0%} of {n} x {columns}"
                yield self._part(name, "linear", file)
        for share, count in ((0.01, 20), (0.1, 10)):
            file = self._draws("wide", share, count)
            yield self._part(f"many draws, {count} of {share:.0%}, wide", "linear", file)
        for share in (0.01, 0.1, 1):
            yield self._part(f"knn {share:.0%} wide", "knn", self._draws("wide", share, 1))
        heads = self._draws("wide", 0.1, 1 if self.quick else 2)
        yield self._part("fusion heads of 10%", "fusion", heads)
        count = 40 if self.quick else 1000
        yield self._part(f"pack {count} photographs", "pack", self._photographs(count))
        yield from self._commands()

    def _commands(self) -> Iterator[Line]:
        sizes = (60, 180) if self.quick else (700, 2100)
        noise = [self._noise(n) for n in sizes]
        for n, folder in zip(sizes, noise, strict=True):
            task = f"folder:{folder}"
            yield Line(f"audit {n} images", lambda v, t=task: v.command("audit", t), True)  # type: ignore[misc]
        seeds, weights, labels = ("2", "2", "5/class") if self.quick else ("10", "8", "5/class,100")
        again = [
            *(*PHANTOM, "--size", "32", "--methods", "random,supervised"),
            *("--pretrain-seeds", weights, "--protocols", "linear,knn"),
            *("--labels", labels, "--seeds", seeds),
        ]
        yield Line(
            "nothing to do", lambda v: v.command(*again, "--out", str(v.out / "again")), True
        )
        derm = "results/derm"
        yield Line(
            "compare --all of its own results/derm",
            lambda v: v.command("compare", derm, "--all"),
            True,
        )
        few = ["--size", "32", "--methods", "random,supervised", "--labels", "5/class"]
        first = [*PHANTOM, *(few if self.quick else ["--labels", "1,10,100"])]

        def whole(version: Version) -> float:
            with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                return version.command(*first, "--out", folder)

        yield Line("first command, whole", whole)

    def _part(self, name: str, part: str, file: Path) -> Line:
        return Line(name, lambda v: v.part(part, file))

    def _draws(self, width: str, share: float, count: int) -> Path:
        data = self.features[width]
        n = len(data["labels"])
        file = self.scratch / f"{width}-{share}-{count}.npz"
        if not file.exists():
            draws = [
                np.arange(n)
                if share == 1
                else draw(data["labels"], data["groups"], round(share * n), seed)
                for seed in range(count)
            ]
            np.savez(file, **data, **{f"draw{i:03d}": index for i, index in enumerate(draws)})
        return file

    def _photographs(self, count: int) -> Path:
        """JPEGs of 600 x 450 with some detail."""
        return self._made(self.scratch / "photographs", count, (450, 600), "jpg")

    def _noise(self, count: int) -> Path:
        return self._made(self.scratch / f"noise{count}", count, (48, 48), "png")

    def _made(self, folder: Path, count: int, shape: tuple[int, int], kind: str) -> Path:
        """Images in two classes' folders, or none where one kind is packed alone."""
        from PIL import Image

        rng = np.random.default_rng(0)
        for i in range(count):
            place = folder / ("" if kind == "jpg" else f"class{i % 2}")
            place.mkdir(parents=True, exist_ok=True)
            coarse = rng.integers(0, 256, (shape[0] // 6, shape[1] // 6, 3), np.uint8)
            image = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)
            image.save(place / f"{i:05d}.{kind}")
        return folder


def told(line: Line, versions: tuple[Version, Version], rounds: int) -> dict[str, object]:
    """One line of the table, printed as soon as it is known; where a version cannot, why."""
    took: list[list[float]] = []
    try:
        took.extend([line.measure(v) for v in versions] for _ in range(rounds + line.command))
    except Failed as error:
        print(f"{line.name:44s}  {error}", flush=True)
        return {"name": line.name, "failed": str(error)}
    took = took[line.command :]
    before, after = (statistics.median(times) for times in zip(*took, strict=True))
    ratios = sorted(one / max(other, 1e-9) for one, other in took)
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(
        f"{line.name:44s}  {before:8.2f} s  {after:8.2f} s  {before / max(after, 1e-9):6.2f}  ({spread})",
        flush=True,
    )
    return {"name": line.name, "before": before, "after": after, "ratios": ratios}


def growth(found: list[dict[str, object]]) -> None:
    """Of the audit: the exponent between its two sizes."""
    audits = [row for row in found if str(row["name"]).startswith("audit") and "before" in row]
    if len(audits) == 2:
        sizes = [int(str(row["name"]).split()[1]) for row in audits]
        step = math.log(sizes[1] / sizes[0])
        exponents = [
            math.log(audits[1][when] / audits[0][when]) / step  # type: ignore[operator]
            for when in ("before", "after")
        ]
        print(f"audit's growth: n^{exponents[0]:.2f} before, n^{exponents[1]:.2f} after")


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """The worktree of a commit."""
    git("worktree", "add", "-q", "--detach", str(folder), commit)
    try:
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(HERE), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def header(asked: argparse.Namespace) -> None:
    names = [git("rev-parse", "--short", name).strip() for name in (asked.base, "HEAD")]
    busy = os.getloadavg()[0]
    print(f"before: {names[0]}; after: the code at {names[1]} and what is changed since")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, one thread; {busy:.1f} processes wanted one when this began"
    )
    given = [Path(file).name for file in (asked.wide, asked.narrow) if file]
    print(
        f"torch {torch.__version__}, {asked.rounds} round(s) by turns, features {', '.join(given) or 'drawn'}{', quick' if asked.quick else ''}"
    )
    print(f"{'':44s}  {'before':>10s}  {'after':>10s}  {'ratio':>6s}  (single rounds)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="fe542a5", help="the commit before")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="everything small: two minutes")
    parser.add_argument("--only", default="", help="lines that begin so, separated by commas")
    parser.add_argument("--wide", help="features of `probe.py --save`")
    parser.add_argument("--narrow", help="features of `probe.py --save`, binary")
    parser.add_argument("--json", type=Path, help="the numbers as a file")
    asked = parser.parse_args()
    header(asked)
    wanted = tuple(word.strip() for word in asked.only.split(","))
    with (
        tempfile.TemporaryDirectory() as temporary,
        checked_out(asked.base, Path(temporary) / "code") as code,
    ):
        scratch = Path(temporary)
        versions = (Version("before", code, scratch), Version("after", HERE, scratch))
        lines = Work(asked, scratch).lines()
        found = [
            told(line, versions, asked.rounds) for line in lines if line.name.startswith(wanted)
        ]
    growth(found)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
