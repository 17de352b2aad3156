"""Parts of a figure of the page: an axis, a panel with its ticks, intervals, marks, a legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, isnan, log, log10

from medbench.report.figures.style import Look
from medbench.report.html.elements import Html, tag
from medbench.stats import Summary

WIDTH = 360  # of a drawing, in its own units: pixels of a phone
LEFT, RIGHT, TOP = 44, 352, 10
_FEWEST_TICKS = 4
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
    (0, (8, 2)): "9 3",
    (0, (5, 1, 1, 1, 1, 1)): "6 2 1.5 2 1.5 2",
}


@dataclass(frozen=True)
class Axis:
    """Numbers from `low` to `high` as places from `start` to `end`, in the drawing's units.

    log: equal ratios are equally far apart; else equal differences.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the place of a value, in the drawing's units, to a tenth."""
        share = (
            log(value / self.low) / log(self.high / self.low)
            if self.log
            else (value - self.low) / (self.high - self.low)
        )
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Return round numbers inside and how they are written, four to eight of them.

        Multiples of 1, 2, 2.5 or 5 times a power of ten. On a log axis 1, 2 and 5 times powers of
        ten, of which a span of many powers holds more than eight; where it holds fewer than four,
        the multiples.
        """
        if self.log:
            powers = range(floor(log10(self.low)), floor(log10(self.high)) + 1)
            found = [n * 10.0**power for power in powers for n in (1, 2, 5)]
            inside = [value for value in found if self.low <= value <= self.high]
            if len(inside) >= _FEWEST_TICKS:
                return [(value, f"{value:,.10g}") for value in inside]
        raw = (self.high - self.low) / 5
        unit = 10.0 ** floor(log10(raw))
        steps = [n * unit for n in (1, 2, 2.5, 5, 10)]
        place = next(i for i, step in enumerate(steps) if step >= raw)
        ticks = self._multiples(steps[place])
        return ticks if len(ticks) >= _FEWEST_TICKS else self._multiples(steps[place - 1])

    def _multiples(self, step: float) -> list[tuple[float, str]]:
        digits = max(0, -floor(log10(step)) + (step / 10.0 ** floor(log10(step)) == 2.5))
        first = -floor(-self.low / step)
        return [
            (i * step, f"{i * step:,.{digits}f}")
            for i in range(first, floor(self.high / step + 1e-9) + 1)
        ]


def axis_around(
    values: Sequence[float], start: float, end: float, *, log_: bool, least: float = 1.0
) -> Axis:
    """Make an axis from `start` to `end` around positive values, with some room at its ends.

    least: the ratio of its ends, at least.
    """
    low, high = min(values), max(values)
    room = max((high / low) ** 0.05, (least / (high / low)) ** 0.5, 1.02)
    return Axis(low / room, high * room, start, end, log_)


def upward_axis(summaries: Iterable[Summary]) -> Axis | None:
    """Make the upward axis of means with their intervals; None where nothing is known."""
    known = [value for s in summaries for value in (s.mean, s.low, s.high) if not isnan(value)]
    if not known:
        return None
    low, high = min(known), max(known)
    room = 0.05 * (high - low) or 0.01
    return Axis(low - room, high + room, TOP + 176, TOP)


def draw_panel(
    x: Axis, y: Axis, ticks: Sequence[tuple[float, str]], below: str, beside: str, title: str = ""
) -> Html:
    """Draw two axes with their ticks and words; a tick's second line stands under its first.

    ticks: of `x`, (value, name); those of `y` are its own. below, beside: the words of the axes.
    """
    lines = [f"M{x.start} {y.end}V{y.start}H{x.end}"]
    words = []
    for value, name in ticks:
        lines.append(f"M{x.at(value)} {y.start}v4")
        words += [
            draw_word(x.at(value), y.start + 15 + 12 * i, part, "middle")
            for i, part in enumerate(name.split("\n"))
            if part
        ]
    for value, name in y.ticks():
        lines.append(f"M{x.start} {y.at(value)}h-4")
        words.append(draw_word(x.start - 6, y.at(value) + 3.5, name, "end"))
    deep = max((name.count("\n") for _, name in ticks), default=0)
    middle = (y.start + y.end) / 2
    words.append(draw_word((x.start + x.end) / 2, y.start + 32 + 12 * deep, below, "middle"))
    if beside:
        words.append(
            draw_word(
                0, 0, beside, "middle", transform=f"translate({x.start - 34} {middle}) rotate(-90)"
            )
        )
    if title:
        words.append(draw_word(x.start, y.end - 8, title, "start"))
    return tag("g", draw_path("".join(lines), stroke="currentColor"), words)


def draw_intervals(
    places: Sequence[tuple[float, Summary]], y: Axis, look: Look, *, band: bool
) -> list[Html]:
    """Draw the intervals of means: one band through all, or a bar each.

    places: (place along the other axis, mean with its interval); one without an interval is left
    out. y: the axis of the means.
    """
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
        return [tag("path", d=f"M{path_of(round_)}z", fill=ink_of(look), fill_opacity=0.15)]
    return (
        [draw_path("".join(f"M{at} {low}V{high}" for at, low, high in known), stroke=ink_of(look))]
        if known
        else []
    )


def draw_marks(
    points: Sequence[tuple[float, float]], look: Look, *, joined: bool = True
) -> list[Html]:
    """Draw the points with their marks, in this line's stroke."""
    made = (
        [
            draw_path(
                f"M{path_of(points)}",
                stroke=ink_of(look),
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
            "path",
            d=_SHAPES[look.marker],
            transform=f"translate({a} {b})",
            fill=ink_of(look),
            **ring,
        )
        for a, b in points
    ]


def draw_legend(looks: dict[str, Look], *, joined: bool = True) -> Html:
    """Draw a list of names, each behind its mark, and its stroke where marks are joined."""
    entries = [
        tag(
            "li",
            _swatch(
                *draw_marks([(2, 5), (26, 5)] if joined else [], look)[:1],
                *draw_marks([(14, 5)], look, joined=False),
            ),
            name,
        )
        for name, look in looks.items()
    ]
    return tag("ul", entries, class_="legend")


def _swatch(*inside: Html) -> Html:
    return tag("svg", inside, viewBox="0 0 28 10", aria_hidden="true")


def draw_figure(
    drawn: Sequence[Html],
    alt: str,
    caption: str,
    legend: Html | None = None,
    height: float = TOP + 176 + 52,
) -> Html:
    """Put a drawing into a figure, above its legend and caption.

    alt: what it shows, for who cannot see it. height: in the drawing's units, of which it is WIDTH
    wide.
    """
    svg = tag("svg", drawn, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=alt)
    return tag("figure", svg, legend, tag("figcaption", caption))


def draw_path(d: str, **attributes: object) -> Html:
    """Make a path without filling. d: as SVG has it."""
    return tag("path", d=d, fill="none", **attributes)


def draw_word(x: float, y: float, word: str, anchor: str, **attributes: object) -> Html:
    """Write a word at a place, in the drawing's units. anchor: start, middle or end."""
    return tag(
        "text",
        word,
        x=x,
        y=y,
        **{"fill": "currentColor", "font_size": 11, "text_anchor": anchor, **attributes},
    )


def path_of(points: Sequence[tuple[float, float]]) -> str:
    """Join points (x, y) to what an SVG path takes behind its M."""
    return "L".join(f"{a} {b}" for a, b in points)


def ink_of(look: Look) -> str:
    """Return a look's colour for the page; black is the text's own, which a dark page inverts."""
    return "currentColor" if look.colour == "#000000" else look.colour.lower()
