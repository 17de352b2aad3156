"""A user's own method is tried on drawn images at plan time, as an added metric is.

Its encoder, and the loss of its pretraining: what fails there would fail every cell after an hour.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medbench.run.units import Unit
from medbench.schema import EntryFault, fingerprint, place_of, written_by

if TYPE_CHECKING:
    import torch

    from medbench.models.pretrain import Recipe
    from medbench.models.pretrain.objective import Objective
    from medbench.models.pretrain.position import Position

#: Drawn images of a trial.
IMAGES = 4


def try_own_method(unit: Unit, tried: set[str]) -> None:
    """Try the method of a unit, where it is a user's own; of a fusion its members.

    tried: what was tried before; it grows. Raises UserError with the file and line that is wrong.
    """
    for part in unit.members or (unit,):
        key = fingerprint(part.method.name, part.encoder.identity(), len(part.recipes))
        if part.method.code and part.encoder.kind != "features" and key not in tried:
            tried.add(key)
            _try(part)


def _try(unit: Unit) -> None:
    import torch

    assert unit.method.encoder is not None, "a fusion is tried by its members"
    name, size = f"method '{unit.method.name}'", unit.encoder.size
    encoder = replace(unit.encoder, readout="pool") if unit.recipes else unit.encoder
    with torch.random.fork_rng(devices=[]):
        with written_by(unit.method.encoder, f"encoder of {name}", given=True):
            net = unit.method.encoder(encoder, unit.start or unit.weights, unit.pretrain_seed)
            with torch.no_grad():  # what it keeps of a pass must serve a training, too
                _check_features(net(torch.rand(IMAGES, 3, size, size)))
        for recipe in unit.recipes:
            if recipe.objective is not None:
                with written_by(recipe.objective, f"loss of {name}", given=True):
                    _try_loss(net, recipe, size, f"loss of {name}")


def _check_features(output: Any) -> None:
    import torch

    if not isinstance(output, torch.Tensor):
        raise EntryFault(f"it gives {type(output).__name__} of images, and not a tensor (B, D)")
    if output.ndim != 2 or len(output) != IMAGES or not output.is_floating_point():
        raise EntryFault(
            f"of {IMAGES} images it gives {output.dtype} of shape {tuple(output.shape)}, and not floats (B, D)"
        )


def _author(part: Callable[..., Any], objective: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that a fault of `part` is told of: itself, where the same file holds it.

    A loss may be a module of torch; then the objective that chose it.
    """
    file = getattr(getattr(part, "__code__", None), "co_filename", None)
    return part if place_of(objective).startswith(f"{file}, line ") else objective


def _try_loss(net: torch.nn.Module, recipe: Recipe, size: int, what: str) -> None:
    """Take the loss of random pixels, and its gradient.

    what: for messages. Raises EntryFault, and UserError with the line of the part that is wrong.
    """
    import torch

    from medbench.models.pretrain.objective import Objective, fit_sizes
    from medbench.models.pretrain.position import Position

    sizes = [crop.pixels(size) for crop in recipe.crops for _ in range(crop.count)]
    assert recipe.objective is not None
    made = recipe.objective(net, fit_sizes(net, sizes, "cpu"), recipe)
    if not isinstance(made, Objective):
        raise EntryFault(f"it returns {type(made).__name__}, and not an Objective")
    views, position = [torch.rand(IMAGES, 3, side, side) for side in sizes], Position(0, 10)
    made.train()
    outputs = made.project(views, position)
    if not isinstance(outputs, Sequence) or not all(
        isinstance(one, torch.Tensor) for one in outputs
    ):
        raise EntryFault(
            f"`project` gives {type(outputs).__name__}, and not a list of tensors, one or more"
        )
    with written_by(_author(made.criterion, recipe.objective), what, given=True):
        torch.autograd.backward(_loss(made, outputs, position))
    with written_by(_author(made.chance, recipe.objective), what, given=True):
        chance = made.chance(IMAGES)
        if not isinstance(chance, numbers.Real) or math.isnan(chance):
            raise EntryFault(f"`chance` gives {chance!r}, and not the loss that equal outputs have")


def _loss(made: Objective, outputs: Sequence[torch.Tensor], position: Position) -> torch.Tensor:
    """Return the loss of a batch. Raises EntryFault."""
    import torch

    try:
        loss = made.criterion([output.float() for output in outputs], position)
    except RuntimeError as error:
        if "dtype" not in str(error) and "type" not in str(error):
            raise
        raise EntryFault(
            f"{str(error).splitlines()[0]} (what `project` gives reaches `criterion` as float32: class numbers need .long() there)"
        ) from error
    if not isinstance(loss, torch.Tensor) or loss.ndim:
        shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else ""
        raise EntryFault(f"`criterion` gives {type(loss).__name__}{shape}, and not a scalar tensor")
    if not loss.requires_grad:
        raise EntryFault("the loss does not depend on what is trained: it has no gradient")
    if not math.isfinite(loss.item()):
        raise EntryFault(f"the loss of drawn images is {loss.item()}")
    return loss
