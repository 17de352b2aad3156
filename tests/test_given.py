"""Encoders that are not timm's pooled vectors: readouts, a user's function, a file of features."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from trees.files import with_bit

from medbench import Grid, Store, UserError
from medbench.models import encoders, readout, user_encoder, weights
from medbench.run import execution, planning, prepare
from medbench.schema import READOUTS, Weights, own_code, registry

Medbench = Callable[..., int]
VIT = "test_vit"  # timm's own small ViT for tests: class token, 64 values, 6 blocks


def built(readout: str, architecture: str = VIT) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The encoder with that readout, and timm's model with the same weights."""
    encoder = encoders.encoder(f"{architecture}.r160_in1k", 160, readout=readout)
    net = weights.build_encoder(encoder, Weights("random", "0" * 64, (), None), seed=0)
    return net, net if readout == "pool" else net.model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 160, 160, generator=torch.Generator().manual_seed(0))


def test_class_token_mean_and_both(images: torch.Tensor) -> None:
    with torch.inference_mode():
        net, model = built("cls+mean")
        tokens = model.forward_features(images)
        assert model.num_prefix_tokens == 1
        cls, mean = tokens[:, 0], tokens[:, 1:].mean(1)
        assert torch.allclose(net(images), torch.cat([cls, mean], 1))
        assert torch.allclose(built("cls")[0](images), cls)
        assert torch.allclose(built("mean")[0](images), mean)


def test_last4_are_the_last_class_tokens_after_the_final_norm(images: torch.Tensor) -> None:
    """By hand: run the blocks one by one, normalise each of the last four outputs, take token 0
    (DINO's eval_linear does the same)."""
    with torch.inference_mode():
        net, model = built("last4")
        x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
        tokens = []
        for block in model.blocks:
            x = block(x)
            tokens.append(model.norm(x)[:, 0])
        out = net(images)
        assert out.shape == (3, 4 * 64)
        assert torch.allclose(out, torch.cat(tokens[-4:], 1), atol=1e-6)
        assert torch.allclose(out[:, -64:], built("cls")[0](images), atol=1e-6)


@pytest.mark.parametrize(
    "architecture", ["test_resnet", "test_efficientnet", "swin_tiny_patch4_window7_224"]
)
def test_mean_over_positions_whatever_the_order_of_axes(architecture: str) -> None:
    model = timm.create_model(architecture, num_classes=0).eval()
    size = model.pretrained_cfg["input_size"][-1]

    with torch.inference_mode():
        images = torch.rand(2, 3, size, size)
        out = readout.with_readout(model, "mean")(images)
        assert out.shape == (2, model.num_features)
        if architecture == "swin_tiny_patch4_window7_224":
            assert torch.allclose(out, model(images), atol=1e-5), "Swin's own pooling is the mean"


@pytest.mark.parametrize(
    ("name", "wrong", "allowed"),
    [
        ("tf_efficientnet_lite0", "cls", "pool, mean"),
        ("resnet18.tv_in1k", "last4", "pool, mean"),
        ("vit_small_patch8_224.dino", "lst4", "pool, cls, mean, cls+mean, last4"),
    ],
)
def test_a_readout_that_is_not_there_is_refused(name: str, wrong: str, allowed: str) -> None:
    with pytest.raises(
        UserError, match=rf"readout '{wrong}'\. Allowed: {allowed.replace('+', '.')}\."
    ):
        encoders.encoder(name, readout=wrong)


def test_readouts_are_cells_of_their_own() -> None:
    plan = planning.plan(
        Grid(data="phantom", readouts=("pool", "mean"), methods=("random",), labels=("100",))
    )
    assert [planned.cell.readout for planned in plan.cells] == ["pool", "mean"]
    assert len({planned.fingerprint for planned in plan.cells}) == 2


OWN = """
import torch

def tiny(size=40, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), interpolation="bilinear", trained_on=("my images",)):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 16))
"""


