"""Figures of the page, drawn as SVG by hand.

Ink that follows the reader's light or dark, words of the page's own font, nothing to load.

They show what the figures of `report.figures` show, in its colours, marks and strokes. Why
matplotlib does not draw these too: it writes each colour into the SVG (113 places in a curve of
seven lines), so that black ink stays black on a dark page, and measures words in a font that the
page does not have. One curve takes it 140 ms and 20 kB, this file 1 ms and 7 kB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan, log10

from medbench.report.advise import Advice, LineAdvice
from medbench.report.figures import readable as best_of
from medbench.report.figures.calibration_confusion import calibration_curves
from medbench.report.figures.cost_scatter import seconds_of
from medbench.report.figures.label_curves import budget_ticks, curve_looks
from medbench.report.figures.line_names import line_looks, short_names
from medbench.report.figures.line_selection import FEW, baseline, emphasised
from medbench.report.figures.style import looks, spread
from medbench.report.html.elements import Html, tag
from medbench.report.html.svg_parts import (
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    axis_around,
    draw_figure,
    draw_intervals,
    draw_legend,
    draw_marks,
    draw_panel,
    draw_path,
    draw_word,
    ink_of,
    path_of,
    upward_axis,
)
from medbench.report.leaderboard import Leaderboard
from medbench.run.store import NoPredictions
from medbench.stats import Summary
from medbench.stats.extrapolation import MOST_TIMES
from medbench.stats.metrics import METRICS

MOST = 8  # lines that one small figure can show and an eye still tells apart
_NAME = 18  # letters of a line's name at its end


def chart_lines(board: Leaderboard, metric: str, also: Sequence[str] = ()) -> Leaderboard:
    """Return the board with the lines that a figure shows."""
    return best_of([board], metric, MOST, also)[0]


def curves_chart(board: Leaderboard, metric: str, alt: str, caption: str) -> Html | None:
    """Draw means with 95 % intervals over labelled images, each line named at its end.

    The baseline's score with all labels stands across. Up to four lines with bands; of more, the
    best and the baseline with bars, the others grey without. alt: what it shows, for who cannot see
    it. None where fewer than two budgets are finished.
    """
    if len({line.cell.labels for line in board.lines if line.complete}) < 2:
        return None
    names, look, bright = (
        short_names([board]),
        curve_looks([board], metric),
        emphasised([board], metric),
    )
    found = {
        name: [line for line in board.lines if line.name == name and metric in line.plain]
        for name in names
    }
    shown = {
        name: [(line.n_labels, line.summary(metric)) for line in lines]
        for name, lines in found.items()
        if lines
    }
    few = len(shown) <= FEW
    ticks = budget_ticks(board)
    # of the axis: names stand right of it
    end = WIDTH - 10 - min(max(len(names[name]) for name in shown), _NAME) * 6
    x = axis_around([n for n, _ in ticks], LEFT, end, log_=True)
    y = upward_axis(
        [*(s for name in bright & shown.keys() for _, s in shown[name]), *_means(shown)]
    )
    if y is None:
        return None
    drawn = [draw_panel(x, y, ticks, "labels (images)", METRICS[metric].title)]
    base = baseline(board, metric)
    if base is not None and not isnan(level := base.summary(metric).mean):
        drawn.append(
            draw_path(
                f"M{LEFT} {y.at(level)}H{end}", stroke="var(--soft)", stroke_dasharray="1.5 2.5"
            )
        )
        drawn.append(
            draw_word(
                LEFT + 3, y.at(level) - 3, f"{names[base.name]}, all labels", "start", font_size=9
            )
        )
    for place, name in enumerate(sorted(shown, key=lambda name: name in bright)):
        aside = 1.03 ** (
            (place - len(shown) + (len(bright) + 1) / 2) * (name in bright and not few)
        )
        places = [(x.at(n * aside), s) for n, s in shown[name] if not isnan(s.mean)]
        points = [(at, y.at(s.mean)) for at, s in places]
        if name in bright:
            drawn += [
                *draw_intervals(places, y, look[name], band=few),
                *draw_marks(points, look[name]),
            ]
        elif points:
            drawn.append(
                draw_path(
                    f"M{path_of(points)}",
                    stroke="var(--soft)",
                    stroke_width=0.8,
                    stroke_opacity=0.6,
                )
            )
    known = [
        (name, y.at(points[-1][1].mean))
        for name, points in shown.items()
        if not isnan(points[-1][1].mean)
    ]
    for (name, _), at in zip(known, spread([at for _, at in known], 11.5, 6), strict=True):
        ink = ink_of(look[name]) if name in bright else "var(--soft)"
        drawn.append(
            draw_word(end + 6, round(at + 3.5, 1), _shortened(names[name]), "start", fill=ink)
        )
    return draw_figure(drawn, alt, caption)


def _means(shown: Mapping[str, Sequence[tuple[float, Summary]]]) -> list[Summary]:
    """Each point's mean without its interval."""
    return [replace(s, low=s.mean, high=s.mean) for points in shown.values() for _, s in points]


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def cost_chart(board: Leaderboard, metric: str, alt: str, caption: str) -> Html | None:
    """Draw the score with the most labels over the seconds that it took, with its interval."""
    names, look = short_names([board]), line_looks([board])
    lines = [
        line
        for line in board.at(board.budgets()[-1])
        if metric in line.plain and seconds_of(line) > 0
    ]
    y = upward_axis(line.summary(metric) for line in lines)
    if y is None:
        return None
    x = axis_around([seconds_of(line) for line in lines], LEFT, RIGHT, log_=True, least=8.0)
    drawn = [
        draw_panel(
            x, y, x.ticks(), "seconds: pretraining, embedding, fitting", METRICS[metric].title
        )
    ]
    for line in lines:
        s = line.summary(metric)
        if not isnan(s.mean):
            place = x.at(seconds_of(line))
            drawn += draw_intervals([(place, s)], y, look[line.name], band=False)
            drawn += draw_marks([(place, y.at(s.mean))], look[line.name], joined=False)
    return draw_figure(
        drawn,
        alt,
        caption,
        draw_legend({names[line.name]: look[line.name] for line in lines}, joined=False),
    )


