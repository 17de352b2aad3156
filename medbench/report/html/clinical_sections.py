"""Of the best line of each task.

Its classes, its cases, its subgroups, and whether its probabilities mean what they say; from
`clinical`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medbench.report import clinical
from medbench.report.figures.line_names import short_names
from medbench.report.html.curves_and_shift import reliability_section
from medbench.report.html.elements import (
    Html,
    bar,
    ends_of,
    estimate_markup,
    number_markup,
    section,
    table,
    tag,
)
from medbench.report.leaderboard import Leaderboard, LeaderboardEntry, marks
from medbench.run.store import NoPredictions
from medbench.stats import number_format
from medbench.stats.metrics import METRICS
from medbench.stats.metrics import metric as metric_of
from medbench.system.progress_listener import report_progress

Records = Sequence[dict[str, Any]]
DETAILED = 4  # tasks whose classes, cases and subgroups are worked out: each takes seconds


def best_entries(
    boards: Sequence[Leaderboard], metric: str | None
) -> list[tuple[Leaderboard, LeaderboardEntry]]:
    """Return the best line with the most labels of each board where all lines are there."""
    signs = {board: marks(board, board.shown(metric)) for board in boards}
    return [
        (board, line)
        for board in boards
        for line in board.at(board.budgets()[-1])
        if signs[board][line].sign == "*"
    ]


def titled(board: Leaderboard, line: LeaderboardEntry) -> str:
    """Title a table of one line by all that tells it from the board's other lines."""
    return f"{board.title}: {short_names([board])[line.name]} at {line.cell.labels} labels"


def parts(boards: Sequence[Leaderboard], metric: str | None) -> Html | None:
    """Return classes, cases and subgroups of the best line of each board with the most labels."""
    chosen = best_entries(boards, metric)[:DETAILED]
    classes: list[Html] = []
    subgroups: list[Html] = []
    for place, (board, line) in enumerate(chosen):
        report_progress("classes and subgroups", place, len(chosen), "boards")
        try:
            answers = clinical.read_predictions(line)
        except NoPredictions:
            continue
        who = titled(board, line)
        classes.append(_classes(clinical.class_records(answers), who, clinical.too_few(answers)))
        classes += _cases(*clinical.case_records(answers), who)
        shown = board.shown(metric)
        of_columns = _subgroups(clinical.subgroup_records(answers, shown), who, shown)
        subgroups += [of_columns] if of_columns is not None else []
    report_progress("classes and subgroups", len(chosen), len(chosen), "boards")
    intro = "Of the best line of each task with the most labels. Thresholds come from held-out scores inside the labelled subset, never from the scored set."
    small = "A subgroup against all other images, on the same resamples of whole groups; p values Holm-corrected over the subgroups of a task."
    made = [
        *(
            [
                section(
                    "classes", "Each class, and each case", tag("p", intro, class_="small"), classes
                )
            ]
            if classes
            else []
        ),
        *(
            [section("subgroups", "Subgroups", tag("p", small, class_="small"), subgroups)]
            if subgroups
            else []
        ),
    ]
    return Html("".join(made)) if made else None


_OF_CLASS = {
    "recall": "recall (sensitivity)",
    "precision": "precision (PPV)",
    "specificity": "specificity",
    "f1": "F1",
    "auc": "AUC",
    "average_precision": "average precision",
    "sensitivity_at_specificity": "sensitivity at 90 % specificity",
}


def _classes(records: Records, who: str, few: Mapping[str, str]) -> Html:
    """few: class -> how much of it was found, instead of its numbers."""
    by_class: dict[str, dict[str, Any]] = {}
    for record in records:
        by_class.setdefault(str(record["class"]), {})[str(record["metric"])] = record
    shown = [metric for metric in _OF_CLASS if any(metric in found for found in by_class.values())]
    rows: list[list[object]] = []
    for name, found in by_class.items():
        first = next(iter(found.values()))
        said: list[object] = (
            [f"too few to say; found {few[name]}", *[""] * (len(shown) - 1)]
            if name in few
            else [_measure(found.get(metric)) for metric in shown]
        )
        rows.append([name, f"{int(first['n']):,} of {int(first['of']):,}", *said])
    return table(["class", "images", *(_OF_CLASS[metric] for metric in shown)], rows, who, names=1)


