"""Encoders by name, their named checkpoints, and the way weights come here: installed, downloaded,
refused."""

from __future__ import annotations

import argparse
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from medbench.models import checkpoints, encoders, timm_answers, weights
from medbench.run import execution, planning
from medbench.schema import Encoder, Grid, UserError, registry


def test_architectures_are_timms() -> None:
    assert list(timm_answers.architectures()) == sorted(timm.list_models())


def test_the_embedded_weights_are_the_genuine_ones() -> None:
    """Every entry of the package's file arrives under timm's name, in order.

    The features tell images apart.
    """
    encoder = encoders.encoder(encoders.EMBEDDED)
    start = weights.supervised(encoder, Path())
    assert start.sha256.startswith("57934424"), (
        "torch.hub's rule: the file's name holds the start of its SHA-256"
    )
    net = weights.build_encoder(encoder, start, seed=0)
    saved = torch.load(start.file, map_location="cpu", weights_only=True)
    own = list(net.state_dict().values())
    assert all(
        torch.equal(a, b) for a, b in zip(list(saved.values())[: len(own)], own, strict=True)
    )
    assert len(saved) == len(own) + 2  # the classifier's weight and bias were removed
    with torch.inference_mode():
        assert net(torch.rand(2, 3, 64, 64)).shape == (2, 1280)


def test_random_weights_depend_on_the_seed_alone() -> None:
    encoder = encoders.encoder(encoders.EMBEDDED)
    method = registry.method("random")
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(drawn))
        drawn.append(
            method.encoder(
                encoder, method.weights(encoder, "none", seed, Path()), seed
            ).state_dict()["conv_stem.weight"]
        )
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert (
        method.weights(encoder, "none", 0, Path()).sha256
        != method.weights(encoder, "none", 1, Path()).sha256
    )


def test_sizes() -> None:
    assert encoders.encoder(encoders.EMBEDDED).size == 112
    assert encoders.encoder(encoders.EMBEDDED, phantom=True).size == 64
    assert encoders.encoder(encoders.EMBEDDED, 96).size == 96
    assert encoders.encoder("resnet50").size == 224
    assert encoders.encoder("vit_small_patch8_224.dino", phantom=True).size == 224, (
        "a ViT keeps its own"
    )


def test_an_encoder_has_its_named_checkpoints_preprocessing() -> None:
    encoder = encoders.encoder("resnet50")
    assert (encoder.name, encoder.interpolation, encoder.mean) == (
        "resnet50.tv_in1k",
        "bilinear",
        (0.485, 0.456, 0.406),
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnet51",
            r"Unknown encoder 'resnet51'.*Did you mean 'resnet\w+'.*medbench list encoders",
        ),
        ("resnet18", r"has 7 checkpoints: say which .*resnet18.tv_in1k"),
        ("resnet18.tv3_in1k", r"no checkpoint 'tv3_in1k'.*Did you mean 'resnet18.tv_in1k'"),
    ],
)
def test_a_wrong_encoder_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        encoders.encoder(name)


@pytest.mark.parametrize("size", [8, 5000])
def test_a_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=rf"Image size {size} is out of range.*32 to 1024"):
        encoders.encoder(encoders.EMBEDDED, size)


@pytest.mark.parametrize(
    "name",
    ["vit_small_patch8_224.dino", "resnet50.fb_ssl_yfcc100m_ft_in1k", "vit_base_patch16_224.mae"],
)
def test_a_self_supervised_checkpoint_is_not_called_supervised(name: str) -> None:
    with pytest.raises(
        UserError,
        match="no supervised weights in timm; its checkpoint was not trained on class labels alone",
    ):
        weights.supervised(encoders.encoder(name), Path())


def test_supervised_means_class_labels_all_the_way() -> None:
    names = [
        "vit_base_patch16_224.augreg_in21k_ft_in1k",
        "resnet50.tv_in1k",
        "convnext_tiny.in12k",
        "deit_small_patch16_224.fb_in1k",
    ]
    others = [
        "vit_base_patch16_224.mae",
        "beit_base_patch16_224.in22k_ft_in22k",
        "tf_efficientnet_b0.ns_jft_in1k",
        "regnety_160.swag_ft_in1k",
    ]
    assert [weights._is_supervised(*name.split(".")) for name in names + others] == [True] * 4 + [
        False
    ] * 4


