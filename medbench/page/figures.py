"""The figures of `plot` inside the page: no style of their own, ink that follows the reader's light or dark, no date, no id twice."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np

from medbench import plot
from medbench.page.markup import Html, tag
from medbench.spec import UserError
from medbench.table import Board

MOST = 8  # lines that one figure can show and an eye still tells apart
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"


def readable(board: Board, metric: str) -> Board:
    """The board with the lines that a figure shows: all, or of more than MOST the best with the most labels and the supervised baseline."""
    names = list(dict.fromkeys(line.name for line in board.lines if metric in line.plain))
    if len(names) <= MOST:
        return board
    sign = -1.0 if metric == "ece" else 1.0
    last = {line.name: sign * float(np.mean(line.plain[metric])) for line in board.at(board.budgets()[-1]) if metric in line.plain}
    best = sorted(last, key=lambda name: -np.nan_to_num(last[name], nan=-np.inf))
    base = [line.name for line in board.lines if line.cell.method == "supervised" and line.name in last][:1]
    kept = {*base, *[name for name in best if name not in base][: MOST - len(base)]}
    return replace(board, lines=[line for line in board.lines if line.name in kept])


def figure(kind: str, board: Board, metric: str | None, alt: str, caption: str) -> Html | None:
    """One figure of one board, None where it cannot be drawn from it."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    draw: Callable[[Sequence[Board], str | None, str], list[plot.Drawing]] = plot.KINDS[kind]
    try:
        with plot.paper():
            (drawing, *_) = draw([board], metric, "column")
            out = io.BytesIO()
            canvas = FigureCanvasSVG(drawing.figure)
            canvas.print_svg(out, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))  # type: ignore[no-untyped-call]  # savefig draws twice
    except UserError:
        return None
    key = re.sub(r"\W+", "-", f"{kind}-{board.task}-{board.data}-{board.target}").strip("-")
    return tag("figure", _inline(out.getvalue(), key, alt), tag("figcaption", caption))


def _inline(svg: bytes, key: str, alt: str) -> Html:
    """matplotlib's SVG as an element of the page. Its styles become attributes, which the page's policy lets through; black becomes the page's
    ink and white its paper; ids get the figure's name in front."""
    root = ElementTree.fromstring(svg)
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    shared = {id(node) for defs in root.iter(f"{_SVG}defs") for node in defs.iter()}  # takes the fill of what uses it
    for node in root.iter():
        node.tag = node.tag.removeprefix(_SVG)
        for declaration in node.attrib.pop("style", "").split(";"):
            name, _, value = declaration.partition(":")
            if name.strip() == "font":
                size = re.search(r"([\d.]+)px", value)
                node.set("font-size", size[1] if size else "7")
            elif value and not name.strip().startswith("-"):
                node.set(name.strip(), value.strip())
        for name in ("fill", "stroke"):
            if name in node.attrib:
                node.set(name, _INK.get(node.attrib[name].lower(), node.attrib[name]))
        if node.tag in ("text", "path", "use") and "fill" not in node.attrib and id(node) not in shared:
            node.set("fill", "currentColor")  # matplotlib leaves black out, as it is SVG's own
        if "id" in node.attrib:
            node.set("id", f"{key}-{node.attrib['id']}")
        if _LINK in node.attrib:
            node.set("href", "#" + f"{key}-{node.attrib.pop(_LINK).removeprefix('#')}")
        if "clip-path" in node.attrib:
            node.set("clip-path", node.attrib["clip-path"].replace("url(#", f"url(#{key}-"))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    first = root.find("g")
    if first is not None and (patch := first.find("g")) is not None and patch.attrib.get("id", "").endswith("patch_1"):
        first.remove(patch)  # the figure's white ground
    return Html(ElementTree.tostring(root, encoding="unicode"))


_INK = {"#000000": "currentColor", "black": "currentColor", "#262626": "currentColor", "#ffffff": "var(--paper)", "white": "var(--paper)"}
