"""Figures of saved scores: how far probabilities can be believed, and which classes are taken for which."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from medbench import clinical
from medbench.metrics import ECE_BINS
from medbench.plot.results import line_looks, short_names
from medbench.plot.style import SHADES, WIDTHS, Drawing, legend, legend_columns, panels, plain
from medbench.spec import UserError
from medbench.table import Board, Line

_FEWEST = 10  # images in a bin that is drawn
_MOST = 6  # confusion matrices of a figure


def reliability(boards: Sequence[Board], metric: str | None, width: str) -> list[Drawing]:
    """Share of right answers over confidence with the most labels, in the bins of the expected calibration error; all draws together.

    Where scores were held out inside the labelled subset a second panel shows the same after each draw's temperature (`clinical.temperature`).
    """
    names, look = short_names(boards), line_looks(boards)
    answers = {line: _calibrations(board, line) for board in boards for line in _finished(board)}
    states = ("as given", "temperature scaled") if any(len(found) > 1 for found in answers.values()) else ("",)
    count = len(boards) * len(states)
    rows = -(-len(names) // legend_columns(list(names.values()), WIDTHS[width or ("page" if count > 1 else "column")]))
    height = 2.5 if len(states) == 1 else 1.9 if width == "column" else 3.0
    figure, axes, inches = panels(count, width, height=height, legend=rows, across=len(states))
    handles = {}
    for ax, (board, place) in zip(axes, [(board, place) for board in boards for place in range(len(states))], strict=True):
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=(0, (1, 1)))
        for line in _finished(board):
            if place >= len(answers[line]):
                continue  # no temperature
            confidence, right = answers[line][place]
            which = np.minimum((np.ceil(confidence * ECE_BINS) - 1).astype(int), ECE_BINS - 1)
            kept = [b for b in range(ECE_BINS) if (which == b).sum() >= _FEWEST * len(line.rows)]
            style = look[line.name]
            x, y = [confidence[which == b].mean() for b in kept], [right[which == b].mean() for b in kept]
            (handles[line.name],) = ax.plot(x, y, color=style.colour, marker=style.marker, linestyle=style.stroke, clip_on=False)
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence", ylabel="share of right answers")
        state = f"\n{states[place]}" if states[place] else ""
        ax.set_title(f"{plain(board.title)}\n{board.budgets()[-1]} labels{state}", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
    if not handles:
        raise UserError("A reliability curve needs one finished line.", then="medbench run")
    legend(figure, list(handles.values()), [names[name] for name in handles], inches)
    return [Drawing("reliability", figure)]


def attention(boards: Sequence[Board], metric: str | None, width: str) -> list[Drawing]:
    """A figure a fusion and task: what each member's token takes of each other's, mean over images and draws, at every label budget."""
    from medbench.fusion import attention_picture

    found = []
    for board in boards:
        fused: dict[str, dict[str, np.ndarray]] = {}
        members: dict[str, list[str]] = {}
        for line in board.lines:
            drawn = [row.provenance.get("protocol", {}).get("attention") for row in line.rows]
            if line.complete and all(drawn):
                name, first = line.name, line.rows[0].provenance
                fused.setdefault(name, {})[f"{line.cell.labels} labels"] = np.mean(drawn, axis=0)
                members[name] = first.get("members") or [made["method"] for made in first["pretraining"]]
        for name, maps in fused.items():
            k = len(next(iter(maps.values())))
            known = members[name] if len(members[name]) == k else [str(i + 1) for i in range(k)]
            slug = re.sub(r"[^\w.-]+", "-", f"attention-{board.task}-{name.split()[0]}")
            found.append(Drawing(slug, attention_picture(maps, known)))
    if not found:
        raise UserError("An attention map needs one finished line of a fusion with attention.", then="medbench run --methods dvme")
    return found


def confusion(boards: Sequence[Board], metric: str | None, width: str) -> list[Drawing]:
    """A figure a task: of each class, in percent, which class the images were taken for. The most labels, all draws together, the first six
    lines. Several labels an image have no such matrix."""
    import seaborn

    found, names = [], short_names(boards)
    for board in boards:
        lines = _finished(board)[:_MOST] if board.about["kind"] != "multilabel" else []
        if not lines:
            continue
        classes = [plain(name) for name in board.about["classes"]]
        figure, axes, _ = panels(len(lines), width, height=(2.2 if len(lines) > 1 else 2.9))
        small = len(classes) > 6 and len(lines) > 1
        for ax, line in zip(axes, lines, strict=True):
            seaborn.heatmap(
                100 * _confusion(board, line),
                ax=ax,
                cmap=SHADES,
                vmin=0,
                vmax=100,
                annot=len(classes) <= 10,
                fmt=".0f",
                annot_kws={"size": 5 if small else 6.5},
                cbar=False,
                square=True,
                xticklabels=classes,
                yticklabels=classes if ax.get_subplotspec().is_first_col() else False,
            )
            ax.tick_params(length=0)
            ax.tick_params(axis="x", rotation=90)
            ax.tick_params(axis="y", rotation=0)
            ax.set_title(plain(names[line.name]))
            ax.set_xlabel("decision")
            ax.set_ylabel("label, % of its images" if ax.get_subplotspec().is_first_col() else "")
        figure.suptitle(f"{plain(board.title)}, {board.budgets()[-1]} labels", fontsize=7.5)
        word = re.sub(r"[^A-Za-z0-9]+", "-", f"{board.task} {board.data} {board.target}").strip("-")
        found.append(Drawing(f"confusion-{word}", figure))
    if not found:
        raise UserError("A confusion matrix needs a finished line of a task with one label an image.", then="medbench plot --kind curves")
    return found


def _finished(board: Board) -> list[Line]:
    return [line for line in board.at(board.budgets()[-1]) if line.complete]


def _scores(line: Line) -> list[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]:
    """(scores, target) of each draw."""
    return [(store.scores(row), store.target(row.provenance["target"])) for store, row in zip(line.stores, line.rows, strict=True)]


def _calibrations(board: Board, line: Line) -> list[tuple[np.ndarray, np.ndarray]]:
    """Confidence in [0, 1] and whether the answer was right, of all draws one after another, as `metrics.score` takes them for `ece`; then the
    same after each draw's temperature, where every draw has one."""
    kind, found = board.about["kind"], _scores(line)
    draws, labels = [clinical.draw_of(scores) for scores, _ in found], found[0][1]["labels"]
    given = [draw.probabilities for draw in draws]
    temperatures = [clinical.temperature(draw, kind) for draw in draws]
    scaled = [clinical.tempered(p, t, kind) for p, t in zip(given, temperatures, strict=True)] if not np.isnan(temperatures).any() else []
    return [_pooled(labels, probabilities) for probabilities in (given, scaled) if probabilities]


def _pooled(labels: np.ndarray, probabilities: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
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


def _confusion(board: Board, line: Line) -> np.ndarray:
    """(C, C): row = label, column = decision, shares of the row; NaN for a class without images."""
    c = len(board.about["classes"])
    counts = np.zeros((c, c))
    for scores, target in _scores(line):
        np.add.at(counts, (target["labels"], scores["decisions"]), 1)
    sums = counts.sum(1, keepdims=True)
    shares: np.ndarray = np.divide(counts, sums, out=np.full((c, c), np.nan), where=sums > 0)
    return shares