@pytest.mark.usefixtures("empty_hub_cache")
def test_offline_and_not_cached_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        UserError,
        match=r"'resnet18.tv_in1k' are not in the cache and cannot be fetched \(HF_HUB_OFFLINE is set\).*Next: ",
    ):
        weights.supervised(encoders.encoder("resnet18.tv_in1k"), tmp_path)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A hub on 127.0.0.1 with one checkpoint of the true layout: timm's key names and shapes,
    safetensors."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("hub") / "model.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), file)
    content = file.read_bytes()
    etag = hashlib.sha256(content).hexdigest()

    class Hub(BaseHTTPRequestHandler):
        def respond(self) -> None:
            found = self.path == "/timm/resnet18.tv_in1k/resolve/main/model.safetensors"
            self.send_response(200 if found or self.path == "/" else 404)
            if not found and self.path != "/":
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.end_headers()
            if found and self.command == "GET":
                self.wfile.write(content)

        do_GET = do_HEAD = respond

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def empty_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub's client reads these when it is imported, so the environment would come too late."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.usefixtures("empty_hub_cache")
def test_weights_are_fetched_once_and_checked_ever_after(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        hub + "/{repo_id}/resolve/{revision}/{filename}",
    )
    encoder = encoders.encoder("resnet18.tv_in1k", 64)
    start = weights.supervised(encoder, tmp_path)
    assert (start.name, start.trained_on) == ("resnet18.tv_in1k (supervised)", ("ImageNet-1k",))
    net = weights.build_encoder(encoder, start, seed=1)
    torch.manual_seed(0)
    assert torch.equal(net.conv1.weight, timm.create_model("resnet18").conv1.weight), (
        "the downloaded weights are the ones in use"
    )
    with torch.inference_mode():
        assert net(torch.rand(2, 3, 64, 64)).shape == (2, 512)

    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    assert weights.supervised(encoder, tmp_path) == start, "a second plan needs no network"

    (tmp_path / "weights" / "resnet18.tv_in1k.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(
        UserError, match=r"'resnet18.tv_in1k' have changed: SHA-256 .*first seen as 000000000000"
    ):
        weights.supervised(encoder, tmp_path)


@pytest.mark.usefixtures("empty_hub_cache")
def test_no_way_to_the_hub_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    message = r"cannot be fetched \(no way to http://127.0.0.1:1: .*Next: with a network, hf download timm/resnet18.tv_in1k"
    with pytest.raises(UserError, match=message):
        weights.supervised(encoders.encoder("resnet18.tv_in1k"), tmp_path)


def test_a_checkpoint_with_a_missing_key_is_refused(tmp_path: Path) -> None:
    encoder = encoders.encoder("resnet18.tv_in1k", 64)
    state = timm.create_model("resnet18").state_dict()
    del state["layer1.0.conv1.weight"]
    file = tmp_path / "model.pth"
    torch.save(state, file)
    start = weights.Weights("mine", "0" * 64, (), file)
    with pytest.raises(
        UserError, match=r"model.pth does not fit resnet18.tv_in1k: .*layer1.0.conv1.weight"
    ):
        weights.build_encoder(encoder, start, 0)


# --- weights of a user's own ---

TINY = "test_resnet.r160_in1k"  # timm's, of 0.5 M parameters


def tiny(seed: int = 0) -> dict[str, torch.Tensor]:
    """The state dict of a network with classifier, as a user would save it."""
    torch.manual_seed(seed)
    state = timm.create_model("test_resnet").state_dict()
    return {
        name: torch.rand_like(value) if value.is_floating_point() else value
        for name, value in state.items()
    }


