"""How every figure looks: sizes of a paper's column, colours that the colour-blind tell apart, marks and strokes that grey print keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.spec import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
#: Inches: one column and the whole width of a two-column paper.
WIDTHS = {"column": 3.3, "page": 6.9}
#: Okabe & Ito (2008), "Color universal design", without yellow, which white paper swallows; dark and light by turns.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
STROKES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
SHADES = "Blues"  # of a heat map: one hue, its lightness alone says it


@dataclass(frozen=True)
class Look:
    """Of one method, the same in every figure."""

    colour: str
    marker: str
    stroke: str | tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Drawing:
    """A figure and the name of its file."""

    name: str
    figure: Figure


def looks(names: Sequence[str]) -> dict[str, Look]:
    """By place: colours, markers and strokes repeat after 7, 9 and 5, so that the first 315 are all different."""
    return {name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], STROKES[i % len(STROKES)]) for i, name in enumerate(names)}


@contextmanager
def paper() -> Iterator[None]:
    """Fonts of 7 points and thin axes; text stays text in PDF and SVG; the same bytes from the same numbers. Ink and ticks are seaborn's "paper" and
    "ticks", written out: importing seaborn takes three times as long as drawing, and only heat maps need it."""
    import matplotlib

    ink = "0.15"
    own: dict[str, Any] = {
        "font.size": 7,
        "font.sans-serif": ["Arial", "DejaVu Sans", "Liberation Sans", "Bitstream Vera Sans", "sans-serif"],
        "axes.titlesize": 7.5,
        "axes.labelsize": 7,
        "xtick.labelsize": 6.5,
        "ytick.labelsize": 6.5,
        "legend.fontsize": 6.5,
        "legend.handlelength": 3.2,
        "lines.linewidth": 1.1,
        "lines.markersize": 4,
        "lines.solid_capstyle": "round",
        "axes.linewidth": 0.6,
        "axes.axisbelow": True,
        **dict.fromkeys(("axes.labelcolor", "xtick.color", "ytick.color", "text.color", "axes.edgecolor"), ink),
        "patch.edgecolor": "w",
        "patch.force_edgecolor": True,
        "patch.linewidth": 0.8,
        **{f"{axis}tick.major.{what}": value for axis in "xy" for what, value in (("size", 2.5), ("width", 0.6))},
        **{f"{axis}tick.minor.{what}": value for axis in "xy" for what, value in (("size", 3.2), ("width", 0.8))},
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": "medbench",
    }
    with matplotlib.rc_context(own):  # type: ignore[arg-type]  # newer stubs list every name
        yield


def panels(count: int, width: str, *, height: float = 2.1, legend: int = 0, across: int = 1) -> tuple[Figure, list[Any], float]:
    """(figure, its `count` axes, inches of its width). width: "column", "page", or "" for what the panels need; legend: lines of names below.
    across: how many panels belong side by side."""
    from matplotlib.figure import Figure

    inches = WIDTHS[width or ("column" if count == 1 else "page")]
    across = across if across > 1 else min(count, 1 if inches == WIDTHS["column"] else 2 if count == 4 else 3)
    down = -(-count // across)
    figure = Figure(figsize=(inches, height * down + 0.16 * legend), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count], inches


def legend(figure: Figure, handles: Sequence[Any], names: Sequence[str], inches: float) -> None:
    """All names below the panels, in as many columns as fit."""
    figure.legend(handles, [plain(name) for name in names], loc="outside lower center", ncols=legend_columns(names, inches), frameon=False)


def legend_columns(names: Sequence[str], inches: float) -> int:
    return max(1, min(len(names), int(inches / (0.55 + 0.048 * max(map(len, names))))))


def plain(name: str) -> str:
    """A user's name as it is: no mathematics between dollar signs."""
    return name.replace("$", r"\$")


def save(drawings: Sequence[Drawing], folder: Path, forms: Sequence[str]) -> list[Path]:
    """Each figure in each format. Raises UserError where the folder cannot be written."""
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for drawing in drawings:
            for form in forms:
                file = folder / f"{drawing.name}.{form}"
                undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(form)
                drawing.figure.savefig(file, dpi=300, metadata=undated)
                files.append(file)
    except OSError as error:
        raise UserError(f"Figures cannot be written to {folder}: {error.strerror}.", then="medbench plot --out FOLDER") from error
    return files
