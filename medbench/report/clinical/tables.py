"""What `medbench clinical` prints.

A few tables of one line of a leaderboard, in a terminal, as Markdown, LaTeX or tidy CSV.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.report.clinical.case_metrics import cases
from medbench.report.clinical.class_metrics import check_shares, per_class, too_few
from medbench.report.clinical.predictions import LinePredictions, read_predictions
from medbench.report.clinical.sheet_formats import Sheet
from medbench.report.clinical.subgroup_analysis import MIN_GROUPS, MIN_OF_CLASS, subgroups
from medbench.report.clinical.temperature_scaling import MIN_HELD_OUT, RANGE, SEPARABLE, calibration
from medbench.report.leaderboard import Leaderboard, LeaderboardEntry
from medbench.stats import number_format
from medbench.stats.few_groups import FEW
from medbench.stats.metrics import METRICS
from medbench.system.progress_listener import report_progress

if TYPE_CHECKING:
    import pandas as pd

_DECISIONS = {
    "recall": "recall",
    "precision": "precision",
    "specificity": "specificity",
    "f1": "F1",
}


def sheets(
    board: Leaderboard,
    line: LeaderboardEntry,
    *,
    metric: str,
    by: str | None,
    specificity: float,
    sensitivity: float,
) -> list[Sheet]:
    """Return all tables of one line.

    Those that these results cannot give are left out (a named column `by` is refused).
    """
    check_shares(specificity, sensitivity)
    answers, stage = read_predictions(line), f"tables of {line.name}"
    # first: a column that is not there is refused before any work
    frame = subgroups(answers, metric, by)
    report_progress(stage, 0, 3, "tables")
    made = _classes(answers, specificity, sensitivity)
    report_progress(stage, 1, 3, "tables")
    made += _cases(answers)
    report_progress(stage, 2, 3, "tables")
    made += [*_subgroups(answers, metric, frame), _calibration(answers)]
    report_progress(stage, 3, 3, "tables")
    return made


def _classes(answers: LinePredictions, specificity: float, sensitivity: float) -> list[Sheet]:
    frame = per_class(answers, specificity=specificity, sensitivity=sensitivity)
    found = {(row["class"], row["metric"]): row for row in frame.to_dict("records")}
    names, few = list(dict.fromkeys(frame["class"])), too_few(answers)
    each = ", ".join(f"{name} {of}" for name, of in few.items())
    warning = (
        [
            f"WARNING: fewer than {FEW} {answers.group}s on one side: no interval can be given. Found: {each}."
        ]
        if few
        else []
    )
    # tables of nothing else say no more than the warning does
    if set(few) == set(names):
        return [Sheet("Each class", ["class"], [], warning, frame)]
    unsaid = ["too few", "", "", ""]

    def count(name: str) -> str:
        row = found[name, "recall"]
        return f"{row['n']}/{row['of']}"

    def at(name: str, metric: str, reached: str) -> str:
        mean = found[name, reached]["mean"]
        return _number(found[name, metric], 2) + ("" if np.isnan(mean) else f" at {mean:.2f}")

    decided = [
        [
            name,
            count(name),
            *(
                unsaid
                if name in few
                else [_number(found[name, metric], 2) for metric in _DECISIONS]
            ),
        ]
        for name in names
    ]
    ranked = [
        [
            name,
            *(_number(found[name, metric], 2) for metric in ("auc", "average_precision")),
            at(name, "sensitivity_at_specificity", "achieved_specificity"),
            at(name, "specificity_at_sensitivity", "achieved_sensitivity"),
        ]
        if name not in few
        else [name, *unsaid]
        for name in names
    ]
    where = "Thresholds are chosen for each class on the held-out scores of the labelled subset; behind 'at': what they reached on this set."
    if not any(draw.held is not None for draw in answers.draws):
        where = "No thresholds: nothing was held out inside the labelled subset, or these results are older than its saving."
    elif (
        frame.loc[frame["metric"].str.contains("_at_") & ~frame["class"].isin(list(few)), "mean"]
        .isna()
        .any()
    ):
        where += f" –: fewer than {1 / (1 - specificity):.0f} held-out negatives, or {1 / (1 - sensitivity):.0f} positives, in a draw."
    header = [
        "class",
        "AUC",
        "average precision",
        f"sensitivity at spec. {specificity:.10g}",
        f"specificity at sens. {sensitivity:.10g}",
    ]
    return [
        Sheet(
            "Each class, as decided",
            ["class", "images", *_DECISIONS.values()],
            decided,
            warning,
            frame[frame.metric.isin([*_DECISIONS, "prevalence"])],
        ),
        Sheet(
            "Each class against the rest",
            header,
            ranked,
            [where],
            frame[~frame.metric.isin([*_DECISIONS, "prevalence"])],
        ),
    ]


def _cases(answers: LinePredictions) -> list[Sheet]:
    frame = cases(answers)
    if frame.empty:
        return (
            [Sheet("A case beside an image", ["", "cases"], [], frame.attrs["said"], frame)]
            if frame.attrs["said"]
            else []
        )
    body = [
        [
            METRICS[row["metric"]].title,
            *(
                _interval(row[name], row[f"{name}_low"], row[f"{name}_high"], 3, name == "gain")
                for name in ("image", "case", "gain")
            ),
        ]
        for row in frame.to_dict("records")
    ]
    n, m = frame["images"].iloc[0], frame["cases"].iloc[0]
    return [
        Sheet(
            "A case beside an image",
            ["", f"{n} images", f"{m} cases", "case - image"],
            body,
            frame.attrs["said"],
            frame,
        )
    ]


def _subgroups(answers: LinePredictions, metric: str, frame: pd.DataFrame) -> list[Sheet]:
    if frame.empty:
        return []
    made = []
    over = len(list(answers.each()))
    for name, part in frame.groupby("column", sort=False):
        body = []
        several = bool((part.loc[part["note"] == "", "classes"] < over).any())
        for row in part.to_dict("records"):
            numbers = [
                _interval(row["value"], row["low"], row["high"], 3),
                _interval(
                    row["difference"], row["difference_low"], row["difference_high"], 3, True
                ),
            ]
            p = "" if np.isnan(row["p"]) else number_format.p_cell(row["p"])
            said = [row["note"], "", ""] if row["note"] else [*numbers, p]
            classes = [] if not several else ["" if row["note"] else f"{row['classes']} of {over}"]
            body.append(
                [
                    row["subgroup"],
                    str(row["images"]),
                    str(row["groups"]),
                    *classes,
                    *said,
                    "worst" if row["worst"] else "",
                ]
            )
        header = [
            str(name),
            "images",
            f"{answers.group}s",
            *(["classes"] if several else []),
            METRICS[metric].title,
            "minus the others",
            "p",
            "",
        ]
        made.append(
            Sheet(
                f"{METRICS[metric].title} by {name}", header, body, [], part, part["worst"].tolist()
            )
        )
    n, tested = "two classes" if over > 1 else "a class", int(frame["p"].notna().sum())
    note = (
        f"p: of no difference, Holm-corrected over the {tested} subgroups; worst: the furthest behind, whether or not p shows it. "
        if tested
        else ""
    )
    note += (
        f"Too small to say: fewer than {MIN_GROUPS} {answers.group}s on either side, or not {n} with {MIN_OF_CLASS} {answers.group}s that have it and "
        f"{MIN_OF_CLASS} that do not."
    )
    undefined = (frame["value"].notna() & frame["low"].isna()) | (
        frame["difference"].notna() & frame["difference_low"].isna()
    )
    if (undefined & (frame["note"] == "")).any():
        note += f" {number_format.UNDEFINED}: every resample gives the same number, or too many give none."
    if METRICS[metric].grows_by_chance:
        note += f" {METRICS[metric].title} is not compared: chance alone makes it larger in the smaller part."
    return [*made[:-1], replace(made[-1], notes=[note])]


def _calibration(answers: LinePredictions) -> Sheet:
    frame = calibration(answers)
    found = {(row["state"], row["metric"]): row for row in frame.to_dict("records")}
    names = {
        "ece": "ECE",
        "brier": "Brier",
        "log_loss": "log-loss",
        "slope": "slope",
        "intercept": "intercept",
    }
    t, by_chance = found["after", "temperature"], found["if calibrated", "ece"]["mean"]
    after = not np.isnan(t["mean"])
    states = ("before", "after", "change") if after else ("before",)
    body = [
        [title, *(_calibrated(found[state, metric], state == "change") for state in states)]
        for metric, title in names.items()
        if ("before", metric) in found
    ]
    if after:
        sd = "" if np.isnan(t["sd"]) else f" (sd {t['sd']:.2f} over draws)"
        note = f"After: one temperature, {t['mean']:.2f}{sd}, fitted on the held-out scores of the labelled subset, never on this set."
        if not RANGE[0] * 1.01 < t["mean"] < RANGE[1] * 0.99:
            note += f" It lies at the end of what is looked at ({RANGE[0]:g} to {RANGE[1]:g})."
    else:
        note = f"No temperature: a draw has fewer than {MIN_HELD_OUT} held-out images, or these results are older than their saving."
    chance = f"ECE: probabilities that are right would show {by_chance:.3f} on so many images, by chance; the interval allows for it."
    parted = [SEPARABLE] if frame["note"].str.startswith("separable").any() else []
    return Sheet(
        "Calibration",
        ["", *(("as given", "after", "change") if after else ("as given",))],
        body,
        [note, chance, *parted],
        frame,
    )


def _calibrated(row: dict[str, Any], signed: bool) -> str:
    """Write a number, with the reason where it, or its interval, is undefined."""
    number = _number(row, 3, signed)
    return (
        number
        if not row["note"]
        else row["note"]
        if number == number_format.NONE
        else f"{number}, {row['note']}"
    )


def _number(row: dict[str, float], digits: int, signed: bool = False) -> str:
    return _interval(row["mean"], row["low"], row["high"], digits, signed)


def _interval(value: float, low: float, high: float, digits: int, signed: bool = False) -> str:
    return number_format.estimate_text(value, low, high, f"{'+' if signed else ''}.{digits}f")
