"""The network of a repository of the hub, with a readout: (B, 3, S, S) -> (B, D).

Built by the package that reads it. Weights are safetensors, or are read with `weights_only`: an
object in them is refused. Code of a repository is never run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from medbench.models import checkpoints, readout
from medbench.models import weights as timm_weights
from medbench.models.encoder_checks import broken_statistics
from medbench.models.foreign_errors import NOT_ITS_OWN
from medbench.models.hub import known, named
from medbench.models.hub.references import INDEX, Reference, check_readout
from medbench.models.hub.timm_form import timm_form
from medbench.models.timm_answers import architectures
from medbench.models.user_encoder import check_answers
from medbench.schema import Encoder, UserError, Weights, parsed

#: The packages also read their files, and import what a config names.
_FAILED = (*NOT_ITS_OWN, ImportError, OSError)

#: What transformers calls the vision part of a network of several.
TOWERS = ("vision_model", "vision_tower", "visual", "vision_encoder", "image_tower")


def build(encoder: Encoder, weights: Weights, pretrain_seed: int = 0) -> nn.Module:
    """Build the tower of a hub encoder with its readout, in eval mode: (B, 3, S, S) -> (B, D).

    pretrain_seed: changes nothing. Raises UserError where files, readout or size do not fit.
    """
    reference, files = named.weight_files(encoder)
    try:
        with torch.random.fork_rng(devices=[]), _quiet():
            net = _BUILDERS[reference.door.prefix](encoder, reference, files).eval()
    except UserError:
        raise
    except _FAILED as error:
        what = f"{reference} cannot be built by {reference.door.package}: {type(error).__name__}: {' '.join(str(error).split())[:300]}."
        raise UserError(what, then=f"see {reference.page}, or {named.FUNCTION}") from error
    if broken := broken_statistics(net):
        raise UserError(
            f"The weights of {reference} hold batch norms whose statistics are not numbers: {', '.join(broken[:3])}."
        )
    return net


def tried(encoder: Encoder, weights: Weights) -> nn.Module:
    """Build as `build`, and put two images through the tower, together and one by one.

    As through a user's own function. Raises UserError where it gives no vectors, or others
    together.
    """
    net = build(encoder, weights)
    try:
        check_answers(encoder, net)
    except readout.NoReadout as error:
        raise UserError(
            f"Encoder '{encoder.name}' has no readout '{encoder.readout}': {error}.",
            then="medbench run --readout pool",
        ) from error
    except _FAILED as error:
        what = f"{encoder.name} cannot be given images of {encoder.size} px: {type(error).__name__}: {' '.join(str(error).split())[:300]}."
        raise UserError(
            what, then="medbench run without --size, for the size that it was trained at"
        ) from error
    return net


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what packages log of weights that a tower does not need.

    It is said here where it matters.
    """
    logs = [logging.getLogger(name) for name in ("transformers", "open_clip", "timm")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _timm(encoder: Encoder, reference: Reference, files: list[Path]) -> nn.Module:
    import timm

    architecture, plain = timm_form(encoder)
    words = known.with_classes(plain)
    model: Any = timm.create_model(architecture, pretrained=False, num_classes=0, **words)
    model.load_state_dict(
        timm_weights.fitting_state(model, files[0], checkpoints.OWN, architecture)
    )
    if encoder.readout == "pool" and getattr(model, "global_pool", "avg") == "":
        # as its authors leave it: all tokens
        check_readout(reference, "pool", ("cls+mean", "cls", "mean"))
    return readout.with_readout(model, encoder.readout)


def _open_clip(encoder: Encoder, reference: Reference, files: list[Path]) -> nn.Module:
    """Return the vision tower alone, with its projection.

    The text tower, and what it would fetch, is left out.
    """
    from open_clip.model import _build_vision_tower, resize_pos_embed

    about = _config(encoder, "open_clip_config.json")["model_cfg"]
    vision = {
        **about["vision_cfg"],
        "timm_model_pretrained": False,
        "output_tokens": False,
        "image_size": encoder.size,
    }
    trunk = vision.get("timm_model_name")
    if trunk and str(trunk).partition(".")[0] not in architectures():
        raise UserError(
            f"{reference}: timm has no architecture '{trunk}'.",
            allowed=architectures(),
            given=str(trunk),
        )
    tower: nn.Module = _build_vision_tower(
        int(about["embed_dim"]), vision, bool(about.get("quick_gelu", False))
    )
    state = {
        name.removeprefix("module."): value
        for name, value in checkpoints.state_dict(files[0], "encoder").items()
    }
    state = {name: value.float() for name, value in state.items() if name.startswith("visual.")}
    resize_pos_embed(state, SimpleNamespace(visual=tower))
    tower.load_state_dict({name.removeprefix("visual."): value for name, value in state.items()})
    return tower


def _transformers(encoder: Encoder, reference: Reference, files: list[Path]) -> nn.Module:
    from transformers import AutoModel

    for file in files:
        if file.suffix == ".bin":
            checkpoints.state_dict(file, "encoder")  # refuses what is more than weights
    model, about = AutoModel.from_pretrained(
        str(encoder.file),
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        dtype=torch.float32,
        use_safetensors=files[0].name.removesuffix(INDEX).endswith(".safetensors"),
    )
    several = hasattr(model.config, "vision_config")
    tower = (
        next((getattr(model, name) for name in TOWERS if hasattr(model, name)), model)
        if several
        else model
    )
    inside = next(
        f"{name}." if name else "" for name, part in model.named_modules() if part is tower
    )
    lacking = [
        name.removeprefix(inside)
        for name in _names(about, "missing_keys", "mismatched_keys")
        if name.startswith(inside)
    ]
    pooler = [name for name in lacking if name.startswith("pooler.")]
    if len(lacking) > len(pooler):
        what = f"{reference} lacks weights of its own network: {len(lacking)} ({', '.join(lacking[:3])})."
        raise UserError(what, then=f"see {reference.page}")
    if pooler and encoder.readout == "pool":  # it would be drawn at random
        check_readout(reference, "pool", ("cls", "mean", "cls+mean"))
    return _Tower(tower, reference, encoder)


def _names(about: Mapping[str, Any], *kinds: str) -> list[str]:
    return sorted(
        name if isinstance(name, str) else name[0] for kind in kinds for name in about.get(kind, ())
    )


class _Tower(nn.Module):
    """A readout of a network of transformers.

    cls: the first token. mean: over patch tokens, class token and registers left out, or over the
    positions of a map. Both of the last hidden state, as transformers names it: CLIP's is before
    its last norm. pool: `pooler_output`.
    """

    def __init__(self, net: Any, reference: Reference, encoder: Encoder):
        super().__init__()
        from inspect import signature

        self.net, self.readout, self.reference = net, encoder.readout, reference
        resized = "interpolate_pos_encoding" in signature(
            net.forward
        ).parameters and encoder.size != getattr(net.config, "image_size", None)
        self.options = {"interpolate_pos_encoding": True} if resized else {}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features (B, D).

        Raises UserError for a readout that the network does not give.
        """
        out = self.net(pixel_values=images, **self.options)
        if self.readout == "pool":
            pooled: torch.Tensor | None = getattr(out, "pooler_output", None)
            if pooled is None:
                check_readout(self.reference, "pool", ("cls", "mean", "cls+mean"))
            assert pooled is not None, "refused above"
            return pooled.flatten(1)
        last: torch.Tensor = out.last_hidden_state
        if last.ndim == 4:
            if self.readout != "mean":
                check_readout(self.reference, self.readout, ("pool", "mean"))
            return last.mean((2, 3))
        cls, patches = self._tokens(last, images)
        found = {"cls": cls, "mean": patches.mean(1)}
        return torch.cat([found[name] for name in self.readout.split("+")], 1)

    def _tokens(
        self, last: torch.Tensor, images: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, D) class token and (B, N, D) patch tokens.

        Their number must come out: a wrong place would be another vector without a word.
        """
        config = self.net.config
        names = {name.rpartition(".")[2] for name, _ in self.net.named_parameters()}
        has_cls = bool(names & {"cls_token", "class_embedding", "class_token"})
        before = (
            int(has_cls)
            + int("distillation_token" in names)
            + int(getattr(config, "num_register_tokens", None) or 0)
        )
        patch = getattr(config, "patch_size", None)
        patch = patch[0] if isinstance(patch, list | tuple) else patch
        expected = (images.shape[-1] // patch) * (images.shape[-2] // patch) if patch else None
        if last.shape[1] - before != expected or (self.readout != "mean" and not has_cls):
            check_readout(
                self.reference,
                self.readout,
                ("pool",) if last.shape[1] - before != expected else ("pool", "mean"),
            )
        return last[:, 0], last[:, before:]


def _config(encoder: Encoder, name: str) -> dict[str, Any]:
    assert encoder.file is not None, "an encoder of the hub has a folder"
    found: dict[str, Any] = parsed((encoder.file / name).read_bytes())
    return found


_BUILDERS: dict[str, Callable[[Encoder, Reference, list[Path]], nn.Module]] = {
    "hf-hub": _timm,
    "hf": _transformers,
    "open_clip": _open_clip,
}
