"""From images to finished views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medbench.images.augment.colour import blend, blur, constant, grayed, shift_hue, solarised
from medbench.images.augment.geometry import filters, grid, resize, sampled
from medbench.images.augment.parameters import Parameters, draw_parameters
from medbench.images.augment.policies import Crop
from medbench.images.augment.prepared import Prepared, joined, masks, prepared, used_steps

if TYPE_CHECKING:
    import numpy as np
    import torch


def views(
    images: torch.Tensor,
    crops: Sequence[Crop],
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
    *,
    fuse: bool = False,
) -> list[torch.Tensor]:
    """Return, for each kind in turn, `count` views of every image, as `finished` gives them.

    images: (B, S, S, 3) uint8, on any device; the views are made there. generator: a CPU generator,
    the only source of chance, so that views are the same on every device up to rounding.
    """
    drawn = [
        draw_parameters(crop, len(images), generator) for crop in crops for _ in range(crop.count)
    ]
    return finished([images], drawn, crops, size, mean, std, fuse=fuse)


def finished(
    sources: Sequence[torch.Tensor],
    drawn: Sequence[Parameters],
    crops: Sequence[Crop],
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    fuse: bool = False,
) -> list[torch.Tensor]:
    """Return the views of each image: (B, 3, s, s) float32, channels_last.

    (x - mean) / std with x in [0, 1]. S = crop.pixels(size). sources: images (B, S, S, 3) uint8, of
    which the views take turns. drawn: of each view, `count` of each kind in turn, as
    `draw_parameters` gives it for B images. fuse: on a GPU, by kernels that are compiled first,
    which takes seconds; rounded otherwise. On a GPU all views of a kind are made together, and what
    was drawn for all kinds goes there in one copy, which nobody waits for.
    """
    import torch

    from medbench.system.transfer import sent

    device, (b, side) = sources[0].device, sources[0].shape[:2]
    fusing = fuse and _can_fuse(device)
    kinds = _kinds(
        crops, drawn, (len(sources), b), size, side, together=device.type == "cuda", fusing=fusing
    )
    places = iter(sent([tensor for kind in kinds for tensor in kind.given.values()], device))
    made: list[torch.Tensor] = []
    # the caller's half precision is for the encoder
    with torch.autocast(device.type, enabled=False):
        pixels = [images.reshape(b, side, side * 3).float().div_(255) for images in sources]
        whole = (
            torch.cat(pixels)
            if len(pixels) > 1 and any("source" in kind.given for kind in kinds)
            else pixels[0]
        )
        for kind in kinds:
            given = {name: next(places) for name in kind.given}
            own = [pixels[(len(made) + i) % len(pixels)] for i in range(kind.count)]
            view = _rendered(own, whole, given, kind)
            view = _fused_end(view, given, mean, std) if fusing else _normalised(view, mean, std)
            made += torch.split(view.contiguous(memory_format=torch.channels_last), b)
    return made


@dataclass(frozen=True, eq=False)
class _Kind:
    """`count` views of one kind that are made together."""

    crop: Crop
    count: int
    s: int
    given: Prepared
    fused: bool


def _kinds(
    crops: Sequence[Crop],
    drawn: Sequence[Parameters],
    shape: tuple[int, int],
    size: int,
    side: int,
    *,
    together: bool,
    fusing: bool,
) -> list[_Kind]:
    """shape: how many sources there are, and images of each."""
    found: list[_Kind] = []
    left, (sources, b) = list(drawn), shape
    for crop in crops:
        own, left = left[: crop.count], left[crop.count :]
        for several in [own] if together else [[one] for one in own]:
            s = crop.pixels(size)
            given = prepared(joined(several) if len(several) > 1 else several[0], crop, s, side)
            # the view's own source, all of which lie one after another
            if "warped" in given and "box" in given:
                first = sum(kind.count for kind in found)
                given["source"] = (first + given["warped"] // b) % sources * b + given["warped"] % b
            if fusing:
                given |= masks(given, b * len(several), used_steps(crop))
            found.append(_Kind(crop, len(several), s, given, fusing))
    return found


def _can_fuse(device: torch.device) -> bool:
    from medbench.images.augment.fused import can_fuse

    return can_fuse(device)


def normalised_images(
    images: torch.Tensor, mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """Return the unchanged images (B, 3, S, S) float32, channels_last, normalised as a view is.

    images: (B, S, S, 3) uint8.
    """
    return _normalised(images.permute(0, 3, 1, 2).float().div_(255), mean, std)


def _normalised(x: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """In place."""
    centre, spread = (constant(tuple(v), x.device).view(3, 1, 1) for v in (mean, std))
    return x.sub_(centre).div_(spread)


def render_views(images: torch.Tensor, drawn: Parameters, crop: Crop, s: int) -> torch.Tensor:
    """Render the views that `drawn` describes: (B, 3, s, s) in [0, 1].

    images: (B, S, S, 3) uint8.
    """
    b, side = images.shape[:2]
    given = prepared(drawn, crop, s, side)
    pixels = images.reshape(b, side, side * 3).float().div_(255)
    return _rendered(
        [pixels],
        pixels,
        given | {"source": given.get("warped", drawn.box)},
        _Kind(crop, 1, s, given, False),
    )


def _rendered(
    pixels: Sequence[torch.Tensor], whole: torch.Tensor, given: Prepared, kind: _Kind
) -> torch.Tensor:
    """(count * B, 3, s, s) in [0, 1], but for what a fused end does.

    pixels: of each of the views (B, S, 3 * S); whole: of all sources.
    """
    view = _placed(pixels, whole, given, kind)
    view = _fused_colours(view, given, kind) if kind.fused else _colours(view, given, kind)
    _change(view, given, "blur", lambda x: blur(x, given["kernel"]))
    if not kind.fused:
        _change(view, given, "solarise", solarised)
    return view


def _placed(
    pixels: Sequence[torch.Tensor], whole: torch.Tensor, given: Prepared, kind: _Kind
) -> torch.Tensor:
    """Cropped, resized, flipped, rotated, distorted."""
    import torch

    b, side = pixels[0].shape[:2]
    # one view after another: their pixels are many
    parts = [slice(i * b, (i + 1) * b) for i in range(len(pixels))]
    function = _compiled if kind.fused else lambda plain: plain
    if "warped" in given:
        places = function(grid)(given["across"], given["down"], given["homography"])
    if "box" not in given:
        made = [sampled(one, places[part], kind.s) for one, part in zip(pixels, parts, strict=True)]
    else:
        across, down = function(filters)(
            given["box"], given["flip"], side, kind.s, kind.crop.interpolation
        )
        made = [
            resize(one, across[part], down[part]) for one, part in zip(pixels, parts, strict=True)
        ]
    view = made[0] if len(made) == 1 else torch.cat(made)
    if "box" in given and "warped" in given:
        view[given["warped"]] = sampled(whole[given["source"]], places, kind.s)
    return view


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    from medbench.images.augment import fused

    return fused.compiled(function)


def _colours(view: torch.Tensor, given: Prepared, kind: _Kind) -> torch.Tensor:
    for step in range(used_steps(kind.crop)):
        view = blend(view, given[f"matrix {step}"], given[f"fade {step}"])
        _change(
            view,
            given,
            f"hue {step}",
            lambda x, step=step: shift_hue(x, given[f"turns {step}"]),  # type: ignore[misc]
        )
    _change(view, given, "gray", grayed)
    return view


def _fused_colours(view: torch.Tensor, given: Prepared, kind: _Kind) -> torch.Tensor:
    from medbench.images.augment.fused import colour_step, gray_step

    for step in range(used_steps(kind.crop)):
        view = _compiled(colour_step)(
            view, given[f"matrix {step}"], given[f"fade {step}"], given[f"all turns {step}"]
        )
    return _compiled(gray_step)(view, given["all gray"]) if "all gray" in given else view


def _fused_end(
    view: torch.Tensor, given: Prepared, mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    from medbench.images.augment.fused import last_step

    chosen = given["all solarise"] if "all solarise" in given else view.new_zeros(len(view))
    ended: torch.Tensor = _compiled(last_step)(
        view, chosen, *(constant(tuple(v), view.device) for v in (mean, std))
    )
    return ended


def _change(
    view: torch.Tensor, given: Prepared, name: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """In place, on the images of this index alone; nothing where there is none."""
    if name in given:
        view[given[name]] = change(view[given[name]])


def draw_views(
    images: torch.Tensor, crops: Sequence[Crop], size: int, generator: torch.Generator
) -> np.ndarray:
    """Draw a picture (rows, columns, 3) uint8 of images and their views.

    One row per image, first the original, then its views; smaller ones in the middle of their tile.
    images: (B, S, S, 3) uint8.
    """
    import numpy as np

    made = views(images, crops, size, (0.0,) * 3, (1.0,) * 3, generator)
    columns = [
        images.cpu().numpy(),
        *((v.permute(0, 2, 3, 1).mul(255).round().byte().cpu().numpy()) for v in made),
    ]
    tile = max(column.shape[1] for column in columns) + 2
    picture = np.full((len(images) * tile, len(columns) * tile, 3), 255, np.uint8)
    for j, column in enumerate(columns):
        side = column.shape[1]
        for i, image in enumerate(column):
            top, left = i * tile + (tile - side) // 2, j * tile + (tile - side) // 2
            picture[top : top + side, left : left + side] = image
    return picture
