"""Low-rank adapters (LoRA, Hu et al. 2021) by peft.

Which layers get one, of which ranks, and the plain network that they come to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from medbench.models.finetune.network import Net, is_transformer
from medbench.schema import UserError

MOST = 0.02  # share of all weights that is trained, the head's with them
KEPT = 2  # of the ranks that are allowed, the largest ones are tried


def adapted_layers(encoder: nn.Module) -> list[str]:
    """Return the names of the layers that get an adapter.

    Linear ones inside attention, as in the paper (Hu et al. 2021); of a network without attention
    all ungrouped convolutions. Raises UserError for a network that has neither.
    """
    if is_transformer(encoder):
        found = [
            f"{prefix}.{name}" if prefix else name
            for prefix, module in encoder.named_modules()
            if type(module).__name__.endswith("Attention")
            and not isinstance(module, nn.MultiheadAttention)  # reads weights past its layers
            for name, layer in module.named_modules()
            if isinstance(layer, nn.Linear)
        ]
    else:
        found = [
            name
            for name, layer in encoder.named_modules()
            if isinstance(layer, nn.Conv2d) and layer.groups == 1
        ]
    names = list(dict.fromkeys(found))
    if not names:
        what = f"'lora' finds no layer for an adapter in {type(encoder).__name__}: it has neither linear layers in attention nor plain convolutions."
        raise UserError(what, then="run it with --protocols finetune")
    return names


def with_adapters(encoder: nn.Module, rank: int) -> nn.Module:
    """Return the encoder with an adapter of that rank beside each of `adapted_layers`.

    Each starts as nothing, and they alone are left to learn. encoder: is changed.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=adapted_layers(encoder),
        lora_dropout=0.0,
        bias="none",
    )
    encoder.requires_grad_(False)
    adapted: nn.Module = inject_adapter_in_model(config, encoder)
    return adapted


def merged(net: Net) -> Net:
    """Add what the adapters have learned to their layers' weights, in place; return the network.

    It is a plain network then, as before it had any.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for prefix, module in list(net.encoder.named_modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
                setattr(net.encoder.get_submodule(prefix), name, layer.get_base_layer())
    return net


def allowed_ranks(encoder: nn.Module, head: nn.Module, ranks: Sequence[int]) -> tuple[int, ...]:
    """Return the `KEPT` largest of these ranks that train at most `MOST` of the weights.

    Raises UserError where none does.
    """
    layers = [encoder.get_submodule(name) for name in adapted_layers(encoder)]
    each = sum(_of_rank_one(layer) for layer in layers)
    own = numbers(head.parameters())
    whole = numbers(encoder.parameters()) + own
    fit = [rank for rank in ranks if rank * each + own <= MOST * (whole + rank * each)]
    if not fit:
        share = (ranks[0] * each + own) / whole
        what = f"Adapters of rank {ranks[0]} and the head are {100 * share:.1f} % of the {whole:,} weights of this encoder: more than {100 * MOST:g} %."
        raise UserError(what, then="run it with --protocols finetune")
    return tuple(fit[-KEPT:])


def _of_rank_one(layer: nn.Module) -> int:
    if isinstance(layer, nn.Linear):
        return layer.in_features + layer.out_features
    assert isinstance(layer, nn.Conv2d), "only these two kinds are adapted"
    size = layer.kernel_size
    return layer.in_channels * size[0] * size[1] + layer.out_channels


def numbers(weights: Iterable[nn.Parameter]) -> int:
    """Return how many numbers these weights are."""
    return sum(weight.numel() for weight in weights)


def told(net: Net, rank: int) -> dict[str, float]:
    """Return what a row keeps of an adapter's cost.

    Weights that are trained and all, and the numbers that weights, gradients and Adam's two moments
    take, as a share of what they take where all are trained.
    """
    whole, trained = (
        numbers(net.parameters()),
        numbers(weight for weight in net.parameters() if weight.requires_grad),
    )
    # the same network without adapters
    full = 4 * (whole - trained + numbers(net.head.parameters()))
    return {
        "rank": rank,
        "trained": trained,
        "weights": whole,
        "share": trained / whole,
        "memory_of_full": (whole + 3 * trained) / full,
    }