def _measure(record: dict[str, Any] | None) -> object:
    if record is None or record["mean"] != record["mean"]:
        return "–"
    drawn = bar(record["mean"], record["low"], record["high"], (0.0, 1.0))
    return [drawn, *estimate_markup(record["mean"], record["low"], record["high"])]


def _cases(records: Records, said: Sequence[str], who: str) -> list[Html]:
    notes = [tag("p", " ".join(said), class_="small")] if said else []
    if not records:
        return notes
    rows = [
        [
            metric_of(record["metric"]).title,
            estimate_markup(record["image"], record["image_low"], record["image_high"]),
            estimate_markup(record["case"], record["case_low"], record["case_high"]),
            estimate_markup(record["gain"], record["gain_low"], record["gain_high"], "+.3f"),
        ]
        for record in records
    ]
    first = records[0]
    header = [
        "metric",
        f"an image ({int(first['images']):,})",
        f"a case ({int(first['cases']):,})",
        "case − image",
    ]
    return [table(header, rows, f"{who}, images and cases"), *notes]


def _subgroups(records: Records, who: str, metric: str) -> Html | None:
    if not records:
        return None
    ends = ends_of(
        [0.0, *(record[end] for record in records for end in ("difference_low", "difference_high"))]
    )
    rows = []
    for record in records:
        value = estimate_markup(record["value"], record["low"], record["high"])
        gap = [
            bar(
                record["difference"],
                record["difference_low"],
                record["difference_high"],
                ends,
                zero=True,
            ),
            number_markup(record["difference"], "+.3f"),
        ]
        note = record["note"] or ("worst" if record["worst"] else "")
        known = record["value"] == record["value"]
        count = f"{int(record['images']):,} / {int(record['groups']):,}"
        rows.append(
            [
                record["column"],
                str(record["subgroup"]),
                note,
                count,
                value if known else "–",
                gap if known else "–",
                number_format.p_cell(record["p"]),
            ]
        )
    header = [
        "column",
        "subgroup",
        "note",
        "images / groups",
        METRICS[metric].title,
        "minus the others",
        "p",
    ]
    return table(header, rows, who, names=3)


def calibration_section(boards: Sequence[Leaderboard], metric: str | None) -> Html | None:
    """Show reliability curves of the lines with the most labels.

    Also shows calibration before and after temperature scaling of the best.
    """
    drawn, tables = reliability_section(boards, metric), []
    chosen = best_entries(boards, metric)[:DETAILED]
    for place, (board, line) in enumerate(chosen):
        report_progress("calibration", place, len(chosen), "boards")
        try:
            records = clinical.calibration_records(line)
        except NoPredictions:
            continue
        tables.append(_calibrated(records, titled(board, line)))
    report_progress("calibration", len(chosen), len(chosen), "boards")
    if not drawn and not tables:
        return None
    intro = "Can a probability be believed? After: one temperature, fitted on held-out scores inside the labelled subset."
    return section(
        "calibration",
        "Calibration",
        tag("p", intro, class_="small"),
        tag("div", drawn, class_="figures") if drawn else None,
        tables,
    )


def _calibrated(records: Records, who: str) -> Html:
    by_metric: dict[str, dict[str, Any]] = {}
    for of in records:
        by_metric.setdefault(str(of["metric"]), {})[str(of["state"])] = of
    named = {"ece": "ECE", "log_loss": "log loss", "brier": "Brier score"}
    states = ("before", "after", "change")
    rows = []
    for name, found in by_metric.items():
        cells = []
        for state in states:
            record = found.get(state)
            form = "+.3f" if state == "change" else ".3f"
            # which has a spread over draws, and no interval
            if record is None or name == "temperature":
                cells.append([number_markup(record["mean"] if record else None, form)])
            else:
                cells.append(
                    _with_reason(
                        estimate_markup(record["mean"], record["low"], record["high"], form),
                        record["note"],
                    )
                )
        rows.append([named.get(name, name), *cells])
    parted = any(record["note"].startswith("separable") for record in records)
    return tag(
        "div",
        table(["measure", *states], rows, who),
        tag("p", clinical.SEPARABLE, class_="small") if parted else None,
    )


def _with_reason(estimate: list[Any], note: str) -> list[Any]:
    """Write a number, with the reason where it, or its interval, is undefined."""
    if not note:
        return estimate
    return (
        [tag("small", note)]
        if estimate == [number_format.NONE]
        else [*estimate, tag("small", f" {note}")]
    )
