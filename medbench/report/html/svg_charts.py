"""Figures of the page, drawn as SVG by hand.

Ink that follows the reader's light or dark, words of the page's own font, nothing to load.

They show what the figures of `report.figures` show, in its colours, marks and strokes. Why
matplotlib does not draw these too: it writes each colour into the SVG (113 places in a curve of
seven lines), so that black ink stays black on a dark page, and measures words in a font that the
page does not have. One curve takes it 140 ms and 20 kB, this file 1 ms and 7 kB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, isnan, log, log10

from medbench.report.advise import Advice, LineAdvice
from medbench.report.figures import readable as best_of
from medbench.report.figures.calibration_confusion import calibration_curves
from medbench.report.figures.cost_scatter import seconds_of
from medbench.report.figures.label_curves import budget_ticks
from medbench.report.figures.line_names import line_looks, short_names
from medbench.report.figures.line_selection import FEW, baseline, emphasised
from medbench.report.figures.style import Look, looks, spread
from medbench.report.html.elements import Html, tag
from medbench.report.leaderboard import Leaderboard
from medbench.run.store import NoPredictions
from medbench.stats import Summary
from medbench.stats.extrapolation import MOST_TIMES
from medbench.stats.metrics import METRICS

MOST = 8  # lines that one small figure can show and an eye still tells apart
WIDTH = 360  # of a drawing, in its own units: pixels of a phone
_LEFT, _RIGHT, _TOP = 44, 352, 10
_NAME = 18  # letters of a line's name at its end
_SHAPES = {
    "o": "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z",
    "s": "M-2.8-2.8h5.6v5.6h-5.6z",
    "^": "M0-3.6L3.4 2.8H-3.4z",
    "D": "M0-3.8L3.8 0L0 3.8L-3.8 0z",
    "v": "M0 3.6L3.4-2.8H-3.4z",
    "P": "M-1.3-3.5h2.6v2.2h2.2v2.6h-2.2v2.2h-2.6v-2.2h-2.2v-2.6h2.2z",
    "X": "M-3.6-1.9L-1.9-3.6L0-1.7L1.9-3.6L3.6-1.9L1.7 0L3.6 1.9L1.9 3.6L0 1.7L-1.9 3.6L-3.6 1.9L-1.7 0z",
    "<": "M-3.6 0L2.8-3.4V3.4z",
    ">": "M3.6 0L-2.8-3.4V3.4z",
}
_DASHES: dict[object, str | None] = {
    "-": None,
    "--": "5 3",
    "-.": "6 2.5 1.5 2.5",
    ":": "1.5 2.5",
    (0, (5, 1, 1, 1, 1, 1)): "6 2 1.5 2 1.5 2",
}


@dataclass(frozen=True)
class Axis:
    """Numbers from `low` to `high` as places from `start` to `end`; log.

    Equal ratios are equally far apart.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        share = (
            log(value / self.low) / log(self.high / self.low)
            if self.log
            else (value - self.low) / (self.high - self.low)
        )
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Round numbers inside, four to eight of them."""
        if self.log:
            powers = range(floor(log10(self.low)), floor(log10(self.high)) + 1)
            found = [n * 10.0**power for power in powers for n in (1, 2, 5)]
            return [(value, f"{value:,.10g}") for value in found if self.low <= value <= self.high]
        raw = (self.high - self.low) / 5
        unit = 10.0 ** floor(log10(raw))
        step = next(n * unit for n in (1, 2, 2.5, 5, 10) if n * unit >= raw)
        digits = max(0, -floor(log10(step)) + (step / 10.0 ** floor(log10(step)) == 2.5))
        first = -floor(-self.low / step)
        return [
            (i * step, f"{i * step:.{digits}f}")
            for i in range(first, floor(self.high / step + 1e-9) + 1)
        ]


def chart_lines(board: Leaderboard, metric: str, also: Sequence[str] = ()) -> Leaderboard:
    """Return the board with the lines that a figure shows."""
    return best_of([board], metric, MOST, also)[0]


def curves_chart(board: Leaderboard, metric: str, alt: str, caption: str) -> Html | None:
    """Means with 95 % intervals over labelled images, each line named at its end.

    The baseline's score with all labels across.

    Up to four lines with bands; of more, the best and the baseline with bars, the others grey
    without.
    """
    if len({line.cell.labels for line in board.lines if line.complete}) < 2:
        return None
    names, look, bright = short_names([board]), line_looks([board]), emphasised([board], metric)
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
    x = _around([n for n, _ in ticks], _LEFT, end, log_=True)
    y = _over([*(s for name in bright & shown.keys() for _, s in shown[name]), *_means(shown)])
    if y is None:
        return None
    drawn = [_panel(x, y, ticks, "labels (images)", METRICS[metric].title)]
    base = baseline(board, metric)
    if base is not None and not isnan(level := base.summary(metric).mean):
        drawn.append(
            _path(f"M{_LEFT} {y.at(level)}H{end}", stroke="var(--soft)", stroke_dasharray="1.5 2.5")
        )
        drawn.append(
            _word(
                _LEFT + 3, y.at(level) - 3, f"{names[base.name]}, all labels", "start", font_size=9
            )
        )
    for place, name in enumerate(sorted(shown, key=lambda name: name in bright)):
        aside = 1.03 ** (
            (place - len(shown) + (len(bright) + 1) / 2) * (name in bright and not few)
        )
        places = [(x.at(n * aside), s) for n, s in shown[name] if not isnan(s.mean)]
        points = [(at, y.at(s.mean)) for at, s in places]
        if name in bright:
            drawn += [*_intervals(places, y, look[name], band=few), *_marks(points, look[name])]
        elif points:
            drawn.append(
                _path(
                    f"M{_joined(points)}",
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
        ink = _ink(look[name]) if name in bright else "var(--soft)"
        drawn.append(_word(end + 6, round(at + 3.5, 1), _shortened(names[name]), "start", fill=ink))
    return _figure(drawn, alt, caption)


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
    y = _over(line.summary(metric) for line in lines)
    if y is None:
        return None
    x = _around([seconds_of(line) for line in lines], _LEFT, _RIGHT, log_=True, least=8.0)
    drawn = [
        _panel(x, y, x.ticks(), "seconds: pretraining, embedding, fitting", METRICS[metric].title)
    ]
    for line in lines:
        s = line.summary(metric)
        if not isnan(s.mean):
            place = x.at(seconds_of(line))
            drawn += _intervals([(place, s)], y, look[line.name], band=False)
            drawn += _marks([(place, y.at(s.mean))], look[line.name], joined=False)
    return _figure(
        drawn,
        alt,
        caption,
        _legend({names[line.name]: look[line.name] for line in lines}, joined=False),
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
    x = _around(
        [min(line.curve.sizes[0] for line in shown), MOST_TIMES * first.curve.labelled],
        _LEFT,
        end,
        log_=True,
    )
    y = _over(_spans(shown))
    assert y is not None, "a prediction has numbers"
    sparse = (
        x.ticks()
        if x.high / x.low < 200
        else [tick for tick in x.ticks() if log10(tick[0]) % 1 == 0]
    )
    drawn = [
        _panel(
            x,
            y,
            sparse,
            "labels (images); predicted right of the line",
            METRICS[first.curve.metric].title,
        )
    ]
    now = x.at(first.curve.labelled)
    drawn.append(_path(f"M{now} {y.end}V{y.start}", stroke="var(--soft)", stroke_width=0.6))
    for line in reversed(shown):
        found, own = line.predicted, look[line.curve.name]
        assert found is not None, "such lines are left out"
        for level in (0.9, 0.5) if line is first else ():
            low, high = ([y.at(v) for v in ends[::6]] for ends in found.interval(level))
            at = [x.at(n) for n in found.at[::6]]
            round_ = [*zip(at, high, strict=True), *zip(reversed(at), reversed(low), strict=True)]
            drawn.append(tag("path", d=f"M{_joined(round_)}z", fill=_ink(own), fill_opacity=0.15))
        drawn += _marks(
            [(x.at(n), y.at(v)) for n, v in zip(line.curve.sizes, line.curve.scores, strict=True)],
            own,
        )
        middle = [(x.at(n), y.at(v)) for n, v in zip(found.at[::6], found.value[::6], strict=True)]
        drawn.append(_path(f"M{_joined(middle)}", stroke=_ink(own)))
    last = [y.at(line.predicted.value[-1]) for line in shown if line.predicted is not None]
    for line, height in zip(shown, spread(last, 11.5, 6), strict=True):
        drawn.append(
            _word(
                end + 6,
                round(height + 3.5, 1),
                _shortened(line.curve.name),
                "start",
                fill=_ink(look[line.curve.name]),
            )
        )
    return _figure(drawn, alt, caption)


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
    """Share of right answers over confidence with the most labels.

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
        left = _LEFT + place * (side + 44)
        x, y = Axis(0, 1, left, left + side), Axis(0, 1, _TOP + 14 + side, _TOP + 14)
        title = ("as given", "temperature scaled")[place] if states > 1 else ""
        drawn.append(
            _panel(
                x,
                y,
                x.ticks() if states == 1 else x.ticks()[::5],
                "confidence",
                "right answers" if not place else "",
                title,
            )
        )
        drawn.append(
            _path(
                f"M{x.start} {y.start}L{x.end} {y.end}",
                stroke="var(--soft)",
                stroke_dasharray="1.5 2.5",
            )
        )
        for line, of in found.items():
            if place < len(of):
                drawn += _marks(
                    [(x.at(a), y.at(b)) for a, b in zip(*of[place], strict=True)], look[line.name]
                )
    return _figure(
        drawn,
        alt,
        caption,
        _legend({names[line.name]: look[line.name] for line in found}),
        _TOP + 14 + side + 42,
    )


