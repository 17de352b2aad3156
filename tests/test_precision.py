"""How exactly an encoder multiplies.

What --precision says is what torch is told, whoever turned its switches before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.finetuning import LABELS, NETWORK, SHORT, Tiny, job, pictures
from fakes.pretraining import small, train
from torch import nn

from medbench import images
from medbench.models import encoder_speed, features
from medbench.protocols import finetune
from medbench.run import planning
from medbench.schema import Drawn, Encoder, Grid, UserError
from medbench.system import precision

EXACT = {"conv": "ieee", "matmul": "ieee", "cpu": "ieee"}
ROUNDED = {"conv": "tf32", "matmul": "tf32", "cpu": "ieee"}
SAID = {"fp32": EXACT, "tf32": ROUNDED, "bf16": EXACT}


def switches() -> dict[str, str]:
    backends: Any = torch.backends
    return {
        "conv": backends.cudnn.conv.fp32_precision,
        "matmul": backends.cuda.matmul.fp32_precision,
        "cpu": backends.mkldnn.matmul.fp32_precision,
    }


class Noting(nn.Module):
    """Notes the switches in each forward and each backward pass."""

    def __init__(self, net: nn.Module, seen: list[dict[str, str]]):
        super().__init__()
        self.net, self.seen = net, seen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(switches())
        out: torch.Tensor = self.net(x)
        if out.requires_grad:
            out.register_hook(lambda gradient: self.seen.append(switches()))
        return out


@pytest.fixture
def turned() -> Iterator[dict[str, str]]:
    """An encoder of the user's own has turned torch's switches.

    They are as it left them afterwards.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield switches()
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("name", precision.PRECISIONS)
def test_every_pass_of_an_encoder_is_as_the_precision_says(
    name: str, turned: dict[str, str], tmp_path: Path
) -> None:
    assert turned == {"conv": "tf32", "matmul": "tf32", "cpu": "bf16"}, (
        "torch's default for convolutions, and the user's for products"
    )
    seen: list[dict[str, str]] = []
    drawings = [
        Drawn(lambda seed: np.full((16, 16, 3), seed, np.uint8), seed, f"grey {seed}")
        for seed in range(3)
    ]
    pack = images.pack(drawings, images.content_hashes(drawings, tmp_path), 16, "bicubic", tmp_path)
    encoder = Encoder("mean", "", "", 16, (0.0,) * 3, (1.0,) * 3, "bicubic")
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    features.extract_features(
        pack, lambda: Noting(pooled, seen), encoder, "key", tmp_path, device="cpu", precision=name
    )
    encoder_speed.trial_speed(lambda: Noting(pooled, seen), encoder, "cpu", name)
    assert seen == [SAID[name]] * 3
    seen.clear()
    train(
        tmp_path / "pretrained",
        [small("simclr", steps=2)],
        lambda: Noting(nn.Sequential(nn.Conv2d(3, 8, 5, 3), nn.Flatten()), seen),
        precision=name,
    )
    assert len(seen) > 4 and all(now == SAID[name] for now in seen)
    assert switches() == turned
    assert torch.get_float32_matmul_precision() == "medium" and torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("name", precision.PRECISIONS)
def test_a_fine_tuning_is_as_the_precision_says_and_its_probe_exact(
    name: str, tmp_path: Path
) -> None:
    seen: list[dict[str, str]] = []
    solved: list[dict[str, str]] = []

    def layer(*given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        solved.append(switches())
        return finetune.linear_layer(*given)

    from medbench.models.finetune.tuned import settings_of, tuned

    labels, n = LABELS["multiclass"]
    asked = job(
        labels,
        "multiclass",
        n,
        tmp_path,
        network=replace(NETWORK, build=lambda: Noting(Tiny(), seen).eval(), precision=name),
    )
    short = replace(SHORT, steps=2, epochs=0.1, rates=(1e-3,))
    with settings_of(asked):
        made = tuned(asked, np.arange(len(labels)), 0, tmp_path, short, layer)
        made.scores({"test": pictures(labels)})
    assert len(seen) > 4 and all(now == SAID[name] for now in seen)
    assert solved == [EXACT]


def test_code_that_asks_torchs_older_switch_gets_an_answer() -> None:
    """torch raises where its older and newer switches disagree."""
    with precision.products("fp32"):
        assert not torch.backends.cudnn.allow_tf32
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), precision.products("tf32"):
            assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32


def test_tf32_is_refused_where_nothing_would_be_rounded(
    folder: Path,
    medbench: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    for command in (("run",), ("pretrain", "--method", "simclr"), ("shortcuts",)):
        task = (
            (f"folder:{folder}",) if command == ("shortcuts",) else ("--task", f"folder:{folder}")
        )
        assert medbench(*command, *task, "--precision", "tf32", "--device", "cpu") == 2
        said = capsys.readouterr().err
        assert (
            "Precision 'tf32' needs an NVIDIA GPU" in said
            and "the device is cpu" in said
            and "--precision fp32" in said
        )
    assert not (tmp_path / "runs").exists()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(UserError, match=r"8\.0 or newer, and the device is cuda:1"):
        precision.check_rounds("cuda:1")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    precision.check_rounds("cuda:1")


def test_another_precision_is_another_cell_and_other_features(folder: Path) -> None:
    asked = Grid(
        tasks=(f"folder:{folder}",), size=32, methods=("random", "simclr"), labels=("100",)
    )
    plans = [planning.plan(replace(asked, precision=name)) for name in precision.PRECISIONS]
    assert len({cell.fingerprint for plan in plans for cell in plan.cells}) == 6
    assert len({unit.weights.sha256 for plan in plans for unit in plan.units}) == 4, (
        "drawn weights are the same, trained ones are not"
    )
    with pytest.raises(UserError, match="Unknown precision 'fp16'"):
        planning.plan(replace(asked, precision="fp16"))


def test_what_a_gpu_kept_as_fp32_with_rounded_convolutions_is_not_found_again() -> None:
    assert [precision.kind(device) for device in ("cpu", "cuda", "cuda:1")] == [
        "cpu",
        "cuda 2",
        "cuda 2",
    ]
