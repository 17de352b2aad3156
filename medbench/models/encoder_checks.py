"""What no encoder may do without a word, whoever wrote it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from medbench.schema import Encoder, UserError

if TYPE_CHECKING:
    import torch

STATISTICS = ("running_mean", "running_var")  # the buffers of a batch norm, by whatever class


def check_vectors(out: object, n: int, encoder: Encoder) -> None:
    """Check that an encoder's answer to n images is (n, D) of floating-point numbers.

    Raises UserError. Complex numbers would lose their imaginary part, and one row would stand for
    all images. Whole numbers and booleans are refused, too: that they are meant as values is the
    user's to say, by `.float()`.
    """
    what = _wrong(out, n)
    if what:
        images = "two images" if n == 2 else "one image" if n == 1 else f"{n} images"
        raise UserError(
            f"{encoder.name} gave {what} for {images} of {encoder.size} px.",
            allowed=[f"({n}, D), finite numbers, floating point"],
        )


def _wrong(out: object, n: int) -> str:
    """Say what stands in place of (n, D) floating-point numbers; "" where an answer is that."""
    import torch

    if not isinstance(out, torch.Tensor):
        return type(out).__name__
    if out.is_nested:  # whose shape cannot be asked for
        return "a nested tensor"
    sort = ["meta"] if out.is_meta else [str(out.layout)] if out.layout != torch.strided else []
    if sort or not out.is_floating_point():
        return f"{tuple(out.shape)} of {', '.join([*sort, str(out.dtype)])}".replace("torch.", "")
    return "" if out.ndim == 2 and len(out) == n and out.shape[1] > 0 else str(tuple(out.shape))


def broken_statistics(net: torch.nn.Module) -> list[str]:
    """Return the names of batch norms' buffers that hold what no statistic is.

    What is not finite, and a negative variance: an infinite one makes every image's value the same,
    without a word.
    """
    return [
        name
        for name, value in net.named_buffers()
        if name.endswith(STATISTICS)
        and not (value.isfinite().all() and (value.min() >= 0 or name.endswith("mean")))
    ]


def tensor_digests(net: torch.nn.Module) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and hash of each parameter and buffer of a network, by its name.

    Of buffers also those that are not in the state dict.
    """
    import torch

    found = {}
    for name, value in [*net.named_parameters(), *net.named_buffers()]:
        content = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        found[name] = (tuple(value.shape), hashlib.sha256(content).hexdigest())
    return found


def check_unchanged(
    net: torch.nn.Module, before: dict[str, tuple[tuple[int, ...], str]], encoder: Encoder
) -> None:
    """Check that a pass over the images left what `tensor_digests` saw before it.

    Raises UserError: each image would be seen by another network. A buffer that came, or has
    another shape, is what a network keeps for a size of batch.
    """
    now = tensor_digests(net)
    changed = [
        name
        for name, (shape, digest) in before.items()
        if name in now and now[name][0] == shape and now[name][1] != digest
    ]
    if changed:
        shown = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
        what = f"{encoder.name} changes its own weights while it embeds ({len(changed)} of {len(before)}: {shown})."
        raise UserError(
            what,
            then="fix the function: in eval mode a forward pass must leave parameters and buffers as they are",
        )
