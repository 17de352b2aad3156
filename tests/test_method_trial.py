"""A user's own method is tried at plan time: what is wrong is told with file and line."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from medbench.models.encoders import encoder as encoder_of
from medbench.run.method_trial import try_own_method
from medbench.run.units import Unit
from medbench.schema import UserError, Weights

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text()
(ROTATION,) = re.findall(
    r"`medbench/methods/rotation\.py`\n\n```python\n(.*?)^```", PAGE, re.S | re.M
)
SOUND = """
import torch

def encoder(encoder, weights, pretrain_seed):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, 4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return net
"""


@pytest.fixture
def unit(tmp_path: Path) -> Callable[[str, str], Unit]:
    """A unit of the page's method with a small encoder of its own file."""

    def make(method: str, encoder: str) -> Unit:
        (tmp_path / "rotation.py").write_text(method)
        (tmp_path / "encoder.py").write_text(encoder)
        entry = runpy.run_path(str(tmp_path / "rotation.py"))["ROTATION"]
        build = runpy.run_path(str(tmp_path / "encoder.py"))["encoder"]
        return Unit(
            data=SimpleNamespace(),  # type: ignore[arg-type]
            method=replace(entry, encoder=build, code="ab12"),
            source="task",
            encoder=encoder_of("test_resnet.r160_in1k", 32),
            weights=Weights("w", "0", (), None),
            pretrain_seed=0,
            precision="fp32",
            start=Weights("w", "0", (), None),
            recipes=entry.recipes("", "quick", 100, "task"),
        )

    return make


def test_what_is_sound_passes_and_is_tried_once(unit: Callable[[str, str], Unit]) -> None:
    tried: set[str] = set()
    made = unit(ROTATION, SOUND)
    try_own_method(made, tried)
    assert len(tried) == 1
    broken = replace(made.method, encoder=lambda *_: 1 / 0)
    try_own_method(replace(made, method=broken), tried)
    try_own_method(replace(made, method=replace(broken, code="")), set())


@pytest.mark.parametrize(
    ("there", "instead", "said", "place"),
    [
        (
            "turns.long()",
            "turns",
            r"rotation\.py, line \d+: loss of method 'rotation' failed: .*reaches `criterion` as float32",
            "return cross_entropy(",
        ),
        (
            "dim, 4)",
            "dim + 1, 4)",
            r"rotation\.py, line \d+: .*mat1 and mat2 shapes",
            "return [head",
        ),
        (
            "return [head",
            "return head(embed(backbone, [turned])); [head",
            r"`project` gives Tensor",
            "def rotation",
        ),
        (
            "turns.long())",
            "turns.long(), reduction='none')",
            r"`criterion` gives Tensor of shape \(8,\)",
            "def criterion",
        ),
        (
            "return cross_entropy(",
            "return 0 * math.nan * cross_entropy(",
            r"the loss .* is nan",
            "def criterion",
        ),
        (
            "return cross_entropy(logits",
            "return cross_entropy(logits.detach()",
            r"it has no gradient",
            "def criterion",
        ),
        (
            "lambda batch: math.log(4)",
            "lambda batch: None",
            r"`chance` gives None",
            "chance=lambda",
        ),
        (
            "    return Objective(\n",
            "    return dict(\n",
            r"TypeError|returns dict",
            "return dict(",
        ),
    ],
)
def test_a_wrong_loss_is_told_with_its_line(
    there: str, instead: str, said: str, place: str, unit: Callable[[str, str], Unit]
) -> None:
    assert there in ROTATION
    with pytest.raises(UserError, match=said) as told:
        try_own_method(unit(ROTATION.replace(there, instead), SOUND), set())
    line = re.search(r"rotation\.py, line (\d+)", str(told.value))
    assert line
    assert str(told.value).endswith("Next: fix that file")
    named = ROTATION.replace(there, instead).splitlines()[int(line[1]) - 1]
    assert place in named


@pytest.mark.parametrize(
    ("there", "instead", "said"),
    [
        (
            ", torch.nn.Flatten()",
            "",
            r"torch.float32 of shape \(4, 8, 1, 1\), and not floats \(B, D\)",
        ),
        ("return net", "return net[0].weightless", r"encoder\.py, line 6: .*AttributeError"),
        ("return net", "return lambda images: [images]", r"it gives list of images"),
        ("5, 4)", "99)", r"RuntimeError"),
    ],
)
def test_a_wrong_encoder_is_told_with_its_line(
    there: str, instead: str, said: str, unit: Callable[[str, str], Unit]
) -> None:
    with pytest.raises(UserError, match=said) as told:
        try_own_method(unit(ROTATION, SOUND.replace(there, instead)), set())
    assert re.search(r"encoder\.py, line \d+: encoder of method 'rotation' failed", str(told.value))


KEEPING = """
import torch

class Keeping(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.kept = torch.nn.Linear(3, 8), None

    def forward(self, images):
        if self.kept is None:
            self.kept = torch.ones(8)
        return self.layer(images.mean((2, 3))) * self.kept

def encoder(encoder, weights, pretrain_seed):
    return Keeping()
"""


def test_an_encoder_that_keeps_what_its_first_pass_made_is_sound(
    unit: Callable[[str, str], Unit],
) -> None:
    try_own_method(unit(ROTATION, KEEPING), set())
