"""Verdicts in sentences.

Which method is better on a task, by how much, how many labels it saves, and what more it would take
to know.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medbench import stats
from medbench.report.answer import ALPHA, answers
from medbench.report.leaderboard import (
    ALL_PAIRS,
    BEST,
    LOUD,
    Family,
    Leaderboard,
    LeaderboardEntry,
    PairwiseComparison,
    class_notes,
    comparisons,
    external,
    known_metric,
    leaderboards,
    marks,
    picked,
    standing,
)
from medbench.report.leaderboard import only as picks
from medbench.report.leaderboard.families import divided, is_named
from medbench.report.model_choice import other_start
from medbench.report.table_records import note_records
from medbench.run.store import Store
from medbench.schema import Note, ProgressCallback, Row, UserError
from medbench.stats import metrics, number_format
from medbench.stats.mean_ranks import mean_ranks
from medbench.stats.metrics import METRICS
from medbench.system.progress_listener import calling, report_progress

#: What a sentence means by these weights.
WEIGHTS = "(these weights): pretrained or drawn once, so the verdict holds for these weights, not for the method; --pretrain-seeds 3 tests the method."
#: Of a board of more pairs, a page shows those of the most labels alone.
MOST = 60


def compare(
    board: Leaderboard,
    metric: str,
    margin: float,
    n_permutations: int = 0,
    progress: ProgressCallback | None = None,
    *,
    family: Family = ALL_PAIRS,
    budgets: Collection[str] = (),
) -> list[PairwiseComparison]:
    """Compare a family of complete lines, see `leaderboard.comparisons`.

    margin: what is too small to matter, in the metric's own unit. n_permutations: 0, or so many for
    a permutation test beside each. budgets: only at these. progress(stage, done, total): called
    while it works.
    """
    with calling(progress):
        made = comparisons(board, metric, family, margin, budgets=budgets)
        if not n_permutations:
            return made
        stage = f"{board.task} permuted pairs"
        for done, pair in enumerate(made):
            report_progress(stage, done, len(made), "pairs")
            made[done] = replace(
                pair, p_permuted=_permuted(board, metric, pair.first, pair.second, n_permutations)
            )
        report_progress(stage, len(made), len(made), "pairs")
        return made


def sentences(
    stores: Sequence[Store],
    metric: str | None,
    margin: float,
    n_permutations: int = 0,
    only: Sequence[str] = (),
    *,
    every_pair: bool = False,
    against: str = "",
    judged: list[dict[str, Any]] | None = None,
) -> list[str]:
    """Write what `medbench compare` prints.

    Each line against the best, against the line that is called `against` (a method of several
    encoders or protocols: within each of them), or `every_pair`. only: as
    `table.only` takes it. judged: gets a record of each comparison. Raises UserError for a metric
    or a baseline that is not there, for two questions at once, and as `table.only`.
    """
    if every_pair and against:
        raise UserError("--all and --against cannot be combined.", then="one of them")
    family = ALL_PAIRS if every_pair else Family("baseline", against) if against else BEST
    every = standing(picks(leaderboards(*stores), only) if only else leaderboards(*stores))
    known_metric(every, metric)
    said = answers(every, metric)
    for board, answer in zip(every, list(said), strict=True):
        shown = board.shown(metric)
        group = board.about["groups"] or "image"
        limits = [
            *picked(board),
            *(mark for mark in board.about["marks"] if mark.kind in LOUD),
            *external(board),
            *class_notes(board, metric),
            *(Note("remark", line) for line in other_start(board, shown)),
        ]
        lower = (
            "; sign reversed, so that + is better" if not METRICS[shown].higher_is_better else ""
        )
        own = [
            f"{board.title}: {shown}, margin {margin:g}{lower}",
            *(f"  {line}" for line in limits),
        ]
        for among, asked in divided(board, family):
            found = compare(among, shown, margin, n_permutations, family=asked)
            own.append(
                f"  Family: {asked.words}. The 95 % intervals are for each difference alone."
                if found
                else "  No two finished lines have equal labels: nothing to compare. Next: medbench run with another method, into the same folder"
            )
            once = any(line.drawn_once for pair in found for line in (pair.first, pair.second))
            if once and f"  {WEIGHTS}" not in own:
                own.append(f"  {WEIGHTS}")
            for pair in found:
                beside = (
                    ""
                    if pair.p_permuted is None
                    else f" Permuted over {group}s: p {stats.format_p(pair.p_permuted)} (uncorrected)."
                )
                first, second = names(among, pair.first, pair.second)
                sentence = f"{pair.first.cell.labels}: {pair.verdict.sentence(first, second, group)}{alone(pair)}{beside}"
                own.append(f"  {sentence}")
                if judged is not None:
                    words = {"sentence": sentence, "notes": note_records(limits), "answer": answer}
                    judged.append({**_record(board, shown, asked, pair), **words})
            references = None if every_pair else _references(among, shown, against) or None
            own += [f"  {line}" for line in label_savings(among, shown, against=references)]
        said += own
    return said


def _record(
    board: Leaderboard, metric: str, family: Family, pair: PairwiseComparison
) -> dict[str, Any]:
    """Return a comparison as plain values.

    First less second, with the 95 % interval of the pair alone.
    """
    verdict = pair.verdict
    low, high = verdict.difference.interval()
    lines = {
        "first": board.called(pair.first),
        "second": board.called(pair.second),
        "labels": pair.first.cell.labels,
    }
    where = {
        "task": board.task,
        "data": board.data,
        "target": board.target,
        "metric": metric,
        "family": family.words,
    }
    numbers = {
        "difference": verdict.difference.value,
        "low": low,
        "high": high,
        "p": verdict.p,
        "p_alone": verdict.alone,
    }
    more = {
        "p_weights": verdict.p_weights,
        "p_equal": verdict.p_equal,
        "p_permuted": pair.p_permuted,
        "more_groups": verdict.more_groups,
    }
    return {**where, **lines, "verdict": verdict.word, **numbers, **more}


def alone(pair: PairwiseComparison) -> str:
    """Say why p is large beside an interval that excludes 0, and of which weights it is.

    The second where a line has several pretrainings; "" where neither is so.
    """
    verdict, said = pair.verdict, ""
    if verdict.word == "not decidable" and verdict.difference.p() <= ALPHA < verdict.p:
        own, corrected = stats.format_p(verdict.difference.p()), stats.format_p(verdict.p)
        said = f" This pair alone has p {own} (its interval excludes 0); p {corrected} is corrected for the whole family."
    if (
        verdict.p_weights is not None
        and not math.isnan(verdict.p_weights)
        and verdict.word != "practically equal"
    ):
        several = [line for line in (pair.first, pair.second) if line.pretrainings > 1]
        of = (
            "for the methods, over their pretrainings"
            if not (pair.first.drawn_once or pair.second.drawn_once)
            else f"for {' and '.join(line.cell.method for line in several)} over its pretrainings"
        )
        said += f" This p is {of}; for these weights alone p {stats.format_p(verdict.p_weights)}."
    return said


def names(board: Leaderboard, first: LeaderboardEntry, second: LeaderboardEntry) -> tuple[str, str]:
    """Name two lines for a sentence: `these weights` are of what was pretrained or drawn once."""
    said = " (these weights)"
    both = first.drawn_once and second.drawn_once
    return (
        f"{board.called(first)}{said if first.drawn_once and not both else ''}",
        f"{board.called(second)}{said if second.drawn_once else ''}",
    )


def _references(board: Leaderboard, metric: str, against: str) -> list[LeaderboardEntry]:
    """Return whose scores a reader wants to reach with fewer labels, of the most labels.

    The line that is called `against`, the best, and the supervised ones, in this order.
    """
    last, signs = board.at(board.budgets()[-1]), marks(board, metric)
    asked = [line for line in last if against and is_named(board, line, against)]
    best = [line for line in last if line in signs and signs[line].sign == "*"]
    starts = [line for line in last if line.cell.method == "supervised"]
    return list(dict.fromkeys([*asked, *best, *starts]))


def label_savings(
    board: Leaderboard,
    metric: str,
    *,
    against: Sequence[LeaderboardEntry] | None = None,
) -> list[Note]:
    """Say for each method with which share of the labels it reaches the others' scores with all.

    Of its area under the label curve, too; of lines that are finished at every budget. against:
    only the scores of these lines, in this order.
    """
    curves: dict[str, list[LeaderboardEntry]] = {}
    for line in board.lines:
        if metric in line.plain and not np.isnan(line.plain[metric]).any():
            curves.setdefault(line.name, []).append(line)
    whole = {
        name: lines
        for name, lines in curves.items()
        if len({line.n_labels for line in lines}) == len(board.budgets()) > 1
    }
    asked = [line.name for line in against] if against is not None else list(whole)
    said = []
    stage = f"{board.task} label curves"
    for done, (name, lines) in enumerate(whole.items()):
        report_progress(stage, done, len(whole), "curves")
        curve = [(line.n_labels, line.sample(metric)) for line in lines]
        area = stats.area(curve)
        shown = number_format.estimate_text(
            area.value, *area.interval(within=METRICS[metric].range)
        )
        (mine,) = line_names(board, lines[0])
        said.append(
            Note(
                "area",
                f"{mine}: mean {METRICS[metric].title} over the label curve (on a log scale of labels) {shown}.",
            )
        )
        untold: list[tuple[stats.LabelEfficiency, LeaderboardEntry]] = []
        for other in asked:
            if other != name and other in whole:
                full = max(whole[other], key=lambda line: line.n_labels)
                reached = stats.label_efficiency(
                    curve, full.sample(metric), higher_is_better=METRICS[metric].higher_is_better
                )
                if reached.told:
                    there = f"{line_names(board, full)[0]} at {full.cell.labels}"
                    said.append(Note("savings", f"{mine} {reached.share(full.n_labels, there)}."))
                else:
                    untold.append((reached, full))
        if untold:
            reached, full = untold[0]
            those = ", ".join(line_names(board, *(line for _, line in untold)))
            said.append(
                Note(
                    "savings",
                    f"{mine} {reached.share(full.n_labels, f'{those} at {full.cell.labels}')}.",
                )
            )
    report_progress(stage, len(whole), len(whole), "curves")
    return said


def line_names(board: Leaderboard, *lines: LeaderboardEntry) -> list[str]:
    """Name each line by its method, and the words in which the board's lines differ."""
    return [board.called(line) for line in lines]


