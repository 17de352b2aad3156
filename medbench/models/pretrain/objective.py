"""What is optimised: networks, and a loss over the views of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import torch
from torch import nn

from medbench.models.pretrain.position import Position
from medbench.schema import UserError
from medbench.system import memory

Project = Callable[[Sequence[torch.Tensor], Position], list[torch.Tensor]]
Criterion = Callable[[list[torch.Tensor], Position], torch.Tensor]


class Objective(nn.Module):
    """The networks of a method and its loss: all that a checkpoint must hold stands in `parts`.

    parts: modules by name; those called `*backbone` are encoders, `backbone` is the one that learns
    by gradient. project(views, position) -> outputs, under autocast. criterion(outputs as float32,
    position) -> scalar loss. chance(B): the loss where all outputs of a batch of B images are the
    same; infinite where that is the least loss there is, so that their rank alone tells. exported:
    the encoder that is kept. before_step, after_step: around each step of the optimiser.
    """

    def __init__(
        self,
        parts: Mapping[str, nn.Module],
        project: Project,
        criterion: Criterion,
        chance: Callable[[int], float],
        *,
        exported: str = "backbone",
        before_step: Callable[[Position], None] = lambda position: None,
        after_step: Callable[[Position], None] = lambda position: None,
    ):
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.project, self.criterion, self.chance = project, criterion, chance
        self.exported, self.before_step, self.after_step = exported, before_step, after_step
        # (B, D) of the last forward's first views, for the watch
        self.features: torch.Tensor | None = None
        self.parts["backbone"].register_forward_hook(self._keep)

    def forward(self, views: Sequence[torch.Tensor], position: Position) -> torch.Tensor:
        self.features = None
        outputs = self.project(views, position)
        # a softmax over thousands of logits needs float32
        with torch.autocast(views[0].device.type, enabled=False):
            return self.criterion([output.float() for output in outputs], position)

    def backbones(self) -> list[nn.Module]:
        """List the networks that become encoders: the parts whose names end in "backbone"."""
        return [part for name, part in self.parts.items() if name.endswith("backbone")]

    def _keep(self, module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        if self.features is None:
            self.features = output.detach()


def embed(backbone: nn.Module, views: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the features of views (B, 3, s, s) each, one view after the other: (V * B, D).

    Views of one size go through the encoder together, as in the authors' code, so that batch norm
    sees them together.
    """
    groups = groupby(views, key=lambda view: view.shape[-1])
    return torch.cat(
        [
            backbone(torch.cat(list(group)).contiguous(memory_format=torch.channels_last))
            for _, group in groups
        ]
    )


def each_view(
    backbone: nn.Module, head: nn.Module, views: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Return the head's output of each view, (B, K) each.

    One view after another, so that batch norm sees each by itself.
    """
    return [head(embed(backbone, [view])) for view in views]


def whole_batch(outputs: torch.Tensor) -> torch.Tensor:
    """Return outputs (B, K) of this process with those of all: (B of all processes, K).

    Gradients flow back to each. For a loss that is no mean over images.
    """
    from lightly.utils import dist

    return torch.cat(dist.gather(outputs)) if dist.world_size() > 1 else outputs


def fit_sizes(backbone: nn.Module, sizes: Sequence[int], device: str) -> int:
    """Make the encoder take images of all these sides; returns D. Raises UserError where it cannot.

    A timm ViT is built for one size: its positions are then resampled for each batch, as timm's own
    `dynamic_img_size` does. Its parameters stay those of the first size.
    """
    from timm.layers.format import Format

    if len(set(sizes)) > 1 and getattr(backbone, "dynamic_img_size", True) is False:
        backbone.dynamic_img_size = True  # type: ignore[assignment]
        patches: object = backbone.patch_embed
        patches.strict_img_size, patches.flatten, patches.output_fmt = False, False, Format.NHWC  # type: ignore[attr-defined]
    training = backbone.training
    try:
        with torch.no_grad():
            dims = [
                backbone.eval()(torch.zeros(1, 3, size, size, device=device)).shape[-1]
                for size in sizes
            ]
    except (AssertionError, RuntimeError) as error:
        if memory.ran_out(error):
            raise
        what = f"This encoder does not take crops of {', '.join(map(str, sizes))} pixels: {' '.join(str(error).split())[:200]}"
        raise UserError(
            what, then="medbench pretrain --method simclr, whose views all have the encoder's size"
        ) from error
    backbone.train(training)
    return int(dims[0])


def encoder_alone(state: Mapping[str, torch.Tensor], exported: str) -> dict[str, torch.Tensor]:
    """Return the state dict of the encoder that is kept, in its own names.

    state: of an objective. exported: the name of the part.
    """
    prefix = f"parts.{exported}."
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
