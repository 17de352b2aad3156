"""How every figure looks.

Sizes of a paper's column, colours that the colour-blind tell apart, marks and strokes that grey
print keeps.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.schema import UserError
from medbench.system import atomic_write, fork_pool

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
#: Inches: one column and the whole width of a two-column paper.
WIDTHS = {"column": 3.3, "page": 6.9}
#: Okabe & Ito (2008), "Color universal design", without yellow, which white paper swallows; dark
#: and light by turns.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
# none is dotted, as lines of reference are
STROKES = ("-", "--", "-.", (0, (8, 2)), (0, (5, 1, 1, 1, 1, 1)))
GREY = "0.65"  # of a line that is there for comparison
DARK = "0.3"  # of one that is not told from the best
SHADES = "Blues"  # of a heat map: one hue, its lightness alone says it


@dataclass(frozen=True)
class Look:
    """Colour, stroke and marker of one method, the same in every figure."""

    colour: str
    marker: str
    stroke: str | tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Drawing:
    """A figure and the name of its file. said: which lines it shows, where those are not all."""

    name: str
    figure: Figure
    said: str = ""


def looks(names: Sequence[str]) -> dict[str, Look]:
    """Return the look of each name, by its place.

    Colours, markers and strokes repeat after 7, 9 and 5, so that the first 315 are all different.
    """
    return {
        name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], STROKES[i % len(STROKES)])
        for i, name in enumerate(names)
    }


@contextmanager
def paper() -> Iterator[None]:
    """Draw inside as seaborn's "paper" and "ticks", with fonts of 7 points and thin axes.

    Text stays text in PDF and SVG; the same bytes from the same numbers. matplotlib's settings are
    put back afterwards.
    """
    import matplotlib
    import seaborn

    own: dict[str, Any] = {
        "font.size": 7,
        "axes.titlesize": 7.5,
        "axes.labelsize": 7,
        "xtick.labelsize": 6.5,
        "ytick.labelsize": 6.5,
        "legend.fontsize": 6.5,
        "legend.handlelength": 3.2,
        "lines.linewidth": 1.1,
        "lines.markersize": 4,
        "axes.linewidth": 0.6,
        **{
            f"{axis}tick.major.{what}": value
            for axis in "xy"
            for what, value in (("size", 2.5), ("width", 0.6))
        },
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": "medbench",
    }
    # stubs list every name
    every: Any = {**seaborn.axes_style("ticks"), **seaborn.plotting_context("paper"), **own}
    with matplotlib.rc_context(every):
        yield


def panels(
    count: int, width: str, *, height: float = 2.1, legend: int = 0, across: int = 1
) -> tuple[Figure, list[Any], float]:
    """Make a figure with `count` axes; return figure, axes, and inches of its width.

    width: "column", "page", or "" for what the panels need. height: inches of a panel. legend:
    lines of names below. across: how many panels belong side by side.
    """
    from matplotlib.figure import Figure

    inches = WIDTHS[width or ("column" if count == 1 else "page")]
    across = (
        across
        if across > 1
        else min(count, 1 if inches == WIDTHS["column"] else 2 if count == 4 else 3)
    )
    down = -(-count // across)
    figure = Figure(figsize=(inches, height * down + 0.16 * legend), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count], inches


def quiet(look: Look, *, dark: bool = False) -> Look:
    """Return the style without a colour of its own, for a line that is there for comparison."""
    return replace(look, colour=DARK if dark else GREY, stroke="-")


def spread(places: Sequence[float], least: float, low: float = -np.inf) -> list[float]:
    """Move places apart until neighbours are `least` apart, each as little as its cluster allows.

    None below `low`. Returned in the order given.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    clusters: list[list[int]] = []
    for i in order:
        clusters.append([i])
        while (
            len(clusters) > 1
            and _first(clusters[-1], places, least) - _last(clusters[-2], places, least) < least
        ):
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    apart = [
        (i, _first(cluster, places, least) + least * n)
        for cluster in clusters
        for n, i in enumerate(cluster)
    ]
    moved = {i: max(place, low + least * n) for n, (i, place) in enumerate(apart)}
    return [moved[i] for i in range(len(places))]


def _first(cluster: Sequence[int], places: Sequence[float], least: float) -> float:
    """Where a cluster begins whose middle is the mean of its places."""
    return sum(places[i] for i in cluster) / len(cluster) - least * (len(cluster) - 1) / 2


def _last(cluster: Sequence[int], places: Sequence[float], least: float) -> float:
    return _first(cluster, places, least) + least * (len(cluster) - 1)


def wrapped(text: str, inches: float) -> str:
    """Break a title of 7.5 points into lines of at most so many inches, as matplotlib takes it."""
    lines = [textwrap.fill(line, max(12, int(inches / 0.055))) for line in text.split("\n")]
    return without_mathtext("\n".join(lines))


def title_panel(ax: Axes, title: str) -> None:
    """Write a panel's title, no wider than the panel, which would shrink to make room for it."""
    place, figure = ax.get_subplotspec(), ax.get_figure()
    assert place is not None and figure is not None
    inches = figure.bbox.width / figure.dpi / place.get_gridspec().ncols
    ax.set_title(wrapped(title, 0.8 * inches), loc="left")


