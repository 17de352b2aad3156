"""What `predict` and `predict_proba` are given: the right numbers, or one clear line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_bad_input import refused  # noqa: F401
from test_export import answering, answers, written

import medbench as package
from medbench import UserError
from medbench.models.exported import ExportedModel, prediction
from medbench.models.exported.listing import Listed
from medbench.schema import DiskError
from medbench.system.locks import passing

Refused = Callable[..., str]
Command = Callable[..., int]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    return package.load(written(tmp_path_factory.mktemp("a") / "model"), "cpu")


def image(file: Path, seed: int = 0, size: tuple[int, int] = (700, 500)) -> Path:
    few = np.random.default_rng(seed).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    Image.fromarray(few).resize(size, Image.Resampling.BICUBIC).save(file)
    return file


def test_paths_bytes_and_decoded_pixels_are_the_same_image(
    model: ExportedModel, tmp_path: Path
) -> None:
    file = image(tmp_path / "a.jpg")
    given = [file, str(file), file.read_bytes(), model.decode(file)]
    found = model.predict_proba(given)
    assert (found == found[0]).all() and found.shape == (4, 3)
    np.testing.assert_array_equal(model.predict_proba(iter(given)), found)
    assert model.predict_proba([]).shape == (0, 3)
    with pytest.raises(UserError, match=r"^the given bytes: it is not an image"):
        model.predict_proba([b"nothing that is an image"])


PIXELS = np.zeros((64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([Image.new("RGB", (64, 64))], r"was given PIL\.Image\.Image, which is not an image file"),
        ([PIXELS / 255], r"ndarray of 64x64x3 float64"),
        ([PIXELS.astype(np.int64)], r"ndarray of 64x64x3 int64"),
        ([PIXELS[:32]], r"ndarray of 32x64x3 uint8"),
        ([PIXELS[..., 0]], r"ndarray of 64x64 uint8"),
        ([PIXELS.transpose(2, 0, 1)], r"ndarray of 3x64x64 uint8"),
        ([np.zeros((64, 64, 4), np.uint8)], r"ndarray of 64x64x4 uint8"),
        (PIXELS, r"ndarray of 64x3 uint8"),
        (torch.zeros(1, 3, 64, 64), r"Tensor of 3x64x64 torch\.float32"),
        ([(PIXELS, PIXELS)], r"64x64x3 uint8 and ndarray"),
        ([PIXELS, None], r"given NoneType"),
        (["gone.png", PIXELS], r"gone\.png cannot be read: No such file"),
        ("a.png", r"takes a list of images, and was given a single one"),
        (Path("a.png"), r"takes a list of images, and was given a single one"),
        (None, r"takes a list of images, and was given NoneType"),
    ],
)
def test_what_would_give_wrong_numbers_is_refused(
    model: ExportedModel, given: Any, why: str
) -> None:
    with pytest.raises(UserError, match=why) as told:
        model.predict_proba(given)
    assert "\n" not in str(told.value)


def test_files_that_are_no_images_are_counted_by_kind_and_named(
    tmp_path: Path,
    medbench: Command,
    capsys: pytest.CaptureFixture[str],
    refused: Refused,  # noqa: F811
) -> None:
    written(Path("model"))
    images = Path("images")
    (images / "in").mkdir(parents=True)
    image(images / "a.png")
    for name in ("b.gif", "in/c.gif", "notes.txt", "Thumbs.db", ".hidden", "scan"):
        (images / name).write_bytes(b"GIF89a")
    assert medbench("predict", "model", "images", "--out", "p.csv", "--device", "cpu") == 0
    assert (
        "4 files are passed over, no images by name: 2 .gif, 1 .txt, 1 no suffix; first b.gif\n"
        in capsys.readouterr().err
    )
    assert list(answers(Path("p.csv"))) == ["a.png"]
    (images / "a.png").unlink()
    line = refused("predict", "model", "images", "--out", "q.csv")
    assert line.startswith("images names no image (4 files are passed over, no images by name: 2 .")


def test_predictions_that_are_there_are_not_overwritten(
    tmp_path: Path,
    medbench: Command,
    refused: Refused,  # noqa: F811
) -> None:
    written(Path("model"))
    Path("images").mkdir()
    image(Path("images/a.png"))
    asked = ("predict", "model", "images", "--out", "p.csv", "--device", "cpu")
    Path("p.csv").write_text("mine")
    assert (
        refused(*asked)
        == "p.csv is there already. Next: --overwrite, or another file: --out predictions-2.csv"
    )
    assert Path("p.csv").read_text() == "mine"
    assert medbench(*asked, "--overwrite") == 0
    assert list(answers(Path("p.csv"))) == ["a.png"]


def test_a_folder_that_may_not_be_written_is_told_before_the_work(
    refused: Refused,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("images").mkdir()
    image(Path("images/a.png"))
    Path("closed").mkdir()
    allowed = os.access  # root may write everywhere
    monkeypatch.setattr(
        os, "access", lambda place, how: Path(place).name != "closed" and allowed(place, how)
    )
    line = refused("predict", "model", "images", "--out", "closed/p.csv")
    assert "closed: Permission denied" in line
    line = refused("predict", "model", "images", "--out", "images/a.png/p.csv")
    assert "a.png: Not a directory" in line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("predict model twice.csv --out p.csv", "twice.csv has two columns 'path'."),
        ("validate model label.csv", "label.csv has two columns 'label'."),
        ("validate model gone.csv", "None of the 1 images can be read: gone.png cannot be read"),
        ("validate model one.csv", "All images are of one group: no interval can be had."),
        ("validate model one.csv --margin nan", "A margin lies between 0 and 1; given nan."),
        ("predict model images --out p.csv --at sensitivity", "This model has no operating point"),
        ("predict model images --out p.csv --coverage nan", "This model has no sets of classes"),
        ("predict model images --out p.csv --runtime onnx", "model has no model.onnx."),
        ("predict model pipe --out p.csv", "pipe is neither a folder of images nor a CSV file."),
        ("predict model images --out pipe", "pipe is not a file, beside which a killed prediction"),
        ("export runs --out m --sensitivity 1.2", "A sensitivity lies between 0 and 1, both exclu"),
        (
            "compare runs --with more.csv",
            "more.csv, line 202: id 'x' is not among the 200 scored i",
        ),
        ("compare runs --with images", "--with images is not a file."),
        ("clinical runs --prevalence nan", "A prevalence lies between 0 and 1, both excluded;"),
        ("clinical runs --prevalence maybe=0.1", "--prevalence 'maybe=0.1' names no class."),
        ("clinical model --prevalence 0.1", "model is not a results folder: it has no plan.json."),
    ],
)
def test_what_is_wrong_is_one_line(
    words: str,
    line: str,
    refused: Refused,  # noqa: F811
) -> None:
    written(Path("model"))
    answering(Path("runs"), {"one": (0.2, 1.0)})
    Path("images").mkdir()
    image(Path("images/a.png"))
    os.mkfifo("pipe")
    Path("twice.csv").write_text("path,path\nimages/a.png,images/a.png\n")
    Path("label.csv").write_text("path,Label,label\nimages/a.png,a,b\n")
    Path("gone.csv").write_text("path,label\ngone.png,a\n")
    Path("one.csv").write_text("path,label\nimages/a.png,a\n")
    ids = [*map(str, range(200)), "x"]
    Path("more.csv").write_text("id,no,yes\n" + "".join(f"{name},0.5,0.5\n" for name in ids))
    assert refused(*words.split()).startswith(line)


def test_an_unfinished_prediction_of_something_else_is_not_thrown_away(
    medbench: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(prediction, "BATCH", 2)
    (tmp_path / "images").mkdir()
    for i in range(5):
        image(tmp_path / "images" / f"{i}.png", i, (40, 30))
    model = str(written(tmp_path / "model"))
    words = ("predict", model, str(tmp_path / "images"), "--out", "p.csv", "--device", "cpu")
    whole, calls = prediction._of_batch, []

    def killed(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(prediction, "_of_batch", killed)
    assert medbench(*words) == 130
    before = Path("p.csv.unfinished").read_bytes()
    assert medbench(*words, "--calibrated") == 2
    line = "p.csv.unfinished is of another prediction, which was interrupted"
    assert line in capsys.readouterr().err
    assert Path("p.csv.unfinished").read_bytes() == before
    assert medbench(*words, "--calibrated", "--overwrite") == 0
    assert len(answers(Path("p.csv"))) == 5 and not Path("p.csv.unfinished").exists()


def test_what_was_written_while_a_prediction_waited_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = written(tmp_path / "model"), tmp_path / "p.csv"
    images = [Listed("a", image(tmp_path / "a.png"))]

    @contextmanager
    def waited(file: Path) -> Iterator[None]:
        out.write_text("of who had the lock")
        yield

    monkeypatch.setattr(prediction.locks, "passing", waited)
    with pytest.raises(UserError, match="is there already"):
        prediction.predict(package.load(folder, "cpu"), folder, images, out)
    assert out.read_text() == "of who had the lock"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that takes no file")
def test_a_lock_that_cannot_be_made_is_not_waited_for() -> None:
    with (
        pytest.raises(DiskError, match=r"/proc takes no new file"),
        passing(Path("/proc/p.csv.lock")),
    ):
        pass