def advice_chart(advice: Advice, alt: str, caption: str) -> Html | None:
    """Draw the first line's scores and what is predicted.

    The middle, a band of 90 and one of 50 %; a target across; other lines' middles, thin.
    """
    shown = [line for line in advice.lines if line.predicted is not None][:FEW]
    if not shown:
        return None
    look, first = looks([line.curve.name for line in shown]), shown[0]
    end = WIDTH - 10 - min(max(len(line.curve.name) for line in shown), _NAME) * 6
    x = axis_around(
        [min(line.curve.sizes[0] for line in shown), MOST_TIMES * first.curve.labelled],
        LEFT,
        end,
        log_=True,
    )
    y = upward_axis(_spans(shown))
    assert y is not None, "a prediction has numbers"
    sparse = (
        x.ticks()
        if x.high / x.low < 200
        else [tick for tick in x.ticks() if log10(tick[0]) % 1 == 0]
    )
    drawn = [
        draw_panel(
            x,
            y,
            sparse,
            "labels (images); predicted right of the line",
            METRICS[first.curve.metric].title,
        )
    ]
    now = x.at(first.curve.labelled)
    drawn.append(draw_path(f"M{now} {y.end}V{y.start}", stroke="var(--soft)", stroke_width=0.6))
    for line in reversed(shown):
        found, own = line.predicted, look[line.curve.name]
        assert found is not None, "such lines are left out"
        for level in (0.9, 0.5) if line is first else ():
            low, high = ([y.at(v) for v in ends[::6]] for ends in found.interval(level))
            at = [x.at(n) for n in found.at[::6]]
            round_ = [*zip(at, high, strict=True), *zip(reversed(at), reversed(low), strict=True)]
            drawn.append(tag("path", d=f"M{path_of(round_)}z", fill=ink_of(own), fill_opacity=0.15))
        drawn += draw_marks(
            [(x.at(n), y.at(v)) for n, v in zip(line.curve.sizes, line.curve.scores, strict=True)],
            own,
        )
        middle = [(x.at(n), y.at(v)) for n, v in zip(found.at[::6], found.value[::6], strict=True)]
        drawn.append(draw_path(f"M{path_of(middle)}", stroke=ink_of(own)))
    last = [y.at(line.predicted.value[-1]) for line in shown if line.predicted is not None]
    for line, height in zip(shown, spread(last, 11.5, 6), strict=True):
        drawn.append(
            draw_word(
                end + 6,
                round(height + 3.5, 1),
                _shortened(line.curve.name),
                "start",
                fill=ink_of(look[line.curve.name]),
            )
        )
    return draw_figure(drawn, alt, caption)


def _spans(lines: Sequence[LineAdvice]) -> list[Summary]:
    """Of the first line its whole fan, of the others their middles; all scores."""
    found = [Summary(v, None, v, v) for line in lines for v in line.curve.scores.tolist()]
    for place, line in enumerate(lines):
        assert line.predicted is not None, "such lines are left out"
        low, high = line.predicted.ends if place == 0 else (line.predicted.value,) * 2
        found.append(
            Summary(float(line.predicted.value[-1]), None, float(low.min()), float(high.max()))
        )
    return found


def reliability_chart(board: Leaderboard, alt: str, caption: str) -> Html | None:
    """Return the share of right answers over confidence with the most labels.

    Beside it after each draw's temperature, where every draw of a line has one.
    """
    names, look = short_names([board]), line_looks([board])
    try:
        found = calibration_curves(board)
    except NoPredictions:
        return None
    if not found:
        return None
    states = max(map(len, found.values()))
    side = 200 if states == 1 else 126
    drawn = []
    for place in range(states):
        left = LEFT + place * (side + 44)
        x, y = Axis(0, 1, left, left + side), Axis(0, 1, TOP + 14 + side, TOP + 14)
        title = ("as given", "temperature scaled")[place] if states > 1 else ""
        drawn.append(
            draw_panel(
                x,
                y,
                x.ticks() if states == 1 else x.ticks()[::5],
                "confidence",
                "right answers" if not place else "",
                title,
            )
        )
        drawn.append(
            draw_path(
                f"M{x.start} {y.start}L{x.end} {y.end}",
                stroke="var(--soft)",
                stroke_dasharray="1.5 2.5",
            )
        )
        for line, of in found.items():
            if place < len(of):
                drawn += draw_marks(
                    [(x.at(a), y.at(b)) for a, b in zip(*of[place], strict=True)], look[line.name]
                )
    return draw_figure(
        drawn,
        alt,
        caption,
        draw_legend({names[line.name]: look[line.name] for line in found}),
        TOP + 14 + side + 42,
    )
