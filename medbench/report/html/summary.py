"""The answer first.

Which method is best at each label budget, what cannot be told from it, and how many labels it
saves.
"""

from __future__ import annotations

from collections.abc import Sequence

from medbench.report import compare
from medbench.report.answer import answer as answer_of
from medbench.report.figures.line_selection import baseline
from medbench.report.html.elements import (
    Html,
    bar,
    ends_of,
    escaped,
    interval_markup,
    items,
    number_markup,
    section,
    table,
    tag,
)
from medbench.report.leaderboard import (
    ALL_PAIRS,
    BEST,
    LOUD,
    Leaderboard,
    LeaderboardEntry,
    class_notes,
    drawn,
    encoder_marks,
    have_seen,
    is_quick,
    marks,
    pairs,
    picked,
    pivot,
)
from medbench.schema import Note, counted
from medbench.stats import number_format
from medbench.stats.metrics import METRICS

_TOLD = {"better": "is better than", "worse": "is worse than"}


def answer(boards: Sequence[Leaderboard], metric: str | None, margin: float) -> Html:
    """Say for each board what is best at each budget, and what each method saves in labels.

    metric: None: each task's primary one. margin: what is too small to matter, in the metric's own
    unit. The proof stands in `verdicts_section`.
    """
    return section(
        "answer", "The answer", [_headline(board, board.shown(metric), margin) for board in boards]
    )


def _headline(board: Leaderboard, metric: str, margin: float) -> Html:
    found, lines = marks(board, metric), []
    for budget in reversed(board.budgets()):
        at = board.at(budget)
        best = next((line for line in at if found[line].sign == "*"), None)
        if best is None:
            lacking = sum(not line.complete for line in at)
            lines.append(
                tag(
                    "p",
                    f"With {_labels(at)}: ",
                    tag("strong", "no answer yet"),
                    f", {lacking} of {counted(len(at), 'line')} {'is' if lacking == 1 else 'are'} not finished.",
                )
            )
            continue
        s = best.summary(metric)
        ties = [line for line in at if found[line].sign == "="]
        unsure = sum(found[line].sign == "?" for line in at)
        score = f"{number_markup(s.mean)} {interval_markup(s.low, s.high)}"
        said: list[object] = [
            f"With {_labels(at)} ",
            tag("strong", compare.line_names(board, best)[0]),
            f" has the best {METRICS[metric].title}, {score}.",
        ]
        if len(at) > 1 and not ties and not unsure:
            said.append(" All others are significantly worse.")
        elif ties:
            said.append(
                " Not significantly worse: "
                + _some([compare.line_names(board, line)[0] for line in ties])
                + "."
            )
        if unsure:
            said.append(
                f" For {unsure} of the others there are too few {board.about['groups'] or 'image'}s to say."
            )
        lines.append(tag("p", said))
    made = answer_of(board, metric)
    first = tag("p", tag("strong", f"{made.text[:1].upper()}{made.text[1:]}")) if made else None
    return tag(
        "article",
        tag("h3", board.title),
        *loud(board, metric),
        first,
        lines,
        _savings(board, metric),
    )


def _savings(board: Leaderboard, metric: str) -> Html | None:
    """Say with which share of the labels each method reaches the best and the baseline.

    With all of theirs.
    """
    base = baseline(board, metric)
    if base is None or len(board.budgets()) < 2:
        return None
    from medbench.report.html.svg_charts import chart_lines

    said = compare.label_savings(chart_lines(board, metric, [base.name]), metric, against=[base])
    reached = [note for note in said if note.kind == "savings"]
    return tag("div", tag("h4", "Labels saved"), items(reached)) if reached else None


def verdicts_section(
    boards: Sequence[Leaderboard], metric: str | None, margin: float
) -> Html | None:
    """Return the section of verdicts, or None where no board has one.

    Each comparison is a sentence in parts: the lines, the verdict, the difference with its
    interval, and p. margin: the difference, in units of the metric, within which two lines count as
    equal.
    """
    found = [_judged(board, board.shown(metric), margin) for board in boards]
    found = [one for one in found if one is not None]
    if not found:
        return None
    intro = (
        f"A difference within {margin:g} counts as practically equal. Differences are paired: the same test images, the same labelled images; whole "
        "groups are resampled, and draws are a second source of chance. p values are corrected at each budget, for the question that stands above each "
        "table; the intervals are of each comparison alone."
    )
    return section("verdicts", "Verdicts", tag("p", intro), found)