def under(prefix: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


def without_classifier(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


def given(file: Path, name: str = TINY, size: int = 64) -> Encoder:
    return encoders.encoder(name, size, weights=file)


HEAD = {"projection_head.layers.0.weight": torch.zeros(2, 2)}
SAVED: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "plain": (lambda s: s, "without fc"),
    "encoder alone": (without_classifier, "as it is"),
    # facebookresearch/moco, main_moco.py: DistributedDataParallel around encoder_q, encoder_k and a
    # queue
    "moco": (
        lambda s: {
            "epoch": 200,
            "arch": "resnet50",
            "state_dict": under(
                "module.",
                {**under("encoder_q.", s), **under("encoder_k.", tiny(1)), "queue": torch.zeros(2)},
            ),
        },
        "state_dict, prefix module.encoder_q., without queue, fc, not encoder_k",
    ),
    "lightning": (  # a LightningModule with the network in self.model
        lambda s: {
            "epoch": 3,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": under("model.", s),
            "hyper_parameters": {"lr": 0.1},
        },
        "state_dict, prefix model., without fc",
    ),
    # lightly's examples: self.backbone, self.projection_head, and their momentum copies
    "lightly": (
        lambda s: {
            "state_dict": {
                **under("backbone.", without_classifier(s)),
                **HEAD,
                **under("backbone_momentum.", without_classifier(tiny(1))),
            }
        },
        "state_dict, prefix backbone., without projection_head, not backbone_momentum",
    ),
    "lightly dino": (
        lambda s: {
            **under("student_backbone.", without_classifier(tiny(1))),
            **under("student_head.", HEAD),
            **under("teacher_backbone.", without_classifier(s)),
            **under("teacher_head.", HEAD),
        },
        "prefix teacher_backbone., without student_head, teacher_head, not student_backbone",
    ),
    "dino": (
        lambda s: {
            "student": under("module.backbone.", tiny(1)),
            "teacher": under("backbone.", s),
            "args": argparse.Namespace(lr=0.1),
        },
        "teacher, prefix backbone., without fc, not student",
    ),
    "timm": (  # timm's CheckpointSaver
        lambda s: {
            "epoch": 1,
            "arch": "resnet",
            "state_dict": s,
            "metric": np.float64(0.7),
            "args": argparse.Namespace(data=Path("/data")),
        },
        "state_dict, without fc",
    ),
    "encoder": (
        lambda s: {"model": under("encoder.", without_classifier(s))},
        "model, prefix encoder.",
    ),
    "compiled": (lambda s: under("_orig_mod.", s), "prefix _orig_mod., without fc"),
    "student alone": (
        lambda s: {"student": under("module.", s)},
        "student, prefix module., without fc",
    ),
    "half": (
        lambda s: {
            name: value.half() if value.is_floating_point() else value for name, value in s.items()
        },
        "without fc",
    ),
    "before torch 0.4.1": (
        lambda s: {name: value for name, value in s.items() if "num_batches" not in name},
        "without fc",
    ),
}


@pytest.mark.parametrize("kind", SAVED)
@pytest.mark.parametrize("new", [True, False], ids=["zip", "pickle"])
def test_a_users_checkpoint_is_recognised_and_said(kind: str, new: bool, tmp_path: Path) -> None:
    wrap, said = SAVED[kind]
    state = tiny()
    torch.save(wrap(state), tmp_path / "mine.pth", _use_new_zipfile_serialization=new)
    encoder = given(tmp_path / "mine.pth")
    assert (encoder.name, encoder.kind, encoder.architecture) == (
        f"{TINY}:mine.pth",
        "weights",
        "test_resnet",
    )
    start = registry.method("given").weights(encoder, "given", 0, tmp_path)
    assert (start.name, start.layout, start.trained_on) == (f"mine.pth ({said})", "own", ())
    assert start.sha256 == hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest()
    net = registry.method("given").encoder(encoder, start, 0)
    for name, value in net.state_dict().items():
        if "num_batches" not in name:
            assert torch.allclose(value, state[name], atol=1e-3 if kind == "half" else 0), name
    with torch.inference_mode():
        assert net(torch.rand(2, 3, 64, 64)).shape == (2, net.num_features)


def doubled(state: dict[str, Any]) -> dict[str, Any]:
    """Another network: weights that are not the ones meant."""
    return {
        name: value * 2 if value.is_floating_point() else value for name, value in state.items()
    }


#: How a file holds the averaged weights `s` beside the raw ones `r`, and what is said.
BESIDE = {
    "timm": (
        lambda s, r: {"state_dict": r, "state_dict_ema": s},
        "state_dict_ema, without fc, not state_dict",
    ),
    "timm, older": (
        lambda s, r: {"model": r, "model_ema": s, "optimizer": {}},
        "model_ema, without fc, not model",
    ),
    "ema": (
        lambda s, r: {"model": r, "ema": under("module.", s)},
        "ema, prefix module., without fc, not model",
    ),
    "ema within": (
        lambda s, r: {"model": r, "ema": {"state_dict": s, "decay": 0.99}},
        "ema > state_dict, without fc, not model",
    ),
    "swa": (
        lambda s, r: {
            "state_dict": r,
            "swa_model": {"n_averaged": torch.tensor(3), **under("module.", s)},
        },
        None,
    ),
    "teacher": (lambda s, r: {"student": r, "teacher": s}, "teacher, without fc, not student"),
    "lightning": (
        lambda s, r: {"state_dict": {**under("model.", r), **under("ema_model.", s)}},
        "state_dict, prefix ema_model., without fc, not model",
    ),
    "one dict": (lambda s, r: {**r, **under("model_ema.module.", s)}, None),
    "one dict, another name": (
        lambda s, r: {**under("net.", r), **under("avg_model.module.", s)},
        None,
    ),
    "BasicSR": (lambda s, r: {"params": r, "params_ema": s}, "params_ema, without fc, not params"),
    "in a module": (
        lambda s, r: {"model": r, "ema": {"module": s, "updates": 7}},
        "ema > module, without fc, not model",
    ),
    "in capitals": (lambda s, r: {"model": r, "EMA": s}, "EMA, without fc, not model"),
    "another word": (lambda s, r: {"state_dict": r, "model_swa": under("module.", s)}, None),
    "a callback": (
        lambda s, r: {
            "state_dict": r,
            "callbacks": {"EMA": {"ema_state_dict": s}},
            "optimizer_states": [{"state": {}}],
        },
        "callbacks > EMA > ema_state_dict, without fc, not state_dict",
    ),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_averaged_weights_are_taken_beside_raw_ones_as_timms_own_loader_does(
    kind: str, tmp_path: Path
) -> None:
    wrap, said = BESIDE[kind]
    state = tiny()
    torch.save(wrap(state, doubled(state)), tmp_path / "mine.pth")
    encoder = given(tmp_path / "mine.pth")
    start = weights.own(encoder, tmp_path)
    net = weights.build_encoder(encoder, start, 0)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert said is None or start.name == f"mine.pth ({said})"
    assert start.sha256 == hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest(), (
        "the file's, as ever"
    )
    assert start.state and start.identity != start.sha256, (
        "which was taken is part of the identity, where there was a choice"
    )
    if kind.startswith("timm"):
        from timm.models import load_state_dict

        theirs = load_state_dict(str(tmp_path / "mine.pth"))
        assert all(torch.equal(theirs[name], state[name]) for name in state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s},
        lambda s: {"model": s, "ema": {"decay": torch.tensor(0.9)}},
        lambda s: {"model": s, "ema": None},
        lambda s: {"model": s, "avg_metrics": {"confusion": torch.eye(3)}},
        lambda s: {"model": s, "ema": {"params": {"decay": torch.ones(1)}}},
    ],
)
def test_a_file_with_one_network_has_the_identity_of_its_bytes(
    wrap: Callable[[Any], Any], tmp_path: Path
) -> None:
    state = tiny()
    torch.save(wrap(state), tmp_path / "mine.pth")
    start = weights.own(given(tmp_path / "mine.pth"), tmp_path)
    assert start.state == "" and start.identity == start.sha256 and " not " not in start.name
    assert torch.equal(
        weights.build_encoder(given(tmp_path / "mine.pth"), start, 0).conv1[0].weight,
        state["conv1.0.weight"],
    )


