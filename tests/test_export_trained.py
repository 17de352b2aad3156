"""Fine-tuned networks and fusions as models: trained again, they give what the row scored."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from fakes.results import make
from PIL import Image
from test_export import answers, changed, saved, written

import medbench as package
from medbench import Store, UserError
from medbench.models.exported.head import HEADS, NAMES
from medbench.models.finetune import MODERN
from medbench.models.finetune.loop import FineTuning
from medbench.models.finetune.state import state_name
from medbench.protocols import finetune
from medbench.run import kept_weights, refit
from medbench.schema import registry
from medbench.system import locks

Command = Callable[..., int]
SHORT = replace(MODERN, steps=4, epochs=0.1, rates=(1e-3,), batch=8)
TWO = "random+random@test_resnet"  # at two sizes
RUN = ("--labels", "100", "--size", "32", "--seeds", "1", "--encoder", "test_vit")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    short = finetune._protocol("finetune", 1, "short", SHORT)
    monkeypatch.setitem(registry.protocols(), "finetune", short)


def ran(medbench: Command, folder: Path, methods: str, protocols: str, *more: str) -> None:
    asked = ("--task", f"folder:{folder}", "--methods", methods, "--protocols", protocols)
    assert medbench("run", *asked, *RUN, *more, "--device", "cpu", "--out", "runs/mine") == 0


def exported(medbench: Command, folder: Path, line: str, *more: str) -> Path:
    method, protocol = line.split()
    picked = ("--only", f"method={method}", "--only", f"protocol={protocol}", "--device", "cpu")
    asked = ("--task", f"folder:{folder}", "--out", protocol, *picked, *more)
    assert medbench("export", "runs/mine", *asked) == 0
    return Path(protocol)


def scored_again(model: Path, folder: Path, line: str) -> float:
    """Largest difference of a probability from files from the saved one."""
    scores, ids = saved(line)
    found = package.load(model, "cpu").predict_proba([folder / name for name in ids])
    return float(np.abs(found - scores["probabilities"]).max())


def test_a_fine_tuned_network_is_trained_again_bit_for_bit_and_named_where_nothing_was_held_out(
    folder: Path, medbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(medbench, folder, "random", "finetune")
    capsys.readouterr()
    model = exported(medbench, folder, "random finetune")
    said = capsys.readouterr().out
    assert float(re.findall(r"differs by (\S+) from the saved one", said)[0]) == 0.0
    assert scored_again(model, folder, "random finetune") <= 1e-6
    card = (model / "README.md").read_text()
    assert "None: nothing was held out inside the labelled subset" in card
    assert "the network was trained again" in card
    points = json.loads((model / "operating_points.json").read_text())
    assert points["held_out_images"] == 0 and points["temperature"] is None
    net = timm.create_model(f"local-dir:{model.absolute()}", pretrained=True).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(net(images), package.load(model, "cpu").parts.towers[0].net(images))


@pytest.mark.slow
def test_a_line_without_held_out_scores_is_never_chosen(
    folder: Path, medbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(medbench, folder, "random", "finetune,linear")
    capsys.readouterr()
    asked = ("--task", f"folder:{folder}", "--out", "model", "--device", "cpu")
    assert medbench("export", "runs/mine", *asked) == 0
    assert "passed over, nothing was held out: random" in capsys.readouterr().err
    assert json.loads(Path("model/config.json").read_text())["medbench"]["protocol"] == "linear"


@pytest.mark.slow
def test_kept_weights_are_not_trained_again(
    folder: Path,
    medbench: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged = ("--corruptions", "noise", "--levels", "1")
    ran(medbench, folder, "random", "linear,finetune", "--keep-weights", *damaged)
    said = capsys.readouterr()
    assert "as their rows are made: at most 1 files" in said.err + said.out
    assert "failed" not in Path("runs/mine/run.log").read_text(encoding="utf-8")
    rows = Store("runs/mine").rows()
    ran(medbench, folder, "random", "linear,finetune", *damaged)  # the same rows without it
    assert Store("runs/mine").rows().keys() == rows.keys()
    monkeypatch.setattr(FineTuning, "_step", None)
    model = exported(medbench, folder, "random finetune")
    assert scored_again(model, folder, "random finetune") <= 1e-6
    card = (model / "README.md").read_text()
    assert "the network has the weights that the run kept" in card
    assert "trained again" not in card
    exported(medbench, folder, "random linear")
    asked = ("--task", f"folder:{folder}", "--keep-weights", "--out", "other", *RUN)
    assert medbench("run", *asked) == 2
    assert "no protocol here does. Allowed: finetune" in capsys.readouterr().err


@pytest.mark.slow
def test_adapters_are_merged(folder: Path, medbench: Command) -> None:
    pytest.importorskip("peft")
    from medbench.protocols import lora

    short = replace(lora.RECIPE, steps=4, epochs=0.1, rates=(1e-3,), batch=8, adapters=(1,))
    made = replace(lora.LORA, evaluate=finetune._protocol("lora", 1, "", short).evaluate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.protocols(), "lora", made)
        patch.setattr("medbench.models.finetune.adapters.MOST", 0.5)
        ran(medbench, folder, "random", "lora")
        model = exported(medbench, folder, "random lora")
    assert scored_again(model, folder, "random lora") <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--onnx",)])
@pytest.mark.parametrize(
    "line",
    [
        f"concat:{TWO} linear",
        f"dvme:{TWO} linear",
        f"dvme-concat:{TWO} linear",
        f"concat:{TWO} finetune",
        f"dvme:{TWO} finetune",
    ],
)
def test_a_fusion_is_a_folder_for_each_member_with_one_head(
    line: str, more: tuple[str, ...], folder: Path, medbench: Command
) -> None:
    if more:
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    ran(medbench, folder, *line.split())
    model = exported(medbench, folder, line, *more)  # refuses more than 1e-4 of an ONNX file
    assert scored_again(model, folder, line) <= 1e-6
    together = line.endswith("finetune")
    own = package.load(model, "cpu")
    assert [tower.encoder.size for tower in own.parts.towers] == [32, 160]
    assert [size for size, *_ in own.parts.forms] == ([32] if together else [32, 160])
    for i, tower in enumerate(own.parts.towers):
        place = model.absolute() / f"member-{i + 1}"
        net = timm.create_model(f"local-dir:{place}", pretrained=True).eval()
        images = torch.rand(2, 3, tower.encoder.size, tower.encoder.size)
        with torch.inference_mode():
            assert torch.equal(net(images), tower.net(images))
    assert medbench("predict", str(model), str(folder / "test"), "--out", "p.csv") == 0
    scores, ids = saved(line)
    found = answers(Path("p.csv"))
    got = [[float(found[name.removeprefix("test/")][c]) for c in own.classes] for name in ids]
    np.testing.assert_allclose(got, scores["probabilities"], atol=1e-5)
    if more:
        other = package.load(model, runtime="onnx")
        files = [folder / name for name in ids]
        np.testing.assert_allclose(other.predict_proba(files), own.predict_proba(files), atol=1e-4)


POISON: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty joint": (
        changed("config.json", lambda c: c["medbench"].update(joint={})),
        "an exported model, or damaged",
    ),
    "linked member": (
        lambda folder: (
            (folder / "member-2").rename(folder.with_name("elsewhere")),
            (folder / "member-2").symlink_to(folder.with_name("elsewhere")),
        ),
        "member-2 is a link",
    ),
    "no member": (lambda folder: shutil.rmtree(folder / "member-1"), "has no member-1"),
    "more members": (
        changed("config.json", lambda c: c["medbench"].update(members=3)),
        "member-3",
    ),
    "absurd members": (
        changed("config.json", lambda c: c["medbench"].update(members=10**9)),
        "members is 1000000000",
    ),
    "path of a member": (
        changed("member-1/config.json", lambda c: c["pretrained_cfg"].update(file="/etc/passwd")),
        "has 'file'",
    ),
    "size of a member": (
        changed("member-1/config.json", lambda c: c["pretrained_cfg"].update(input_size=[3, 9, 9])),
        "32 to 1024 pixels",
    ),
    "joint": (
        changed("config.json", lambda c: c["medbench"].update(joint={"file": "x"})),
        "pretrained_cfg",
    ),
    "another head": (
        changed("config.json", lambda c: c["medbench"].update(head="layer")),
        "not those of a head",
    ),
    "unknown head": (
        changed("config.json", lambda c: c["medbench"].update(head="/etc")),
        "head is '/etc'",
    ),
    "learnt": (changed("classes.json", lambda c: c.update(learnt=[False] * 3)), "learnt is"),
}


def test_a_poisoned_fusion_is_refused_in_one_line(tmp_path: Path) -> None:
    good = fused(tmp_path / "good")
    assert package.load(good, "cpu").predict_proba([pixels(0)]).shape == (1, 3)
    for name, (poison, why) in POISON.items():
        place = Path(shutil.copytree(good, tmp_path / name / "model"))
        poison(place)
        with pytest.raises(UserError, match=why) as caught:
            package.load(place, "cpu")
        assert "\n" not in str(caught.value), name


def pixels(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)


def fused(place: Path) -> Path:
    """Two ViTs of one size under a fusion's own head."""
    from test_export import tower

    from medbench.models.exported import FusedHead, Parts, write
    from medbench.models.fusion import head

    towers = (tower("cls"), tower("mean"))
    widths = [tower.net.model.num_features for tower in towers]  # type: ignore[union-attr]
    torch.manual_seed(0)
    net = head(widths, 3).eval()  # type: ignore[arg-type]
    scaled = (np.zeros(sum(widths), np.float32), np.ones(2))  # type: ignore[arg-type]
    of = (4.0, np.array([True, True, False]), np.zeros(3), False)
    points: dict[str, Any] = {"temperature": 2.0, "held_out_images": 0, "points": {}, "sets": {}}
    seen = {"target": "t", "images": 0, "groups": 0, "calibration": {}, "classes": {}}
    place.mkdir()
    names = ("a", "b", "c")
    made = FusedHead(net, *scaled, *of)
    write(
        place,
        Parts(
            towers, made, "linear", names, "multiclass", "fp32", points, {**seen, "auc": [None] * 3}
        ),
        "",
    )
    return place


