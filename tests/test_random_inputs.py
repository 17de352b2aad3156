"""Wrong input of every kind, drawn at random: the answer is one line and exit code 2, or what was asked for; never a traceback, never 5,000 characters.

A bounded number in the suite; as many as wanted by `python tests/test_random_inputs.py CASES SEED`, which prints what it found.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.results import study

from medbench import cli
from medbench.models import checkpoints
from medbench.schema import UserError, parsed
from medbench.system import fast_npz
from medbench.tasks.folder import csv_listing

Rng = np.random.Generator
LONGEST = 4000  # characters of an answer
WORDS = [
    "",
    " ",
    "x" * 5000,
    "\x1b[2J",
    "a\nb",
    "../..",
    "-1",
    "0",
    "1e999",
    "NaN",
    "None",
    "%s",
    "é" * 300,
    "=1+1",
    "<b>",
    ",",
    "\ud800",
    "1,2,x",
]
VALUES = [None, 3, -1, 2**70, "x", [], {}, [[]], True, 1e308, "a\x1b[2J", [3], {"a": 3}, "../../x", ""]
READERS = [
    ["table"],
    ["report", "--out", "p.html"],
    ["clinical"],
    ["compare"],
    ["plot", "--kind", "curves,confusion", "--format", "svg", "--out", "figures"],
]
OPTIONS = {
    "run": [
        "--task",
        "--data",
        "--methods",
        "--labels",
        "--protocols",
        "--encoder",
        "--source",
        "--size",
        "--seeds",
        "--on",
        "--precision",
    ],
    "clinical": ["--method", "--labels", "--on", "--by", "--specificity", "--only", "--metric", "--format"],
    "compare": ["--metric", "--margin", "--permutations", "--against", "--only"],
    "table": ["--metric", "--rows", "--cols", "--format", "--spread", "--only"],
    "plot": ["--kind", "--metric", "--format", "--width", "--only"],
}


class Wrong(AssertionError):
    """What no input may lead to."""


def pick(rng: Rng, among: Any) -> Any:
    return among[int(rng.integers(len(among)))]


def called(*arguments: str) -> None:
    """Raises Wrong for a traceback, another exit code than 0 and 2, and an answer that is long or that a terminal obeys."""
    errors, output, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["medbench", *arguments]
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
            cli.main()
        code: Any = 0
    except SystemExit as ending:
        code = ending.code or 0
    except BaseException as error:
        raise Wrong(f"{[one[:60] for one in arguments]}: {''.join(traceback.format_exception(error))[-600:]}") from error
    finally:
        sys.argv = before
    said = errors.getvalue()
    lines = [line for line in said.splitlines() if line.startswith("medbench: ")]
    own = "Usage: " not in said  # else it is typer's, of an option that is no number
    if code not in (0, 2) or "\x1b" in said + output.getvalue() or (own and code == 2 and (len(lines) != 1 or len(said) > LONGEST)):
        raise Wrong(f"{[one[:60] for one in arguments]}: exit {code}, {len(said)} characters: {said[:300]}")


def an_option(rng: Rng, base: Path, work: Path) -> None:
    command = pick(rng, list(OPTIONS))
    folder = ["--plan"] if command == "run" else [str(base)]
    called(command, *folder, *(["--data", "/none"] if command == "run" else []), pick(rng, OPTIONS[command]), pick(rng, WORDS[:-2]))


def a_json_field(rng: Rng, base: Path, work: Path) -> None:
    shutil.copytree(base, work / "results")
    file = work / "results" / pick(rng, ["rows.jsonl", "plan.json"])
    first, *others = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
    record = parsed(first)
    parent, key = pick(rng, list(places(record)))
    parent[key] = pick(rng, VALUES)
    file.write_text("\n".join([json.dumps(record), *others, ""]))
    command, *more = pick(rng, READERS)
    called(command, str(work / "results"), *more)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each place of a record that can be replaced: its container and key."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ():
        yield value, key
        yield from places(inner)


def an_array(rng: Rng, base: Path, work: Path) -> None:
    shutil.copytree(base, work / "results")
    file = pick(rng, sorted((work / "results").glob("*/*.npz")))
    arrays = fast_npz.whole(file)
    name = pick(rng, list(arrays))
    array = arrays.pop(name)
    changes: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda a: a[:-1],
        lambda a: a[:0],
        lambda a: a.reshape(-1, 1),
        lambda a: a.astype(str),
        lambda a: np.array(3),
        lambda a: a + 7 if a.dtype.kind in "iuf" else a[::-1],
        lambda a: a.astype(complex) if a.dtype.kind in "iuf" else a,
        lambda a: np.full(a.shape, np.nan),
    ]
    np.savez(file, **arrays, **({name: pick(rng, changes)(array)} if rng.random() < 0.9 else {}))
    command, *more = pick(rng, READERS)
    called(command, str(work / "results"), *more)


def a_csv_cell(rng: Rng, base: Path, work: Path) -> None:
    rows = [["path", "label", "group", "split"], *([f"{i}.png", "ab"[i % 2], str(i // 2), "train"] for i in range(4))]
    for _ in range(int(rng.integers(1, 4))):
        pick(rng, rows)[int(rng.integers(4))] = pick(rng, WORDS)
    for i in range(4):
        (work / f"{i}.png").write_bytes(b"x")
    mark = pick(rng, [",", ";", "\t"])
    text = "\n".join(mark.join(row) for row in rows)
    (work / "list.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    read(lambda: csv_listing.read_csv(work / "list.csv"))


def a_checkpoint(rng: Rng, base: Path, work: Path) -> None:
    """A byte of the file, or an entry of it."""
    state: dict[Any, Any] = {"a.weight": torch.zeros(3, 3), "b.bias": torch.zeros(3)}
    wrapped = {pick(rng, ["model", "state_dict", "x", 3]): state, **({"n": pick(rng, VALUES)} if rng.random() < 0.5 else {})}
    if rng.random() < 0.5:
        state[pick(rng, ["c", 3, None, "x" * 5000])] = pick(rng, [torch.zeros(2).to("meta"), torch.zeros(2).to_sparse(), *VALUES])
    torch.save(wrapped, work / "a.pth")
    content = bytearray((work / "a.pth").read_bytes())
    if rng.random() < 0.5:
        content[int(rng.integers(len(content)))] ^= int(rng.integers(1, 256))
    (work / "a.pth").write_bytes(content[: int(rng.integers(len(content)))] if rng.random() < 0.2 else content)
    read(lambda: checkpoints.state_dict(work / "a.pth"))


def read(reader: Callable[[], object]) -> None:
    try:
        reader()
    except UserError as error:
        if len(str(error)) > LONGEST or not str(error).isprintable():
            raise Wrong(f"{reader}: {str(error)[:300]}") from error
    except Exception as error:
        raise Wrong("".join(traceback.format_exception(error))[-600:]) from error


KINDS = {"option": an_option, "JSON field": a_json_field, "array": an_array, "CSV cell": a_csv_cell, "checkpoint": a_checkpoint}


def tried(kind: str, seed: int, base: Path) -> None:
    """One case, in a folder of its own."""
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
        KINDS[kind](np.random.default_rng(seed), base, Path(work))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("base") / "results").folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "cases"), [("option", 20), ("JSON field", 6), ("array", 6), ("CSV cell", 40), ("checkpoint", 40)])
def test_wrong_input_is_one_line(kind: str, cases: int, base: Path) -> None:
    for seed in range(cases):
        tried(kind, seed, base)


if __name__ == "__main__":
    wanted, first = (int(text) for text in (*sys.argv[1:], "0")[:2])
    os.environ.setdefault("MEDBENCH_CACHE", tempfile.mkdtemp())
    with tempfile.TemporaryDirectory() as place:
        whole = study(Path(place) / "results").folder
        for number in range(first, first + wanted):
            name = list(KINDS)[number % len(KINDS)]
            try:
                tried(name, number, whole)
            except Wrong as wrong:
                print(f"{name} {number}: {re.sub(chr(10), ' | ', str(wrong))}")
