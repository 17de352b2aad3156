"""Heads that were trained by gradient: a linear layer under fine-tuning, and a fusion's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from medbench.models.exported.components import Arrays, expect
from medbench.schema import Kind
from medbench.stats import metrics

if TYPE_CHECKING:
    import torch

    from medbench.models.fusion.attention_head import Head as AttentionHead

FREE = 1e30  # a limit that cuts nothing
BLOCK = 1024  # images scored at a time


@dataclass(frozen=True, eq=False)
class LayerHead:
    """A linear layer that was trained with its encoder.

    weight (C, D), bias (C,) float32, of features as they are. several: each label for itself.
    """

    name: ClassVar[str] = "layer"
    weight: np.ndarray
    bias: np.ndarray
    several: bool

    @property
    def width(self) -> int:
        """The number of features that it takes."""
        return int(self.weight.shape[1])

    @property
    def possible(self) -> np.ndarray:
        """Which classes it can decide for, (C,) bool: all."""
        return np.ones(len(self.bias), bool)

    def score(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score features (M, D) as `models.finetune` does; the shapes are those of `Head`."""
        from scipy.special import expit, softmax

        logits = (features.astype(np.float32) @ self.weight.T + self.bias).astype(np.float64)
        p = (expit(logits) if self.several else softmax(logits, axis=1)).astype(np.float32)
        return p, metrics.decided(p, self.several)

    def arrays(self) -> Arrays:
        """Return weight (outputs, D) and bias (outputs,) by their names."""
        return {"weight": self.weight, "bias": self.bias}

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], kind: Kind, n_classes: int) -> LayerHead:
        """Build the head. Raises ValueError for arrays that are no such head."""
        weight, bias = (arrays[name].astype(np.float32) for name in ("weight", "bias"))
        expect(
            weight.ndim == 2 and len(weight) == n_classes and bias.shape == (n_classes,), "shapes"
        )
        return LayerHead(weight, bias, kind == "multilabel")


@dataclass(frozen=True, eq=False)
class FusedHead:
    """A fusion's own head over k members' features, side by side.

    net: of `models.fusion`, in eval mode. Each member's features are centred (centre (D,)), times
    its scale (k,), and cut at `limit`. usable (C,) bool: classes, or labels, that could be learnt;
    base (C,): the probability of others.
    """

    name: ClassVar[str] = "fusion"
    net: AttentionHead
    centre: np.ndarray
    scale: np.ndarray
    limit: float
    usable: np.ndarray
    base: np.ndarray
    several: bool

    @property
    def widths(self) -> list[int]:
        """The numbers of features of its members, in their order."""
        return _widths(self.net)

    @property
    def width(self) -> int:
        """The number of features of all members, side by side."""
        return sum(self.widths)

    @property
    def possible(self) -> np.ndarray:
        """Which classes it can decide for, (C,) bool."""
        return self.usable | self.several

    def score(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score features (M, D) as `models.fusion` does; the shapes are those of `Head`.

        The features of an image are those of its members, side by side.
        """
        import torch

        parts = [np.zeros((0, len(self.usable)), np.float64)]
        with torch.no_grad():
            for i in range(0, len(features), BLOCK):
                block = torch.from_numpy(features[i : i + BLOCK].astype(np.float32))
                parts.append(self._probabilities(block))
        p = np.concatenate(parts)
        return p.astype(np.float32), metrics.decided(p, self.several)

    def _probabilities(self, block: torch.Tensor) -> np.ndarray:
        import torch

        centres, parts = (
            torch.split(of, self.widths, axis)
            for of, axis in ((torch.from_numpy(self.centre), 0), (block, 1))
        )
        sources = [
            ((x - c) * float(s)).clamp(-self.limit, self.limit)
            for x, c, s in zip(parts, centres, self.scale, strict=True)
        ]
        logits, usable = self.net(sources).double(), torch.from_numpy(self.usable)
        masked = logits.masked_fill(~usable, -torch.inf)
        found = logits.sigmoid() if self.several else masked.softmax(1)
        return np.where(self.usable, found.numpy(), self.base)

    def arrays(self) -> Arrays:
        """Return the network's arrays, "net." before their names, and what scales the features."""
        own = {f"net.{name}": value.cpu().numpy() for name, value in self.net.state_dict().items()}
        return {
            **own,
            "centre": self.centre,
            "scale": self.scale,
            "limit": np.array([self.limit]),
            "usable": self.usable.astype(np.uint8),
            "base": self.base,
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], kind: Kind, n_classes: int) -> FusedHead:
        """Build the head. Raises ValueError for arrays that are no such head."""
        net = _net_of(arrays, n_classes)
        own = {name: arrays[name] for name in ("centre", "scale", "limit", "usable", "base")}
        wide = {
            "centre": (sum(_widths(net)),),
            "scale": (len(net.project),),
            "limit": (1,),
            "usable": (n_classes,),
            "base": (n_classes,),
        }
        expect(all(own[name].shape == shape for name, shape in wide.items()), "shapes")
        usable, several = own["usable"].astype(bool), kind == "multilabel"
        expect(bool(((own["base"] >= 0) & (own["base"] <= 1)).all()), "base")
        expect(several or bool(usable.any()), "usable")
        limit = float(own["limit"][0])
        expect(limit > 0, "limit")
        centre = own["centre"].astype(np.float32)
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        scale, base = own["scale"].astype(float), own["base"].astype(float)
        return FusedHead(net, centre, scale, limit, usable, base, several)


def _widths(net: AttentionHead) -> list[int]:
    return [int(layer.weight.shape[1]) for layer in cast("Any", net.project)]


def _net_of(arrays: Mapping[str, np.ndarray], n_classes: int) -> AttentionHead:
    """Build the network that these arrays are of, in eval mode. Raises ValueError."""
    import torch

    from medbench.models.fusion.attention_head import Head as AttentionHead

    state = {
        name.removeprefix("net."): torch.from_numpy(value.astype(np.float32))
        for name, value in arrays.items()
        if name.startswith("net.")
    }
    layers = [state.get(f"project.{i}.weight") for i in range(len(state))]
    known = [layer for layer in layers if layer is not None]
    expect(len(known) >= 2 and all(layer.ndim == 3 for layer in known), "shapes")
    width = int(known[0].shape[2])
    attended = state.get("attend.proj.weight")
    tokens = "none" if attended is None else "source" if attended.shape[-1] == width else "scalar"
    with torch.device("meta"):  # names and shapes alone
        dims = [int(layer.shape[1]) for layer in known]
        net = AttentionHead(dims, n_classes, tokens, width, 0.0)
        wanted = {name: value.shape for name, value in net.state_dict().items()}
    right = wanted == {name: value.shape for name, value in state.items()}
    expect(right, "shapes")
    net.load_state_dict(state, assign=True)
    return net.eval()


LAYER_NAMES = frozenset(("weight", "bias"))
FUSED_NAMES = frozenset(("centre", "scale", "limit", "usable", "base"))
