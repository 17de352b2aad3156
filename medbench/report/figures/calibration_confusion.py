"""Figures of saved scores.

How far probabilities can be believed, and which classes are taken for which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from medbench.report import clinical
from medbench.report.figures.line_names import line_looks, short_names
from medbench.report.figures.line_selection import left_out, readable
from medbench.report.figures.style import (
    Drawing,
    figure_legend,
    legend_lines,
    panels,
    shaded,
    title_panel,
    without_mathtext,
    wrapped,
)
from medbench.report.leaderboard import Leaderboard, LeaderboardEntry
from medbench.schema import UserError
from medbench.stats.metrics import ECE_BINS

_FEWEST = 10  # images in a bin that is drawn
_MATRICES = 6  # of a figure: of more lines the best _BEST
_BEST = 3
_COUNTED = 100  # images of a class: of fewer, a percentage is finer than what was counted


def reliability(boards: Sequence[Leaderboard], metric: str | None, width: str) -> list[Drawing]:
    """Draw the share of right answers over confidence with the most labels.

    In the bins of the expected calibration error; all draws together. Where scores were held out
    inside the labelled subset a second panel shows the same after each draw's temperature
    (`clinical.fit_temperature`). Raises UserError without a finished line.
    """
    every, boards = boards, readable(boards, metric)
    names, look, title = short_names(boards), line_looks(boards), left_out(every, boards)
    found = {board: calibration_curves(board) for board in boards}
    states = (
        ("as given", "temperature scaled")
        if any(len(each) > 1 for of in found.values() for each in of.values())
        else ("",)
    )
    count = len(boards) * len(states)
    rows = legend_lines(list(names.values()), width, count, title)
    height = 2.5 if len(states) == 1 else 1.9 if width == "column" else 3.0
    figure, axes, inches = panels(count, width, height=height, legend=rows, across=len(states))
    # over both panels: a panel's own title may be no wider than the panel
    above = _head(boards[0]) if len(boards) == 1 else ""
    if above:
        figure.suptitle(wrapped(above, inches), x=0.01, ha="left", size=7.5)
    handles = {}
    for ax, (board, place) in zip(
        axes, [(board, place) for board in boards for place in range(len(states))], strict=True
    ):
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=(0, (1, 1)))
        for line, curves in found[board].items():
            if place < len(curves):  # else it has no temperature
                style = look[line.name]
                (handles[line.name],) = ax.plot(
                    *curves[place],
                    color=style.colour,
                    marker=style.marker,
                    linestyle=style.stroke,
                    clip_on=False,
                )
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share of right answers")
        ax.set_box_aspect(1)
        title_panel(
            ax, "\n".join(filter(None, [*([] if above else [_head(board)]), states[place]]))
        )
        ax.spines[["top", "right"]].set_visible(False)
    if not handles:
        raise UserError("A reliability curve needs one finished line.", then="medbench run")
    figure_legend(figure, list(handles.values()), [names[name] for name in handles], inches, title)
    return [Drawing("reliability", figure, title)]


def _head(board: Leaderboard) -> str:
    return f"{board.title}, {board.budgets()[-1]} labels"


def calibration_curves(
    board: Leaderboard,
) -> dict[LeaderboardEntry, list[tuple[list[float], list[float]]]]:
    """Compute reliability curves of each finished line with the most labels.

    Mean confidence and share of right answers, a number per bin that holds ten images a draw; as
    given, then after each draw's temperature, where every draw has one.
    """
    lines = _finished(board)
    labels = _labels(lines[0]) if lines else np.zeros(0)
    found: dict[LeaderboardEntry, list[tuple[list[float], list[float]]]] = {}
    for line in lines:
        for confidence, right in _calibrations(board, line, labels):
            which = np.minimum((np.ceil(confidence * ECE_BINS) - 1).astype(int), ECE_BINS - 1)
            kept = [
                which == b
                for b in range(ECE_BINS)
                if (which == b).sum() >= _FEWEST * len(line.rows)
            ]
            means = [
                [float(values[bin_].mean()) for bin_ in kept] for values in (confidence, right)
            ]
            found.setdefault(line, []).append((means[0], means[1]))
    # else no bin holds images enough
    return {line: curves for line, curves in found.items() if curves[0][0]}


def attention(boards: Sequence[Leaderboard], metric: str | None, width: str) -> list[Drawing]:
    """Draw a figure per fusion and task: what each member's token takes of each other's.

    Mean over images and draws, at every label budget. Raises UserError without a finished line of a
    fusion with attention.
    """
    from medbench.report.figures.attention_map import attention_picture

    found = []
    for board in boards:
        fused: dict[tuple[str, str], dict[str, np.ndarray]] = {}  # by method and line
        members: dict[tuple[str, str], list[str]] = {}
        for line in board.lines:
            drawn = [row.provenance.get("protocol", {}).get("attention") for row in line.rows]
            if line.complete and all(drawn):
                name, first = (line.cell.method, line.name), line.rows[0].provenance
                fused.setdefault(name, {})[f"{line.cell.labels} labels"] = np.mean(drawn, axis=0)
                members[name] = first.get("members") or [
                    made["method"] for made in first["pretraining"]
                ]
        for name, maps in fused.items():
            k = len(next(iter(maps.values())))
            known = members[name] if len(members[name]) == k else [str(i + 1) for i in range(k)]
            slug = re.sub(r"[^\w.-]+", "-", f"attention-{board.task}-{name[0]}")
            found.append(Drawing(slug, attention_picture(maps, known)))
    if not found:
        raise UserError(
            "An attention map needs one finished line of a fusion with attention.",
            then="medbench run --methods dvme",
        )
    return found


def confusion(boards: Sequence[Leaderboard], metric: str | None, width: str) -> list[Drawing]:
    """Draw a figure per task: which class the images of each class were taken for.

    In percent, of a class of fewer than 100 images as counts. The most labels, all draws together;
    of more than six lines the best three. Several labels an image have no such matrix. Raises
    UserError without a finished line of a task with one label an image.
    """
    found, names = [], short_names(boards)
    for board in boards:
        (best,) = readable([board], metric, _MATRICES)
        (best,) = readable([board], metric, _BEST) if best is not board else [board]
        lines = _finished(best)[:_MATRICES] if board.about["kind"] != "multilabel" else []
        if not lines:
            continue
        figure, axes, inches = panels(len(lines), width, height=(2.2 if len(lines) > 1 else 2.9))
        labels = _labels(lines[0])
        classes, said = board.about["classes"], left_out([board], [best])
        size = 5 if len(classes) > 6 and len(lines) > 1 else 6.5
        for ax, line in zip(axes, lines, strict=True):
            counts, first = _confusion(board, line, labels), ax.get_subplotspec().is_first_col()
            sums = counts.sum(1, keepdims=True)
            shares = np.divide(
                100 * counts, sums, out=np.full(counts.shape, np.nan), where=sums > 0
            )
            few = {c for c, n in enumerate(sums[:, 0]) if 0 < n < _COUNTED}
            texts = (
                [
                    [f"{value:.3g}" if c in few else f"{value:.0f}" for value in values]
                    for c, values in enumerate(
                        np.where(np.isin(np.arange(len(sums)), list(few))[:, None], counts, shares)
                    )
                ]
                if len(classes) <= 10
                else []
            )
            names_of_rows = [
                f"{name} (n = {sums[c, 0]:.0f})" if c in few and texts else name
                for c, name in enumerate(classes)
            ]
            shown = names_of_rows if first else []
            shaded(ax, shares, texts, classes, shown, size=size, vmin=0, vmax=100)
            ax.set_aspect("equal")
            ax.tick_params(axis="x", rotation=90)
            ax.set_title(without_mathtext(names[line.name]))
            ax.set_xlabel("decision")
            counted = ";\ncounts where n is given" if few and texts else ""
            ax.set_ylabel(f"true class (row = 100 %{counted})" if first else "")
        figure.suptitle(
            wrapped(f"{board.title}, {board.budgets()[-1]} labels{said and f'; {said}'}", inches),
            fontsize=7.5,
        )
        word = re.sub(r"[^A-Za-z0-9]+", "-", f"{board.task} {board.data} {board.target}").strip("-")
        found.append(Drawing(f"confusion-{word}", figure, said))
    if not found:
        raise UserError(
            "A confusion matrix needs a finished line of a task with one label an image.",
            then="medbench plot --kind curves",
        )
    return found


def _finished(board: Leaderboard) -> list[LeaderboardEntry]:
    return [line for line in board.at(board.budgets()[-1]) if line.complete]


def _scores(line: LeaderboardEntry) -> list[Mapping[str, np.ndarray]]:
    """Of each draw."""
    return [store.scores(row) for store, row in zip(line.stores, line.rows, strict=True)]


def _labels(line: LeaderboardEntry) -> np.ndarray:
    """Of the scored set, which all lines of a board share."""
    return line.stores[0].target(line.rows[0].provenance["target"])["labels"]


def _calibrations(
    board: Leaderboard, line: LeaderboardEntry, labels: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return confidences in [0, 1] and whether the answers were right.

    All draws stand one after another, as `metrics.score` takes them for `ece`; then the same after
    each draw's temperature, where every draw has one.
    """
    kind, draws = board.about["kind"], [clinical.draw_of(scores) for scores in _scores(line)]
    given = [draw.probabilities for draw in draws]
    temperatures = [clinical.fit_temperature(draw, kind) for draw in draws]
    scaled = (
        [clinical.tempered(p, t, kind) for p, t in zip(given, temperatures, strict=True)]
        if not np.isnan(temperatures).any()
        else []
    )
    return [_pooled(labels, probabilities) for probabilities in (given, scaled) if probabilities]


def _pooled(
    labels: np.ndarray, probabilities: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    confidence, right = [], []
    for p in probabilities:
        if labels.ndim == 2:
            known = ~np.isnan(labels)
            confidence.append(np.maximum(p, 1 - p)[known])
            right.append(((p > 0.5) == (labels == 1))[known])
        else:
            confidence.append(p.max(1))
            right.append(p.argmax(1) == labels)
    return np.concatenate(confidence), np.concatenate(right)


def _confusion(board: Leaderboard, line: LeaderboardEntry, labels: np.ndarray) -> np.ndarray:
    """(C, C): row = label, column = decision, images, mean over draws."""
    c = len(board.about["classes"])
    counts = np.zeros((c, c))
    for scores in _scores(line):
        np.add.at(counts, (labels, scores["decisions"]), 1)
    return counts / len(line.rows)
