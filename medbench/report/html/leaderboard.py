"""Every line of every board in one table.

The page's script sorts, filters and shows it a part at a time; a plain table without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medbench.report.figures.cost_scatter import seconds_of
from medbench.report.html.elements import (
    Html,
    bar,
    ends_of,
    escaped,
    interval_markup,
    number_markup,
    section,
    tag,
)
from medbench.report.leaderboard import (
    BEST,
    Leaderboard,
    LeaderboardEntry,
    class_columns,
    judged_unit,
    marks,
    shown_axes,
)
from medbench.schema import counted
from medbench.stats.metrics import METRICS

SIGNS = {"*": "best", "=": "=", "?": "?", "": ""}


def leaderboard_section(boards: Sequence[Leaderboard], metric: str | None) -> Html:
    """Show every line of every board in one table.

    Where, how, the metric with its interval, the paired difference to the best, the other metrics'
    means, seconds.
    """
    axes = list(dict.fromkeys(axis for board in boards for axis in shown_axes(board.lines)))
    tasks = len({(board.task, board.data, board.target) for board in boards}) > 1
    primary = list(dict.fromkeys(board.shown(metric) for board in boards))
    others = [
        name
        for name in METRICS
        if any(name in line.plain for board in boards for line in board.lines) and primary != [name]
    ]
    title = METRICS[primary[0]].title if len(primary) == 1 else "primary metric"
    words = [
        *(["task"] if tasks else []),
        *(["metric"] if len(primary) > 1 else []),
        *axes,
        "labels",
        "mark",
    ]
    of_classes = {board: class_columns(board) for board in boards}
    told = list(dict.fromkeys(heading for columns in of_classes.values() for heading in columns))
    units = dict.fromkeys(f"{judged_unit(board)}s" for board in boards)
    numbers = [
        "/".join(units),
        title,
        "95 %",
        "sd",
        "to best",
        *told,
        *(METRICS[name].title for name in others),
        "seconds",
    ]
    head = [
        tag(
            "th",
            name,
            scope="col",
            data_kind="word" if name != "labels" else "number",
            data_key=name,
        )
        for name in words
    ]
    head += [tag("th", name, scope="col", data_kind="number", class_="n") for name in numbers]
    body = [
        row
        for board in boards
        for row in _rows(
            board,
            board.shown(metric),
            axes,
            others,
            tasks,
            len(primary) > 1,
            [of_classes[board].get(one, {}) for one in told],
        )
    ]
    made = tag(
        "table",
        tag(
            "caption",
            f"{counted(len(body), 'line')}: a method judged in one way with one label budget, its draws averaged.",
        ),
        tag("thead", tag("tr", head)),
        tag("tbody", Html("".join(body))),
        id="board",
    )
    fields = [_choice(name) for name in ("task", "method", "protocol", "labels") if name in words]
    find = tag("label", "Find ", tag("input", type="search", id="find", autocomplete="off"))
    controls = tag(
        "form",
        fields,
        find,
        tag("output", id="count", aria_live="polite"),
        id="filters",
        hidden=True,
    )
    more = tag(
        "p",
        tag("button", "Show more", type="button", id="more"),
        tag("button", "Show all", type="button", id="all"),
        id="paging",
        hidden=True,
    )
    scroll = tag("div", made, class_="wide", tabindex="0", role="region", aria_label="Leaderboard")
    of = " of this selection" if any(board.selection for board in boards) else ""
    worst = (
        " Worst recall: the lowest recall among classes that are not rare; medbench clinical shows every class."
        if told
        else ""
    )
    legend = (
        f"best: the highest mean at these labels. =: not significantly worse, paired, {BEST.words}"
        f"{of}. ?: too few groups to say. Intervals are over test groups and draws; sd is over draws; seconds: pretraining, embedding, fitting."
        f"{worst}"
    )
    return section(
        "leaderboard", "Leaderboard", controls, scroll, more, tag("p", legend, class_="small")
    )


def _choice(name: str) -> Html:
    return tag("label", f"{name} ", tag("select", tag("option", "all", value=""), data_column=name))


def _rows(
    board: Leaderboard,
    metric: str,
    axes: Sequence[str],
    others: Sequence[str],
    tasks: bool,
    named: bool,
    of_classes: Sequence[Mapping[LeaderboardEntry, tuple[float, str]]],
) -> list[str]:
    found = marks(board, metric)
    summaries = {line: line.summary(metric) for line in board.lines}
    ends = ends_of(end for s in summaries.values() for end in (s.mean, s.low, s.high))
    place = {budget: i for i, budget in enumerate(board.budgets())}
    rows = []
    for line in board.lines:
        s, mark = summaries[line], found[line]
        where = [task_in_words(board)] if tasks else []
        words = [
            *where,
            *([METRICS[metric].title] if named else []),
            *(str(getattr(line.cell, axis)) for axis in axes),
        ]
        cells = [
            f"<td{' class=k' if i == len(words) - len(axes) else ''}>{escaped(word)}</td>"
            for i, word in enumerate(words)
        ]
        cells.append(f'<td data-v="{place[line.cell.labels]}">{escaped(line.cell.labels)}</td>')
        known = metric in line.plain
        cells.append(
            f"<td class=k>{SIGNS[mark.sign] if known else escaped('–' if line.complete else line.status)}</td>"
        )
        cells.append(f'<td class="n">{number_markup(line.n_labels, ",.0f")}</td>')
        cells.append(
            f'<td class="n k">{bar(s.mean, s.low, s.high, ends)}{number_markup(s.mean)}</td>'
        )
        cells.append(
            f'<td class="n">{interval_markup(s.low, s.high) if known else ""}</td><td class="n">{number_markup(s.sd)}</td>'
        )
        gap = mark.to_best
        low, high = gap.interval() if gap else (np.nan, np.nan)
        cells.append(
            f'<td class="n">{number_markup(gap.value, "+.3f")} <small>{interval_markup(low, high, "+.3f")}</small></td>'
            if gap
            else '<td class="n"></td>'
        )
        for values in of_classes:
            value, of = values.get(line, (np.nan, ""))
            cells.append(
                f'<td class="n" data-v="{value}">{number_markup(value)} <small>{escaped(of)}</small></td>'
            )
        for name in others:
            mean = float(np.mean(line.plain[name])) if name in line.plain else np.nan
            cells.append(f'<td class="n">{number_markup(mean)}</td>')
        seconds = seconds_of(line)
        cells.append(
            f'<td class="n">{number_markup(seconds, ",.0f" if seconds >= 10 else ".1f")}</td>'
        )
        rows.append(f"<tr{' class=best' if mark.sign == '*' else ''}>{''.join(cells)}</tr>")
    return rows


def task_in_words(board: Leaderboard) -> str:
    """Name the task in few words: `derm (PHANTOM)`, `derm (HAM10000), isic2019`."""
    return board.named("PHANTOM") + ("" if board.target == "test" else f", {board.target}")
