"""The doctor on the embedded encoder.

Right as it is, and each planted mistake named without being told what the checkpoint declares.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medbench.audit import encoder as doctor
from medbench.audit import encoder_verdict
from medbench.audit.encoder import environment_report
from medbench.models import encoders, user_encoder, weights
from medbench.run.store import Store
from medbench.schema import Encoder

SIZE = 64


@cache
def net() -> nn.Module:
    encoder = encoders.encoder(encoders.EMBEDDED, SIZE)
    return weights.build_encoder(encoder, weights.supervised(encoder, Path()), seed=0)


def found(module: nn.Module, encoder: Encoder | None = None, **declared: object) -> list[str]:
    images = doctor.reference_images(8)
    return [
        f.what
        for f in doctor.diagnose(
            module, encoder or encoders.encoder(encoders.EMBEDDED, SIZE), images, declared
        ).findings
    ]


class Turned(nn.Module):
    def __init__(self, how: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.net, self.how = net(), how

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.how(images)


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert found(net()) == []
    assert (
        found(
            net(),
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
            interpolation="bicubic",
            input_size=(3, SIZE, SIZE),
        )
        == []
    )


@pytest.mark.parametrize(
    ("what", "mean", "std"),
    [
        ("range", (0.0,) * 3, (1.0,) * 3),
        ("range", (0.0,) * 3, (1 / 255,) * 3),
        ("mean and std", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_wrong_values_are_measured(
    what: str, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    encoder = replace(encoders.encoder(encoders.EMBEDDED, SIZE), mean=mean, std=std)
    assert found(net(), encoder) == [what]


def test_a_network_that_normalises_a_second_time() -> None:
    assert found(Turned(lambda x: net()((x - 0.5) / 0.5))) == ["range"]


def test_exchanged_channels_are_measured() -> None:
    assert found(Turned(lambda x: net()(x.flip(1)))) == ["channel order"]


def test_readouts_without_pooling_or_norm() -> None:
    assert found(Turned(lambda x: net().forward_features(x).flatten(1))) == ["readout"]
    assert found(Turned(lambda x: net().forward_features(x))) == ["readout"]
    assert found(
        Turned(lambda x: net().conv_head(net().blocks(net().bn1(net().conv_stem(x)))).mean((2, 3)))
    ) == ["readout"]


def test_weights_that_were_not_loaded() -> None:
    one = copy.deepcopy(net())
    one.blocks[2][0].bn1.reset_parameters()
    assert found(one) == ["weights"]
    fresh = weights.build_encoder(
        encoders.encoder(encoders.EMBEDDED, SIZE), weights.Weights("drawn", "", (), None), seed=0
    )
    assert found(fresh) == ["weights"]


def test_the_declaration_is_compared() -> None:
    assert found(net(), interpolation="bilinear") == ["interpolation"]
    assert found(net(), input_size=(3, 224, 224)) == ["size"]
    assert found(net(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)) == ["mean and std"]


def test_the_training_pixels_are_solved_for() -> None:
    """Statistics computed from drawn pixels, batch by batch, as a batch norm does.

    The solution is those pixels' own.
    """
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.normal(size=(64, 3, 12, 12))).float()
    smooth = nn.functional.interpolate(coarse, size=96, mode="bicubic")
    pixels = torch.einsum(
        "cd,ndhw->nchw", torch.tensor([[1.0, 0.2, 0.1], [0.9, 0.0, 0.3], [0.7, -0.4, 0.2]]), smooth
    )
    pixels += torch.tensor([0.3, -0.2, 0.1]).view(3, 1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv, norm = nn.Conv2d(3, 48, 3, bias=True), nn.BatchNorm2d(48, momentum=1.0)
        norm(conv(pixels))
    mean, std, _off = doctor.training_pixels(conv, norm)
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).numpy(), abs=0.01)
    assert std == pytest.approx(pixels.std((0, 2, 3)).numpy(), rel=0.1)


@pytest.mark.parametrize("what", ["mean and std of 127.5", "0 to 255", "all the same", "right"])
def test_the_cheap_half_tells_what_cannot_be_right(what: str) -> None:
    mean, std, expected = {
        "mean and std of 127.5": ((127.5,) * 3, (127.5,) * 3, ["range"]),
        "0 to 255": ((0.0,) * 3, (1 / 255,) * 3, ["range"]),
        "all the same": ((0.5,) * 3, (0.5,) * 3, ["readout"]),
        "right": ((0.5,) * 3, (0.5,) * 3, []),
    }[what]
    module = Turned(lambda images: torch.ones(len(images), 8)) if what == "all the same" else net()
    encoder = replace(encoders.encoder(encoders.EMBEDDED, SIZE), mean=mean, std=std)
    assert [
        one.what
        for one in encoder_verdict.examined(
            module.eval(), encoder, doctor.reference_images(encoder_verdict.IMAGES)
        )
    ] == expected


def test_values_of_another_range_are_told_without_a_batch_norm() -> None:
    """Nothing in such a network remembers its training images, and every feature is as far from the
    others as before."""
    module = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.GELU(), nn.Conv2d(16, 8, 8), nn.Flatten())
    encoder = Encoder("mine.py:net", "mine.py:net", "", SIZE, (127.5,) * 3, (127.5,) * 3, "bicubic")
    (found,) = encoder_verdict.examined(
        module.eval(), encoder, doctor.reference_images(encoder_verdict.IMAGES)
    )
    assert (found.what, found.fix) == (
        "range",
        "mean 0.5 0.5 0.5, std 0.5 0.5 0.5 of values in [0, 1]",
    )


OWN = """
import torch
from pathlib import Path
from medbench.models import encoders, weights

