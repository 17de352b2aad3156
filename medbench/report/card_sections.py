"""Say on a model's card what limits its numbers.

How it was chosen, whom it serves worse, whether probabilities mean it, what it loses elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medbench import stats
from medbench.report.answer import answer
from medbench.report.clinical import LinePredictions, calibration_records, subgroup_records
from medbench.report.leaderboard import Leaderboard
from medbench.report.leaderboard.standard_tables import grid
from medbench.report.model_choice import ModelChoice
from medbench.schema import in_markdown
from medbench.stats import number_format
from medbench.stats.metrics import METRICS

_MOST = 40  # subgroups that a card lists


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
    said = (
        f"{about.title} allowing for the choice: {number_format.estimate_text(s.mean, s.low, s.high)}, an interval that holds for all of {k} lines that "
        f"were judged on these images at once (Bonferroni). This line was taken {how}; who takes the best line of the {board.target} part takes its luck, too"
    )
    made = answer(board, metric)
    if (
        made is not None
        and made.best[0] is line
        and made.lines > 1
        and not np.isnan(made.corrected)
    ):
        best = number_format.number_text(made.corrected)
        said += f": it is the best there, and {best} once corrected for having been the best of {made.lines}"
    return [f"{said}."]


def calibration_lines(answers: LinePredictions) -> list[str]:
    """Tabulate calibration as given and at the temperature. answers: of the one model."""
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
        "Whether probabilities mean what they say there, as given and at the temperature:",
        "",
        *grid([["", "as given", "calibrated"], *body]),
    ]


def _shown(record: dict[str, float]) -> str:
    return number_format.estimate_text(record["mean"], record["low"], record["high"])


def subgroup_lines(answers: LinePredictions, metric: str) -> list[str]:
    """Tabulate the metric in each subgroup of the metadata, the worst of each column first said."""
    records = [one for one in subgroup_records(answers, metric) if not one["note"]]
    if not records:
        return ["No subgroups: no metadata was saved, or every subgroup is too small to say."]
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
        else "None is compared."
    )
    note = "p: of no difference, Holm-corrected over the subgroups. Subgroups that are too small to say are left out."
    return [
        said,
        "",
        *grid([["column", "subgroup", "images", title, "minus the others", "p"], *body]),
        "",
        note,
    ]


def shift_lines(choice: ModelChoice, boards: Sequence[Leaderboard]) -> list[str]:
    """Tabulate what the line scored on other images. boards: of all results of the folder."""
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
            "Not measured: nothing but its own data set was scored (medbench run --shift, --corruptions)."
        ]
    s = home.summary(metric)
    return grid(
        [
            ["scored on", METRICS[metric].title],
            [f"its own {choice.board.target}", number_format.estimate_text(s.mean, s.low, s.high)],
            *body,
        ]
    )
