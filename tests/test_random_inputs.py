"""Wrong input of every kind, drawn by `hypothesis`.

The answer is one line and exit code 2, or what was asked for; never a traceback or a hang.

Few and always the same in the suite; as many as wanted by `python tests/test_random_inputs.py CASES
SEED`, which prints what it found.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest
from fakes.wrong_input import COMMANDS, KINDS, OPTIONS, Wrong, make_good
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from medbench.system.download import http

#: Cases of each kind in the suite: ten seconds in all.
CASES = {
    "option": 30,
    "JSON field": 10,
    "array": 10,
    "CSV cell": 25,
    "checkpoint entry": 40,
    "byte": 80,
}
QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def tried(kind: str, data: st.DataObject, good: Path) -> None:
    """One case, deep in a folder of its own: `../..` stays in it."""
    with (
        tempfile.TemporaryDirectory() as place,
        warnings.catch_warnings(),
        pytest.MonkeyPatch.context() as patch,
    ):
        warnings.simplefilter("ignore")  # of decoders and of torch, about what they were given
        work = Path(place, "a", "b", "c")
        work.mkdir(parents=True)
        patch.setenv("HOME", place)
        for name in (
            "http_proxy",
            "https_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
        ):  # nobody listens there: what a word asks for is not downloaded
            patch.setenv(name, "http://127.0.0.1:9")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(http, "WAIT", 0.0)
        with contextlib.chdir(work):
            KINDS[kind](data.draw, good, work)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_good(tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_input_is_one_line(kind: str, good: Path) -> None:
    @settings(
        max_examples=CASES[kind], derandomize=True, phases=(Phase.generate, Phase.shrink), **QUIET
    )
    @given(st.data())
    def each(data: st.DataObject) -> None:
        tried(kind, data, good)

    each()


def test_every_option_of_every_command_is_drawn() -> None:
    assert set(COMMANDS) <= set(OPTIONS) and sum(map(len, OPTIONS.values())) > 150


def found(kind: str, cases: int, first: int, good: Path) -> Counter[str]:
    """What went wrong in so many cases, each with how often it did."""
    faults: Counter[str] = Counter()

    @seed(first)
    @settings(max_examples=cases, phases=(Phase.generate,), **QUIET)
    @given(st.data())
    def each(data: st.DataObject) -> None:
        try:
            tried(kind, data, good)
        except Wrong as wrong:
            faults[str(wrong)] += 1

    each()
    return faults


if __name__ == "__main__":
    cases, first = (int(text) for text in (*sys.argv[1:], "100", "0")[:2])
    os.environ["MEDBENCH_CACHE"] = tempfile.mkdtemp()
    os.environ["NO_COLOR"] = "1"
    with tempfile.TemporaryDirectory() as place:
        whole = make_good(Path(place))
        for kind in KINDS:
            start = time.process_time()
            faults = found(kind, cases, first, whole)
            print(
                f"{kind}: {cases} cases, {sum(faults.values())} wrong, {time.process_time() - start:.0f} s",
                flush=True,
            )
            for said, n in faults.most_common():
                print(f"  {n} x {said}", flush=True)
