"""One ONNX file scores as the folder does, resizes by itself, and needs neither torch nor timm."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_export import answers, exported, named, results, written  # noqa: F401

import medbench as package
from medbench import UserError
from medbench.images.packing import squeeze

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
Command = Callable[..., int]
WITHOUT_TORCH = """
import sys
for name in ("torch", "timm", "sklearn", "torchvision"):
    sys.modules[name] = None
from medbench import cli
sys.argv = ["medbench", *sys.argv[1:]]
cli.main()
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return written(tmp_path / "model", onnx=True)


def test_the_same_pixels_have_the_same_probabilities_and_whole_images_nearly(
    model: Path, tmp_path: Path
) -> None:
    own, other = package.load(model, "cpu"), package.load(model, runtime="onnx")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (5, 64, 64, 3)).astype(np.uint8)
    np.testing.assert_allclose(other.predict_proba(pixels), own.predict_proba(pixels), atol=1e-4)
    np.testing.assert_allclose(
        other.predict_proba(pixels, calibrated=True),
        own.predict_proba(pixels, calibrated=True),
        atol=1e-4,
    )
    session = other.session  # type: ignore[attr-defined]
    assert [one.name for one in session.get_outputs()] == [
        "probabilities",
        "calibrated",
        "features",
    ]
    _, calibrated, _ = session.run(None, {"pixels": pixels})
    # its own temperature
    np.testing.assert_allclose(calibrated, own.predict_proba(pixels, calibrated=True), atol=1e-4)
    smooth = Image.fromarray(rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)).resize(
        (240, 170), Image.Resampling.BICUBIC
    )
    smooth.save(tmp_path / "a.png")
    wanted = own.predict_proba([squeeze(tmp_path / "a.png", 64, "bilinear")])
    (whole, *_) = session.run(None, {"pixels": np.asarray(smooth)[None]})
    np.testing.assert_allclose(whole, wanted, atol=5e-3)


def test_it_predicts_without_torch(model: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(3):
        Image.fromarray(
            np.random.default_rng(i).integers(0, 255, (80, 70, 3)).astype(np.uint8)
        ).save(tmp_path / "images" / f"{i}.png")
    command = [
        sys.executable,
        "-c",
        WITHOUT_TORCH,
        "predict",
        str(model),
        str(tmp_path / "images"),
        "--out",
        str(tmp_path / "p.csv"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    found, own = answers(tmp_path / "p.csv"), package.load(model, "cpu")
    for i in range(3):
        wanted = own.predict_proba([tmp_path / "images" / f"{i}.png"])[0]
        np.testing.assert_allclose(
            [float(found[f"{i}.png"][name]) for name in own.classes if name in found[f"{i}.png"]],
            wanted[:2],
            atol=1e-4,
        )


def outside(file: Path) -> None:
    """The weights in another file, which the configuration does not name."""
    import onnx

    onnx.save(
        onnx.load(str(file)),
        str(file),
        save_as_external_data=True,
        location="weights",
        size_threshold=0,
    )
    named(file.parent, file.name)


def test_what_is_no_such_file_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"Unknown runtime .onx.\. Allowed: auto, torch, onnx\. Did you mean .onnx."
    ):
        package.load(model, runtime="onx")
    for name, change, why in (
        ("cut", lambda file: file.write_bytes(file.read_bytes()[:-9]), "its SHA-256 is another"),
        (
            "linked",
            lambda file: file.rename(file.with_name("x")) and file.symlink_to(file.with_name("x")),
            "is a link",
        ),
        ("outside", outside, "refers to a file outside itself"),
        ("gone", lambda file: file.unlink(), "has no model.onnx"),
    ):
        folder = Path(shutil.copytree(model, tmp_path / name))
        change(folder / "model.onnx")
        with pytest.raises(UserError, match=why):
            package.load(folder, runtime="onnx")


def test_export_measures_it_and_says_so_on_the_card(
    folder: Path,
    results: Path,  # noqa: F811
    medbench: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        exported(
            medbench, folder, "--only", "method=supervised", "--only", "protocol=linear", "--onnx"
        )
        == 0
    )
    card = Path("model/README.md").read_text()
    assert "from 18 whole files, which it resizes itself" in card and " --onnx" in card
    assert (
        exported(
            medbench,
            folder,
            "--only",
            "method=random",
            "--only",
            "protocol=logreg",
            "--onnx",
            out="other",
        )
        == 2
    )
    assert "--onnx takes the protocol linear, not logreg" in capsys.readouterr().err