def test_a_users_function_is_judged(
    folder: Path, medbench: Medbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    arguments = [
        "run",
        "--task",
        f"folder:{folder}",
        "--encoder",
        "mine.py:tiny",
        "--labels",
        "100",
    ]
    assert medbench(*arguments) == 0
    assert "given: weights mine.py:tiny, trained on my images." in capsys.readouterr().out
    store = Store(tmp_path / "runs" / "folder-mine")
    (row,) = store.rows().values()
    assert (row.cell.method, row.cell.encoder, row.cell.size) == ("given", "mine.py:tiny", 40)
    assert row.metrics["auc"]["value"] > 0.9, "three tints are three mean colours"
    assert medbench(*arguments) == 0
    assert "0 new rows" in capsys.readouterr().out
    (tmp_path / "mine.py").write_text(OWN.replace("manual_seed(0)", "manual_seed(1)"))
    user_encoder.module.cache_clear()
    assert medbench(*arguments) == 0
    assert len(store.rows()) == 2, "other weights, another cell"


def test_each_draw_begins_with_the_users_own_weights(tmp_path: Path) -> None:
    """Fine-tuning trains what it is given, and a GPU run moves it."""
    (tmp_path / "mine.py").write_text(OWN)
    encoder = encoders.encoder(f"{tmp_path / 'mine.py'}:tiny")
    method = registry.method("given")
    start = method.weights(encoder, "given", 0, tmp_path)
    first = method.encoder(encoder, start, 0)
    with torch.no_grad():
        next(first.parameters()).zero_()
    assert next(method.encoder(encoder, start, 0).parameters()).any()


def test_a_file_that_the_users_file_imports_is_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are the same, what is done with them is not.

    Kept features must not be taken for the new ones.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lab" / "nets").mkdir(parents=True)
    (tmp_path / "mine.py").write_text(
        "from lab.nets import tail\n"
        + OWN.replace("torch.nn.Flatten()", "torch.nn.Flatten(), tail.Tail()")
    )
    for file in ("lab/__init__.py", "lab/nets/__init__.py", "lab/unused.py"):
        (tmp_path / file).write_text("")
    (tmp_path / "lab" / "nets" / "tail.py").write_text(
        "import torch\nfrom ..nets.power import POWER\nclass Tail(torch.nn.Module):\n    def forward(self, x):\n        return x ** POWER\n"
    )
    encoder = encoders.encoder(f"{tmp_path / 'mine.py'}:tiny")

    def now(power: int) -> str:
        (tmp_path / "lab" / "nets" / "power.py").write_text(f"POWER = {power}\n")
        for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        user_encoder.module.cache_clear()
        return user_encoder.module_hash(encoder)

    first = now(1)
    assert [file.name for file in own_code.imported(tmp_path / "mine.py")] == [
        "__init__.py",
        "__init__.py",
        "power.py",
        "tail.py",
    ]
    assert now(20) != first == now(1)
    (tmp_path / "lab" / "unused.py").write_text("SOMETHING = 1\n")
    assert now(1) == first
    (tmp_path / "lab" / "nets" / "tail.py").write_text(
        '"""The last stage."""\n'
        + (tmp_path / "lab" / "nets" / "tail.py")
        .read_text()
        .replace("(torch.nn.Module):\n", "(torch.nn.Module):  # no parameters\n\n")
    )
    assert now(1) == first, "a docstring, a comment and an empty line in a file that is imported"


def test_prose_in_a_users_file_is_no_part_of_it(tmp_path: Path) -> None:
    """A comment made every row of the encoder another experiment in CI."""

    def hashed(text: str) -> str:
        (tmp_path / "mine.py").write_text(text)
        user_encoder.module.cache_clear()
        return user_encoder.module_hash(encoders.encoder(f"{tmp_path / 'mine.py'}:tiny"))

    first = hashed(OWN)
    for prose in (
        OWN + "# a comment\n",
        '"""About this file."""\n' + OWN,
        OWN.replace("):\n", '):\n    """Colours."""\n'),
        OWN.replace('"bilinear"', "'bilinear'").replace("mean=(", "mean = ("),
    ):
        assert hashed(prose) == first, prose
    for code in (
        OWN.replace("Flatten()", "Flatten(), torch.nn.Tanh()"),  # no weight of its own
        OWN.replace("std=(0.25,", "std=(0.26,"),
        OWN.replace("manual_seed(0)", "manual_seed(1)"),
        OWN + "torch.set_flush_denormal(False)\n",
    ):
        assert hashed(code) != first, code


def test_a_function_with_half_precision_is_hashed(tmp_path: Path) -> None:
    text = (
        OWN.replace("return ", "net = ")
        + "    net.register_buffer('scale', torch.ones((), dtype=torch.bfloat16))\n    return net\n"
    )
    (tmp_path / "mine.py").write_text(text)
    assert len(user_encoder.module_hash(encoders.encoder(f"{tmp_path / 'mine.py'}:tiny"))) == 64


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (OWN, "tini", r"has no function 'tini'\. Allowed: tiny\. Did you mean 'tiny'\?"),
        (
            "def tiny(size=40): pass",
            "tiny",
            r"mine\.py:tiny does not state its mean, std as defaults.*Next: def tiny\(size=224, mean=",
        ),
        ("def tiny(", "tiny", r"mine\.py is not Python"),
        (
            OWN.replace("return ", "return lambda x: "),
            "tiny",
            r"mine\.py:tiny failed: TypeError: it returned a function, not a torch",
        ),
        (
            OWN.replace("48, 16", "47, 16"),
            "tiny",
            r"mine\.py:tiny failed: RuntimeError: .*mat1 and mat2",
        ),
        (
            OWN.replace(", torch.nn.Flatten(), torch.nn.Linear(48, 16)", ""),
            "tiny",
            r"mine\.py:tiny gave \(2, 3, 4, 4\) for two images of 40 px",
        ),
        (
            OWN.replace(
                "Sequential(", "Sequential(torch.nn.BatchNorm2d(3, track_running_stats=False), "
            ),
            "tiny",
            r"mine\.py:tiny gives an image another vector where another image stands beside it",
        ),
    ],
)
def test_a_function_that_is_wrong(text: str, name: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    user_encoder.module.cache_clear()
    with pytest.raises(UserError, match=message):
        user_encoder.module_hash(encoders.encoder(f"{file}:{name}"))


def test_features_give_the_rows_of_the_encoder_that_made_them(
    folder: Path, tmp_path: Path, medbench: Medbench
) -> None:
    """The same vectors, embedded here and read from a file, give the same scores."""
    asked = Grid(
        tasks=(f"folder:{folder}",), size=32, labels=("10", "100"), seeds=2, methods=("supervised",)
    )
    ours = execution.run(asked, tmp_path / "ours")
    plan = planning.plan(asked)
    (unit,) = plan.units
    (features,) = prepare.unit_features(plan, unit, "cpu")
    vectors = features.array
    ids = np.concatenate([split.ids for split in unit.data.parts.values()])
    shuffled = np.random.default_rng(0).permutation(len(ids))
    np.savez(
        tmp_path / "f.npz",
        ids=[*ids[shuffled], "stranger"],
        features=np.vstack([vectors[shuffled], vectors[:1]]),
    )
    frame = pd.DataFrame(vectors, columns=[f"f{i}" for i in range(vectors.shape[1])])
    frame.insert(0, "id", ids)
    frame.to_parquet(tmp_path / "f.parquet")
    for name in ("f.npz", "f.parquet"):
        command = [
            "run",
            "--task",
            f"folder:{folder}",
            "--encoder",
            f"features:{name}",
            "--labels",
            "10,100",
            "--seeds",
            "2",
            "--out",
            name + "-out",
        ]
        assert medbench(*command) == 0
        theirs = {
            (row.cell.labels, row.cell.seed): row
            for row in Store(tmp_path / f"{name}-out").rows().values()
        }
        assert len(theirs) == 3
        for row in ours.rows().values():
            assert theirs[row.cell.labels, row.cell.seed].metrics == row.metrics


@pytest.mark.parametrize(
    ("architecture", "having"),
    [
        ("naflexvit_huge_patch16_radio_v3", {"pool", "cls", "mean", "cls+mean", "last4"}),
        ("naflexvit_base_patch16_gap", {"pool", "mean"}),  # four registers, no class token
        ("vit_medium_patch16_reg1_gap_256", {"pool", "mean"}),
    ],
)
def test_a_register_is_no_class_token(architecture: str, having: set[str]) -> None:
    if architecture not in timm.list_models():
        pytest.skip(f"this timm has no {architecture}")
    assert {name for name in READOUTS if readout.exists(architecture, name)} == having


def test_a_fault_inside_a_model_is_no_missing_readout(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*arguments: object) -> None:
        raise AttributeError("a fault of timm")

    monkeypatch.setattr("timm.models.vision_transformer.VisionTransformer.forward_features", fault)
    readout.exists.cache_clear()
    with pytest.raises(AttributeError, match="a fault of timm"):
        readout.exists(VIT, "cls")
    readout.exists.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--encoder", "features:f.npz", "--size", "64"],
            "features:f.npz takes no --size and no --readout",
        ),
        (
            ["--encoder", "features:g.npz"],
            "g.npz does not exist. Allowed: broken.npz, f.npz, secret.npz. Did you mean 'f.npz'?",
        ),
        (["--encoder", "features:f.csv"], "f.csv is not a .npz or .parquet file"),
        (
            ["--encoder", "features:f.npz", "--methods", "supervised"],
            "Method 'supervised' cannot serve 'features:f.npz', given features. Allowed: given.",
        ),
        (
            ["--encoder", "resnet18.tv_in1k", "--methods", "given"],
            "Method 'given' cannot serve 'resnet18.tv_in1k', a timm encoder",
        ),
        (
            ["--encoder", "features:f.npz", "--source", "imagenet"],
            "No method with that source can serve 'features:f.npz'.",
        ),
        (
            ["--encoder", "features:broken.npz"],
            "broken.npz is not a readable .npz file (BadZipFile",
        ),
        (
            ["--encoder", "features:secret.npz"],
            "secret.npz is not a readable .npz file (RuntimeError: File 'ids.npy' is encrypted",
        ),
        (
            ["--encoder", "features:broken.parquet"],
            "broken.parquet is not a readable .parquet file (",
        ),
        (
            ["--encoder", "aimv2_1b_patch14_224.apple_pt", "--readout", "last4"],
            "has no readout 'last4'. Allowed: pool, mean.",
        ),
    ],
)
def test_wrong_combinations(
    arguments: list[str],
    message: str,
    medbench: Medbench,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.savez(tmp_path / "f.npz", ids=["a"], features=np.ones((1, 2)))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "secret.npz").write_bytes(with_bit((tmp_path / "f.npz").read_bytes(), 8, 6, 1))
    assert medbench("run", "--data", "phantom", *arguments) == 2
    assert message in capsys.readouterr().err


