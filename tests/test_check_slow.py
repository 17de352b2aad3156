"""The smoke study, full size, against its committed reference: unchanged it stays green with any number of threads, with an error planted not.

Run with: pytest -m slow tests/test_check_slow.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medbench import registry, sampling
from medbench.probe import fitting
from medbench.spec import PARTS, Split

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
CHECK = ("check", str(ROOT / "benchmarks" / "smoke.py"), "--against", str(ROOT / "results" / "smoke" / "rows.jsonl"), "--explain")


@pytest.mark.parametrize("run", range(10))
def test_an_unchanged_run_stays_green(run: int, tmp_path: Path) -> None:
    threads = str((1, 2, 3, 4, 6)[run % 5])
    own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MEDBENCH_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "medbench", *CHECK], capture_output=True, text=True, env={**os.environ, **own})
    print(f"{threads} threads: {done.stdout}")
    assert done.returncode == 0, done.stdout


def test_a_probe_that_forgets_to_standardise(
    medbench: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def plain(features: Any, constant: float) -> Any:
        x = features.double()
        return x, x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])

    monkeypatch.setattr(fitting, "_standardise", plain)
    assert medbench(*CHECK) == 1
    printed = capsys.readouterr().out
    assert re.findall(r"^([a-z]+): \d+ cells, as derm", printed, re.M) == ["probe"]
    assert not re.search(r"│ derm [a-z]+ (knn|svm) ", printed), "the other protocols stay as they were"


def by_image() -> dict[str, Split]:
    """The phantom of derm as it would be if an image were taken for a lesion."""
    parts = registry.task("derm").phantom()  # type: ignore[misc]
    splits = list(parts.values())
    ids, labels, bags = (np.concatenate([getattr(split, name) for split in splits]) for name in ("ids", "labels", "bags"))
    meta = {name: np.concatenate([split.meta[name] for split in splits]) for name in splits[0].meta}
    whole = Split([image for split in splits for image in split.images], ids, labels, ids, bags, meta)
    part = sampling.partition(labels, ids, (0.7, 0.1, 0.2), key="by image")
    return {name: whole.take(np.flatnonzero(part == p)) for p, name in enumerate(PARTS)}


def test_a_split_by_image(medbench: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    torn = by_image()
    monkeypatch.setitem(registry.tasks(), "derm", replace(registry.task("derm"), phantom=lambda: torn))
    assert medbench(*CHECK) == 1
    printed = capsys.readouterr().out
    assert "30 not comparable" in printed
    assert "split: 30 cells" in printed
