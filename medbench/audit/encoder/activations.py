"""What passes through a network's layers, and what its batch norms remember.

They remember the training images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medbench.images.cropping import SQUASH, square
from medbench.images.decoding import decode

#: Mean and std of the pixels of ImageNet's images in [0, 1], R, G, B. The std is the root of the
#: diagonal of the colour covariance whose eigenvectors and values are in everybody's PCA colour
#: augmentation (Krizhevsky et al. 2012, section 4.1); the familiar 0.229, 0.224, 0.225 are means
#: over images of each image's own.
NATURAL_MEAN, NATURAL_STD = (0.485, 0.456, 0.406), (0.284, 0.276, 0.290)
Batch = torch.Tensor


@dataclass
class ForwardTrace:
    """What a forward pass showed.

    pixels: mean and std (3,) of what reached the first convolution.
    """

    features: Batch
    # each batch norm in order -> nats between its input and its memory
    norms: dict[str, float] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)
    pixels: tuple[np.ndarray, np.ndarray] | None = None
    # the first convolution and the batch norm behind it
    stem: tuple[nn.Conv2d, nn.Module] | None = None
    map: tuple[int, ...] = ()  # shape of the last map or sequence of tokens
    last: nn.Module | None = None

    @property
    def misfit(self) -> float:
        """Mean log divergence over the batch norms.

        Without any, minus the log of the features' effective rank (Roy and Vetterli 2007).
        """
        if self.norms:
            return float(np.mean([math.log(max(d, 1e-6)) for d in self.norms.values()]))
        if not self.features.isfinite().all():
            return math.inf
        flat = self.features.flatten(1).double()
        power = torch.linalg.svdvals(flat - flat.mean(0)) ** 2
        share = power / power.sum().clamp_min(1e-30)
        return float((share * share.clamp_min(1e-30).log()).sum())


@cache
def reference_images(n: int) -> tuple[np.ndarray, ...]:
    """Return n crops (H, W, 3) uint8 of the two photographs that come with scikit-learn.

    Their colours are moved to ImageNet's mean and std. Read only.
    """
    rng = np.random.default_rng(0)
    photos = [decode(file) / 255 for file in _photographs()]
    every = np.concatenate([photo.reshape(-1, 3) for photo in photos])
    mean, std = every.mean(0), every.std(0)
    moved = [
        (np.clip((photo - mean) / std * NATURAL_STD + NATURAL_MEAN, 0, 1) * 255).astype(np.uint8)
        for photo in photos
    ]
    crops = []
    for i in range(n):
        photo = moved[i % 2]
        side = min(photo.shape[:2])
        left = rng.integers(photo.shape[1] - side + 1)
        crop = photo[:, left : left + side]
        crops.append(np.ascontiguousarray(crop[:, :: rng.choice((-1, 1))]))
        crops[-1].flags.writeable = False
    return tuple(crops)


def _photographs() -> list[Path]:
    """Where they lie. scikit-learn itself takes seconds to import, and is not needed for it."""
    found = find_spec("sklearn")
    assert found is not None and found.origin is not None, "scikit-learn is a dependency"
    return [
        Path(found.origin).parent / "datasets" / "images" / name
        for name in ("china.jpg", "flower.jpg")
    ]


def training_pixels(conv: nn.Conv2d, norm: nn.Module) -> tuple[np.ndarray, np.ndarray, float]:
    """Return mean and std (3,) of the training pixels, and how far the fit is off.

    In the network's own units; the misfit is relative, of the variances. Behind a convolution w the
    running mean of channel f is sum_c m_c sum_k w_fck (+ bias), its running variance is w_f' (C x
    R) w_f with the colour covariance C (3, 3) and the correlation R of neighbouring pixels, here
    exp(-distance / length): m and C by least squares, the length by search. conv takes 3 channels
    in one group; norm has running statistics.
    """
    state = {
        name: value.detach().double().cpu().numpy() for name, value in norm.state_dict().items()
    }
    w = conv.weight.detach().double().cpu().numpy()
    mean, var = (
        state["running_mean"]
        - (0 if conv.bias is None else conv.bias.detach().double().cpu().numpy()),
        state["running_var"],
    )
    alive = var > 1e-4 * np.median(var)
    w, mean, var = w[alive], mean[alive], var[alive]
    scale = np.sqrt(var)[:, None]
    centre = np.linalg.lstsq(w.sum((2, 3)) / scale, mean / scale[:, 0], rcond=None)[0]
    y, x = (axis.ravel() for axis in np.indices(w.shape[2:]))
    distance = np.hypot(y[:, None] - y, x[:, None] - x)
    pairs = [(a, b) for a in range(3) for b in range(a, 3)]
    flat, best = w.reshape(len(w), 3, -1), (math.inf, np.full(3, np.nan))
    for length in np.geomspace(2, 200, 40):
        r = np.exp(-distance / length)
        terms = (
            np.stack(
                [
                    (1 + (a != b)) * np.einsum("fi,ij,fj->f", flat[:, a], r, flat[:, b])
                    for a, b in pairs
                ],
                1,
            )
            / var[:, None]
        )
        c = np.linalg.lstsq(terms, np.ones(len(var)), rcond=None)[0]
        own = np.array([c[pairs.index((a, a))] for a in range(3)])
        best = min(
            best,
            (float(np.std(terms @ c - 1)), np.sqrt(np.clip(own, 0, None))),
            key=lambda fit: fit[0],
        )
    return centre, best[1], best[0]


def resize_images(
    images: Sequence[np.ndarray], size: int, interpolation: str, crop: str = SQUASH
) -> Batch:
    """Resize and crop images (H, W, 3) uint8 to a batch (N, 3, size, size) float32 in [0, 1]."""
    from PIL import Image

    resized = np.stack(
        [np.asarray(square(Image.fromarray(one), size, interpolation, crop)) for one in images]
    )
    return torch.from_numpy(resized).permute(0, 3, 1, 2).float() / 255


@torch.inference_mode()
def look(
    net: nn.Module, pixels: Batch, mean: Sequence[float], std: Sequence[float]
) -> ForwardTrace:
    """Run a network on pixels, and return what passes through its layers.

    net: in eval mode. pixels: (N, 3, S, S) float32 in [0, 1]. mean, std: with which they are
    normalised.
    """
    seen = ForwardTrace(torch.empty(0))
    first: list[nn.Conv2d] = []

    def hook(name: str, module: nn.Module) -> Any:
        def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen.called.add(name)
            if isinstance(module, nn.Conv2d) and not first:
                first.append(module)
                seen.pixels = _moments(inputs[0])
            if remembers(module):
                seen.norms[name] = _divergence(module, inputs[0])
                conv = first[0] if first else None
                if (
                    conv is not None
                    and len(seen.norms) == 1
                    and conv.in_channels == 3
                    and len(conv.weight) == inputs[0].shape[1]
                ):
                    seen.stem = (conv, module)

        return before

    def after(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            seen.last = module
            seen.map = tuple(output.shape[1:]) if output.ndim > 2 else seen.map

    leaves = [
        (name, m)
        for name, m in net.named_modules()
        if not any(True for _ in m.children()) or remembers(m) or is_norm(m)
    ]
    handles = [m.register_forward_pre_hook(hook(name, m)) for name, m in leaves]
    handles += [m.register_forward_hook(after) for _, m in leaves]
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    try:
        seen.features = (
            net(
                ((pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)).to(
                    device
                )
            )
            .detach()
            .float()
            .cpu()
        )
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _moments(x: Batch) -> tuple[np.ndarray, np.ndarray]:
    return x.mean((0, 2, 3)).cpu().numpy(), x.std((0, 2, 3)).cpu().numpy()


def is_norm(module: nn.Module) -> bool:
    """Return whether a module normalises its inputs: batch, layer or group normalisation."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm)


def remembers(module: nn.Module) -> bool:
    """Return whether a module keeps a mean of its training images: batch normalisation with one."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None


def _divergence(norm: Any, x: Batch) -> float:
    """Return the divergence of the input's Gaussian from the remembered one, in nats.

    Kullback-Leibler, a mean over channels.
    """
    mean, var = torch.zeros_like(norm.running_mean), torch.ones_like(norm.running_var)
    # writes them, several times faster than torch.var_mean
    nn.functional.batch_norm(x, mean, var, training=True, momentum=1.0)
    var, memory = var + norm.eps, norm.running_var + norm.eps
    nats = 0.5 * (torch.log(memory / var) + (var + (mean - norm.running_mean) ** 2) / memory - 1)
    return float(nats.nan_to_num(math.inf).mean())
