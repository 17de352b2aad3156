"""Files that `--weights` is given.

Usual layouts of trainings are taken, and of others one line says what the file is and what to do
next.
"""

from __future__ import annotations

import pathlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medbench.models import checkpoints, weights
from medbench.schema import UserError

State = dict[str, Tensor]
ONE = torch.zeros(1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 4, 1))


def fitting(file: Path) -> State:
    return weights.fitting_state(Net(), file, checkpoints.OWN, "net")


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def within(part: str, state: State) -> State:
    return {name.replace("layer1.", f"layer1.{part}."): value for name, value in state.items()}


# of the network that is meant, and another one
LAYOUTS: dict[str, Callable[[State, State], dict[str, Any]]] = {
    "MoCo v3": lambda net, other: {
        "state_dict": {
            **under("module.base_encoder.", net),
            **under("module.momentum_encoder.", other),
            "module.base_encoder.head.0.weight": ONE,
            "module.predictor.0.weight": ONE,
        }
    },
    "torch's AveragedModel": lambda net, other: {
        "n_averaged": torch.tensor(3),
        **under("module.", net),
    },
    "MAE, RETFound": lambda net, other: {
        "model": {
            **net,
            "mask_token": ONE,
            "decoder_pos_embed": ONE,
            "decoder_blocks.0.norm1.weight": ONE,
        }
    },
    "DINOv2": lambda net, other: {
        "teacher": {
            **under("backbone.", net),
            "dino_head.mlp.weight": ONE,
            "ibot_head.mlp.weight": ONE,
        }
    },
    "DeepSpeed": lambda net, other: {"module": net, "optimizer": {}},
    "FSDP": lambda net, other: under("_fsdp_wrapped_module.", within("_fsdp_wrapped_module", net)),
    "activation checkpointing": lambda net, other: {
        "model": within("_checkpoint_wrapped_module", net)
    },
    "lightly": lambda net, other: {
        "state_dict": {
            **under("backbone.", net),
            "online_classifier.linear.weight": ONE,
            "projection_head.0.weight": ONE,
        }
    },
    "MSN, I-JEPA": lambda net, other: {
        "target_encoder": {**under("module.", net), "module.fc.fc1.weight": ONE},
        "encoder": {**under("module.", other), "module.fc.fc1.weight": ONE},
        "prototypes": ONE,
    },
    "a path of another machine": lambda net, other: {"model": net, "out": pathlib.PosixPath("/x")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_usual_layouts(layout: str, tmp_path: Path) -> None:
    net = Net().state_dict()
    torch.save(LAYOUTS[layout](net, Net().state_dict()), tmp_path / "a.pth")
    found = fitting(tmp_path / "a.pth")
    assert found.keys() == net.keys() and all(
        torch.equal(found[name], value) for name, value in net.items()
    )


def test_a_path_of_python_3_13(tmp_path: Path) -> None:
    torch.save({"model": Net().state_dict(), "out": pathlib.PosixPath("/x")}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w") as new,
    ):
        for member in old.infolist():
            new.writestr(
                member,
                old.read(member).replace(b"cpathlib\nPosixPath", b"cpathlib._local\nPosixPath"),
            )
    assert b"_local" in (tmp_path / "b.pth").read_bytes()
    assert fitting(tmp_path / "b.pth").keys() == Net().state_dict().keys()


def nested(state: State, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = dict(state)
    for _ in range(depth):
        found = {"model": found}
    return found


def cyclic(state: State) -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["model"] = found
    return found


CHANGED: list[tuple[str, Callable[[Tensor], Tensor], str]] = [
    (
        "stem.weight",
        lambda value: value.to_sparse(),
        r"1 no real numbers \(stem\.weight sparse_coo\)",
    ),
    (
        "stem.weight",
        lambda value: value.to("meta"),
        r"1 no real numbers \(stem\.weight float32 without values\)",
    ),
    (
        "stem.weight",
        lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
        r"1 no real numbers \(stem\.weight qint8\)",
    ),
    (
        "stem.weight",
        lambda value: value.to(torch.complex64),
        r"1 no real numbers \(stem\.weight complex64\)",
    ),
    (
        "stem.weight",
        lambda value: ONE.expand(10**7, 10**6),
        r"1 of another shape \(stem\.weight \(10000000, 1000000\) instead",
    ),
    (
        "bn1.running_var",
        lambda value: (-value).to(torch.float8_e4m3fn),
        r"1 negative variances \(bn1\.running_var\)",
    ),
    ("bn1.running_var", lambda value: value * float("nan"), r"1 not finite \(bn1\.running_var\)"),
    ("bn1.running_var", lambda value: -value, r"1 negative variances \(bn1\.running_var\)"),
]


@pytest.mark.filterwarnings("ignore")  # torch's own, of kinds of tensors
@pytest.mark.parametrize(("name", "change", "line"), CHANGED)
def test_tensors_that_are_no_plain_numbers(
    name: str, change: Callable[[Tensor], Tensor], line: str, tmp_path: Path
) -> None:
    state = Net().state_dict()
    torch.save({**state, name: change(state[name])}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf"a\.pth does not fit net: {line}"):
        fitting(tmp_path / "a.pth")


@pytest.mark.parametrize("make", [lambda state: nested(state, 50), cyclic])
def test_dicts_in_dicts_have_an_end(make: Callable[[State], Any], tmp_path: Path) -> None:
    torch.save(make(Net().state_dict()), tmp_path / "a.pth")
    with pytest.raises(
        UserError,
        match=r"a\.pth is not a state dict, names with tensors: 1 entries are none, model",
    ):
        fitting(tmp_path / "a.pth")


def test_a_pickle_that_is_cut_is_broken(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a.pth").read_bytes()
    for end in (1, 2, 30, 300, len(content) - 1):
        (tmp_path / "a.pth").write_bytes(content[:end])
        with pytest.raises(
            UserError, match=r"a\.pth is broken or incomplete: .*Next: fetch it again"
        ):
            fitting(tmp_path / "a.pth")


def test_other_archives_are_named(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "a.pt")
    np.savez(tmp_path / "b.npz", **{"resnet/root_block/kernel": np.zeros(3)})
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("weights.pth", b"x")
    for name, line in (
        (
            "a.pt",
            r"a\.pt is a TorchScript program, not weights alone\. Next: torch\.save\(torch\.jit\.load",
        ),
        (
            "b.npz",
            r"b\.npz is a NumPy archive, as the authors of ViT and BiT .* Next: medbench run --encoder NAME\.TAG",
        ),
        (
            "c.zip",
            r"c\.zip is a zip archive that holds weights\.pth\. Next: unpack it, .*\(unzip c\.zip\)",
        ),
    ):
        with pytest.raises(UserError, match=line):
            fitting(tmp_path / name)
