"""Say on a model's card what limits its numbers.

How it was chosen, whom it serves worse, whether probabilities mean it, what it loses elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medbench import stats
from medbench.report.answer import answer
from medbench.report.clinical import LinePredictions, calibration_records, subgroup_records
from medbench.report.clinical.subgroup_analysis import MIN_GROUPS, MIN_OF_CLASS, bands
from medbench.report.leaderboard import Leaderboard
from medbench.report.leaderboard.standard_tables import grid
from medbench.report.model_choice import ModelChoice
from medbench.schema import in_markdown
from medbench.stats import number_format
from medbench.stats.metrics import METRICS

_MOST = 40  # subgroups that a card lists
#: What a search found on its way, which only its author reads.
_SEARCH = ("cv_log_loss", "at_edge", "validation", "searched", "max_iter", "break_ties")


def chosen_settings(chosen: Mapping[str, Any]) -> list[str]:
    """Write the settings of a classifier: `penalty 1000`, `chosen by 5-fold grouped CV`."""
    said = []
    for name, value in chosen.items():
        if name == "rule":
            said.append(f"chosen by: {value}")
        elif name not in _SEARCH:
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            said.append(f"{name.replace('_', ' ')} {shown}")
    return said


def allowing_for_the_choice(choice: ModelChoice) -> list[str]:
    """State the primary metric with an interval that holds for all lines that were looked at.

    Whichever was taken.
    """
    board, line = choice.board, choice.line
    metric = str(board.about["metric"])
    about, k = METRICS[metric], max(board.judged, len(board.lines), 1)
    if k < 2 or metric not in line.plain:
        return []
    s = stats.mean_over_seeds(
        line.sample(metric), 1 - 0.05 / k, about.range, grows_by_chance=about.grows_by_chance
    )
    how = "by held-out scores" if choice.held_out else "by name"
    whole = number_format.estimate_text(s.mean, s.low, s.high)
    said = (
        f"{about.title} allowing for the choice: {whole}. {k} models were scored on these images, and this "
        f"interval holds for all of them at once (Bonferroni). This one was chosen {how}"
    )
    made = answer(board, metric)
    if (
        made is not None
        and made.best[0] is line
        and made.lines > 1
        and not np.isnan(made.corrected)
    ):
        best = number_format.number_text(made.corrected)
        said += f"; it is also the best there, which is partly luck: corrected for that, {best}"
    return [f"{said}."]


def calibration_lines(answers: LinePredictions) -> list[str]:
    """Tabulate calibration as given and at the fitted temperature, in Markdown.

    answers: of the one model.
    """
    found = {(one["state"], one["metric"]): one for one in calibration_records(answers)}
    titles = {
        "ece": "ECE",
        "brier": "Brier",
        "log_loss": "log-loss",
        "slope": "slope (1)",
        "intercept": "intercept (0)",
    }
    body = [
        [title, *(_shown(found[state, name]) for state in ("before", "after"))]
        for name, title in titles.items()
        if ("before", name) in found
    ]
    return [
        "Whether a probability of 0.7 is right 7 times in 10, on the same images, without and with `--calibrated`:",
        "",
        *grid([["", "as given", "calibrated"], *body]),
    ]


def _shown(record: dict[str, float]) -> str:
    return number_format.estimate_text(record["mean"], record["low"], record["high"])


def subgroup_lines(answers: LinePredictions, metric: str) -> list[str]:
    """Tabulate the metric in each subgroup of the metadata, in Markdown.

    The worst of each column is said first; one line that says why, where there are none.
    """
    records = [one for one in subgroup_records(answers, metric) if not one["note"]]
    if not records:
        return [f"No subgroups: {_why_none(answers)}."]
    title = METRICS[metric].title
    worst = [
        f"{one['column']} {one['subgroup']} ({number_format.estimate_text(one['difference'], one['difference_low'], one['difference_high'], '+.3f')})"
        for one in records
        if one["worst"]
    ]
    body = [
        [
            str(one["column"]),
            str(one["subgroup"]),
            str(one["images"]),
            number_format.estimate_text(one["value"], one["low"], one["high"]),
            number_format.estimate_text(
                one["difference"], one["difference_low"], one["difference_high"], "+.3f"
            ),
            "" if np.isnan(one["p"]) else number_format.p_cell(one["p"]),
        ]
        for one in records[:_MOST]
    ]
    said = (
        f"Worst of each column, {title} minus that of everybody else: {in_markdown('; '.join(worst))}."
        if worst
        else "No subgroup could be compared with the others."
    )
    note = "p: of no difference, Holm-corrected over the subgroups. Subgroups that are too small to say are left out."
    return [
        said,
        "",
        *grid([["column", "subgroup", "images", title, "minus the others", "p"], *body]),
        "",
        note,
    ]


def _why_none(answers: LinePredictions) -> str:
    if not answers.meta:
        return "the run's table has no further columns, such as site, age or sex"
    usable = [name for name, column in answers.meta.items() if bands(name, column) is not None]
    if not usable:
        return f"each column ({', '.join(answers.meta)}) has one value, or too many"
    return (
        f"those of {', '.join(usable)} are too small. Both a subgroup and the rest need {MIN_GROUPS} {answers.group}s, "
        f"{MIN_OF_CLASS} with and {MIN_OF_CLASS} without a class"
    )


def shift_lines(choice: ModelChoice, boards: Sequence[Leaderboard]) -> list[str]:
    """Tabulate what the line scored on other images, in Markdown.

    boards: of all results of the folder.
    """
    home, metric = choice.line, str(choice.board.about["metric"])
    body = []
    for board in boards:
        if not board.shift or (board.task, board.data) != (choice.board.task, choice.board.data):
            continue
        for line in board.lines:
            if (line.name, line.cell.labels) == (
                home.name,
                home.cell.labels,
            ) and metric in line.plain:
                s = line.summary(metric)
                body.append([board.target, number_format.estimate_text(s.mean, s.low, s.high)])
    if not body:
        return [
            "Not measured: nothing but its own data set was scored. `medbench validate` measures it on images of yours."
        ]
    s = home.summary(metric)
    return grid(
        [
            ["scored on", METRICS[metric].title],
            [f"its own {choice.board.target}", number_format.estimate_text(s.mean, s.low, s.high)],
            *body,
        ]
    )
