"""`data show`: n images of each class on one sheet.

So a person sees what a task's classes look like, and what is wrong with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medbench import images
from medbench.schema import Image, Split, Task, UserError, of_class
from medbench.system import atomic_write

if TYPE_CHECKING:
    import PIL.Image
    import PIL.ImageDraw

TILE, GAP, LABEL = 128, 6, 250  # pixels: an image, the space between, the column of names
_HEAD, _LINES = 76, 38  # pixels: the title, and the least height of a row
_INK, _PALE, _PAPER = (25, 25, 25), (110, 110, 110), (255, 255, 255)


def draw_contact_sheet(
    task: Task, parts: Mapping[str, Split], data: str, n: int, part: str | None = None
) -> PIL.Image.Image:
    """Draw an RGB picture of a task's images: one row per class.

    A label of a multi-label task is a row, as are images without any. A row has its name and its
    counts, n images beside it. parts: as `Task.load` gives them; part: of one of them alone. data:
    the data set's name, or "phantom". Which images are shown depends on their ids alone; no two of
    a row are of one group as long as there are others. Raises UserError for a part that the task
    has not.
    """
    from PIL import Image as pillow
    from PIL import ImageDraw

    if part is not None and part not in parts:
        raise UserError(
            f"Task '{task.name}' has no part '{part}'.",
            allowed=parts,
            given=part,
            then=f"medbench data show {task.name}",
        )
    shown = {part: parts[part]} if part else dict(parts)
    rows = [
        (name, counts, [_tile(image) for image in chosen])
        for name, counts, chosen in _rows(task, shown, n)
    ]
    heights = [max([_LINES, *(tile.height for tile in tiles)]) for _, _, tiles in rows]
    width = max(LABEL + n * (TILE + GAP) + GAP, 640)
    picture = pillow.new("RGB", (width, _HEAD + sum(heights) + len(rows) * GAP), _PAPER)
    pen = ImageDraw.Draw(picture)
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in shown.items())
    _write(pen, (GAP, 8), f"{task.name}: {task.title}", 20, _INK, width - 2 * GAP)
    _write(
        pen,
        (GAP, 34),
        f"{'PHANTOM, drawn images' if data == 'phantom' else data}   {sizes} images",
        14,
        _INK,
        width - 2 * GAP,
    )
    licence = (
        ""
        if data == "phantom"
        else f"licence: {task.licence or 'not known'}. Only for looking: the licence holds for this sheet too."
    )
    _write(pen, (GAP, 53), licence, 12, _PALE, width - 2 * GAP)
    y = _HEAD
    for (name, counts, tiles), height in zip(rows, heights, strict=True):
        _write(pen, (GAP, y + height // 2 - 19), name, 15, _INK, LABEL - 2 * GAP)
        _write(pen, (GAP, y + height // 2 + 1), counts, 12, _PALE, LABEL - 2 * GAP)
        for column, tile in enumerate(tiles):
            x = LABEL + column * (TILE + GAP)
            picture.paste(tile, (x + (TILE - tile.width) // 2, y + (height - tile.height) // 2))
        y += height + GAP
    return picture


def _rows(task: Task, parts: Mapping[str, Split], n: int) -> list[tuple[str, str, list[Image]]]:
    """(name, counts in words, images) of each class: what is shown."""
    several = task.kind == "multilabel"
    masks = {
        name: _masks(np.asarray(split.labels), len(task.classes)) for name, split in parts.items()
    }
    names = [*task.classes, *(["none of them"] if several else [])]
    rows = []
    for c, name in enumerate(names):
        found = [
            (_rank(f"{task.name}:{name}:{split.ids[i]}"), str(split.groups[i]), split.images[i])
            for part, split in parts.items()
            for i in np.flatnonzero(masks[part][c]).tolist()
        ]
        counts = [f"{part} {int(masks[part][c].sum()):,}" for part in parts]
        rows.append((name, ", ".join(counts), _choose(sorted(found, key=lambda one: one[0]), n)))
    return rows


def _masks(labels: np.ndarray, n_classes: int) -> list[np.ndarray]:
    """(N,) bool of each class.

    For a multi-label task, of each label, and of images where all labels are 0.
    """
    return [
        *(of_class(labels, c) for c in range(n_classes)),
        *([(labels == 0).all(1)] if labels.ndim > 1 else []),
    ]


def _choose(found: Sequence[tuple[str, str, Image]], n: int) -> list[Image]:
    """Choose the first n by rank, one of each group before a second of any."""
    seen: set[str] = set()
    first: list[Image] = []
    rest: list[Image] = []
    for _, group, image in found:
        (rest if group in seen else first).append(image)
        seen.add(group)
    return [*first, *rest][:n]


def _rank(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _tile(image: Image) -> PIL.Image.Image:
    """Fit the whole image, in its own aspect ratio, within TILE x TILE."""
    from PIL import Image as pillow

    source = images.picture(image, wanted=TILE).convert("RGB")
    scale = TILE / max(source.size)
    return source.resize(
        (max(1, round(source.width * scale)), max(1, round(source.height * scale))),
        pillow.Resampling.BICUBIC,
    )


def _write(
    pen: PIL.ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    size: int,
    ink: tuple[int, int, int],
    width: int,
) -> None:
    """One line, smaller or cut where it is too long for `width` pixels."""
    import matplotlib
    from PIL import ImageFont

    # Pillow's own font knows no umlaut
    file = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    font = ImageFont.truetype(file, size)
    while pen.textlength(text, font) > width and size > 10:
        size -= 1
        font = ImageFont.truetype(file, size)
    while pen.textlength(text, font) > width and len(text) > 4:
        text = f"{text[:-4]}..."
    pen.text(at, text, ink, font)


def save_png(picture: PIL.Image.Image, out: Path) -> None:
    """Write the sheet as PNG, complete or not at all.

    Raises UserError where it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write.write(out, lambda partial: picture.save(partial, "PNG"))
    except OSError as error:
        raise UserError(
            f"{out} cannot be written: {error.strerror}.",
            then="medbench data show TASK --out FILE.png",
        ) from error