def _around(
    values: Sequence[float], start: float, end: float, *, log_: bool, least: float = 1.0
) -> Axis:
    """Make an axis with some room at its ends. least: the ratio of its ends, at least."""
    low, high = min(values), max(values)
    room = max((high / low) ** 0.05, (least / (high / low)) ** 0.5, 1.02)
    return Axis(low / room, high * room, start, end, log_)


def _over(summaries: Iterable[Summary]) -> Axis | None:
    """Make the upward axis of means with their intervals; None where nothing is known."""
    known = [value for s in summaries for value in (s.mean, s.low, s.high) if not isnan(value)]
    if not known:
        return None
    low, high = min(known), max(known)
    room = 0.05 * (high - low) or 0.01
    return Axis(low - room, high + room, _TOP + 176, _TOP)


def _panel(
    x: Axis, y: Axis, ticks: Sequence[tuple[float, str]], below: str, beside: str, title: str = ""
) -> Html:
    """Draw the axes with their ticks and words; a tick's second line stands under its first."""
    lines = [f"M{x.start} {y.end}V{y.start}H{x.end}"]
    words = []
    for value, name in ticks:
        lines.append(f"M{x.at(value)} {y.start}v4")
        words += [
            _word(x.at(value), y.start + 15 + 12 * i, part, "middle")
            for i, part in enumerate(name.split("\n"))
            if part
        ]
    for value, name in y.ticks():
        lines.append(f"M{x.start} {y.at(value)}h-4")
        words.append(_word(x.start - 6, y.at(value) + 3.5, name, "end"))
    deep = max((name.count("\n") for _, name in ticks), default=0)
    middle = (y.start + y.end) / 2
    words.append(_word((x.start + x.end) / 2, y.start + 32 + 12 * deep, below, "middle"))
    if beside:
        words.append(
            _word(
                0, 0, beside, "middle", transform=f"translate({x.start - 34} {middle}) rotate(-90)"
            )
        )
    if title:
        words.append(_word(x.start, y.end - 8, title, "start"))
    return tag("g", _path("".join(lines), stroke="currentColor"), words)


