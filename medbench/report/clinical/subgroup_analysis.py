"""Whom a classifier serves worse.

The metric in each group of a metadata column, against everybody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medbench import stats
from medbench.report.clinical import one_vs_rest
from medbench.report.clinical.predictions import Draw, LinePredictions, positives, read_predictions
from medbench.report.leaderboard import LeaderboardEntry
from medbench.schema import UserError, counted
from medbench.stats import metadata_levels, metrics
from medbench.stats.metrics import METRICS
from medbench.system.progress_listener import report_progress

if TYPE_CHECKING:
    import pandas as pd

SUBGROUP_COLUMNS = (
    *("column", "subgroup", "images", "groups", "classes", "value", "low", "high"),
    *("difference", "difference_low", "difference_high", "p", "worst", "note"),
)
_NUMBERS = ("value", "low", "high", "difference", "difference_low", "difference_high", "p")
MIN_GROUPS = 10  # of a subgroup, and of the rest
#: Groups with and groups without a class, in a subgroup and in the rest: with five, under one in a
#: hundred resamples has none.
MIN_OF_CLASS = 5
MOST_LEVELS = 20  # subgroups of a column that is split by
UNKNOWN = "unknown"
# means over classes: taken over those that a subgroup and the rest both show
_MEANS = ("auc", "f1", "balanced_accuracy")


def bands(name: str, column: np.ndarray) -> np.ndarray | None:
    """Return the subgroup of each image, (M,) str, by the levels of `metadata_levels`.

    A missing value is "unknown". None where the column makes none: one subgroup, or more than 20.
    """
    named = metadata_levels.read_levels(name, column).named(UNKNOWN)
    return named if 2 <= len(np.unique(named)) <= MOST_LEVELS else None


def order(name: str, column: np.ndarray) -> list[str]:
    """List the subgroups in the order of a table.

    Numbers go from small to large, words by the largest first; unknown last.

    column: (M,), a value an image.
    """
    found = metadata_levels.read_levels(name, column)
    size = np.bincount(found.codes[found.codes >= 0], minlength=len(found.values))
    places = (
        range(len(size))
        if found.measured
        else sorted(range(len(size)), key=lambda code: -size[code])
    )
    return [
        *(found.values[code] for code in places),
        *([UNKNOWN] if (found.codes < 0).any() else []),
    ]


def subgroups(
    line: LeaderboardEntry | LinePredictions,
    metric: str = "auc",
    by: str | None = None,
) -> pd.DataFrame:
    """Return one row a subgroup of each metadata column (of `by` alone), columns SUBGROUP_COLUMNS.

    value: the metric on the subgroup's images, mean over draws; difference: minus that of all other
    images, on the same resamples of whole groups; both with a 95 % interval over groups and draws.
    auc, f1 and balanced_accuracy are means over classes: over those, `classes` in number, that have
    five groups with and five without in both parts, so that the two are means of the same. Degrees
    of freedom are those of the smaller part. p: of no difference, Holm-corrected over all rows that
    have one; the two rows of a column of two are one comparison. worst: the subgroup furthest
    behind the others in its column. ece has no difference: chance alone makes it larger in the
    smaller part (of a tenth of 400 like patients 27 of 100 simulated intervals did not hold 0).

    note: "too small to say", with fewer than ten groups on either side, or fewer than two such
    classes (one, where the task has one to report); such a row has no numbers. Without metadata
    (older folders) the frame is empty. Raises UserError for a metric or a column that is not there,
    and for a line that is not complete.
    """
    import pandas as pd

    frame = pd.DataFrame(subgroup_records(line, metric, by), columns=list(SUBGROUP_COLUMNS))
    return frame.astype(dict.fromkeys(_NUMBERS, float))


def subgroup_records(
    line: LeaderboardEntry | LinePredictions,
    metric: str = "auc",
    by: str | None = None,
) -> list[dict[str, Any]]:
    """Return `subgroups` as records; NaN for no number.

    Raises UserError for a metric that the task lacks, and for a column that was not saved or makes
    no subgroups.
    """
    answers = line if isinstance(line, LinePredictions) else read_predictions(line)
    allowed = metrics.metric_names(answers.kind)
    if metric not in allowed:
        raise UserError(
            f"No metric '{metric}' for a {answers.kind} task.", allowed=allowed, given=metric
        )
    columns = {name: bands(name, column) for name, column in answers.meta.items()}
    usable = {name: levels for name, levels in columns.items() if levels is not None}
    if by is not None and by not in usable:
        if by in columns:
            raise UserError(
                f"Column '{by}' makes no subgroups: it has one value, or more than {MOST_LEVELS} in words.",
                allowed=usable,
            )
        raise UserError(
            f"No column '{by}' was saved with these results.",
            allowed=usable,
            given=by,
            then="" if columns else "medbench run, into a new folder",
        )
    records: list[dict[str, Any]] = []
    ordered = {name: order(name, answers.meta[name]) for name in (usable if by is None else [by])}
    total = sum(map(len, ordered.values()))
    for name, levels in ordered.items():
        rows: list[dict[str, Any]] = []
        for level in levels:
            report_progress("subgroups", len(records) + len(rows), total, "subgroups")
            rows.append(_row(answers, metric, name, level, usable[name]))
        # None becomes NaN
        gaps = METRICS[metric].sign * np.array([row["difference"] for row in rows], float)
        if np.isfinite(gaps).sum() > 1:
            rows[int(np.nanargmin(gaps))]["worst"] = True
        records += rows
    report_progress("subgroups", total, total, "subgroups")
    for record in records:
        record |= {name: np.nan for name in _NUMBERS if record[name] is None}
    # each is the other's rest: one comparison
    twins = {name: levels[1] for name, levels in ordered.items() if len(levels) == 2}
    comparisons = [
        record for record in records if record["subgroup"] != twins.get(record["column"])
    ]
    corrected = stats.holm([record["p"] for record in comparisons])
    p_of = {
        (record["column"], record["subgroup"]): p
        for record, p in zip(comparisons, corrected, strict=True)
    }
    for record in records:
        name, level = record["column"], record["subgroup"]
        record["p"] = p_of[name, ordered[name][0] if name in twins else level]
    return records


def _row(
    answers: LinePredictions, metric: str, name: str, level: str, levels: np.ndarray
) -> dict[str, Any]:
    inside = levels == level
    parts = [answers.take(inside), answers.take(~inside)]
    sizes = [part.n_groups for part in parts]
    row: dict[str, Any] = dict.fromkeys(SUBGROUP_COLUMNS)
    row |= {
        "column": name,
        "subgroup": level,
        "images": int(inside.sum()),
        "groups": sizes[0],
        "worst": False,
        "note": "",
        "classes": 0,
    }
    classes = [c for c in answers.each() if all(_shows(part, c) for part in parts)]
    if min(sizes) < MIN_GROUPS:
        count, which = (sizes[0], "") if sizes[0] < MIN_GROUPS else (sizes[1], "other ")
        few = counted(count, f"{which}{answers.group}")
        return {**row, "note": f"too small to say: {few}"}
    if len(classes) < min(2, len(list(answers.each()))):
        return {**row, "note": "too small to say: rare classes"}
    groups = min(sizes)
    own, rest = ([_value(part, draw, metric, classes) for draw in part.draws] for part in parts)
    about = METRICS[metric]
    sample = answers.sample(own, sizes[0], parts[0].reference(metric))
    s = stats.mean_over_seeds(sample, within=about.range, grows_by_chance=about.grows_by_chance)
    row |= {
        "classes": len(classes) if metric in _MEANS else len(list(answers.each())),
        "value": s.mean,
        "low": s.low,
        "high": s.high,
    }
    if METRICS[metric].grows_by_chance:
        return row
    both = [
        answers.sample(values, groups, part.reference(metric))
        for values, part in zip((own, rest), parts, strict=True)
    ]
    gap = stats.paired_difference(*both)
    low, high = gap.interval()
    return {
        **row,
        "difference": gap.value,
        "difference_low": low,
        "difference_high": high,
        "p": gap.p(),
    }


def _shows(part: LinePredictions, c: int) -> bool:
    """Whether enough groups have the class, and enough have images without it."""
    known, positive = part.positives(c)
    return all(
        len(np.unique(part.groups[known[which]])) >= MIN_OF_CLASS for which in (positive, ~positive)
    )


def _value(part: LinePredictions, draw: Draw, metric: str, classes: list[int]) -> np.ndarray:
    """Compute the metric on a part of the images: (1 + R,).

    It is over these classes alone where it is a mean over classes.
    """
    if metric not in _MEANS:
        whole: np.ndarray = metrics.score(
            part.labels, draw.probabilities, draw.decisions, part.kind, part.weights
        ).values[metric]
        return whole
    if part.kind == "binary" and metric != "auc":
        classes = [0, 1]
    each = []
    for c in classes:
        known, positive = positives(part.labels, c)
        if metric == "auc":
            each.append(metrics.auc(positive, draw.probabilities[known, c], part.weights[known]))
            continue
        decided = draw.decisions[known, c] == 1 if draw.decisions.ndim == 2 else draw.decisions == c
        found = one_vs_rest.agreement(positive, decided, part.weights[known])
        several = draw.decisions.ndim == 2 and metric == "balanced_accuracy"
        each.append(
            (found["recall"] + found["specificity"]) / 2
            if several
            else found["f1" if metric == "f1" else "recall"]
        )
    mean: np.ndarray = np.mean(each, axis=0)
    return mean