def name_at_end(
    ax: Axes, names: Sequence[str], values: Sequence[float], colours: Sequence[str]
) -> None:
    """Write each name right of the axes at the height of its value.

    Moved apart where they would overlap, with a thin line to the value. Call it when all else is
    drawn.
    """
    size = 6.5
    figure = ax.get_figure()
    assert figure is not None
    texts = [
        ax.annotate(
            without_mathtext(name),
            (1, value),
            (3, 0),
            ("axes fraction", "data"),
            "offset points",
            color=colour,
            size=size,
            va="center",
        )
        for name, value, colour in zip(names, values, colours, strict=True)
    ]
    if engine := figure.get_layout_engine():
        engine.execute(figure)  # type: ignore[arg-type]  # the height of the axes, of which the distance of names is a part
    low, high = ax.get_ylim()
    unit = (high - low) / (ax.get_window_extent().height * 72 / figure.dpi)  # of the axis, a point
    moves = [
        (place - value) / unit
        for place, value in zip(spread(values, 1.08 * size * unit), values, strict=True)
    ]
    moved = [abs(move) > size / 3 for move in moves]
    for text, value, move, far in zip(texts, values, moves, moved, strict=True):
        text.set_position((12 if any(moved) else 3, move))
        if far:
            ax.annotate(
                "",
                (1, value),
                (11, move),
                ("axes fraction", "data"),
                "offset points",
                arrowprops={
                    "arrowstyle": "-",
                    "color": text.get_color(),
                    "linewidth": 0.5,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )


def figure_legend(
    figure: Figure, handles: Sequence[Any], names: Sequence[str], inches: float, title: str = ""
) -> None:
    """Write all names below the panels, in as many columns as fit into `inches`.

    handles: of the names, as matplotlib takes them. title: above them.
    """
    columns = _legend_columns(names, inches)
    said = {"title": title, "title_fontsize": 6.5} if title else {}
    figure.legend(
        handles,
        [without_mathtext(name) for name in names],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        **said,
    )


def legend_lines(names: Sequence[str], width: str, count: int, title: str = "") -> int:
    """Return how many lines the names take below `count` panels."""
    return -(
        -len(names) // _legend_columns(names, WIDTHS[width or ("page" if count > 1 else "column")])
    ) + bool(title)


def _legend_columns(names: Sequence[str], inches: float) -> int:
    return max(1, min(len(names), int(inches / (0.55 + 0.048 * max(map(len, names))))))


def shaded(
    ax: Axes,
    values: np.ndarray,
    texts: Sequence[Sequence[str]],
    columns: Sequence[str],
    rows: Sequence[str],
    *,
    gaps: float = 0,
    **scale: Any,
) -> QuadMesh:
    """Draw values (R, C) as shades, NaN left white without its text.

    Texts likewise, or none; columns, rows: the names at the axes, rows may be none.

    gaps: points of white between cells. scale: size of the texts, vmin and vmax of the shades.
    """
    import seaborn

    annotated = {"size": scale.pop("size", 6.5), "in_layout": False}
    seaborn.heatmap(
        values,
        mask=np.isnan(values),
        annot=np.array(texts, str) if texts else None,
        fmt="",
        annot_kws=annotated if texts else None,
        cmap=SHADES,
        linewidths=gaps,
        cbar=False,
        xticklabels=[without_mathtext(name) for name in columns],
        yticklabels=[without_mathtext(name) for name in rows] or False,
        ax=ax,
        **scale,
    )
    ax.tick_params(length=0)
    ax.tick_params(axis="both", rotation=0)
    mesh: QuadMesh = ax.collections[0]  # type: ignore[assignment]
    return mesh


def without_mathtext(name: str) -> str:
    """Keep a user's name as it is: no mathematics between dollar signs."""
    return name.replace("$", r"\$")


def save_figures(
    drawings: Sequence[Drawing], folder: Path, forms: Sequence[str], processes: int = 1
) -> list[Path]:
    """Save each figure in each format, so many at once (`fork_pool.each`).

    Raises UserError where the folder cannot be written.
    """

    def written(job: tuple[Drawing, str]) -> Path:
        drawing, form = job
        # a task of a folder that was passed on names no place
        name = re.sub(r"[^\w.-]+", "-", drawing.name)
        file = folder / f"{name}.{form}"
        undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(form)
        atomic_write.write(
            file,
            lambda partial: drawing.figure.savefig(partial, dpi=300, format=form, metadata=undated),
        )
        return file

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for drawing in drawings:
            drawing.figure.set_dpi(300)
            # once for all formats: each would draw everything for it, and then again
            if engine := drawing.figure.get_layout_engine():
                engine.execute(drawing.figure)
                # "none" leaves a placeholder, for which everything is still drawn twice
                drawing.figure.set_layout_engine(None)
        return fork_pool.each(written, list(product(drawings, forms)), processes)
    except OSError as error:
        raise UserError(
            f"Figures cannot be written to {folder}: {error.strerror}.",
            then="medbench plot --out FOLDER",
        ) from error
