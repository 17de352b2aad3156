"""One ONNX file scores as the folder does, resizes by itself, and needs neither torch nor timm."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_export import answers, exported, heads, named, results, written  # noqa: F401

import medbench as package
from medbench import UserError
from medbench.images.cropping import square
from medbench.images.squeezing import squeeze
from medbench.models.exported import onnx_file, onnx_model
from medbench.models.exported.onnx_resize import resize
from medbench.run import model_folder

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
Command = Callable[..., int]
WITHOUT_TORCH = """
import sys
for name in ("torch", "timm", "sklearn", "torchvision", "scipy", "pandas", "requests", "platformdirs", "pydicom"):
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


@pytest.mark.parametrize("name", [*heads(), "several", "fusion"])
def test_every_head_is_the_same_as_a_graph(name: str) -> None:
    """What torch writes as ONNX, in torch: also features far outside, and votes that are equal."""
    from medbench.models.exported import FusedHead, LayerHead, NeighbourHead
    from medbench.models.exported.onnx_heads import scoring_head
    from medbench.models.fusion import head as fused

    rng, kind = np.random.default_rng(1), "multiclass"
    if name == "several":
        kind, labels = "multilabel", np.array([[1, 0, np.nan], [0, 0, 1], [1, 1, 0.0]])
        head = NeighbourHead(rng.normal(size=(3, 64)).astype(np.float32), labels, 2, 0.07, 3)
    elif name == "fusion":
        torch.manual_seed(0)
        scaled = (np.ones(64, np.float32), np.array([0.5, 2.0]), 2.0)
        of = (np.array([True, False, True]), np.zeros(3), False)
        head = FusedHead(fused((40, 24), 3).eval(), *scaled, *of)
        head = FusedHead.of(head.arrays(), kind, 3)
    else:
        head = heads()[name]
    features = (3 * rng.normal(size=(30, 64))).astype(np.float32)
    features[0], features[1] = 0, 1e4
    wanted, decisions = head.score(features)
    with torch.inference_mode():
        found = scoring_head(head, kind, 3)(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert ((wanted > 0).any(0) <= head.possible).all()
    if kind == "multiclass":
        np.testing.assert_array_equal(found.argmax(1), decisions)
    if name == "layer":
        several = LayerHead(head.weight, head.bias, True)
        with torch.inference_mode():
            found = scoring_head(several, "multilabel", 3)(torch.from_numpy(features)).numpy()
        np.testing.assert_allclose(found, several.score(features)[0], atol=1e-6)


@pytest.mark.parametrize(
    "crop", ["squash 40 floor", "center 37", "center 40 floor", "border 32 9,8,7"]
)
def test_the_crop_is_inside(crop: str) -> None:
    """Pictures of any shape become the squares of a pack; those of the model's own size stay."""
    import onnxruntime

    graph = resize("pixels", (32, "bicubic", crop), 8)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    noise = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    for shape in ((61, 40), (40, 62), (33, 97), (50, 50), (20, 27), (32, 32)):
        picture = Image.fromarray(noise).resize(shape, Image.Resampling.BICUBIC)
        (found,) = session.run(None, {"pixels": np.asarray(picture)[None]})
        wanted = picture if shape == (32, 32) else square(picture, 32, "bicubic", crop)
        off = np.abs(found[0].transpose(1, 2, 0) - np.asarray(wanted, float))
        assert off.max() <= 2 and off.mean() < 0.3, (shape, off.max())


@pytest.mark.parametrize(
    "head", [pytest.param(name, marks=[pytest.mark.slow] * (name != "svm")) for name in heads()]
)
def test_it_predicts_without_torch(head: str, tmp_path: Path) -> None:
    model = written(tmp_path / "model", onnx=True, head=head)
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
) -> None:
    assert (
        exported(
            medbench, folder, "--only", "method=supervised", "--only", "protocol=linear", "--onnx"
        )
        == 0
    )
    card = Path("model/README.md").read_text()
    assert "from 18 whole files, which it resizes itself" in card and " --onnx" in card
    session: Any = package.load("model", runtime="onnx").session  # type: ignore[attr-defined]
    kinds = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
    for what, found in (("input", session.get_inputs()), ("output", session.get_outputs())):
        said = re.findall(rf"^- {what} `(\w+)`: (\w+) \(N, (.*?)\)", card, re.MULTILINE)
        assert [(one.name, kinds[one.type], len(one.shape) - 1) for one in found] == [
            (name, kind, shape.count(",") + 1) for name, kind, shape in said
        ]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["logreg", "knn", "svm"])
