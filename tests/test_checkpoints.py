"""Official checkpoints and layouts.

Keys come from upstream's own networks or source files, never from our remap run backwards.
"""

from __future__ import annotations

import argparse
import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F
from trees.serving import Served, Server

from medbench.models import checkpoints, encoders, timm_answers, weights
from medbench.models.checkpoints import download
from medbench.schema import Progress, UserError, Weights, parsed
from medbench.system.progress_listener import listening

Shapes = dict[str, tuple[int, ...]]


def shapes_of(network: torch.nn.Module) -> Shapes:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


with torch.device("meta"):
    # the names that VISSL, SwAV, DINO and simclr-converter keep
    RESNET50 = shapes_of(torchvision.models.resnet50())
    # sparsam saves timm's own network
    XCIT_TIMM = shapes_of(timm.create_model("xcit_small_12_p8_224", num_classes=0))


def dino_vit(patch: int) -> Shapes:
    """facebookresearch/dino, vision_transformer.py: vit_small, without classifier."""
    d, tokens = 384, (224 // patch) ** 2 + 1
    found: Shapes = {"cls_token": (1, 1, d), "pos_embed": (1, tokens, d)}
    found |= {"patch_embed.proj.weight": (d, 3, patch, patch), "patch_embed.proj.bias": (d,)}
    for i in range(12):
        for norm in ("norm1", "norm2"):
            found |= {f"blocks.{i}.{norm}.weight": (d,), f"blocks.{i}.{norm}.bias": (d,)}
        for layer, (rows, columns) in {
            "attn.qkv": (3 * d, d),
            "attn.proj": (d, d),
            "mlp.fc1": (4 * d, d),
            "mlp.fc2": (d, 4 * d),
        }.items():
            found |= {
                f"blocks.{i}.{layer}.weight": (rows, columns),
                f"blocks.{i}.{layer}.bias": (rows,),
            }
    return found | {"norm.weight": (d,), "norm.bias": (d,)}


def xcit() -> Shapes:
    """facebookresearch/xcit, xcit.py: xcit_small_12_p8, without classifier."""
    d = 384
    found: Shapes = {
        "cls_token": (1, 1, d),
        "pos_embeder.token_projection.weight": (d, 64, 1, 1),
        "pos_embeder.token_projection.bias": (d,),
    }
    norm = lambda name, n: {f"{name}.weight": (n,), f"{name}.bias": (n,)}
    batch_norm = lambda name, n: {
        **norm(name, n),
        f"{name}.running_mean": (n,),
        f"{name}.running_var": (n,),
        f"{name}.num_batches_tracked": (),
    }
    linear = lambda name, rows, columns: {
        f"{name}.weight": (rows, columns),
        f"{name}.bias": (rows,),
    }
    for i, (inside, outside) in {0: (3, d // 4), 2: (d // 4, d // 2), 4: (d // 2, d)}.items():
        found |= {
            f"patch_embed.proj.{i}.0.weight": (outside, inside, 3, 3),
            **batch_norm(f"patch_embed.proj.{i}.1", outside),
        }
    for block in [f"blocks.{i}" for i in range(12)] + [f"cls_attn_blocks.{i}" for i in range(2)]:
        found |= {
            **norm(f"{block}.norm1", d),
            **norm(f"{block}.norm2", d),
            f"{block}.gamma1": (d,),
            f"{block}.gamma2": (d,),
        }
        found |= {**linear(f"{block}.attn.qkv", 3 * d, d), **linear(f"{block}.attn.proj", d, d)}
        found |= {**linear(f"{block}.mlp.fc1", 4 * d, d), **linear(f"{block}.mlp.fc2", d, 4 * d)}
        if block.startswith("blocks"):
            found |= {
                f"{block}.gamma3": (d,),
                f"{block}.attn.temperature": (8, 1, 1),
                **norm(f"{block}.norm3", d),
            }
            found |= {f"{block}.local_mp.conv{k}.weight": (d, 1, 3, 3) for k in (1, 2)}
            found |= {f"{block}.local_mp.conv{k}.bias": (d,) for k in (1, 2)} | batch_norm(
                f"{block}.local_mp.bn", d
            )
    return found | norm("norm", d)


def drawn(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Values of a size that keeps activations finite and every entry different."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        fan = max(1, int(np.prod(shape[1:])))
        found[name] = (
            1 + noise.abs() / 10
            if name.endswith("running_var")
            else noise / fan**0.5
            if len(shape) > 1
            else noise / 10
        )
        if len(shape) == 1 and name.endswith("weight"):
            found[name] += 1
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(7)
    return found


def hollow(shapes: Shapes) -> dict[str, Tensor]:
    """Full shapes over a storage of one number: a file of a few kilobytes."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def prefixed(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


def encoder_of(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


def vissl(state: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of facebookresearch/vissl, issues 235, 550 and 566.

    Meters and losses hold NumPy numbers.
    """
    heads = {"0.clf.0.weight": torch.zeros(2048, 2048)[:1], "0.clf.0.bias": torch.zeros(1)}
    model = {"trunk": prefixed("_feature_blocks.", encoder_of(state)), "heads": heads}
    names = (
        "train",
        "meters",
        "optimizer",
        "phase_idx",
        "train_phase_idx",
        "num_updates",
        "losses",
        "hooks",
        "loss",
        "train_dataset_iterator",
        "amp",
    )
    classy = dict.fromkeys(names) | {
        "base_model": {"model": model},
        "losses": [np.float64(5.2)],
        "optimizer": {"lr": np.float32(0.1)},
    }
    return {
        "phase_idx": 999,
        "iteration": 312,
        "loss": {},
        "iteration_num": 0,
        "train_phase_idx": 999,
        "type": "phase",
        "classy_state_dict": classy,
    }


def swav(state: Mapping[str, Any]) -> dict[str, Any]:
    """facebookresearch/swav, resnet50.py under DistributedDataParallel.

    A head of two layers with batch norm, prototypes.
    """
    shapes = {
        "projection_head.0.weight": (2048, 2048),
        "projection_head.0.bias": (2048,),
        "projection_head.1.weight": (2048,),
    }
    shapes |= {
        "projection_head.1.bias": (2048,),
        "projection_head.1.running_mean": (2048,),
        "projection_head.1.running_var": (2048,),
    }
    shapes |= {
        "projection_head.3.weight": (128, 2048),
        "projection_head.3.bias": (128,),
        "prototypes.weight": (3000, 128),
    }
    return prefixed("module.", {**encoder_of(state), **hollow(shapes)})


def google(state: Mapping[str, Any]) -> dict[str, Any]:
    return {"state_dict": dict(state)}


def sparsam(state: Mapping[str, Any]) -> dict[str, Any]:
    head = hollow(
        {
            "projection_head.mlp.0.weight": (2048, 384),
            "projection_head.last_layer.weight_g": (65536, 1),
        }
    )
    return prefixed("backbone.", state) | head


def dino_full(state: Mapping[str, Any]) -> dict[str, Any]:
    """facebookresearch/dino, main_dino.py.

    The student under DistributedDataParallel, the teacher without for want of batch norm.
    """
    head = {"head.mlp.0.weight": torch.zeros(1), "head.last_layer.weight_g": torch.zeros(1)}
    student = prefixed(
        "module.",
        prefixed("backbone.", hollow({k: tuple(v.shape) for k, v in state.items()})) | head,
    )
    rest = {
        "optimizer": {},
        "epoch": 800,
        "args": argparse.Namespace(arch="vit_small", path=Path("/data")),
        "dino_loss": {"center": torch.zeros(1)},
    }
    return {"student": student, "teacher": prefixed("backbone.", state) | head, **rest}


def encoder(name: str, size: int = 224) -> Any:
    return encoders.encoder(name, size)


#: Every official file: its upstream shapes and its wrapping.
OFFICIAL: dict[str, tuple[Shapes, Callable[[dict[str, Tensor]], dict[str, Any]]]] = {
    **{
        entry.name: (RESNET50, vissl)
        for entry in checkpoints.CHECKPOINTS
        if entry.layout == "vissl"
    },
    "simclr-rn50-google": (RESNET50, google),
    "swav-rn50-800ep": (RESNET50, swav),
    "dino-vits8": (dino_vit(8), dict),
    "dino-vits16": (dino_vit(16), dict),
    "dino-rn50": (RESNET50, encoder_of),
    "dino-xcit-s12-8": (xcit(), dict),
    "supervised-rn50-tv": (RESNET50, dict),
    "supervised-rn50-tv2": (RESNET50, dict),
    # of 2017
    "supervised-rn50-vissl": (
        {name: shape for name, shape in RESNET50.items() if "num_batches" not in name},
        dict,
    ),
    **{
        entry.name: (XCIT_TIMM, sparsam)
        for entry in checkpoints.CHECKPOINTS
        if entry.layout == "sparsam"
    },
}


@pytest.mark.parametrize("entry", checkpoints.CHECKPOINTS, ids=lambda entry: entry.name)
def test_every_official_layout_fits_its_encoder_strictly(
    entry: checkpoints.Checkpoint, tmp_path: Path
) -> None:
    shapes, wrap = OFFICIAL[entry.name]
    file = tmp_path / entry.file
    # those of July 2020 are older
    torch.save(wrap(hollow(shapes)), file, _use_new_zipfile_serialization="vissl" not in entry.name)
    found = checkpoints.state_dict(file, entry.layout)
    assert len(found) == len([name for name in shapes if not name.startswith("fc.")])
    with torch.device("meta"):
        model = timm.create_model(entry.architecture, num_classes=0)
    own = model.state_dict()
    for layout in (entry.layout, "own"):  # stated, and recognised
        # raises where a name or a shape differs
        weights.fitting_state(model, file, layout, entry.architecture)
    assert len(found) >= len([name for name in own if "num_batches" not in name]) - 4, (
        "class attention is split in three: 2 x 2 more"
    )


@pytest.mark.parametrize(("wrap", "layout"), [(vissl, "vissl"), (google, "simclr-google")])
def test_a_resnet_gives_the_features_of_torchvisions(
    wrap: Callable[..., Any], layout: str, tmp_path: Path
) -> None:
    reference = torchvision.models.resnet50()
    reference.load_state_dict(drawn(RESNET50))
    reference.fc = torch.nn.Identity()
    torch.save(wrap(drawn(RESNET50)), tmp_path / "model.torch")
    start = Weights("", "", (), tmp_path / "model.torch", layout)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        ours, theirs = (
            weights.build_encoder(encoder("resnet50", 64), start, 0)(images),
            reference.eval()(images),
        )
    assert theirs.std() > 1e-3 and torch.allclose(
        ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max()
    )


def test_swavs_first_padding_is_torchvisions(tmp_path: Path) -> None:
    """Its network pads by one and convolves with a padding of two (resnet50.py).

    Three in all, as everywhere.
    """
    reference = torchvision.models.resnet50()
    reference.load_state_dict(drawn(RESNET50))
    reference.fc = torch.nn.Identity()
    reference.conv1.padding = (2, 2)
    torch.save(swav(drawn(RESNET50)), tmp_path / "swav.pth.tar")
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        ours = weights.build_encoder(
            encoder("resnet50", 64), Weights("", "", (), tmp_path / "swav.pth.tar", "swav"), 0
        )(images)
        theirs = reference.eval()(F.pad(images, (1, 1, 1, 1)))
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max())


def dino_forward(s: Mapping[str, Tensor], images: Tensor, patch: int) -> Tensor:
    """vision_transformer.py's forward in plain arithmetic: the class token after the last norm."""
    d, heads = 384, 6
    layer_norm = lambda x, name: F.layer_norm(x, (d,), s[f"{name}.weight"], s[f"{name}.bias"], 1e-6)
    linear = lambda x, name: x @ s[f"{name}.weight"].T + s[f"{name}.bias"]
    x = (
        F.conv2d(images, s["patch_embed.proj.weight"], s["patch_embed.proj.bias"], stride=patch)
        .flatten(2)
        .transpose(1, 2)
    )
    x = torch.cat([s["cls_token"].expand(len(x), -1, -1), x], 1) + s["pos_embed"]
    for b in [f"blocks.{i}" for i in range(12)]:
        q, k, v = (
            linear(layer_norm(x, f"{b}.norm1"), f"{b}.attn.qkv")
            .unflatten(2, (3, heads, d // heads))
            .permute(2, 0, 3, 1, 4)
        )
        attention = (q @ k.transpose(-2, -1) * (d // heads) ** -0.5).softmax(-1) @ v
        x = x + linear(attention.transpose(1, 2).flatten(2), f"{b}.attn.proj")
        x = x + linear(F.gelu(linear(layer_norm(x, f"{b}.norm2"), f"{b}.mlp.fc1")), f"{b}.mlp.fc2")
    return layer_norm(x, "norm")[:, 0]


@pytest.mark.parametrize(("wrap", "layout"), [(dict, "plain"), (dino_full, "dino-full")])
def test_dinos_vit_gives_the_features_of_its_own_forward(
    wrap: Callable[..., Any], layout: str, tmp_path: Path
) -> None:
    state = drawn(dino_vit(16))
    torch.save(wrap(state), tmp_path / "dino.pth")
    images = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        ours = weights.build_encoder(
            encoder("vit_small_patch16_224.dino"),
            Weights("", "", (), tmp_path / "dino.pth", layout),
            0,
        )(images)
        assert torch.allclose(ours, dino_forward(state, images, 16), atol=1e-4)


def test_a_vits_positions_are_resampled_to_the_size(tmp_path: Path) -> None:
    from timm.layers import resample_abs_pos_embed

    state = drawn(dino_vit(16))
    torch.save(state, tmp_path / "dino.pth")
    net = weights.build_encoder(
        encoder("vit_small_patch16_224.dino", 96),
        Weights("", "", (), tmp_path / "dino.pth", "plain"),
        0,
    )
    assert torch.equal(
        net.pos_embed, resample_abs_pos_embed(state["pos_embed"], [6, 6], num_prefix_tokens=1)
    )


def xcit_forward(s: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """facebookresearch/xcit's forward in plain arithmetic: xcit_small_12_p8, eight heads, the norm
    over all tokens in class attention."""
    d, heads = 384, 8
    layer_norm = lambda x, name: F.layer_norm(x, (d,), s[f"{name}.weight"], s[f"{name}.bias"], 1e-6)
    linear = lambda x, name: x @ s[f"{name}.weight"].T + s[f"{name}.bias"]
    stats = lambda name: [
        s[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    ]
    qkv = lambda x, name: (
        linear(x, f"{name}.attn.qkv").unflatten(2, (3, heads, d // heads)).permute(2, 0, 3, 1, 4)
    )
    mlp = lambda x, name: linear(F.gelu(linear(x, f"{name}.mlp.fc1")), f"{name}.mlp.fc2")
    x = images
    for i in (0, 2, 4):
        x = F.batch_norm(
            F.conv2d(x, s[f"patch_embed.proj.{i}.0.weight"], stride=2, padding=1),
            *stats(f"patch_embed.proj.{i}.1"),
        )
        x = F.gelu(x) if i < 4 else x
    h, w = x.shape[2:]
    along = [torch.arange(1, n + 1) / (n + 1e-6) * 2 * torch.pi for n in (h, w)]
    period = 10000 ** (2 * (torch.arange(32) // 2) / 32)
    fourier = [
        torch.stack(
            [(a[:, None] / period)[:, 0::2].sin(), (a[:, None] / period)[:, 1::2].cos()], 2
        ).flatten(1)
        for a in along
    ]
    grid = torch.cat(
        [fourier[0][:, None].expand(h, w, 32), fourier[1][None].expand(h, w, 32)], 2
    ).permute(2, 0, 1)[None]
    x = x + F.conv2d(
        grid, s["pos_embeder.token_projection.weight"], s["pos_embeder.token_projection.bias"]
    )
    x = x.flatten(2).transpose(1, 2)
    for b in [f"blocks.{i}" for i in range(12)]:
        q, k, v = (part.transpose(-2, -1) for part in qkv(layer_norm(x, f"{b}.norm1"), b))
        attention = (
            F.normalize(q, dim=-1)
            @ F.normalize(k, dim=-1).transpose(-2, -1)
            * s[f"{b}.attn.temperature"]
        ).softmax(-1)
        x = x + s[f"{b}.gamma1"] * linear(
            (attention @ v).permute(0, 3, 1, 2).flatten(2), f"{b}.attn.proj"
        )
        y = layer_norm(x, f"{b}.norm3").transpose(1, 2).unflatten(2, (h, w))
        y = F.gelu(
            F.conv2d(
                y,
                s[f"{b}.local_mp.conv1.weight"],
                s[f"{b}.local_mp.conv1.bias"],
                padding=1,
                groups=d,
            )
        )
        y = F.batch_norm(y, *stats(f"{b}.local_mp.bn"))
        y = F.conv2d(
            y, s[f"{b}.local_mp.conv2.weight"], s[f"{b}.local_mp.conv2.bias"], padding=1, groups=d
        )
        x = x + s[f"{b}.gamma3"] * y.flatten(2).transpose(1, 2)
        x = x + s[f"{b}.gamma2"] * mlp(layer_norm(x, f"{b}.norm2"), b)
    x = torch.cat([s["cls_token"].expand(len(x), -1, -1), x], 1)
    for b in ("cls_attn_blocks.0", "cls_attn_blocks.1"):
        y = layer_norm(x, f"{b}.norm1")
        q, k, v = qkv(y, b)
        attention = ((q[:, :, :1] * k).sum(-1) * (d // heads) ** -0.5).softmax(-1)
        cls = linear((attention[:, :, None] @ v).transpose(1, 2).flatten(2), f"{b}.attn.proj")
        x = layer_norm(x + s[f"{b}.gamma1"] * torch.cat([cls, y[:, 1:]], 1), f"{b}.norm2")
        x = x + torch.cat([s[f"{b}.gamma2"] * mlp(x[:, :1], b), x[:, 1:]], 1)
    return layer_norm(x, "norm")[:, 0]


def test_dinos_xcit_gives_the_features_of_its_own_forward(tmp_path: Path) -> None:
    state = drawn(xcit())
    torch.save(state, tmp_path / "xcit.pth")
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        ours = weights.build_encoder(
            encoder("xcit_small_12_p8_224.fb_in1k", 64),
            Weights("", "", (), tmp_path / "xcit.pth", "plain"),
            0,
        )(images)
        assert torch.allclose(ours, xcit_forward(state, images), atol=1e-4)


def test_the_list_agrees_with_itself() -> None:
    official = [
        (entry.method, entry.architecture) for entry in checkpoints.CHECKPOINTS if entry.official
    ]
    assert len(set(official)) == len(official), "`auto` means one"
    assert len({entry.name for entry in checkpoints.CHECKPOINTS}) == len(checkpoints.CHECKPOINTS)
    assert checkpoints.default_checkpoint("simclr", "resnet50") == checkpoints.checkpoint_named(
        "simclr-rn50-vissl-1000ep"
    )
    assert checkpoints.default_checkpoint("simclr", "vit_small_patch8_224") is None
    assert checkpoints.checkpoint_named("swav-rn50-800ep").std == (0.228, 0.224, 0.225)
    assert checkpoints.checkpoint_named("simclr-rn50-google").mean == (0, 0, 0)
    for entry in checkpoints.CHECKPOINTS:
        assert entry.encoder == entry.architecture or entry.encoder.partition(".")[
            2
        ] in timm_answers.tags_of(entry.architecture)
    with pytest.raises(
        UserError,
        match=r"Unknown checkpoint 'dino-vit8'.*Did you mean 'dino-vits8'\?.*medbench list checkpoints",
    ):
        checkpoints.checkpoint_named("dino-vit8")


# --- downloads, from a server on this machine ---


@pytest.fixture
def body(tmp_path: Path) -> bytes:
    """A file in SwAV's layout, of full shapes and few bytes."""
    torch.save(swav(hollow(RESNET50)), tmp_path / "upstream")
    return (tmp_path / "upstream").read_bytes()


@pytest.fixture
def entry(server: Server) -> checkpoints.Checkpoint:
    return replace(
        checkpoints.checkpoint_named("swav-rn50-800ep"),
        url=f"{server.url}/swav_800ep_pretrain.pth.tar",
    )


def left(cache: Path) -> list[str]:
    return sorted(
        file.name for file in cache.rglob("*") if file.is_file() and file.suffix != ".lock"
    )


def test_a_download_is_shown_verified_and_done_once(
    server: Server, entry: checkpoints.Checkpoint, body: bytes, tmp_path: Path
) -> None:
    server.files = {
        f"/{entry.file}": Served(b"", status=302, location="/elsewhere"),
        "/elsewhere": Served(body),
    }
    cache = tmp_path / "cache"
    heard: list[Progress] = []
    with listening(heard.append):
        start = checkpoints.weights(entry, cache)
    assert heard[-1].done == heard[-1].total > 0 and heard[-1].stage == f"downloading {entry.file}"
    assert (
        start.file == cache / "weights" / entry.name / entry.file
        and start.file.read_bytes() == body
    )
    assert (start.sha256, start.layout, start.std, start.interpolation) == (
        hashlib.sha256(body).hexdigest(),
        "swav",
        entry.std,
        "bilinear",
    )
    assert start.trained_on == ("ImageNet-1k",)
    assert [path for path, _ in server.asked] == [f"/{entry.file}", "/elsewhere"]
    assert checkpoints.weights(entry, cache) == start and len(server.asked) == 2, (
        "a second plan needs no network"
    )
    assert left(cache) == ["swav-rn50-800ep.json", "swav_800ep_pretrain.pth.tar"]
    assert any(
        "swav-rn50-800ep" in line and "in the cache" in line for line in checkpoints.lines(cache)
    )

    start.file.write_bytes(body + b"more")
    with pytest.raises(UserError, match=r"'swav-rn50-800ep' have changed: SHA-256 .*first seen as"):
        checkpoints.weights(entry, cache)


def test_a_download_that_breaks_off_starts_again(
    server: Server, entry: checkpoints.Checkpoint, body: bytes, tmp_path: Path
) -> None:
    server.files[f"/{entry.file}"] = Served(body, mark="", cut=[1000, 2000])
    assert checkpoints.weights(entry, tmp_path / "cache").sha256 == hashlib.sha256(body).hexdigest()
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "published", "message"),
    [
        (
            404,
            "",
            r"cannot be fetched \(the server answered 404 Not Found\).* Next: with a network, .* or fetch http://127",
        ),
        (
            200,
            "0" * 64,
            r"What came from http://127.* is not the published .*published 000000000000\.",
        ),
        (
            200,
            "0676ba61",
            r"is not the published 'swav-rn50-800ep': SHA-256 \w{8}, published 0676ba61\.",
        ),
    ],
)
def test_a_download_that_fails_leaves_nothing(
    status: int,
    published: str,
    message: str,
    server: Server,
    entry: checkpoints.Checkpoint,
    tmp_path: Path,
) -> None:
    server.files[f"/{entry.file}"] = Served(b"PK\x03\x04 something else", status=status)
    with pytest.raises(UserError, match=message):
        checkpoints.weights(replace(entry, sha256=published), tmp_path)
    assert left(tmp_path) == []


def test_what_is_no_checkpoint_is_not_recorded_as_one(
    server: Server, entry: checkpoints.Checkpoint, tmp_path: Path
) -> None:
    server.files[f"/{entry.file}"] = Served(b"<html>Log in to the hospital's network</html>")
    with pytest.raises(
        UserError, match=r"What came from http://127.* is a web page: a download went wrong"
    ):
        checkpoints.weights(entry, tmp_path)
    assert left(tmp_path) == []


def test_offline_says_what_to_do_and_a_file_put_there_by_hand_is_taken(
    server: Server, entry: checkpoints.Checkpoint, body: bytes, tmp_path: Path
) -> None:
    offline = replace(entry, url="http://127.0.0.1:1/swav_800ep_pretrain.pth.tar")
    with pytest.raises(UserError) as caught:
        checkpoints.weights(offline, tmp_path)
    folder = tmp_path / "weights" / entry.name
    assert "Connection refused" in str(caught.value)
    assert (
        f"or fetch {offline.url} elsewhere, put {entry.file} into {folder} and run the same command again"
        in str(caught.value)
    )
    (folder / entry.file).write_bytes(body)
    assert checkpoints.weights(offline, tmp_path).file == folder / entry.file

    with pytest.raises(
        UserError,
        match=r"is not the published .*; delete it|Next: delete it, or keep it elsewhere and give it to --weights",
    ):
        checkpoints.weights(replace(offline, sha256="1" * 64), tmp_path)
    assert (folder / entry.file).exists(), "a person's file is theirs"

    (folder / entry.file).unlink()
    server.files[f"/{entry.file}"] = Served(body)
    checkpoints.weights(entry, tmp_path)
    assert left(folder) == [entry.file]


def test_what_cannot_be_downloaded_says_how_to_get_it(tmp_path: Path) -> None:
    entry = checkpoints.checkpoint_named("simclr-rn50-google")
    with pytest.raises(
        UserError,
        match=r"cannot be downloaded as they are\. Next: .*simclr-converter: python convert\.py .*put resnet50-1x.pth into",
    ):
        checkpoints.weights(entry, tmp_path)
    torch.save(google(hollow(RESNET50)), tmp_path / "weights" / entry.name / "resnet50-1x.pth")
    assert checkpoints.weights(entry, tmp_path).mean == (0, 0, 0)


def test_two_runs_download_once(
    server: Server, entry: checkpoints.Checkpoint, body: bytes, tmp_path: Path
) -> None:
    server.files[f"/{entry.file}"] = Served(body)
    found: list[Weights] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(checkpoints.weights(entry, tmp_path / "cache"))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and found[0] == found[1] and len(server.asked) == 1


def test_a_recorded_hash_is_what_is_enforced(tmp_path: Path) -> None:
    download.remember(tmp_path, "a", "1" * 64)
    assert parsed((tmp_path / "weights" / "a.json").read_text()) == {"sha256": "1" * 64}
    download.remember(tmp_path, "a", "1" * 64)
    with pytest.raises(
        UserError, match=r"'a' have changed: SHA-256 222222222222, first seen as 111111111111"
    ):
        download.remember(tmp_path, "a", "2" * 64)
