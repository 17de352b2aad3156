"""Images of a single colour: an audit names them, and the tables of a run are marked."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medbench.audit.dataset.blank_images import blank

RNG = np.random.default_rng(0)


def jpeg(pixels: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=60)
    return np.asarray(Image.open(stream))


def flat(*colour: int) -> np.ndarray:
    return np.full((112, 112, 3), colour, np.uint8)


def changed(pixels: np.ndarray, rows: slice, value: int) -> np.ndarray:
    pixels[rows, : rows.stop - rows.start] = value
    return pixels


NOISE = RNG.integers(0, 256, (112, 112, 3), dtype=np.uint8)
ONE_COLOUR = {
    "black": flat(0),
    "white": flat(255),
    "a colour": flat(200, 30, 90),
    "a JPEG of a colour": jpeg(flat(137, 66, 201)),
    "a stray pixel": changed(flat(0), slice(50, 51), 255),
    "noise of a level": flat(90) + RNG.integers(0, 2, (112, 112, 1), dtype=np.uint8),
}
PICTURES = {
    "noise": NOISE,
    "a mark on black": changed(flat(0), slice(40, 60), 255),
    "a faint gradient": np.repeat(
        np.repeat(np.linspace(100, 110, 112).astype(np.uint8)[:, None, None], 112, 1), 3, 2
    ),
    "two halves": changed(flat(10), slice(0, 56), 20),
    "a dark picture": NOISE // 25,
    "one channel": np.dstack([NOISE[:, :, 0], np.zeros((112, 112, 2), np.uint8)]),
}


def test_images_of_one_colour_are_told_from_pictures() -> None:
    pack = np.stack([*ONE_COLOUR.values(), *PICTURES.values()])
    assert blank(pack).tolist() == list(range(len(ONE_COLOUR)))
    assert blank(pack[::-1]).tolist() == list(range(len(PICTURES), len(pack)))
    assert blank(pack[len(ONE_COLOUR) :]).tolist() == []


def test_every_block_is_looked_at() -> None:
    pack = RNG.integers(0, 256, (600, 8, 8, 3), dtype=np.uint8)
    pack[[0, 255, 256, 599]] = 7
    assert blank(pack).tolist() == [0, 255, 256, 599]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 12 training and 6 test images of noise.

    Two training images and a test image of class b show nothing.
    """
    root = tmp_path / "mine"
    for part, n in (("train", 12), ("test", 6)):
        for label in "ab":
            place = root / part / label
            place.mkdir(parents=True)
            for i in range(n):
                Image.fromarray(RNG.integers(0, 256, (40, 40), dtype=np.uint8)).save(
                    place / f"{i}.png"
                )
    black = Image.fromarray(RNG.integers(0, 256, (40, 40), dtype=np.uint8), "L").convert("P")
    black.putpalette(bytes(768))
    black.save(root / "train" / "b" / "0.png")
    Image.new("RGB", (40, 40), (9, 120, 80)).save(root / "train" / "b" / "1.png")
    Image.new("L", (40, 40), 77).save(root / "test" / "b" / "2.png")
    return root


SENTENCE = "3 of 36 images are of a single colour (train 2, test 1, b 3)"


def test_an_audit_names_them(
    folder: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    medbench("audit", f"folder:{folder}", "--fast", "--json", str(report))
    assert f"LOOK  {SENTENCE}" in capsys.readouterr().out
    (found,) = (
        one
        for one in json.loads(report.read_text())["findings"]
        if one["check"] == "images of a single colour"
    )
    assert (found["count"], found["examples"]) == (
        3,
        ["train/b/0.png", "train/b/1.png", "test/b/2.png"],
    )


def test_every_table_of_a_run_is_marked(
    folder: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = (
        "run",
        "--task",
        f"folder:{folder}",
        "--methods",
        "supervised",
        "--protocols",
        "knn",
        "--labels",
        "100",
        "--size",
        "32",
    )
    assert medbench(*asked, "--out", str(tmp_path / "out")) == 0
    assert f"BLANK: {SENTENCE}" in " ".join(capsys.readouterr().out.split())
    assert f"BLANK: {SENTENCE}" in (tmp_path / "out" / "leaderboard.md").read_text()
    assert medbench(*asked, "--out", str(tmp_path / "plain"), "--no-audit") == 0
    fingerprints = [
        [
            json.loads(line)["fingerprint"]
            for line in (tmp_path / name / "rows.jsonl").read_text().splitlines()
        ]
        for name in ("out", "plain")
    ]
    assert fingerprints[0] == fingerprints[1], "a mark makes no row another"


def test_a_folder_of_pictures_has_no_mark(
    folder: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (
        folder / "train" / "b" / "0.png",
        folder / "train" / "b" / "1.png",
        folder / "test" / "b" / "2.png",
    ):
        file.unlink()
    medbench("audit", f"folder:{folder}", "--fast")
    assert "single colour" not in capsys.readouterr().out
