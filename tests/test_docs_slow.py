"""Every command of README, AGENTS.md and docs runs, in a scratch folder, on phantoms and drawn
images, and made small."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from test_docs import PAGES, ROOT
from typer.testing import CliRunner

from medbench.cli.options import app

pytestmark = pytest.mark.slow

#: What a page leaves to the reader -> what stands for it here.
PLACES = {
    "--data FOLDER": "--data phantom",
    "folder:PATH": "folder:images",
    "...": "--task derm --data phantom",
    "TASK": "derm",
}
#: A command that is too large, or whose input a user brings -> the same with less work.
SMALLER = {
    "runs/derm --with reference": "results/derm-finetune --with reference",
    "--encoder resnet50.tv_in1k --weights mine.pth": "--encoder resnet18 --weights mine.pth --plan",
    "benchmarks/truong2021.py --plan": "benchmarks/smoke.py --plan",
    "--shift isic2019 --corruptions all": "--corruptions blur,noise --levels 1,3",
    "mystudy.py --against reference/mystudy": "mystudy.py --against reference/mystudy --device cpu",
    "--pretrain standard": "--pretrain quick",
}
#: Commands that need what a test has not: a network, other machines, a GPU, files that a user brings.
ELSEWHERE = (
    *("cuda:", "study.py --shard", "merge part1", "mine.pth", "mine.py:net", "features:vectors"),
    *("export runs/mine", "predict model", "theirs.csv", "advise FOLDER", "--hold-out-by"),
    *("--split-by-date", "show endoscopy", "--rows A", "--task films"),  # test_extending_slow
    *("hf:", "hf-hub:", "open_clip:", "data get", "data verify", "--engine", "fetch", "status"),
)
SMALL = ["--methods", "random,supervised", "--size", "32", "--seeds", "2"]


def commands() -> list[tuple[str, str]]:
    """(page, command) of every line of a fenced block that begins with medbench."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.S | re.M):
            lines = (
                line.partition("  #")[0].strip().removeprefix("uv run ")
                for line in block.splitlines()
            )
            found += [(page.name, line) for line in lines if line.startswith("medbench ")]
    return found


def smaller(line: str) -> list[str]:
    for long, short in (PLACES | SMALLER).items():
        line = line.replace(long, short)
    words = shlex.split(line)[1:]
    if words[0] == "run":
        words += [
            word
            for flag, value in zip(SMALL[::2], SMALL[1::2], strict=True)
            if flag not in words
            for word in (flag, value)
        ]
        if "features:vectors.npz" in words or "mine.py:net" in words:
            words.remove("--methods")
            words.remove("random,supervised")
        if "--task" in words and "derm" in words and "--data" not in words:
            words += ["--data", "phantom"]
    return words


def draw(folder: Path, n: int, rng: np.random.Generator, tint: int) -> None:
    folder.mkdir(parents=True)
    for i in range(n):
        pixels = rng.integers(0, 200, (40, 40, 3), dtype=np.uint8)
        pixels[..., 0] += np.uint8(tint)
        PIL.Image.fromarray(pixels).save(folder / f"{i:02d}.png")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with what the pages take for granted."""
    place, rng = tmp_path_factory.mktemp("docs"), np.random.default_rng(0)
    for part, n in (("train", 30), ("val", 8), ("test", 12)):
        for tint, name in ((0, "benign"), (40, "malignant")):
            draw(place / "images" / part / name, n, rng, tint)
    (place / "mine").symlink_to(place / "images")
    shutil.copytree(ROOT / "benchmarks", place / "benchmarks")
    shutil.copytree(ROOT / "results", place / "results")
    (place / "mine.py").write_text(
        "import torch\n\n\ndef net(size=32):\n"
        "    return torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.LazyLinear(8))\n"
    )
    (place / "mystudy.py").write_text(
        '"""A small study."""\n\nfrom medbench import Grid\n\nGRID = Grid(methods=("random",), labels=("10",), seeds=2, size=32, data="phantom")\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("MEDBENCH_CACHE", str(place / "cache"))
        patch.delenv("MEDBENCH_DATA", raising=False)
        for words in (
            smaller(
                "medbench run --task derm --labels 1,10,100 --corruptions blur --levels 1,3 --out runs/derm"
            ),
            smaller("medbench run --task folder:images --labels 12.5,25,50,100 --out runs/mine"),
        ):
            assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
        yield place


def test_pages_show_commands() -> None:
    assert len(commands()) > 40


@pytest.mark.parametrize(
    ("page", "line"),
    [pytest.param(*one, id=f"{one[0]}: {one[1]}") for one in dict.fromkeys(commands())],
)
def test_command(page: str, line: str, scratch: Path) -> None:
    if any(word in line for word in ELSEWHERE):
        pytest.skip("needs a network, other machines, or a file of a user")
    done = CliRunner().invoke(app, smaller(line))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 0, (smaller(line), done.output[-1500:])
