"""The Python on a model's card, run as it stands, gives what the model gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_export import exported, heads, results, tower, written  # noqa: F401

import medbench as package
from medbench.models.exported import (
    ExportedModel,
    FusedHead,
    Head,
    LinearHead,
    Parts,
    SupportHead,
    write,
)
from medbench.models.exported.own_program import head_program, own_program, program
from medbench.models.exported.tensor_files import put_arrays
from medbench.models.exported.training_vectors import NeighbourHead
from medbench.models.exported.typical import typical_of
from medbench.models.fusion import head as fused
from medbench.stats.temperature import tempered

Command = Callable[..., int]


def ran(code: str, folder: Path) -> dict[str, Any]:
    """The names that a card's Python defines."""
    assert "medbench" not in code
    names: dict[str, Any] = {}
    exec(code.replace('FOLDER = "."', f"FOLDER = {str(folder)!r}"), names)
    return names


def on_the_card(text: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return str(code)


def pictures(folder: Path) -> list[Path]:
    """Files of every kind whose pixels a reader could get otherwise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    few = rng.integers(0, 255, (11, 14, 3)).astype(np.uint8)
    large = Image.fromarray(few).resize((900, 700), Image.Resampling.BICUBIC)
    small, exif = large.resize((150, 120)), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    large.save(folder / "turned.jpg", exif=exif)
    large.save(folder / "large.jpg", quality=70, progressive=True)
    small.save(folder / "small.jpg")
    small.convert("CMYK").save(folder / "cmyk.jpg")
    small.convert("L").save(folder / "grey.jpg")
    small.convert("1").save(folder / "one_bit.png")
    small.convert("P").save(folder / "palette.png", transparency=3)
    seen = small.convert("RGBA")
    seen.putalpha(Image.fromarray(rng.integers(0, 255, (120, 150)).astype(np.uint8)))
    seen.save(folder / "alpha.png")
    seen.convert("LA").save(folder / "grey_alpha.png")
    grey = np.asarray(small.convert("L")).astype(np.uint16)
    Image.fromarray(grey * 16).save(folder / "12_bits.png")
    Image.fromarray(grey * 257).save(folder / "16_bits.png")
    Image.fromarray((grey / 255).astype(np.float32)).save(folder / "0_to_1.tif")
    Image.fromarray(grey.astype(np.int32) - 100).save(folder / "signed.tif")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("crop", ["squash", "center 72", "center 64 floor", "border 70 9,8,7"])
def test_it_gives_the_models_probabilities_of_files_of_every_kind(
    crop: str, tmp_path: Path
) -> None:
    model, files = written(tmp_path / "model", crop=crop), pictures(tmp_path / "images")
    own = package.load(model, "cpu")
    names = ran(program(own.parts), model)
    for file in files:
        np.testing.assert_array_equal(names["pixels"](file), own.decode(file), str(file))
    p = names["probabilities"](names["features"](files))
    np.testing.assert_allclose(p, own.predict_proba(files), atol=1e-6)
    wanted = own.predict_proba(files, calibrated=True)
    np.testing.assert_allclose(names["calibrated"](p), wanted, atol=1e-6)


def variants() -> dict[str, tuple[Head, str]]:
    """Heads of every protocol on frozen features, and kinds of task."""
    rng = np.random.default_rng(2)
    arrays = LinearHead.arrays(heads()["linear"])  # type: ignore[arg-type]
    one = {**arrays, "weight": rng.normal(size=(1, 1, 64)), "bias": rng.normal(size=(1, 1))}
    binary = {**one, "columns": np.arange(1), "base": np.zeros(1)}
    labels = {"weight": rng.normal(size=(2, 1, 64)), "bias": rng.normal(size=(2, 1))}
    several = {**arrays, **labels, "columns": np.array([0, 2]), "base": np.array([0, 0.3, 0])}
    known = np.array([[1, 0, np.nan], [0, 0, 1], [1, 1, 0.0]])
    near = NeighbourHead(rng.normal(size=(3, 64)).astype(np.float32), known, 2, 0.07, 3)
    support: Any = heads()["svm"]
    counts, c = np.array([4, 3, 2]), np.arange(3)
    three = replace(
        support, counts=counts, seen=c, dual=rng.normal(size=(2, 9)), bias=rng.normal(size=3)
    )
    empty: SupportHead = replace(support, vectors=np.zeros((0, 4)))
    return {
        **{name: (head, "multiclass") for name, head in heads().items()},
        "binary": (LinearHead.of(binary, "binary", 2), "binary"),
        "several": (LinearHead.of(several, "multilabel", 3), "multilabel"),
        "near several": (near, "multilabel"),
        "svm of three": (three, "multiclass"),
        "svm of nothing": (empty, "multiclass"),
    }


@pytest.mark.parametrize("name", variants())
def test_each_classifier_stands_there_as_it_scores(name: str, tmp_path: Path) -> None:
    head, kind = variants()[name]
    classes = tuple("abc")[: 2 if kind == "binary" else 3]
    points = {"temperature": 1.7, "held_out_images": 0, "points": {}, "sets": {}}
    parts = Parts((tower(),), head, name, classes, kind, "fp32", points, {})  # type: ignore[arg-type]
    put_arrays(tmp_path / "head.safetensors", head.arrays())
    code = re.sub(r"^net_1 = .*", "", program(parts), flags=re.MULTILINE)
    names = ran(code, tmp_path)
    features = (3 * np.random.default_rng(1).normal(size=(30, 64))).astype(np.float32)
    features[0], features[1] = 0, 1e3
    wanted, _ = head.score(features)
    found = names["probabilities"](features)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    possible = np.array(parts.possible)
    heated = tempered(wanted, 1.7, parts.kind, possible)
    np.testing.assert_allclose(names["calibrated"](found), heated, atol=1e-5)


def test_unlike_stands_there_as_it_is_flagged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = rng.gamma(2, 1, (60, 64)).astype(np.float32)
    typical = typical_of(features, np.arange(60))
    assert typical is not None
    own = package.load(written(tmp_path / "own"), "cpu").parts
    parts = replace(own, typical=typical)
    (tmp_path / "model").mkdir()
    write(tmp_path / "model", parts, "")
    asked = np.concatenate([rng.gamma(2, 1, (20, 64)), rng.normal(size=(20, 64))])
    found = ran(program(parts), tmp_path / "model")["unlike"](asked.astype(np.float32))
    np.testing.assert_array_equal(found, typical.unlike(asked.astype(np.float32)))
    assert 0 < found.sum() < len(asked)


def fused_head() -> FusedHead:
    scaled = (np.ones(128, np.float32), np.ones(2), 2.0)
    return FusedHead(fused((64, 64), 2).eval(), *scaled, np.ones(2, bool), np.zeros(2), False)


def test_a_fusions_own_classifier_is_left_to_medbench() -> None:
    names, points, towers = ("a", "b"), {"temperature": None}, (tower(), tower("pool"))
    parts = Parts(towers, fused_head(), "dvme", names, "binary", "fp32", points, {})
    assert head_program(parts) == ""
    assert "is a network of its own" in "\n".join(own_program(parts, onnx=False))


def test_the_card_of_an_export_holds_it(
    folder: Path,
    results: Path,  # noqa: F811
    medbench: Command,
) -> None:
    picked = ("--only", "method=supervised", "--only", "protocol=linear")
    assert exported(medbench, folder, *picked) == 0
    names = ran(on_the_card(Path("model/README.md").read_text()), Path("model").absolute())
    files = sorted((folder / "test").rglob("*.png"))
    own: ExportedModel = package.load("model", "cpu")
    features = names["features"](files)
    # it normalises in another order, and a head of few images is steep
    np.testing.assert_allclose(
        names["probabilities"](features), own.predict_proba(files), atol=1e-4
    )
    pixels = np.stack([own.decode(file) for file in files])
    np.testing.assert_array_equal(names["unlike"](features), own.answer(pixels).unlike)