def test_a_temperature_asks_no_other_image(tmp_path: Path) -> None:
    """A class that cannot have a probability gets none, and others keep theirs in any batch."""
    model = package.load(fused(tmp_path / "model"), "cpu")
    p = np.array([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]], np.float32)
    both = model.calibrate(p)
    np.testing.assert_array_equal(both[:1], model.calibrate(p[:1]))
    assert (both[:, 2] == 0).all() and both[0, 0] > 0


def test_every_head_says_which_arrays_it_keeps() -> None:
    assert NAMES.keys() == HEADS.keys()


@pytest.mark.slow
def test_a_prediction_that_is_killed_goes_on(tmp_path: Path) -> None:
    """By SIGKILL in the middle of 4,000 images: what is on the disk is kept, the rest is the same."""
    model, images = written(tmp_path / "model"), tmp_path / "images"
    images.mkdir()
    for i in range(20):
        Image.fromarray(pixels(i)).save(images / f"{i:05}.png")
    for i in range(20, 4000):
        (images / f"{i:05}.png").hardlink_to(images / f"{i % 20:05}.png")

    def command(out: str) -> list[str]:
        asked = ["predict", str(model), str(images), "--out", str(tmp_path / out)]
        return [sys.executable, "-m", "medbench", *asked, "--device", "cpu"]

    unfinished = tmp_path / "p.csv.unfinished"
    with subprocess.Popen(command("p.csv"), stderr=subprocess.DEVNULL) as begun:
        while not unfinished.exists() or unfinished.read_bytes().count(b"\n") < 3:
            assert begun.poll() is None, "it ended before it could be killed"
            time.sleep(0.001)
        begun.send_signal(signal.SIGKILL)
    assert unfinished.exists() and not (tmp_path / "p.csv").exists()
    said = subprocess.run(command("p.csv"), capture_output=True, text=True, check=True).stdout
    before = int(re.findall(r"4000 of 4000 images, (\d+) of them before", said)[0])
    assert 256 <= before < 4000 and before % 128 == 0
    subprocess.run(command("q.csv"), capture_output=True, check=True)
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "q.csv").read_bytes()


def test_two_exports_of_a_row_do_not_share_a_scratch_folder_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "cells" / "key"
    with refit._alone(folder):
        folder.mkdir()
        assert locks.held(tmp_path / "cells" / "key.lock")
        shutil.rmtree(folder)
    assert not list((tmp_path / "cells").iterdir())


def test_weights_are_kept_again_after_a_kill_between_them_and_the_row(tmp_path: Path) -> None:
    """By a process of the same number, as in a container."""
    row = replace(make("random", "10%", 0, 0.7)[0], chosen={"rate": 0.1})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / state_name(0, 0.1, 1.0)).write_bytes(b"weights")
    kept = kept_weights.kept_file(tmp_path, "f" * 16, "cpu")
    kept.parent.mkdir(parents=True)
    for _ in range(3):
        kept_weights.keep(tmp_path, "f" * 16, row, scratch, "cpu")
        assert list(kept.parent.iterdir()) == [kept], "nothing that makes the next one fail"
    assert kept.read_bytes() == b"weights"