def test_methods_serve_the_encoders_that_they_can(
    medbench: Medbench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One command for an encoder of one's own beside the default.

    Each named method serves some encoder, each encoder has one.
    """
    (tmp_path / "mine.py").write_text(OWN)
    both = (
        "run",
        "--data",
        "phantom",
        "--labels",
        "10",
        "--encoder",
        "mine.py:tiny,tf_efficientnet_lite0",
        "--plan",
        "--methods",
    )
    assert medbench(*both, "given,supervised") == 0
    said = capsys.readouterr()
    assert "supervised: left out for mine.py:tiny, an encoder of your own" in said.err
    assert "given: left out for tf_efficientnet_lite0, a timm encoder" in said.err
    assert medbench(*both, "supervised") == 2
    assert (
        "cannot serve 'mine.py:tiny', an encoder of your own. Allowed: given. Next: name one of these, too"
        in capsys.readouterr().err
    )
    assert medbench(*both, "given") == 2
    assert (
        "'given' cannot serve 'tf_efficientnet_lite0', a timm encoder. Allowed:"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("body", "line", "said"),
    [
        ("torch.nn.Identity()", 3, r"mine\.py:net gave \(2, 3, 32, 32\) for two images of 32 px"),
        ("torch.nn.Linear(1, 2)", 4, "mine.py:net failed: RuntimeError"),
        ("'no module'", 3, "mine.py:net failed: TypeError: it returned a str"),
        ("1 / 0", 4, "mine.py:net failed: ZeroDivisionError"),
        ("missing", 4, "mine.py:net failed: NameError"),
    ],
)
def test_the_author_of_an_encoder_is_told_file_and_line(
    body: str, line: int, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        f"import torch\n\ndef net(size=32, mean=(0, 0, 0), std=(1, 1, 1)):\n    return {body}\n"
    )
    user_encoder.module.cache_clear()
    with pytest.raises(UserError, match=rf"mine\.py, line \d: {said}") as told:
        user_encoder.module(encoders.encoder(f"{file}:net"))
    if "Linear" not in body:  # it fails in torch, behind the user's lines
        assert f"line {line}: " in str(told.value)
    assert "\n" not in str(told.value)