def test_averaged_weights_without_names_are_asked_about(tmp_path: Path) -> None:
    state = tiny()
    torch.save(
        {"model": state, "ema": {"shadow_params": list(state.values()), "decay": 0.9}},
        tmp_path / "mine.pth",
    )
    with pytest.raises(
        UserError,
        match=r"the averaged weights of mine\.pth \(ema > shadow_params\) are a list without names.*copy_to",
    ):
        weights.own(given(tmp_path / "mine.pth"), tmp_path)


def test_a_dict_that_holds_itself_is_refused(tmp_path: Path) -> None:
    around: dict[str, Any] = {}
    around["model"] = around
    torch.save(around, tmp_path / "mine.pth")
    with pytest.raises(UserError, match=r"mine\.pth is not a state dict"):
        weights.own(given(tmp_path / "mine.pth"), tmp_path)


def test_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = tiny()
    save_file(under("module.", state), tmp_path / "mine.safetensors")
    encoder = given(tmp_path / "mine.safetensors")
    start = weights.own(encoder, tmp_path)
    assert start.name == "mine.safetensors (prefix module., without fc)"
    assert torch.equal(
        weights.build_encoder(encoder, start, 0).conv1[0].weight, state["conv1.0.weight"]
    )
    (tmp_path / "mine.safetensors").write_bytes((tmp_path / "mine.safetensors").read_bytes()[:-100])
    with pytest.raises(
        UserError, match=r"mine.safetensors is broken or incomplete: .*Next: fetch it again"
    ):
        weights.own(encoder, tmp_path)


