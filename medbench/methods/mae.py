"""MAE: of a quarter of an image's patches, a ViT's decoder draws the others (He et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medbench.images import augment
from medbench.models import weights
from medbench.models.pretrain.initial_weights import SOURCES, starting
from medbench.models.pretrain.position import Position
from medbench.models.pretrain.recipe import Recipe, gentle, step_of
from medbench.models.timm_answers import kept
from medbench.schema import Encoder, Method, Split
from medbench.schema.methods import budgeted

if TYPE_CHECKING:
    import torch

    from medbench.models.pretrain.objective import Objective


def mae(backbone: Any, dim: int, recipe: Recipe) -> Objective:
    """Make MAE's objective: the mean squared error over the pixels of masked patches.

    Each patch is brought to mean 0 and variance 1. From random weights the positions are sines and
    cosines and stay so, as the authors'. Learnt ones start near zero: a short run does not find out
    where its patches lie, and its features told classes no better than random ones. Other weights
    start as the control `random` does, the authors' otherwise.
    """
    import torch
    from lightly.models import utils
    from lightly.models.modules.masked_vision_transformer_decoder_timm import (
        MaskedVisionTransformerDecoderTIMM,
    )
    from lightly.models.modules.masked_vision_transformer_timm import (
        MaskedVisionTransformerTIMM,
        init_weights,
    )

    from medbench.models.pretrain.objective import Objective

    hyper = recipe.hyper
    width, patch, prefix = (
        hyper["width"],
        backbone.patch_embed.patch_size[0],
        backbone.num_prefix_tokens,
    )
    patches: int = backbone.patch_embed.num_patches
    encoder = MaskedVisionTransformerTIMM(
        backbone, weight_initialization="skip", pos_embed_initialization="skip"
    )
    if hyper.get("positions") == "fixed":
        # class token and registers have one each, or none
        own = backbone.pos_embed.shape[1] - patches
        utils.initialize_2d_sine_cosine_positional_embedding(
            backbone.pos_embed, num_prefix_tokens=own
        )
    decoder = MaskedVisionTransformerDecoderTIMM(
        patches, width, hyper["depth"], hyper["heads"], prefix
    )
    embedding, pixels = (
        torch.nn.Linear(backbone.embed_dim, width),
        torch.nn.Linear(width, 3 * patch**2),
    )
    for layer in (embedding, pixels):
        layer.apply(init_weights)

    def project(views: Sequence[torch.Tensor], position: Position) -> list[torch.Tensor]:
        (images,) = views
        kept, masked = _masks(len(images), patches, prefix, hyper["masked"], images.device)
        # a norm that timm has behind an average is before it here
        tokens = backbone.fc_norm(encoder.encode(images, idx_keep=kept))
        objective.features = backbone.pool(tokens).detach()
        seen = embedding(tokens)
        whole = utils.repeat_token(decoder.mask_token, (len(images), prefix + patches)).to(
            seen.dtype
        )
        decoded = decoder(utils.set_at_index(whole, kept, seen))
        drawn = utils.get_at_index(utils.patchify(images, patch), masked - prefix)
        return [pixels(utils.get_at_index(decoded, masked)), utils.normalize_mean_var(drawn)]

    def criterion(outputs: list[torch.Tensor], position: Position) -> torch.Tensor:
        predicted, wanted = outputs
        return torch.nn.functional.mse_loss(predicted, wanted)

    objective = Objective(
        {"backbone": backbone, "embedding": embedding, "decoder": decoder, "pixels": pixels},
        project,
        criterion,
        # of a mean patch; the variance is the unbiased one, as in the authors' code
        chance=lambda batch: 1 - 1 / (3 * patch**2),
    )
    return objective


def _masks(
    images: int, patches: int, prefix: int, masked: float, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, kept) and (B, masked) places in the row of tokens, drawn for each image.

    Class token and registers are always kept.

    One process draws for all that share the batch, so that together they see what one would see.
    """
    import torch
    from torch import distributed

    from medbench.models.pretrain.checkpointing import DistributedContext

    world = DistributedContext.here()
    noise = torch.rand(images * world.size, patches, device=device)
    if world.size > 1:
        distributed.broadcast(noise, 0)
    order = noise[world.share(len(noise))].argsort(1) + prefix
    kept = int(patches * (1 - masked))
    first = torch.arange(prefix, device=device).expand(images, -1)
    return torch.cat([first, order[:, :kept]], 1), order[:, kept:]


def recipes(modality: str, budget: str, n_images: int, source: str) -> tuple[Recipe, ...]:
    """Return the one stage of MAE, as `Method.recipes` takes it."""
    crops = augment.mae_views(modality)
    # weights that were trained before have learnt their own
    start = {"positions": "fixed"} if source == "task" else {}
    if budget != "paper":
        # ours: a small decoder for a short run
        hyper = {"masked": 0.75, "width": 256, "depth": 2, "heads": 8, **start}
        return (
            Recipe(mae, crops, budgeted(budget, n_images), 0, hyper=hyper).having(**gentle(source)),
        )
    epochs = 800  # the authors', ImageNet's: facebookresearch/mae, PRETRAIN.md and main_pretrain.py
    batch, parts = step_of(4096, 256, n_images)
    return (
        Recipe(
            mae,
            crops,
            epochs * n_images,
            batch=batch,
            accumulate=parts,
            optimiser="adamw",
            betas=(0.9, 0.95),
            lr=1.5e-4 * batch / 256,
            warmup=40 / epochs,
            weight_decay=(0.05, 0.05),
            hyper={"masked": 0.75, "width": 512, "depth": 8, "heads": 16, **start},
        ),
    )


def _refuses(pool: Split, encoder: Encoder) -> str:
    """Of timm's models the plain ViT alone.

    Others have no tokens that can be left out, or more than positions to tell where a token was.
    """
    patch = kept(_patch_size, encoder.architecture)
    if patch is None:
        return "it is not a plain ViT (as vit_small_patch16_224 is), and only such a one can leave patches out"
    if encoder.size % patch or encoder.size < 2 * patch:
        return f"{encoder.size} pixels do not divide into patches of {patch} of which a quarter can be kept"
    return ""


def _patch_size(architecture: str) -> int | None:
    """Pixels of a plain ViT's patches; None for anything else."""
    import timm
    import torch
    from timm.models.vision_transformer import VisionTransformer

    with torch.device("meta"):
        model = timm.create_model(architecture, num_classes=0)
    if (
        type(model) is not VisionTransformer
        or model.pos_embed is None
        or model.global_pool not in ("token", "avg")
    ):
        return None
    patch: int = model.patch_embed.patch_size[0]
    return patch


MAE = Method(
    "mae",
    version=2,
    title="MAE (ViT only)",
    sources=SOURCES,
    weights=starting("mae"),
    encoder=weights.build_encoder,
    seeded=True,
    recipes=recipes,
    refuses=_refuses,
    default=False,
    citation="He et al. 2022, arXiv:2111.06377",
)
