"""A picture of duplicate pairs, side by side, so that a person can confirm them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medbench.audit.dataset.audited_data import Subject
from medbench.audit.dataset.report import DatasetReport
from medbench.images import decoding
from medbench.schema import Image
from medbench.system import atomic_write

MOST = 48  # pairs on a sheet: across parts first, then the best
# px of an image's longer side, of the two lines above it, pairs in a row
_SIDE, _TEXT, _COLUMNS = 160, 30, 3


def draw_duplicates(report: DatasetReport, subject: Subject, file: Path) -> int:
    """Write a picture of the pairs as PNG, and return how many it shows.

    Those across parts first, MOST at most; each with ids, parts, labels and correlation above both
    images.
    """
    import PIL.Image
    import PIL.ImageDraw

    shown = sorted(report.pairs, key=lambda pair: pair["part"] == pair["other_part"])[:MOST]
    width, height = 2 * _SIDE + 14, _SIDE + _TEXT + 10
    rows = -(-len(shown) // _COLUMNS)
    canvas = PIL.Image.new(
        "RGB", (min(_COLUMNS, max(1, len(shown))) * width, max(1, rows) * height), "white"
    )
    pen = PIL.ImageDraw.Draw(canvas)
    for k, pair in enumerate(shown):
        x, y = (k % _COLUMNS) * width, (k // _COLUMNS) * height
        for side, (name, part, label) in enumerate(
            (("image", "part", "label"), ("other", "other_part", "other_label"))
        ):
            left = x + side * (_SIDE + 4)
            pen.text((left + 2, y + 2), _short(pair[name]), fill="black")
            differs = pair["label"] != pair["other_label"] or pair["part"] != pair["other_part"]
            pen.text(
                (left + 2, y + 15),
                _short(_words(pair, part, label, side)),
                fill="#b00020" if differs else "#555555",
            )
            canvas.paste(_thumb(subject.images[pair["rows"][side]]), (left + 2, y + _TEXT))
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write.write(file, lambda partial: canvas.save(partial, "PNG"))
    return len(shown)


def _words(pair: dict[str, Any], part: str, label: str, side: int) -> str:
    text = " ".join(filter(None, (pair[part], pair[label])))
    return text if side else f"{text} r={pair['correlation']:.2f}"


def _short(text: str) -> str:
    return text if len(text) <= 26 else "..." + text[-23:]


def _thumb(image: Image) -> Any:
    picture = decoding.picture(image, wanted=_SIDE).convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    return picture
