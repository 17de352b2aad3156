"""Encoders by name, their named checkpoints, and the way weights come here: installed, downloaded, refused."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch

from medbench import encoders, registry, weights
from medbench.spec import UserError


def test_architectures_are_timms() -> None:
    assert list(encoders.architectures()) == sorted(timm.list_models())


def test_the_embedded_weights_are_the_genuine_ones() -> None:
    """Every entry of the package's file arrives under timm's name, in order; the features tell images apart."""
    encoder = encoders.encoder(encoders.EMBEDDED)
    start = weights.supervised(encoder, Path())
    assert start.sha256.startswith("57934424"), "torch.hub's rule: the file's name holds the start of its SHA-256"
    net = weights.build(encoder, start, seed=0)
    saved = torch.load(start.file, map_location="cpu", weights_only=True)
    own = list(net.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(list(saved.values())[: len(own)], own, strict=True))
    assert len(saved) == len(own) + 2  # the classifier's weight and bias were removed
    with torch.inference_mode():
        assert net(torch.rand(2, 3, 64, 64)).shape == (2, 1280)


def test_random_weights_depend_on_the_seed_alone() -> None:
    encoder = encoders.encoder(encoders.EMBEDDED)
    method = registry.method("random")
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(drawn))
        drawn.append(method.encoder(encoder, method.weights(encoder, "none", seed, Path()), seed).state_dict()["conv_stem.weight"])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert method.weights(encoder, "none", 0, Path()).sha256 != method.weights(encoder, "none", 1, Path()).sha256


def test_sizes() -> None:
    assert encoders.encoder(encoders.EMBEDDED).size == 112
    assert encoders.encoder(encoders.EMBEDDED, phantom=True).size == 64
    assert encoders.encoder(encoders.EMBEDDED, 96).size == 96
    assert encoders.encoder("resnet50").size == 224
    assert encoders.encoder("vit_small_patch8_224.dino", phantom=True).size == 224, "a ViT keeps its own"


def test_an_encoder_has_its_named_checkpoints_preprocessing() -> None:
    encoder = encoders.encoder("resnet50")
    assert (encoder.name, encoder.interpolation, encoder.mean) == ("resnet50.tv_in1k", "bilinear", (0.485, 0.456, 0.406))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet51", r"Unknown encoder 'resnet51'.*Did you mean 'resnet\w+'.*medbench list encoders"),
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


@pytest.mark.parametrize("name", ["vit_small_patch8_224.dino", "resnet50.fb_ssl_yfcc100m_ft_in1k", "vit_base_patch16_224.mae"])
def test_a_self_supervised_checkpoint_is_not_called_supervised(name: str) -> None:
    with pytest.raises(UserError, match="no supervised weights in timm; its checkpoint was not trained on class labels alone"):
        weights.supervised(encoders.encoder(name), Path())


def test_supervised_means_class_labels_all_the_way() -> None:
    names = ["vit_base_patch16_224.augreg_in21k_ft_in1k", "resnet50.tv_in1k", "convnext_tiny.in12k", "deit_small_patch16_224.fb_in1k"]
    others = [
        "vit_base_patch16_224.mae",
        "beit_base_patch16_224.in22k_ft_in22k",
        "tf_efficientnet_b0.ns_jft_in1k",
        "regnety_160.swag_ft_in1k",
    ]
    assert [weights._is_supervised(*name.split(".")) for name in names + others] == [True] * 4 + [False] * 4


@pytest.mark.usefixtures("empty_hub_cache")
def test_offline_and_not_cached_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"'resnet18.tv_in1k' are not in the cache and cannot be fetched \(HF_HUB_OFFLINE is set\).*Next: "):
        weights.supervised(encoders.encoder("resnet18.tv_in1k"), tmp_path)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A hub on 127.0.0.1 with one checkpoint of the true layout: timm's key names and shapes, safetensors."""
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
def test_weights_are_fetched_once_and_checked_ever_after(hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", hub + "/{repo_id}/resolve/{revision}/{filename}")
    encoder = encoders.encoder("resnet18.tv_in1k", 64)
    start = weights.supervised(encoder, tmp_path)
    assert (start.name, start.trained_on) == ("resnet18.tv_in1k (supervised)", ("ImageNet-1k",))
    net = weights.build(encoder, start, seed=1)
    torch.manual_seed(0)
    assert torch.equal(net.conv1.weight, timm.create_model("resnet18").conv1.weight), "the downloaded weights are the ones in use"
    with torch.inference_mode():
        assert net(torch.rand(2, 3, 64, 64)).shape == (2, 512)

    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    assert weights.supervised(encoder, tmp_path) == start, "a second plan needs no network"

    (tmp_path / "weights" / "resnet18.tv_in1k.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"'resnet18.tv_in1k' have changed: SHA-256 .*first seen as 000000000000"):
        weights.supervised(encoder, tmp_path)


@pytest.mark.usefixtures("empty_hub_cache")
def test_no_way_to_the_hub_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(UserError, match=r"model.pth does not fit resnet18.tv_in1k: .*layer1.0.conv1.weight"):
        weights.build(encoder, start, 0)
