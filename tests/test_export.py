"""A line as a model: it predicts what the row scored, from files, without the data set.

What cannot be one, and what pretends to be one, is refused.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from trees import hub

import medbench as package
from medbench import Store, UserError, Weights, build_encoder, stats
from medbench.images.squeezing import squeeze
from medbench.models import encoders
from medbench.models.exported import (
    ComponentHead,
    Head,
    LayerHead,
    LinearHead,
    Parts,
    Tower,
    listing,
    prediction,
    write,
)
from medbench.models.exported.components import Components
from medbench.models.exported.tensor_files import put_arrays
from medbench.models.exported.training_vectors import NeighbourHead, SupportHead
from medbench.models.hub import vision_tower
from medbench.models.hub.named import weights as named_weights
from medbench.models.power_transform import Power
from medbench.report import card_sections, clinical, compare, leaderboard
from medbench.report.clinical import draw_of
from medbench.report.clinical.operating_points import operating_points as points_of
from medbench.report.model_choice import choose
from medbench.run import refit
from medbench.schema import Cell, Encoder, PlanFile, PlannedCell, Row, fingerprint, parsed
from medbench.stats import metrics
from medbench.system import atomic_write

Command = Callable[..., int]
RUN = (
    "--labels",
    "100",
    "--seeds",
    "2",
    "--size",
    "32",
    "--methods",
    "random,supervised",
    "--device",
    "cpu",
    "--out",
    "runs/mine",
)


@pytest.fixture
def results(folder: Path, medbench: Command) -> Path:
    """`linear` and `logreg` on two encoders, of the images in `folder`."""
    assert (
        medbench("run", "--task", f"folder:{folder}", "--protocols", "linear,logreg,knn,svm", *RUN)
        == 0
    )
    return Path("runs/mine")


def exported(medbench: Command, folder: Path, *more: str, out: str = "model") -> int:
    return medbench(
        "export", "runs/mine", "--task", f"folder:{folder}", "--out", out, "--device", "cpu", *more
    )


def answers(file: Path) -> dict[str, dict[str, str]]:
    with file.open(newline="") as stream:
        return {row["id"]: row for row in csv.DictReader(stream)}


def saved(line: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """The scores of one line's row on the test part, and its scored ids."""
    method, protocol = line.split()
    store = Store("runs/mine")
    (row,) = (
        row
        for row in store.rows().values()
        if (row.cell.method, row.cell.protocol, row.cell.target) == (method, protocol, "test")
    )
    return store.scores(row), store.target(str(row.provenance["target"]))["ids"].tolist()