def _judged(board: Leaderboard, metric: str, margin: float) -> Html | None:
    count = pairs(board, metric)
    many = count > compare.MOST
    family = BEST if many else ALL_PAIRS
    # of many pairs those that a reader asks about first
    shown = board.budgets()[-1:] if many else ()
    judged = compare.compare(board, metric, margin, family=family, budgets=shown)
    if not judged:
        return None
    group = board.about["groups"] or "image"
    parts = []
    for budget in reversed(board.budgets()):
        of = [pair for pair in judged if pair.first.cell.labels == budget]
        if not of:
            continue
        intervals = [pair.verdict.difference.interval() for pair in of]
        ends = ends_of([0.0, *(end for interval in intervals for end in interval)])
        rows = []
        for pair, (low, high) in zip(of, intervals, strict=True):
            first, second = compare.names(board, pair.first, pair.second)
            v = pair.verdict
            word = tag("span", v.word, class_=f"verdict {v.word.replace(' ', '-')}")
            who = [tag("b", first), " ", escaped(_TOLD.get(v.word, "and")), " ", tag("b", second)]
            p = number_format.p_cell(v.p_equal if v.word == "practically equal" else v.p)
            need = (
                f"{f'{v.need(group)}.' if v.word == 'not decidable' else ''}{compare.alone(pair)}"
            )
            drawn = bar(v.difference.value, low, high, ends, zero=True)
            value = number_markup(v.difference.value, "+.3f")
            rows.append(
                [
                    who,
                    [word, tag("small", f" {need}") if need else None],
                    [drawn, value],
                    interval_markup(low, high, "+.3f"),
                    p,
                ]
            )
        compared = table(
            ["comparison", "verdict", f"difference in {METRICS[metric].title}", "95 %", "p"],
            rows,
            f"{board.title}, {budget} labels",
            names=2,
        )
        opened = budget == board.budgets()[-1] and len(of) <= 30
        parts.append(
            tag(
                "details",
                tag(
                    "summary",
                    f"{board.title}: {budget} labels, {counted(len(of), 'comparison')}",
                ),
                compared,
                open=opened,
            )
        )
    if many:
        note = f"Family: {family.words}. Shown at the most labels alone."
    else:
        more = " This corrects for more questions than the answer at the top, so fewer pairs may be significant."
        note = f"Family: {family.words}.{more * (len(board.budgets()) < count)}"
    return tag("div", tag("p", note), parts)


def over_tasks(boards: Sequence[Leaderboard], metric: str | None) -> Html | None:
    """Return the methods by tasks with the mean rank last, where there are several tasks."""
    if len({board.task for board in boards}) < 2:
        return None
    budgets = [set(board.budgets()) for board in boards]
    shared = [
        budget for budget in boards[0].budgets() if all(budget in others for others in budgets)
    ]
    pivoted = pivot(boards, metric=metric)
    columns = pivoted.columns
    # with the most labels alone: the leaderboard has the others
    if "labels" in pivoted.column_axes and shared and len(columns) > 6:
        at = pivoted.column_axes.index("labels")
        columns = [column for column in columns if column[at] == shared[-1]]
    rows = []
    for row in pivoted.rows:
        cells: list[object] = [" ".join(row)]
        for column in columns:
            entry = pivoted.entries.get((row, column))
            if entry is None or entry.status != "done":
                cells.append("–" if entry is None else entry.status)
                continue
            score = number_markup(entry.summary.mean)
            cells.append(
                [
                    tag("strong", score) if entry.mark.sign == "*" else score,
                    f" {entry.mark.sign.replace('*', '')}",
                ]
            )
        if pivoted.ranks:
            cells.append(number_markup(pivoted.ranks[row], ".2f"))
        rows.append(cells)
    header = [
        " ".join(pivoted.row_axes),
        *(" ".join(column) for column in columns),
        *(["mean rank"] if pivoted.ranks else []),
    ]
    said = [note for note in pivoted.notes if note.kind in ("legend", "rank test")]
    shown = table(header, rows, pivoted.caption)
    return section(
        "tasks",
        "Across tasks",
        shown,
        items(said, class_="small"),
        tag("p", "The mean rank is over every task and budget.", class_="small"),
    )


def loud(board: Leaderboard, metric: str | None = None) -> list[Html]:
    """Show what nobody may overlook.

    Drawn images, leaks, partial data, weights that have seen the test images, rare classes, the
    class found least of.
    """
    quick = Note("quick", "pretraining of seconds shows the machinery, not what a method can do.")
    said: list[Note] = [
        *picked(board),
        *drawn(board),
        *(mark for mark in board.about["marks"] if mark.kind in LOUD),
        *encoder_marks(board),
        *have_seen(board),
        *class_notes(board, metric),
        *([quick] if is_quick(board) else []),
    ]
    return [
        tag("p", tag("b", note.kind.upper()), f": {note.text}", class_="mark", role="note")
        for note in said
    ]


def _labels(lines: Sequence[LeaderboardEntry]) -> str:
    """`10% of the labels (701 images)`."""
    budget = lines[0].cell.labels
    counts = sorted(
        {row.n_labels for line in lines for row in line.rows if not row.cell.external}
    ) or [lines[0].planned[0].n_requested]
    images = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return (
        f"{'all' if budget == '100%' else budget + ' of'} the labels ({images} images)"
        if budget.endswith("%")
        else f"{budget} labels ({images} images)"
    )


def _some(names: Sequence[str]) -> str:
    return (
        ", ".join(names)
        if len(names) <= 6
        else ", ".join(names[:5]) + f" and {len(names) - 5} others"
    )