def _intervals(
    places: Sequence[tuple[float, Summary]], y: Axis, look: Look, *, band: bool
) -> list[Html]:
    known = [
        (at, y.at(s.low), y.at(s.high))
        for at, s in places
        if not isnan(s.low) and not isnan(s.high)
    ]
    if band and len(known) > 1:
        round_ = [
            *((at, high) for at, _, high in known),
            *((at, low) for at, low, _ in reversed(known)),
        ]
        return [tag("path", d=f"M{_joined(round_)}z", fill=_ink(look), fill_opacity=0.15)]
    return (
        [_path("".join(f"M{at} {low}V{high}" for at, low, high in known), stroke=_ink(look))]
        if known
        else []
    )


def _marks(points: Sequence[tuple[float, float]], look: Look, *, joined: bool = True) -> list[Html]:
    """Draw the points with their marks, in this line's stroke."""
    made = (
        [
            _path(
                f"M{_joined(points)}",
                stroke=_ink(look),
                stroke_width=1.6,
                stroke_dasharray=_DASHES[look.stroke],
            )
        ]
        if joined and points
        else []
    )
    ring = {"stroke": "var(--paper)", "stroke_width": 0.6}
    return made + [
        tag(
            "path", d=_SHAPES[look.marker], transform=f"translate({a} {b})", fill=_ink(look), **ring
        )
        for a, b in points
    ]


def _legend(looks: dict[str, Look], *, joined: bool = True) -> Html:
    entries = [
        tag(
            "li",
            _swatch(
                *_marks([(2, 5), (26, 5)] if joined else [], look)[:1],
                *_marks([(14, 5)], look, joined=False),
            ),
            name,
        )
        for name, look in looks.items()
    ]
    return tag("ul", entries, class_="legend")


def _swatch(*inside: Html) -> Html:
    return tag("svg", inside, viewBox="0 0 28 10", aria_hidden="true")


def _figure(
    drawn: Sequence[Html],
    alt: str,
    caption: str,
    legend: Html | None = None,
    height: float = _TOP + 176 + 52,
) -> Html:
    svg = tag("svg", drawn, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=alt)
    return tag("figure", svg, legend, tag("figcaption", caption))


def _path(d: str, **attributes: object) -> Html:
    return tag("path", d=d, fill="none", **attributes)


def _word(x: float, y: float, word: str, anchor: str, **attributes: object) -> Html:
    return tag(
        "text",
        word,
        x=x,
        y=y,
        **{"fill": "currentColor", "font_size": 11, "text_anchor": anchor, **attributes},
    )


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{a} {b}" for a, b in points)


def _ink(look: Look) -> str:
    return "currentColor" if look.colour == "#000000" else look.colour.lower()