def net(size):
    encoder = encoders.encoder(encoders.EMBEDDED, size)
    return weights.build_encoder(encoder, weights.supervised(encoder, Path()), seed=0)

def wrong(size=32, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5)):
    return net(size)

def right(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)):
    return net(size)

class Same(torch.nn.Module):
    def forward(self, images):
        return torch.ones(len(images), 8)

def same(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)):
    return Same()
"""


@pytest.mark.slow
def test_a_run_says_what_cannot_be_right_first_and_in_its_table(
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    user_encoder.module.cache_clear()
    command = (
        "--data",
        "phantom",
        "--protocols",
        "knn",
        "--labels",
        "100",
        "--encoder",
        "mine.py:wrong,mine.py:right,mine.py:same",
    )
    assert medbench("run", *command, "--out", "out") == 0
    shown = capsys.readouterr()
    said = "ENCODER: mine.py:wrong: range: mean 127.5 127.5 127.5, std 127.5 127.5 127.5: pixels are in [0, 1]"
    constant = "ENCODER: mine.py:same: readout: all 12 images give the same features"
    for text in (shown.err, shown.out, (tmp_path / "out" / "leaderboard.md").read_text()):
        plain = " ".join(text.split())
        assert said in plain and constant in plain, text
        assert "ENCODER: mine.py:right" not in plain, text
    marks = {
        row.cell.encoder: [m.kind for m in row.provenance["marks"]].count("encoder")
        for row in Store(tmp_path / "out").rows().values()
    }
    assert marks == {"mine.py:wrong": 1, "mine.py:right": 0, "mine.py:same": 1}
    monkeypatch.setattr(encoder_verdict, "examined", lambda *of: pytest.fail("examined again"))
    assert medbench("run", *command, "--out", "again", "--plan") == 0
    assert said in " ".join(capsys.readouterr().err.split()), "it is kept"


def test_an_encoder_that_cannot_be_examined_says_so(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It is tried on two images, and examined on twelve."""
    (tmp_path / "mine.py").write_text(
        OWN.replace(
            "        return torch.ones",
            "        assert len(images) != 12, 'twelve'\n        return torch.ones",
        )
    )
    user_encoder.module.cache_clear()
    assert (
        medbench(
            "run", "--data", "phantom", "--labels", "100", "--encoder", "mine.py:same", "--plan"
        )
        == 0
    )
    assert "ENCODER: mine.py:same could not be examined: AssertionError: twelve" in " ".join(
        capsys.readouterr().err.split()
    )


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="7 images are too few"):
        doctor.diagnose(
            net(), encoders.encoder(encoders.EMBEDDED, SIZE), doctor.reference_images(7)
        )


def test_the_command(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert medbench("doctor") == 0
    shown = capsys.readouterr().out
    assert (
        "torch" in shown
        and re.search("data not found: .*derm", shown)
        and str(Path.home()) not in shown
    )
    wrong = tmp_path / "mine.py"
    wrong.write_text(
        "import torch\n"
        "def flat(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)):\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())\n"
    )
    assert medbench("doctor", "--encoder", f"{wrong}:flat") == 1
    shown = capsys.readouterr().out
    assert (
        "READOUT: 3600 features are the whole of a map (4, 30, 30)" in shown
        and "data not found" not in shown
    ), "the machine is another question"
    assert medbench("doctor", "--encoder", "features:no.npz") == 2


def test_a_path_names_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "anna"))
    assert environment_report.shortened(tmp_path / "anna" / "data") == str(Path("~", "data"))
    assert "anna" not in environment_report.shortened(tmp_path / "anna" / "data")
    assert environment_report.shortened(tmp_path / "anna2" / "x" / "ham10000") == str(
        Path("...", "ham10000")
    )
