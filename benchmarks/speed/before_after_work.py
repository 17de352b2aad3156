"""What `before_after.py` times, and the features and images that it needs."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parents[2]
PHANTOM = ["run", "--task", "derm", "--data", "phantom"]
ONE_THREAD = {
    f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "VECLIB_MAXIMUM", "NUMEXPR")
}
PEER = "scikit-learn"
SHARES = (0.01, 0.1, 1)


class Failed(Exception):
    """What one version cannot do."""


class Took(NamedTuple):
    """CPU seconds of one measurement, the clock's, and what else it found, by name."""

    seconds: float
    clock: float
    more: Mapping[str, float | None]


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

    def part(self, name: str, *given: str) -> Took:
        """Take what a part of the work says of itself."""
        script = HERE / "benchmarks" / "speed" / "before_after_parts.py"
        began = time.perf_counter()
        found = json.loads(self._done([str(script), name, *given]).splitlines()[-1])
        seconds = found.pop("seconds")
        return Took(seconds, found.pop("clock", time.perf_counter() - began), found)

    def command(self, *arguments: str, code: int = 0) -> Took:
        """Take the user + system time of one command that ends with `code`."""
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        self._done(["-m", "medbench", *arguments], code)
        after, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Took(seconds, clock, {})

    def _done(self, arguments: list[str], code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.code,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        if done.returncode != code:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["nothing"]
            raise Failed(f"{self.name} ended with {done.returncode}: {last[0][:200]}")
        return done.stdout


def replace_cache(version: Version, cache: Path) -> Version:
    """Return the version with another cache."""
    new = Version(version.name, version.code, version.scratch.parent)
    new.environment = {**version.environment, "MEDBENCH_CACHE": str(cache)}
    return new


@dataclass(frozen=True)
class Line:
    """What is timed, of either version, as one line of the table.

    compiles: a whole process, whose first run compiles and makes rows, and is not timed. peer: how
    scikit-learn does the same; None: it does not. rounds: at most so many. images: of an audit.
    """

    name: str
    measure: Callable[[Version], Took]
    compiles: bool = False
    peer: Callable[[Version], Took] | None = None
    rounds: int = 99
    images: int = 0


def drawn_features(n: int, columns: int, classes: int, seed: int) -> dict[str, np.ndarray]:
    """Draw features with a spectrum as a network's: the k-th direction has a share of k ** -1."""
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
    """Draw about `count` images, one a group, at least six of each class that has as many."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    _, first = np.unique(groups[order], return_index=True)
    order = order[np.sort(first)]
    least = [order[labels[order] == c][:6] for c in np.unique(labels)]
    rest = np.setdiff1d(order[: max(count, 1)], np.concatenate(least), assume_unique=True)
    left = max(count - sum(map(len, least)), 0)
    return np.sort(np.concatenate([*least, rng.permutation(rest)[:left]]))


class Work:
    """All lines, and the files that they need, which are made when they are asked for."""

    def __init__(self, scratch: Path, quick: bool, wide: str | None, narrow: str | None):
        self.scratch, self.quick = scratch, quick
        self.given = {"wide": wide, "narrow": narrow}
        n = 300 if quick else 5000
        drawn = {"wide": (96, 7, 0), "narrow": (48, 2, 1)}
        if not quick:
            drawn = {"wide": (1280, 7, 0), "narrow": (512, 2, 1)}
        self.features = {
            width: self._features(file, n, *drawn[width]) for width, file in self.given.items()
        }

    def _features(
        self, file: str | None, n: int, columns: int, classes: int, seed: int
    ) -> dict[str, np.ndarray]:
        if file is None:
            return drawn_features(n, columns, classes, seed)
        with np.load(file) as stored:
            return {name: stored[name] for name in ("features", "labels", "groups", "images")}

    def lines(self) -> Iterator[Line]:
        """Yield the lines in the order of the table, the short ones of a kind first."""
        for width in self.features:
            n, columns = self.features[width]["features"].shape
            for share in SHARES:
                name = f"probe {width}, {share:.0%} of {n:,} x {columns:,}"
                yield self._part(name, "linear", width, share, 1, peer=True)
        for share, count in ((0.01, 20), (0.1, 10)):
            name = f"many draws: {count} of {share:.0%}, wide"
            yield self._part(name, "linear", "wide", share, count)
        for share in SHARES:
            yield self._part(f"knn {share:.0%}, wide", "knn", "wide", share, 1)
        count = 1 if self.quick else 2
        yield self._part(f"fusion: {count} head(s) of 10%", "fusion", "wide", 0.1, count)
        count = 40 if self.quick else 1000
        yield Line(
            f"pack {count:,} photographs", lambda v: v.part("pack", str(self._photographs(count)))
        )
        yield from self._commands()

    def _commands(self) -> Iterator[Line]:
        yield Line("a name that is none", lambda v: v.command(*self._wrong(), code=2), True)
        yield Line("nothing to do", lambda v: v.command(*self._again(), str(v.out)), True)
        yield Line("compare --all", lambda v: v.command("compare", "results/derm", "--all"), True)
        for n in (60, 180) if self.quick else (700, 2100):
            yield Line(
                f"audit of {n:,} images",
                lambda v, n=n: v.command("audit", f"folder:{self._noise(n)}"),  # type: ignore[misc]
                True,
                images=n,
            )
        few = {"size": 32, "methods": ["random", "supervised"], "labels": ["5/class"]}
        grid = {"tasks": ["derm"], "data": "phantom", "labels": ["1", "10", "100"]}
        whole = json.dumps({**grid, **(few if self.quick else {})})
        yield Line("first command, whole", lambda v: self._first(v, whole), rounds=1)

    def _first(self, version: Version, grid: str) -> Took:
        """Take the README's first command, in a folder and with a cache that are new."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            new = replace_cache(version, Path(folder, "cache"))
            return new.part("first", folder, grid)

    def _wrong(self) -> list[str]:
        return ["run", "--task", "drem"]

    def _again(self) -> list[str]:
        seeds, weights, labels = ("2", "2", "5/class") if self.quick else ("10", "8", "5/class,100")
        return [
            *(*PHANTOM, "--size", "32", "--methods", "random,supervised"),
            *("--pretrain-seeds", weights, "--protocols", "linear,knn"),
            *("--labels", labels, "--seeds", seeds, "--out"),
        ]

    def _part(
        self, name: str, part: str, width: str, share: float, count: int, peer: bool = False
    ) -> Line:
        def measure(part: str) -> Callable[[Version], Took]:
            return lambda v: v.part(part, str(self._draws(width, share, count)))

        return Line(name, measure(part), peer=measure(PEER) if peer else None)

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
            named = {f"draw{i:03d}": index for i, index in enumerate(draws)}
            with tempfile.TemporaryDirectory(dir=self.scratch) as place:
                np.savez(Path(place, "all.npz"), **data, **named)
                Path(place, "all.npz").rename(file)
        return file

    def _photographs(self, count: int) -> Path:
        """Draw JPEGs of 600 x 450 with some detail."""
        return self._made(self.scratch / f"photographs{count}", count, (450, 600), "jpg")

    def _noise(self, count: int) -> Path:
        return self._made(self.scratch / f"noise{count}", count, (48, 48), "png")

    def _made(self, folder: Path, count: int, shape: tuple[int, int], kind: str) -> Path:
        """Draw images, PNGs in two classes' folders, JPEGs in none."""
        from PIL import Image

        if folder.exists():
            return folder
        rng = np.random.default_rng(0)
        with tempfile.TemporaryDirectory(dir=self.scratch) as place:  # what is stopped is none
            for i in range(count):
                inner = Path(place, "all", "" if kind == "jpg" else f"class{i % 2}")
                inner.mkdir(parents=True, exist_ok=True)
                coarse = rng.integers(0, 256, (shape[0] // 6, shape[1] // 6, 3), np.uint8)
                image = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)
                image.save(inner / f"{i:05d}.{kind}")
            return Path(place, "all").rename(folder)