def test_a_head_that_is_the_networks_own_is_kept(tmp_path: Path) -> None:
    """ConvNeXt's last norm is called head.norm: it belongs to the encoder, head.fc does not."""
    state = timm.create_model("test_convnext").state_dict()
    state["head.norm.weight"] = torch.rand_like(state["head.norm.weight"])
    torch.save(under("backbone.", state), tmp_path / "mine.pth")
    encoder = given(tmp_path / "mine.pth", "test_convnext.r160_in1k")
    net = weights.build_encoder(encoder, weights.own(encoder, tmp_path), 0)
    assert torch.equal(net.head.norm.weight, state["head.norm.weight"])


def test_the_default_encoder_takes_weights_too(tmp_path: Path) -> None:
    trained = weights.build_encoder(
        encoders.encoder(encoders.EMBEDDED),
        weights.supervised(encoders.encoder(encoders.EMBEDDED), tmp_path),
        0,
    )
    torch.save(trained.state_dict(), tmp_path / "weights.pth")  # as pretraining writes it
    encoder = given(tmp_path / "weights.pth", encoders.EMBEDDED)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        for layout in ("own", "encoder"):
            start = weights.Weights("", "", (), tmp_path / "weights.pth", layout)
            assert torch.equal(weights.build_encoder(encoder, start, 0)(images), trained(images))


