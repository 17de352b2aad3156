"""Which line of a leaderboard becomes a model.

The one that is named, else the best by scores that were held out inside the labelled subset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medbench.report.leaderboard import Leaderboard, LeaderboardEntry, at_home
from medbench.run.store import NoPredictions, Store
from medbench.schema import Cell, Kind, Row, UserError
from medbench.stats import metrics
from medbench.stats.metrics import METRICS


@dataclass(frozen=True, eq=False)
class ModelChoice:
    """The line of a leaderboard, and its row, that become a model.

    held_out: the primary metric of the held-out scores, mean over draws, of each line that was
    chosen among; {} where one line was named. said: what a user must know of the choice.
    """

    board: Leaderboard
    line: LeaderboardEntry
    row: Row
    store: Store
    held_out: Mapping[LeaderboardEntry, float] = field(default_factory=dict)
    said: Sequence[str] = ()


def choose(boards: Sequence[Leaderboard], seed: int, why_not: Callable[[Cell], str]) -> ModelChoice:
    """Choose the named line, or the best of them at the largest budget, and that seed's row.

    why_not: what keeps a line from being a model, "". The scored set decides nothing: where its
    best line is another, `said` tells. Raises UserError where no line can be a model.
    """
    home = at_home(boards)
    if len(home) != 1:
        names = sorted({board.title for board in home})
        raise UserError(
            f"These results hold {len(home)} leaderboards: {'; '.join(names)}.",
            then="medbench export FOLDER --only task=NAME",
        )
    board = home[0]
    last = board.lines[-1].cell.labels  # budgets stand from few labels to many
    lines = [line for line in board.lines if line.cell.labels == last]
    reasons = {line: why_not(line.cell) for line in lines}
    fit = [line for line in lines if not reasons[line]]
    if not fit:
        why = "; ".join(dict.fromkeys(f"{board.called(line)} ({reasons[line]})" for line in lines))
        what = f"None of these lines can be exported: {why}."
        raise UserError(
            what,
            allowed=[
                "linear, logreg or fine-tuning of timm encoders, fusions too",
                "knn or svm with --include-training-vectors",
            ],
            then="medbench export FOLDER --only protocol=linear",
        )
    done = [line for line in fit if line.complete]
    if not done:
        raise UserError(
            f"{fit[0].name} at {last} labels is not finished ({fit[0].status}).",
            then="medbench run, the same command",
        )
    said = [
        f"passed over, cannot be exported: {board.called(line)} ({reasons[line]})"
        for line in lines
        if reasons[line]
    ]
    said += [
        f"passed over, not finished: {board.called(line)}" for line in fit if not line.complete
    ]
    if len(done) == 1:
        return ModelChoice(board, done[0], *_row(done[0], seed), said=said)
    return _best(board, done, seed, said)


def _best(
    board: Leaderboard, lines: Sequence[LeaderboardEntry], seed: int, said: list[str]
) -> ModelChoice:
    metric = str(board.about["metric"])
    sign = METRICS[metric].sign
    scores = {line: held_out_score(line, metric, board.about["kind"]) for line in lines}
    known = {line: score for line, score in scores.items() if not np.isnan(score)}
    if not known:
        what = f"None of {len(lines)} lines has held-out scores to choose by: too few labels, or rows of an older medbench."
        raise UserError(
            what,
            allowed=[board.called(line) for line in lines],
            then="name one: --only method=NAME --only protocol=linear",
        )
    said += [
        f"passed over, nothing was held out: {board.called(line)}"
        for line in lines
        if line not in known
    ]
    best = max(known, key=lambda line: sign * known[line])
    said.append(
        f"chosen by held-out {METRICS[metric].title} among {len(known)} lines: {board.called(best)} ({known[best]:.3f})"
    )
    ranked = [
        line for line in known if metric in line.plain and not np.isnan(line.plain[metric]).any()
    ]
    there = max(ranked, key=lambda line: line.merit(metric), default=best)
    if there is not best:
        other = f"{board.called(there)} ({METRICS[metric].title} {sign * there.merit(metric):.3f} there, the exported {sign * best.merit(metric):.3f})"
        said.append(
            f"the {board.target} part disagrees: its best is {other}. It was not asked: a choice by it would be too good. "
            "medbench compare names it, for a report"
        )
    return ModelChoice(board, best, *_row(best, seed), held_out=known, said=said)


def _row(line: LeaderboardEntry, seed: int) -> tuple[Row, Store]:
    seeds = [row.cell.seed for row in line.rows if row.cell.pretrain_seed == 0]
    for row, store in zip(line.rows, line.stores, strict=True):
        if (row.cell.seed, row.cell.pretrain_seed) == (seed, 0):
            return row, store
    raise UserError(
        f"{line.name} at {line.cell.labels} labels has no seed {seed}.",
        allowed=map(str, seeds),
        given=str(seed),
    )


def other_start(board: Leaderboard, metric: str) -> list[str]:
    """Say which line to start from where it is not the best of the scored set; [] where it is.

    Of the finished lines at the largest budget, which all must have held-out scores.
    """
    lines = [line for line in board.at(board.budgets()[-1]) if line.complete]
    lines = [line for line in lines if metric in line.plain and not np.isnan(line.merit(metric))]
    try:
        held = [held_out_score(line, metric, board.about["kind"]) for line in lines]
    except NoPredictions:
        return []
    if len(lines) < 2 or np.isnan(held).any():
        return []
    start = lines[int(np.argmax(METRICS[metric].sign * np.array(held)))]
    best = max(lines, key=lambda line: line.merit(metric))
    if start is best:
        return []
    return [
        f"To start from: {board.called(start)}, by scores held out inside the labelled images, as advise and export choose. "
        f"{board.called(best)} is the best of these test images, which is for a report: a choice by it would be too good."
    ]


def held_out_score(line: LeaderboardEntry, metric: str, kind: Kind) -> float:
    """Return a metric of the scores inside the labelled subset, mean over draws.

    In the metric's own range; NaN where a draw has none, or too few for the metric.
    """
    found = []
    for row, store in zip(line.rows, line.stores, strict=True):
        scores = store.scores(row)
        if not len(scores.get("held_out_index", ())):
            return float("nan")
        labels, p = scores["held_out_labels"], scores["held_out_probabilities"].astype(float)
        # a label that could not be fitted without the image is not counted
        if kind == "multilabel":
            labels, p = np.where(np.isnan(p), np.nan, labels), np.nan_to_num(p)
        found.append(
            float(
                metrics.score(labels, p, metrics.decided(p, kind == "multilabel"), kind).values[
                    metric
                ]
            )
        )
    return float(np.mean(found))