def test_tensors_are_for_whoever_may_read_other_new_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "umask", None)  # of the whole process
    put_arrays(tmp_path / "head.safetensors", {"a": np.zeros(2)})
    (tmp_path / "other").write_text("")
    modes = {file.stat().st_mode for file in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_model_gives_what_the_row_scored_and_a_killed_prediction_goes_on(
    folder: Path,
    results: Path,
    medbench: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for line in ("supervised linear", "random logreg"):
        method, protocol = line.split()
        assert (
            exported(
                medbench,
                folder,
                "--only",
                f"method={method}",
                "--only",
                f"protocol={protocol}",
                out=line,
            )
            == 0
        )
    scores, ids = saved("supervised linear")
    images = folder / "test"
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    folder = folder.rename(folder.with_name("moved"))  # the data set is not asked again
    images = folder / "test"
    monkeypatch.setattr(prediction, "BATCH", 8)
    original, calls = prediction._of_batch, 0

    def killed(*given: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return original(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(prediction, "_of_batch", killed)
    assert (
        medbench("predict", "supervised linear", str(images), "--out", "p.csv", "--device", "cpu")
        == 130
    )
    assert not Path("p.csv").exists()
    monkeypatch.setattr(prediction, "_of_batch", original)
    with Path("p.csv.unfinished").open("ab") as stream:
        stream.write(b'{"rows": [')  # a kill in the middle of a line
    capsys.readouterr()
    assert (
        medbench("predict", "supervised linear", str(images), "--out", "p.csv", "--device", "cpu")
        == 3
    )
    said = capsys.readouterr()
    assert (
        "18 of 19 images, 8 of them before" in said.out
        and "broken.png has no prediction" in said.err
    )
    found = answers(Path("p.csv"))
    assert found["broken.png"]["decision"] == "" == found["broken.png"]["nv"]
    classes = ("akiec", "mel", "nv")
    wanted = dict(
        zip((name.removeprefix("test/") for name in ids), scores["probabilities"], strict=True)
    )
    assert found.keys() - {"broken.png"} == wanted.keys()
    got = np.array([[float(found[name][c]) for c in classes] for name in wanted])
    # a batch of another size rounds otherwise
    np.testing.assert_allclose(got, np.stack(list(wanted.values())), atol=1e-4)
    model, train = (
        package.load("supervised linear", "cpu"),
        sorted((folder / "train").rglob("*.png")),
    )
    same_batch = model.predict_proba([*train, *(folder / name for name in ids)])[len(train) :]
    np.testing.assert_allclose(same_batch, scores["probabilities"], atol=1e-6)
    assert [found[name]["decision"] for name in wanted] == [classes[c] for c in scores["decisions"]]
    assert not list(Path().glob("p.csv.*"))

    (images / "broken.png").unlink()
    logreg, other = package.load("random logreg", "cpu"), saved("random logreg")[0]
    assert logreg.classes == classes
    same_batch = logreg.predict_proba([*train, *(folder / name for name in ids)])[len(train) :]
    np.testing.assert_allclose(same_batch, other["probabilities"], atol=1e-6)
    Path("list.csv").write_text(
        "id;path\n" + "".join(f"x{i};{folder / name}\n" for i, name in enumerate(ids))
    )
    assert (
        medbench(
            "predict",
            "random logreg",
            "list.csv",
            "--out",
            "q.csv",
            "--at",
            "sensitivity-0.9",
            "--device",
            "cpu",
        )
        == 0
    )
    points = json.loads(Path("random logreg/operating_points.json").read_text())["points"][
        "sensitivity-0.9"
    ]["thresholds"]
    for row in answers(Path("q.csv")).values():
        assert row["decision"] == "|".join(c for c in classes if float(row[c]) >= points[c])
    assert list(answers(Path("q.csv"))) == [f"x{i}" for i in range(len(ids))]


def test_the_folder_is_timms_too_and_its_card_says_what_it_is(
    folder: Path, results: Path, medbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert exported(medbench, folder, "--only", "protocol=linear,knn") == 0
    said = capsys.readouterr().err
    assert (
        "passed over, cannot be exported: random" in said
        and "protocol knn keeps vectors" in said
        and "chosen by held-out AUC among 2 lines" in said
    )
    model = Path("model")
    assert {file.name for file in model.iterdir()} == {
        *(
            "model.safetensors",
            "config.json",
            "head.safetensors",
            "classes.json",
            "operating_points.json",
            "evidence.json",
            "seen.safetensors",
            "typical.safetensors",
            "README.md",
        )
    }
    net = timm.create_model(f"local-dir:{model.absolute()}", pretrained=True).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(net(images), package.load(model, "cpu").parts.towers[0].net(images))
    settings = timm.data.resolve_data_config({}, model=net)
    assert (settings["crop_mode"], list(settings["input_size"]), list(settings["mean"])) == (
        "squash",
        [3, 32, 32],
        [0.5, 0.5, 0.5],
    )
    card = (model / "README.md").read_text()
    for text in (
        "Not a medical device",
        "licence of the data",
        "95 % interval",
        "uses the temperature",
        "medbench export mine --only protocol=linear,knn --task folder:PATH --out model",
        "AUC allowing for the choice",
        "## Calibration",
        "## Whom it serves worse",
        "Not measured: nothing but its own data set was scored",
        "torch 2",
        "AUC",
    ):
        assert text in card, text
    assert (
        card.startswith("---\nlicense:")
        and str(folder.parent) not in card
        and f"{Path.home()}/" not in card
    )
    assert "SELECTION" not in card and "cv_log_loss" not in card and ", the best," not in card
    assert "No subgroups: the run's table has no further columns" in card
    assert exported(medbench, folder) == 2  # is there already
    assert "is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["supervised knn", "random svm"])
def test_what_keeps_training_vectors_is_a_model_where_that_is_said(
    line: str, folder: Path, results: Path, medbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    method, protocol = line.split()
    picked = ("--only", f"method={method}", "--only", f"protocol={protocol}")
    assert exported(medbench, folder, *picked) == 2 and not Path("model").exists()
    assert exported(medbench, folder, *picked, "--include-training-vectors") == 0
    scores, ids = saved(line)
    model, train = package.load("model", "cpu"), sorted((folder / "train").rglob("*.png"))
    same_batch = model.predict_proba([*train, *(folder / name for name in ids)])[len(train) :]
    np.testing.assert_allclose(same_batch, scores["probabilities"], atol=1e-6)
    card = Path("model/README.md").read_text()
    assert "TRAINING VECTORS" in card and "--include-training-vectors" in card


@pytest.mark.parametrize("classes", [2, 4])
def test_support_vectors_decide_as_scikit_learns_do(classes: int) -> None:
    from sklearn.svm import SVC

    rng = np.random.default_rng(classes)
    y = np.repeat(np.arange(classes), 15)
    x = rng.normal(size=(len(y), 5)) + 0.7 * np.eye(classes, 5)[y]
    wanted = SVC(gamma="scale", class_weight="balanced").fit(x, y)
    power = Power(*[np.ones(5), np.zeros(5), np.zeros(5), np.ones(5)])
    transform = Components(np.ones(5, bool), np.full(5, 9.0), 9.0, power, np.zeros(5), np.eye(5))
    solved = x[wanted.support_], wanted.dual_coef_, wanted.intercept_, wanted.n_support_
    head = SupportHead(
        transform, *solved, float(1 / (5 * x.var())), 1.0, np.arange(classes), classes
    )
    again = SupportHead.of(head.arrays(), "multiclass", classes)
    new = rng.normal(size=(40, 5))
    given, found = wanted.decision_function(new), again.decide(new)
    np.testing.assert_allclose(found[:, 1] if classes == 2 else found, given, atol=1e-9)
    with pytest.raises(ValueError, match="counts"):
        SupportHead.of({**head.arrays(), "counts": np.full(classes, 99)}, "multiclass", classes)


def test_what_cannot_be_a_model_is_named(
    folder: Path, results: Path, medbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*more: str) -> str:
        capsys.readouterr()
        assert exported(medbench, folder, *more) == 2 and not Path("model").exists()
        (line,) = (
            line for line in capsys.readouterr().err.splitlines() if line.startswith("medbench: ")
        )
        return line

    assert re.search(
        r"protocol knn keeps vectors.*Allowed: linear, logreg or fine-tuning of timm encoders, fusions too, knn or svm with --include-training-vectors",
        refused("--only", "protocol=knn"),
    )
    assert "has no seed 7" in refused(
        "--seed", "7", "--only", "method=random", "--only", "protocol=linear"
    )
    assert medbench("export", "runs/mine", "--out", "model") == 2
    assert "--task folder:PATH" in capsys.readouterr().err
    for file in (results / "scores").glob("*.npz"):  # what was saved is not what the fit gives
        arrays = dict(np.load(file))
        arrays["probabilities"] = np.roll(arrays["probabilities"], 1, axis=1)
        np.savez(file, **arrays)
    assert "does not give its saved scores again" in refused(
        "--only", "method=random", "--only", "protocol=linear"
    )


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ({"encoder": "features:mine.npz"}, "no network"),
        ({"encoder": "mine.py:net"}, "FILE.py:NAME"),
        ({"method": "concat:dino+given@mine.py:net"}, "FILE.py:NAME"),
        ({"method": "concat:dino+given@hf:a/b"}, "transformers reads"),
        ({"encoder": "open_clip:a/b"}, "run it as hf-hub:OWNER/NAME"),
        ({"encoder": "hf-hub:a/b"}, ""),
        ({"method": "concat:dino+swav"}, ""),
        ({"method": "dvme:dino+swav", "protocol": "finetune-truong2021"}, ""),
        ({"protocol": "finetune"}, ""),
        ({"protocol": "lora"}, ""),
        ({"protocol": "mlp"}, "protocol mlp"),
        ({"protocol": "svm"}, "svm"),
        ({}, ""),
    ],
)
def test_each_line_says_why_it_is_no_model(cell: dict[str, str], why: str) -> None:
    plain = {"method": "supervised", "encoder": "resnet50.tv_in1k", "protocol": "linear", **cell}
    made = Cell(
        "derm",
        "phantom",
        plain["method"],
        "imagenet",
        plain["encoder"],
        "pool",
        64,
        0,
        plain["protocol"],
        "10%",
        0,
    )
    said = refit.why_not(made)
    assert why in said and bool(said) == bool(why)


def tower(readout: str = "cls", size: int = 64, crop: str = "squash") -> Tower:
    """A ViT of a few thousand weights at another size than its own."""
    look = ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2), "bilinear")
    encoder = Encoder("test_vit", "test_vit", "", size, *look, readout, crop=crop)  # type: ignore[arg-type]
    return Tower(encoder, build_encoder(encoder, Weights("drawn", "0", (), None), 0))


def heads() -> dict[str, Head]:
    """One of each kind over the features of `tower`, of three classes of which the last was not
    seen but by `layer` and `linear`."""
    rng, width = np.random.default_rng(0), 64
    linear = {
        "weight": 0.1 * rng.normal(size=(1, 3, width)),
        "bias": rng.normal(size=(1, 3)),
        "mean": np.zeros(width),
        "scale": np.ones(width),
        "limit": np.full(1, 9.0),
        "columns": np.arange(3),
        "base": np.zeros(3),
    }
    kept = np.arange(10)
    signs = np.array([0, 0, 0, 1, 1, 1, -1, -1, 0, 0.0])  # of training images
    power = Power(np.linspace(-1, 3, 10), 0.3 * signs, rng.normal(size=10), np.ones(10))
    varies = np.isin(np.arange(width), kept)
    parts = (varies, np.full(10, 4.0), 3.0, power, rng.normal(size=10), rng.normal(size=(4, 10)))
    transform, seen = Components(*parts), np.array([0, 1])
    component = ComponentHead(transform, rng.normal(size=(2, 4)), rng.normal(size=2), seen, 3)
    images = rng.normal(size=(20, width)).astype(np.float32)
    neighbours = NeighbourHead(images, np.arange(20) % 2, 5, 0.07, 3)
    vectors, counts = rng.normal(size=(9, 4)), np.array([5, 4])
    solved = (vectors, rng.normal(size=(1, 9)), rng.normal(size=1), counts)
    support = SupportHead(transform, *solved, 0.3, 1.5, seen, 3)
    layer = LayerHead(
        0.1 * rng.normal(size=(3, width)).astype(np.float32), np.ones(3, np.float32), False
    )
    made = (LinearHead.of(linear, "multiclass", 3), component, neighbours, support, layer)
    return {one.name: one for one in made}


def written(
    folder: Path,
    *,
    onnx: bool = False,
    head: str = "linear",
    crop: str = "squash",
    of: Tower | None = None,
) -> Path:
    """A ViT with its class token, and a head of three classes over it."""
    points = {"temperature": 2.0, "held_out_images": 0, "points": {}, "sets": {}}
    seen = {
        "target": "test",
        "images": 0,
        "groups": 0,
        "auc": [None] * 3,
        "calibration": {},
        "classes": {},
    }
    folder.mkdir()
    names = ("a", "b", "=c")
    towers = (of or tower(crop=crop),)
    parts = Parts(towers, heads()[head], head, names, "multiclass", "fp32", points, seen)
    write(folder, parts, "", onnx=onnx)
    return folder


@pytest.mark.parametrize("crop", ["center 72", "center 64 floor", "border 66 128,102,76"])
def test_a_model_crops_as_its_encoder_did(crop: str, tmp_path: Path) -> None:
    """timm is told the same in its own words; a word of theirs alone is damage."""
    folder = written(tmp_path / "model", crop=crop)
    model = package.load(folder, "cpu")
    assert [one.crop for one in model.parts.seen] == [crop]
    noise = np.random.default_rng(0).integers(0, 255, (80, 200, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        model.decode(tmp_path / "a.png"), squeeze(tmp_path / "a.png", 64, "bilinear", crop)
    )
    config = parsed((folder / "config.json").read_bytes())
    mode, side = crop.split()[:2]
    seen = config["pretrained_cfg"]
    assert seen["crop_mode"] == mode and int(64 / seen["crop_pct"]) == int(side)
    del config["medbench"]["crop"]
    atomic_write.record(folder / "config.json", config)
    with pytest.raises(UserError, match=rf"damaged: crop_mode is '{mode}'"):
        package.load(folder, "cpu")


def test_an_encoder_of_the_hub_is_a_model_of_timms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own size, its own crop, and classes that JSON cannot hold."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    classes = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    hub.timm_vit(tmp_path / "hub", "paige-ai/Virchow2", classes, crop_pct=0.8)
    encoder = encoders.encoder("hf-hub:paige-ai/Virchow2", readout="cls+mean")
    net = vision_tower.build(encoder, named_weights(encoder))
    folder = written(tmp_path / "model", of=refit.tower_of(encoder, net))
    model = package.load(folder, "cpu")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (found,) = model.parts.towers
    with torch.inference_mode():
        assert torch.equal(found.net(images), net(images))
        alone = timm.create_model(f"local-dir:{folder}", pretrained=True, **classes).eval()
        assert torch.equal(alone.forward_features(images)[:, 0], net(images)[:, :32])
    assert found.encoder.form == (32, "bilinear", "center 40")
    config = parsed((folder / "config.json").read_bytes())
    for word, value in (("pretrained", True), ("act_layer", "os.system"), ("depth", 1 << 40)):
        more = {**config, "model_args": {**config["model_args"], word: value}}
        atomic_write.record(folder / "config.json", more)
        with pytest.raises(UserError, match=rf"damaged: (model_args has '?{word}|classes is)"):
            package.load(folder, "cpu")
    forged: tuple[tuple[str, object], ...] = (("patch_size", 0), ("num_heads", 0), ("depth", "a"))
    forged += (("mlp_ratio", -7), ("patch_size", []), ("embed_dim", None), ("img_size", [1] * 9))
    for word, value in forged:
        more = {**config, "model_args": {**config["model_args"], word: value}}
        atomic_write.record(folder / "config.json", more)
        with pytest.raises(UserError, match=r"is not an exported model, or damaged: \w+") as caught:
            package.load(folder, "cpu")
        assert "\n" not in str(caught.value), word
    assert encoder.file is not None
    known = parsed((encoder.file / "config.json").read_bytes())
    known["model_args"]["init_values"] = 70_000.0
    (encoder.file / "config.json").write_text(json.dumps(known))
    with pytest.raises(UserError, match="cannot be exported: model_args has init_values = 70000"):
        refit.tower_of(encoder, net)


@pytest.mark.slow
def test_a_row_of_an_encoder_of_the_hub_is_exported(
    folder: Path,
    medbench: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    hub.timm_vit(tmp_path / "hub", "lab/center", crop_pct=0.8)
    about = ["--encoder", "hf-hub:lab/center", "--protocols", "linear"]
    run = [word for word in RUN if word not in ("--methods", "random,supervised")]
    assert medbench("run", "--task", f"folder:{folder}", *about, *run) == 0
    assert exported(medbench, folder) == 0
    assert "a probability differs by 0 from the saved one" in capsys.readouterr().out
    card = Path("model/README.md").read_text()
    assert "resizes the shorter side to 40 and crops the middle 32 pixels" in card
    assert "at 32 px, center crop of 40 px, fp32" in Path("runs/mine/leaderboard.md").read_text()
    assert [one.crop for one in package.load("model", "cpu").parts.seen] == ["center 40"]


def test_a_model_reads_back_as_it_was_and_calibrates(tmp_path: Path) -> None:
    folder = written(tmp_path / "model")
    model = package.load(folder, "cpu")
    encoder = model.parts.towers[0].encoder
    assert (encoder.size, encoder.readout, encoder.interpolation) == (64, "cls", "bilinear")
    pixels = list(np.random.default_rng(1).integers(0, 255, (3, 64, 64, 3)).astype(np.uint8))
    p, softer = model.predict_proba(pixels), model.predict_proba(pixels, calibrated=True)
    # temperature 2
    np.testing.assert_allclose(softer, np.sqrt(p) / np.sqrt(p).sum(1, keepdims=True), atol=1e-5)
    with pytest.raises(UserError, match=r"no operating point 'sensitivity-0.9'. Allowed: own"):
        model.check_point("sensitivity-0.9")
    assert model.predict_proba([]).shape == (0, 3)


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("ran"),)


def changed(file: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """What edits a JSON file and leaves its checksum out, as anybody can."""

    def edit(folder: Path) -> None:
        record = parsed((folder / file).read_bytes())
        change(record)
        (folder / file).write_text(json.dumps(record))

    return edit


def linked(name: str) -> Callable[[Path], object]:
    def link(folder: Path) -> None:
        (folder / name).rename(folder.with_name("elsewhere"))
        (folder / name).symlink_to(folder.with_name("elsewhere"))

    return link


def other_tensors(folder: Path) -> None:
    """A well-formed file of another network, whose hash the configuration names."""
    save_file({"weight": torch.zeros(1)}, folder / "model.safetensors")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    changed("config.json", lambda c: c["medbench"]["sha256"].update({"model.safetensors": digest}))(
        folder
    )


def named(folder: Path, name: str) -> None:
    """Make the configuration name a file by its hash."""
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    changed("config.json", lambda c: c["medbench"]["sha256"].update({name: digest}))(folder)


POISON: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle": (
        lambda folder: (folder / "model.safetensors").write_bytes(pickle.dumps(_Evil())),
        "not a safetensors file",
    ),
    "pickled head": (
        lambda folder: (folder / "head.safetensors").write_bytes(pickle.dumps(_Evil())),
        "not a safetensors file",
    ),
    "link": (linked("model.safetensors"), "is a link"),
    "linked words": (linked("classes.json"), "is a link"),
    "path": (
        changed("config.json", lambda c: c["pretrained_cfg"].update(file="/etc/passwd")),
        "has 'file'",
    ),
    "address": (
        changed("config.json", lambda c: c["pretrained_cfg"].update(hf_hub_id="a/b")),
        "has 'hf_hub_id'",
    ),
    "architecture": (
        changed("config.json", lambda c: c.update(architecture="hf-hub:a/b")),
        "no architecture 'hf-hub:a/b'",
    ),
    "arguments": (
        changed("config.json", lambda c: c["model_args"].update(embed_dim=10**9)),
        "model_args is",
    ),
    "size": (
        changed("config.json", lambda c: c["pretrained_cfg"].update(input_size=[3, 10**9, 10**9])),
        "32 to 1024 pixels",
    ),
    "another network": (
        changed("config.json", lambda c: c.update(architecture="vit_giant_patch14_224")),
        "does not fit|is not",
    ),
    "tensors": (other_tensors, "tensors differ"),
    "more classes": (
        changed("classes.json", lambda c: (c["classes"].append("d"), c["learnt"].append(True))),
        "not those of a head",
    ),
    "text": (
        lambda folder: (folder / "config.json").write_bytes(b" " * (9 << 20)),
        "more than any exported model",
    ),
    "threshold": (
        changed("operating_points.json", lambda c: c.update(temperature=-1.0)),
        "temperature is -1.0",
    ),
    "evidence": (changed("evidence.json", lambda c: c.update(auc="high")), "auc is 'high'"),
    "cut": (
        lambda folder: (folder / "head.safetensors").write_bytes(
            (folder / "head.safetensors").read_bytes()[:-8]
        ),
        "not a safetensors file",
    ),
    "absurd head": (
        lambda folder: os.truncate(folder / "head.safetensors", 1 << 40),
        "more than any exported model",
    ),
    "absurd weights": (
        lambda folder: os.truncate(folder / "model.safetensors", 1 << 41),
        "more than any exported model",
    ),
    "seen of none": (
        lambda folder: (
            shutil.copy(folder / "head.safetensors", folder / "seen.safetensors"),
            named(folder, "seen.safetensors"),
        ),
        "not those of seen images",
    ),
    "typical of none": (
        lambda folder: (
            shutil.copy(folder / "head.safetensors", folder / "typical.safetensors"),
            named(folder, "typical.safetensors"),
        ),
        "not those of typical features",
    ),
    "pickled typical": (
        lambda folder: (
            (folder / "typical.safetensors").write_bytes(pickle.dumps(_Evil())),
            named(folder, "typical.safetensors"),
        ),
        "typical.safetensors is not a safetensors file",
    ),
    "sets": (
        changed("operating_points.json", lambda c: c["sets"].update({"2": 0.5})),
        "sets holds '2'",
    ),
    "missing": (lambda folder: (folder / "classes.json").unlink(), "has no classes.json"),
}


def test_a_poisoned_folder_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = written(tmp_path / "good")
    for name, (poison, why) in POISON.items():
        folder = Path(shutil.copytree(good, tmp_path / name / "model"))
        poison(folder)
        with pytest.raises(UserError, match=why) as caught:
            package.load(folder, "cpu")
        assert "\n" not in str(caught.value), name
    assert not Path("ran").exists()
    with pytest.raises(UserError, match="not an exported model"):
        package.load(tmp_path, "cpu")


def test_what_is_no_list_of_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("file\nx.png\n")
    (tmp_path / "b.csv").write_text("path,id\nx.png,1\ny.png,1\n")
    (tmp_path / "c.csv").write_text("path\nx\0.png\n")
    (tmp_path / "d.csv").write_text("path,id\nx.png\n")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "empty" / "pipe.png")
    for name, why in {
        "c.csv": "line 2: a path cannot",
        "d.csv": "line 2: 1 cells under 2",
        "a.csv": "no column 'path'",
        "b.csv": "two images '1'",
        "empty": "names no image",
        "none": "neither a folder",
    }.items():
        with pytest.raises(UserError, match=why):
            listing.listed(tmp_path / name)
    (tmp_path / "linked" / "in").mkdir(parents=True)
    (tmp_path / "linked" / "in" / "a.png").touch()
    (tmp_path / "linked" / "back").symlink_to(tmp_path / "linked")
    (tmp_path / "linked" / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "linked" / "notes.txt").touch()
    assert [one.id for one in listing.listed(tmp_path / "linked").images] == [
        "gone.png",
        "in/a.png",
    ]


def test_the_choice_goes_by_held_out_scores_and_says_where_the_test_part_disagrees(
    tmp_path: Path,
) -> None:
    """The first line answers the labelled subset better, the second the test part."""
    store = answering(tmp_path, {"inside": (0.2, 2.0), "outside": (2.0, 0.2)})
    found = choose(leaderboard.leaderboards(store), 1, lambda cell: "")
    assert (found.row.cell.method, found.row.cell.seed) == ("inside", 1)
    assert len(found.held_out) == 2 and "the test part disagrees: its best is outside" in " ".join(
        found.said
    )
    (start,) = (line for line in compare.sentences([store], None, 0.01) if "To start from" in line)
    assert (
        "To start from: inside, by scores held out" in start and "outside is the best of" in start
    )
    passed = choose(
        leaderboard.leaderboards(store),
        0,
        lambda cell: "protocol x" if cell.method == "inside" else "",
    )
    assert passed.row.cell.method == "outside" and "inside (protocol x)" in " ".join(passed.said)
    with pytest.raises(UserError, match=r"has no seed 9\. Allowed: 0, 1"):
        choose(leaderboard.leaderboards(store), 9, lambda cell: "")
    without = answering(tmp_path / "old", {"inside": (0.2, 2.0), "outside": (2.0, 0.2)}, held=False)
    with pytest.raises(UserError, match="None of 2 lines has held-out scores"):
        choose(leaderboard.leaderboards(without), 0, lambda cell: "")


def test_operating_points_are_the_rules_of_clinical(tmp_path: Path) -> None:
    store = answering(tmp_path, {"mine": (0.5, 0.5)})
    (row, *_) = store.rows().values()
    draw = draw_of(store.scores(row))
    found = points_of(draw, ("no", "yes"), "binary", sensitivity=0.8)
    assert draw.held is not None and draw.held_labels is not None
    positive, scores = draw.held_labels == 1, draw.held[:, 1]
    assert set(found["points"]) == {"sensitivity-0.8", "specificity-0.9"}
    t = found["points"]["sensitivity-0.8"]["thresholds"]["yes"]
    assert (scores[positive] >= t).mean() >= 0.8 > (scores[positive] > t).mean()
    s = found["points"]["specificity-0.9"]["thresholds"]["yes"]
    assert (scores[~positive] <= s).mean() >= 0.9 > (scores[~positive] < s).mean()
    assert (
        found["temperature"] == clinical.fit_temperature(draw, "binary")
        and found["held_out_images"] == 100
    )
    few = points_of(replace(draw, held=None, held_labels=None), ("no", "yes"), "binary")
    assert few["temperature"] is None and few["points"]["sensitivity-0.9"]["thresholds"] == {
        "yes": None
    }


def answering(folder: Path, noises: dict[str, tuple[float, float]], held: bool = True) -> Store:
    """A folder of a line a method, two draws each.

    noises: of its answers inside the labelled subset and on the test part.
    """
    rng, store = np.random.default_rng(0), Store(folder)
    store.create()
    labels = np.arange(200) % 2
    groups, planned = np.arange(200).astype(str), []
    store.add_target("target", groups, labels, groups)

    def answered(of: np.ndarray, noise: float) -> np.ndarray:
        p = 1 / (1 + np.exp(-3 * (of - 0.5 + rng.normal(0, noise, len(of)))))
        return np.column_stack([1 - p, p]).astype(np.float32)

    weights = stats.group_weights(groups, 100)
    for method, (inside, outside) in noises.items():
        for seed in range(2):
            p = answered(labels, outside)
            values = {
                k: {"value": v, "low": None, "high": None}
                for k, v in metrics.score(labels, p, p.argmax(1), "binary").values.items()
            }
            values["auc"]["classes"] = 1
            cell = Cell(
                "xray", "T", method, "imagenet", "net", "pool", 64, 0, "linear", "10%", seed
            )
            origin = {"weights": "w", "trained_on": [], "precision": "fp32", "target": "target"}
            row = Row(cell, fingerprint(str(cell)), values, 100, 100, {}, {"seconds": 1.0}, origin)
            resampled = metrics.score(labels, p, p.argmax(1), "binary", weights).values
            arrays = {
                "probabilities": p,
                "decisions": p.argmax(1),
                "metrics": np.array(list(resampled)),
            }
            arrays["resamples"] = np.stack(list(resampled.values())).astype(np.float32)
            if held:
                own = np.arange(100) % 2
                arrays |= {
                    "held_out_index": np.arange(100),
                    "held_out_labels": own,
                    "held_out_probabilities": answered(own, inside),
                }
            store.add(row, arrays)
            planned.append(PlannedCell(cell, row.fingerprint, 100, method, "target"))
    about = {
        "identity": "i",
        "title": "X",
        "kind": "binary",
        "classes": ["no", "yes"],
        "metric": "auc",
        "groups": None,
        "marks": [],
    }
    store.add_plan(
        PlanFile(
            tuple(planned),
            {"xray|T|test": {**about, "parts": {"train": [900, 900], "test": [200, 200]}}},
        )
    )
    return store


def test_the_card_corrects_for_the_choice_and_names_the_worst_subgroup_and_what_is_lost_elsewhere(
    tmp_path: Path,
) -> None:
    store = answering(tmp_path, {"one": (0.3, 0.45), "two": (0.6, 0.6), "three": (0.7, 0.7)})
    found = leaderboard.leaderboards(store)
    choice = choose(found, 0, lambda cell: "")
    (said,) = card_sections.allowing_for_the_choice(choice)
    plain = choice.line.summary("auc")
    low, high = map(float, re.findall(r"\[([\d.]+), ([\d.]+)\]", said)[0])
    assert (
        low < plain.low
        and high > plain.high
        and "3 models were scored on these images" in said
        and "corrected for that, 0.9" in said
    )
    answers = replace(
        clinical.read_predictions(choice.line), meta={"sex": np.array(["f", "f", "m", "m"] * 50)}
    )
    worse = answers.draws[0].probabilities.copy()
    half = np.isin(np.arange(200) % 8, (2, 3))  # of the men
    worse[half] = worse[half][:, ::-1]
    told = card_sections.subgroup_lines(
        replace(answers, draws=[replace(answers.draws[0], probabilities=worse)]), "auc"
    )
    assert re.match(
        r"Worst of each column, AUC minus that of everybody else: sex m \(-0\.", told[0]
    )
    away = replace(
        found[0], target="elsewhere", about={**found[0].about, "shift": {"kind": "data"}}
    )
    assert any(
        "| elsewhere |" in line for line in card_sections.shift_lines(choice, [*found, away])
    )
    assert len(card_sections.calibration_lines(answers)) > 4
