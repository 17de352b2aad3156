"""Every block of docs/extending.md is complete: put where the page says, it runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text()

pytestmark = pytest.mark.slow


def extended(place: Path) -> Path:
    """A copy of the package with what the page adds to it."""
    shutil.copytree(ROOT / "medbench", place / "medbench", ignore=shutil.ignore_patterns("*.pyc"))
    blocks = re.findall(
        r"^([^\n]*)`(medbench/\S+\.py)`([^\n]*)\n\n```python\n(.*?)^```", PAGE, re.S | re.M
    )
    assert [file for _, file, _, _ in blocks] == [
        "medbench/tasks/films.py",
        "medbench/tasks/kids_films.py",
        "medbench/methods/mine.py",
        "medbench/methods/rotation.py",
        "medbench/protocols/nearest_mean.py",
        "medbench/stats/metrics.py",
        "medbench/images/corruptions/transforms.py",
        "medbench/images/corruptions/catalogue.py",
    ]
    for where, file, before, code in blocks:
        target = place / file
        if before.startswith(", before"):
            mark = next(
                line
                for line in target.read_text().splitlines()
                if line.startswith(before.split("`")[1])
            )
            target.write_text(target.read_text().replace(mark, f"{code}{mark}", 1))
        elif where.startswith("At the end"):
            target.write_text(f"{target.read_text()}\n\n{code}")
        else:
            assert not target.exists()
            target.write_text(code)
    return place


def films(place: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 24)):
        for i in range(count):
            label = ("normal", "pneumonia")[i % 2]
            file = place / "films" / part / label / f"{part}{i // 4}_{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 160, (40, 40)) + 60 * (i % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(file)


def kids(place: Path) -> None:
    rng = np.random.default_rng(1)
    for i in range(50):
        file = place / "kids" / ("normal", "pneumonia")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 160, (40, 40)).astype(np.uint8)).save(file)


def medbench(
    words: list[str], place: Path, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medbench", *words],
        cwd=place,
        env=env,
        capture_output=True,
        text=True,
    )


def test_the_blocks_of_the_page_make_rows(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    (command,) = re.findall(r"^(medbench run --task films.*)$", PAGE, re.M)
    films(tmp_path / "data")
    (tmp_path / "home" / "weights").mkdir(parents=True)
    net = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    save_file(net.state_dict(), tmp_path / "home" / "weights" / "mine.safetensors")
    words = shlex.split(command.replace("FOLDER", str(tmp_path / "data")))[1:]
    env = {
        **os.environ,
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(extended(tmp_path / "code")),
        "MEDBENCH_CACHE": str(tmp_path / "cache"),
    }
    words += ["--size", "32", "--seeds", "2", "--out", "out"]
    made = medbench(words, tmp_path, env)
    assert made.returncode == 0, made.stdout + made.stderr
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert {row["cell"]["method"] for row in rows} == {"random", "mine", "rotation"}
    assert {row["cell"]["protocol"] for row in rows} == {"nearest-mean"}
    assert {row["cell"]["target"] for row in rows} == {"test", "corrupted-salt-3"}
    for row in rows:
        assert (
            0 <= row["metrics"]["specificity"]["low"] <= row["metrics"]["specificity"]["high"] <= 1
        )
    board = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "specificity" in board and "Quick pretraining (1,000 views)" in board
    assert "Use --pretrain standard." in board, "a method of the table has no paper budget"
    kids(tmp_path / "data")
    for data, lines in (("phantom", 30), (str(tmp_path / "data"), 10)):
        words = [
            "run",
            "--task",
            "kids-films",
            "--data",
            data,
            "--methods",
            "random",
            "--size",
            "32",
        ]
        made = medbench([*words, "--labels", "all", "--out", f"kids-{lines}"], tmp_path, env)
        assert made.returncode == 0, made.stdout + made.stderr
        board = (tmp_path / f"kids-{lines}" / "leaderboard.md").read_text()
        assert f"Scored on {lines} test images" in board
    made = medbench([*words, "--methods", "rotation", "--pretrain", "paper"], tmp_path, env)
    assert made.returncode == 2 and "rotation has no paper budget" in made.stderr
