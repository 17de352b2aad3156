"""An advice on a screen and as a figure for a paper: the curve, the fan, the target's line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medbench.report.advise.advice import Advice
from medbench.report.figures.style import (
    FORMATS,
    Drawing,
    Look,
    looks,
    name_at_end,
    panels,
    paper,
    save_figures,
    without_mathtext,
)
from medbench.schema import UserError
from medbench.stats.metrics import metric as metric_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

#: Lines of a figure: the first, and the others in the order of the advice.
MOST = 4


def terminal(advice: Advice) -> list[Table | str]:
    """Return the table of an advice and what stands below it, for `screen.show`."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=Text(advice.title), title_justify="left", title_style="bold")
    for place, name in enumerate(advice.header):
        shown.add_column(Text(name), justify="left" if place == 0 else "right")
    for line in advice.lines:
        shown.add_row(*map(Text, line.cells()), style="bold" if line is advice.first else None)
    return [shown, *advice.remarks]


def form_of(file: Path) -> str:
    """Return the format that a file's name asks for, one of FORMATS.

    Raises UserError for any other suffix.
    """
    form = file.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise UserError(
            f"--picture writes {', '.join(FORMATS)}, not '{file.name}'.",
            then=f"--picture {file.stem or 'advice'}.png",
        )
    return form


def draw(made: Sequence[Advice], file: Path, form: str) -> list[Path]:
    """Write one figure with a panel for each advice; return its file, alone in a list.

    An advice of which no line has a prediction is left out. file: its folder and stem are used.
    form: one of `FORMATS`, the suffix that is written. Raises UserError where no advice has a
    prediction, or the folder cannot be written.
    """
    drawable = [
        advice for advice in made if any(line.predicted is not None for line in advice.lines)
    ]
    if not drawable:
        raise UserError(
            f"Nothing can be drawn: {made[0].first.refused}.",
            then="medbench advise without --picture",
        )
    with paper():
        figure, axes, _ = panels(len(drawable), "", height=2.4)
        for ax, advice in zip(axes, drawable, strict=True):
            _panel(ax, advice)
        return save_figures([Drawing(file.stem, figure)], file.parent, [form])


def _panel(ax: Axes, advice: Advice) -> None:
    shown = [line for line in advice.lines if line.predicted is not None][:MOST]
    look = looks([line.curve.name for line in shown])
    for line in reversed(shown):
        curve, found, own = line.curve, line.predicted, look[line.curve.name]
        assert found is not None
        first = line is shown[0]
        if first:
            for level, alpha in ((0.9, 0.15), (0.5, 0.2)):
                low, high = found.interval(level)
                ax.fill_between(found.at, low, high, color=own.colour, alpha=alpha, linewidth=0)
        _scored(ax, curve.sizes, curve.scores, own)
        ax.plot(
            found.at,
            found.value,
            color=own.colour,
            linestyle=own.stroke if not first else "-",
            linewidth=1.1 if first else 0.8,
        )
    target = advice.first.target
    if target is not None:
        ax.axhline(target, color="0.35", linewidth=0.8, linestyle=(0, (1, 1)))
        ax.annotate(
            f"target {target:g}",
            (0, target),
            (2, 1.5),
            ("axes fraction", "data"),
            "offset points",
            color="0.35",
            size=6,
        )
    ax.axvline(shown[0].curve.labelled, color="0.7", linewidth=0.6)
    ax.set_xscale("log")
    ax.set_xticks(*_ticks(min(line.curve.sizes[0] for line in shown), shown[0].curve.labelled * 10))
    ax.set_xticks([], minor=True)
    ax.set_xlabel("labels (images); right of the line: predicted, 50 and 90 %")
    ax.set_ylabel(metric_of(shown[0].curve.metric).title)
    ax.set_title(without_mathtext(advice.title), loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ends = [float(line.predicted.value[-1]) for line in shown if line.predicted is not None]
    name_at_end(
        ax,
        [line.curve.name for line in shown],
        ends,
        [look[line.curve.name].colour for line in shown],
    )


def _scored(ax: Axes, sizes: np.ndarray, scores: np.ndarray, own: Look) -> None:
    ax.plot(
        sizes,
        scores,
        color=own.colour,
        marker=own.marker,
        linestyle=own.stroke,
        linewidth=0.8,
        markersize=3.5,
    )


def _ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """1, 2 and 5 of each decade, or of many decades the powers alone."""
    powers = range(int(np.floor(np.log10(low))), int(np.floor(np.log10(high))) + 1)
    steps = (1, 2, 5) if high / low < 200 else (1,)
    places = [
        float(n * 10.0**power) for power in powers for n in steps if low <= n * 10.0**power <= high
    ]
    return places, [f"{place:,.10g}" for place in places]