def test_export_measures_that_of_every_protocol(
    protocol: str,
    folder: Path,
    results: Path,  # noqa: F811
    medbench: Command,
) -> None:
    picked = ("--only", "method=supervised", "--only", f"protocol={protocol}")
    more = ("--onnx", "--include-training-vectors")
    assert exported(medbench, folder, *picked, *more) == 0
    own, other = package.load("model", "cpu"), package.load("model", runtime="onnx")
    files = sorted((folder / "test").rglob("*.png"))
    np.testing.assert_allclose(other.predict_proba(files), own.predict_proba(files), atol=1e-4)


def test_weights_that_one_file_does_not_hold_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(onnx_file.MOST, "model.onnx", onnx_file.ROOM)
    with pytest.raises(UserError, match=r"take 0.0 GiB, more than one ONNX file holds"):
        written(tmp_path / "model", onnx=True)


def two_classes(folder: Path, head: str) -> Path:
    """Of two classes, which are as probable for every image."""
    from test_export import tower

    from medbench.models.exported import LinearHead, NeighbourHead, Parts, write

    nothing = {"weight": np.zeros((1, 1, 64)), "bias": np.zeros((1, 1)), "base": np.zeros(1)}
    nothing |= {"mean": np.zeros(64), "scale": np.ones(64), "limit": np.full(1, 9.0)}
    made = (
        LinearHead.of({**nothing, "columns": np.zeros(1, int)}, "binary", 2)
        if head == "linear"
        else NeighbourHead(np.ones((2, 64), np.float32), np.array([0, 1]), 2, 0.07, 2)
    )
    points: dict[str, Any] = {"temperature": None, "held_out_images": 0, "points": {}, "sets": {}}
    seen = {"target": "t", "images": 0, "groups": 0, "calibration": {}, "classes": {}}
    folder.mkdir()
    of = (made, head, ("a", "b"), "binary", "fp32", points, {**seen, "auc": [None] * 3})
    write(folder, Parts((tower(),), *of), "", onnx=True)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize(("head", "decided"), [("linear", 1), ("knn", 0)])
def test_a_tie_is_decided_as_the_head_does(
    head: str, decided: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = two_classes(tmp_path / "model", head)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3)).astype(np.uint8)
    for runtime in ("torch", "onnx"):
        found, own = package.load(folder, "cpu", runtime).score(pixels)
        assert (found == 0.5).all() and own.tolist() == [decided] * 3, runtime
    monkeypatch.setattr(model_folder, "_first_pixels", lambda *_: pixels)
    monkeypatch.setattr(model_folder, "_shown", lambda *_: [])
    made: Any = None
    assert model_folder._tried_onnx(made, folder).images == 3
    monkeypatch.setattr(onnx_model, "decided", lambda *_: np.full(3, 1 - decided))
    with pytest.raises(UserError, match="decides 3 of 3 images otherwise than the model"):
        model_folder._tried_onnx(made, folder)


def test_the_exporters_table_is_left_as_it_was(tmp_path: Path) -> None:
    import warnings

    class Resize(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            how: Any = {"mode": "bicubic", "antialias": True}
            return torch.nn.functional.interpolate(x, (8, 8), **how)

    def write() -> None:
        given: Any = (Resize(), (torch.zeros(1, 3, 16, 16),), str(tmp_path / "a.onnx"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(*given, opset_version=onnx_file.OPSET, dynamo=False)

    with onnx_file._resizing():
        write()
    # torch keeps the name, with no function under it
    with pytest.raises((torch.onnx.errors.UnsupportedOperatorError, ValueError)):
        write()
