"""HTML as values: whatever is not `Html` is a person's word, and is escaped.

Places on a machine are cut to their last name.

Nothing here puts data into a script: the page's own script reads the tables, so there is no second
way in.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence
from math import isnan
from typing import Any

from medbench.schema import placeless
from medbench.stats import number_format


class Html(str):
    """Markup that was made here; every other string is text."""

    __slots__ = ()


def escaped(value: Any) -> Html:
    """Escape what a user or a program said; `Html` stays as it is.

    Of paths the last name stays, so that no page shows the folders of a machine.
    """
    return (
        value if isinstance(value, Html) else Html(html.escape(placeless(str(value)), quote=True))
    )


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """Make an element.

    children: text, Html, None (nothing) or sequences of them. attributes: `class_`, `data_v`; None
    and False are left out.
    """
    said = []
    for key, value in attributes.items():
        if value is not None and value is not False:
            word = key.rstrip("_").replace("_", "-")
            said.append(f" {word}" if value is True else f' {word}="{escaped(value)}"')
    inside = "".join(_flat(children))
    return Html(f"<{name}{''.join(said)}>{inside}" + ("" if name in _VOID else f"</{name}>"))


_VOID = {"meta", "img", "input", "br", "hr", "link"}


def _flat(children: Iterable[Any]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, str) or not isinstance(child, Iterable):
            yield escaped(child)
        else:
            yield from _flat(child)


def section(key: str, title: str, *children: Any) -> Html:
    """Make a part of the page with its heading, from which the page's contents are made.

    key: its id in the page.
    """
    return tag(
        "section",
        tag("h2", title, id=f"{key}-title"),
        *children,
        id=key,
        aria_labelledby=f"{key}-title",
    )


def items(lines: Sequence[Any], **attributes: Any) -> Html | None:
    """Make a list, an entry a line; None where there are none. attributes: of its `ul`."""
    return tag("ul", [tag("li", line) for line in lines], **attributes) if lines else None


def table(
    header: Sequence[Any], rows: Iterable[Sequence[Any]], caption: str, *, names: int = 1
) -> Html:
    """Make a plain table that scrolls sideways on its own.

    The first `names` columns are words, the others numbers.
    """
    head = [
        tag("th", cell, scope="col", class_=None if place < names else "n")
        for place, cell in enumerate(header)
    ]
    body = [
        tag(
            "tr",
            [
                tag("th", cell, scope="row")
                if place == 0
                else tag("td", cell, class_=_width(cell) if place < names else "n")
                for place, cell in enumerate(row)
            ],
        )
        for row in rows
    ]
    made = tag("table", tag("caption", caption), tag("thead", tag("tr", head)), tag("tbody", body))
    return tag("div", made, class_="wide", tabindex="0", role="region", aria_label=caption)


def _width(cell: Any) -> str | None:
    """Return a class for words that a phone's narrow column would break into many lines."""
    return "w" if len(re.sub(r"<[^>]*>", "", "".join(_flat([cell])))) > 18 else None


def number_markup(value: float | None, form: str = ".3f") -> str:
    """Write a number as `number_text` does, with a minus sign instead of a hyphen."""
    return number_format.number_text(value, form).replace("-", "−")


def interval_markup(low: float, high: float, form: str = ".3f") -> str:
    """Write an interval as `interval_text` does, with minus signs instead of hyphens."""
    return number_format.interval_text(low, high, form).replace("-", "−")


def estimate_markup(value: float | None, low: float, high: float, form: str = ".3f") -> list[Any]:
    """Write a number and its interval in small print; a dash alone where there is no number."""
    return [
        number_markup(value, form),
        *(
            []
            if value is None or isnan(value)
            else [" ", tag("small", interval_markup(low, high, form))]
        ),
    ]


def bar(
    mean: float, low: float, high: float, ends: tuple[float, float], *, zero: bool = False
) -> Html:
    """Draw an interval as a line with a point, in a small picture over the range `ends`.

    zero: mark 0. Nothing where the mean is undefined. The number beside it says the same to those
    who do not see it.
    """
    first, last = ends
    if isnan(mean) or last <= first:
        return Html("")
    at: Callable[[float], float] = lambda x: (
        min(max((x - first) / (last - first), 0.0), 1.0) * 92 + 4
    )
    line = "" if isnan(low) or isnan(high) else f'<path d="M{at(low):.1f} 6H{at(high):.1f}"/>'
    null = f'<path class="zero" d="M{at(0.0):.1f} 0V12"/>' if zero else ""
    return Html(
        f'<svg class="bar" viewBox="0 0 100 12" aria-hidden="true">{null}{line}<circle cx="{at(mean):.1f}" cy="6" r="3"/></svg>'
    )


def ends_of(values: Iterable[float]) -> tuple[float, float]:
    """Return the least and the largest of the values that are known; (0, 0) where none is."""
    known = [value for value in values if not isnan(value)]
    return (min(known), max(known)) if known else (0.0, 0.0)