def _permuted(
    board: Leaderboard, metric: str, a: LeaderboardEntry, b: LeaderboardEntry, n_permutations: int
) -> float:
    """Run the group-wise permutation test of one pair.

    On the draws that both have, as their difference is. Where they share fewer than two each run
    stands equally often, against a line of one run every draw. The exchange of nothing is the first
    column, so that what was seen is computed as the rest is.
    """
    kind = board.about["kind"]
    target = a.stores[0].target(a.rows[0].provenance["target"])
    groups = target["groups"]
    swap = np.concatenate(
        [np.zeros((len(groups), 1), np.uint8), stats.swaps(groups, n_permutations)], axis=1
    )
    weights = np.concatenate(
        [np.concatenate([1 - swap, swap]), np.concatenate([swap, 1 - swap])], axis=1
    )
    labels = np.concatenate([target["labels"]] * 2)
    differences = []
    lines = _on_shared_draws(a, b)
    for seed in range(math.lcm(*map(len, lines))):
        both = [rows[seed % len(rows)][0].scores(rows[seed % len(rows)][1]) for rows in lines]
        probabilities = np.concatenate(
            [
                _ranks(scores["probabilities"]) if metric == "auc" else scores["probabilities"]
                for scores in both
            ]
        )
        decisions = np.concatenate([scores["decisions"] for scores in both])
        values = metrics.score(labels, probabilities, decisions, kind, weights).values[metric]
        differences.append(values[: n_permutations + 1] - values[n_permutations + 1 :])
    seen, *permuted = np.mean(differences, axis=0)
    return stats.permutation_p(float(seen), np.array(permuted))


def _on_shared_draws(*lines: LeaderboardEntry) -> list[list[tuple[Store, Row]]]:
    """Return each line's rows and where they lie, of shared draws where there are two at least."""
    shared = set.intersection(*({row.cell.seed for row in line.rows} for line in lines))
    each = [list(zip(line.stores, line.rows, strict=True)) for line in lines]
    return (
        [[(store, row) for store, row in rows if row.cell.seed in shared] for rows in each]
        if len(shared) > 1
        else each
    )


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Return the mean rank of each score in its column of (M, C), in (0, 1].

    So two methods' scores are on one scale.
    """
    return mean_ranks(scores) / len(scores)