def lacking(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not name.startswith("layer1.0.")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda: lacking(tiny()),
            r"mine.pth does not fit test_resnet: \d+ missing \(layer1.0.conv1.weight, .*, \.\.\.\)\. Next: medbench run",
        ),
        (
            lambda: {**tiny(), "extra.weight": torch.zeros(1)},
            r"does not fit test_resnet: 1 unexpected \(extra.weight\)",
        ),
        (
            lambda: {**tiny(), "bn1.weight": torch.zeros(3)},
            r"1 of another shape \(bn1.weight \(3,\) instead of \(\d+,\)\)",
        ),
        (
            lambda: {**tiny(), "bn1.weight": tiny()["bn1.weight"].to(torch.complex64)},
            r"1 no real numbers \(bn1.weight complex64\)",
        ),
        (
            lambda: {**tiny(), "bn1.weight": tiny()["bn1.weight"].to(torch.int8)},
            r"1 no real numbers \(bn1.weight int8\)",
        ),
        (
            lambda: {**tiny(), "bn1.weight": tiny()["bn1.weight"] / 0},
            r"does not fit test_resnet: 1 not finite \(bn1.weight\)",
        ),
        (
            lambda: timm.create_model("test_vit").state_dict(),
            r"does not fit test_resnet: \d+ missing \(conv1.*; \d+ unexpected \(cls_token, ",
        ),
        (
            lambda: timm.create_model("test_resnet"),
            r"holds more than weights \(timm.models.resnet.ResNet\).*torch.save\(torch.load\('mine.pth'",
        ),
        (lambda: [torch.zeros(1)], r"mine.pth holds a list, not a state dict"),
        (
            lambda: {"epoch": 3, "lr": 0.1},
            r"mine.pth is not a state dict, names with tensors: 2 entries are none, epoch, lr",
        ),
        (
            lambda: {"state_dict": {}},
            r"mine.pth is not a state dict, names with tensors: it is empty",
        ),
        (
            lambda: under("backbone.", tiny()) | under("encoder.", tiny(1)),
            r"holds two networks, with and without the prefix 'encoder.'",
        ),
    ],
)
@pytest.mark.parametrize("new", [True, False], ids=["zip", "pickle"])
def test_a_checkpoint_that_does_not_fit(
    content: Callable[[], Any], message: str, new: bool, tmp_path: Path
) -> None:
    torch.save(content(), tmp_path / "mine.pth", _use_new_zipfile_serialization=new)
    with pytest.raises(UserError, match=message):
        weights.own(given(tmp_path / "mine.pth"), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "mine.pth is empty"),
        (b"<!DOCTYPE html><html>404</html>", "mine.pth is a web page: a download went wrong"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:fa41",
            "mine.pth is a Git LFS pointer: `git lfs pull`",
        ),
        (
            b"accuracy,0.7",
            "mine.pth is not a checkpoint. Allowed: a file of torch.save or of safetensors",
        ),
        (b"\x80\x02nonsense", "mine.pth is broken or incomplete"),
        (b"PK\x03\x04nonsense", "mine.pth is broken or incomplete"),
    ],
)
def test_a_file_that_is_no_checkpoint(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(content)
    with pytest.raises(UserError, match=message):
        weights.own(given(tmp_path / "mine.pth"), tmp_path)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "pickle"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_checkpoint_that_broke_off(share: float, new: bool, tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    torch.save(tiny(), file, _use_new_zipfile_serialization=new)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        UserError, match=r"mine.pth is broken or incomplete: .*Next: fetch it again"
    ):
        weights.own(given(file), tmp_path)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").touch()
    with pytest.raises(
        UserError,
        match=r"mien.pth does not exist\. Allowed: mine.pth, simclr-rn50.*Did you mean 'mine.pth'\?",
    ):
        given(tmp_path / "mien.pth")
    with pytest.raises(
        UserError,
        match=rf"{tmp_path} is a folder\. Allowed: mine\.pth\. Next: --weights {tmp_path}/FILE",
    ):
        given(tmp_path)
    with pytest.raises(
        UserError,
        match=r"dino-vit8 does not exist\..*Did you mean 'dino-vits8'\?.*medbench list checkpoints",
    ):
        given(Path("dino-vit8"))
    with pytest.raises(UserError, match=r"'features:f.npz' brings its own: it takes no --weights"):
        encoders.encoder("features:f.npz", weights=tmp_path / "mine.pth")


def test_an_official_checkpoint_by_name(tmp_path: Path) -> None:
    encoder = given(Path("simclr-rn50-google"), "resnet50")
    assert encoder.name == "resnet50:simclr-rn50-google"
    with pytest.raises(UserError, match=r"cannot be downloaded as they are"):
        weights.own(encoder, tmp_path)
    with pytest.raises(
        UserError,
        match=r"'simclr-rn50-google' is of resnet50, not of test_resnet.*--encoder resnet50",
    ):
        weights.own(given(Path("simclr-rn50-google")), tmp_path)
    file = tmp_path / "weights" / "simclr-rn50-google" / "resnet50-1x.pth"
    torch.save(
        {
            "state_dict": {
                name: torch.zeros(()).expand(value.shape)
                for name, value in hollow_resnet50().items()
            }
        },
        file,
    )
    start = weights.own(encoder, tmp_path)
    assert (start.name, start.layout, start.mean, start.std) == (
        "simclr-rn50-google",
        "simclr-google",
        (0, 0, 0),
        (1, 1, 1),
    )


def hollow_resnet50() -> dict[str, torch.Tensor]:
    import torchvision

    with torch.device("meta"):
        return dict(torchvision.models.resnet50().state_dict())


def test_own_weights_are_judged_end_to_end(folder: Path, tmp_path: Path) -> None:
    torch.save(under("module.", tiny()), tmp_path / "mine.pth")
    asked = Grid(
        tasks=(f"folder:{folder}",),
        encoders=(TINY,),
        weights=str(tmp_path / "mine.pth"),
        size=32,
        labels=("100",),
        readouts=("pool", "mean"),
    )
    rows = list(execution.run(asked, tmp_path / "out").rows().values())
    assert [(row.cell.method, row.cell.encoder) for row in rows] == [
        ("given", f"{TINY}:mine.pth")
    ] * 2
    assert rows[0].provenance["weights"] == "mine.pth (prefix module., without fc)"
    before = {planned.fingerprint for planned in planning.plan(asked).cells}
    torch.save(under("module.", tiny(1)), tmp_path / "mine.pth")
    assert not before & {planned.fingerprint for planned in planning.plan(asked).cells}, (
        "other weights, other cells"
    )


def test_the_list_of_checkpoints(tmp_path: Path) -> None:
    lines = list(checkpoints.lines(tmp_path))
    assert len(lines) == len(checkpoints.CHECKPOINTS) + 1
    assert any(
        "nielsen-isic" in line
        and "HAM10000" in line
        and "193 MB" in line
        and "to be fetched" in line
        for line in lines
    )
