"""Plan + rows -> leaderboards. Pure functions of a results folder; never imports torch.

A mean is shown only when every planned seed has its row: what is missing shows as missing, what failed with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench import stats
from medbench.spec import Cell, Row, parse_budget
from medbench.store import Planned, Store

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced acc.",
    "auc": "AUC",
    "f1": "macro F1",
    "kappa": "kappa",
    "weighted_kappa": "weighted kappa",
    "ece": "ECE",
}
#: Columns of leaderboard.csv. One row for each metric of each line of the leaderboard.
COLUMNS = (
    *("task", "data", "method", "source", "encoder", "readout", "size", "protocol", "labels", "target", "metric"),
    *("mean", "sd", "low", "high", "seeds", "n_labels", "status"),
)
_AXES = ("method", "source", "encoder", "readout", "size", "protocol")
LEGEND = "* best   = not distinguishable from the best: the paired 95 % interval of the difference holds 0   ? too few groups to say"


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a leaderboard: the planned cells that differ in seeds alone, and their rows."""

    cell: Cell  # of the first seed
    planned: Sequence[Planned]
    rows: Sequence[Row]
    reasons: Sequence[str]  # of the cells that failed
    plain: Mapping[str, np.ndarray]  # metric -> (S,); empty unless complete
    resamples: Mapping[str, np.ndarray]  # metric -> (S, R)

    @property
    def complete(self) -> bool:
        return len(self.rows) == len(self.planned)

    @property
    def status(self) -> str:
        if self.complete:
            return "done"
        return f"{'failed' if self.reasons else 'missing'} {len(self.planned) - len(self.rows)} of {len(self.planned)}"

    @property
    def name(self) -> str:
        return " ".join(str(getattr(self.cell, axis)) for axis in _AXES)

    def summary(self, metric: str) -> stats.Summary:
        """Mean, sd over seeds and 95 % interval over test groups and seeds; NaN unless complete."""
        if metric not in self.plain:
            return stats.Summary(np.nan, None, np.nan, np.nan)
        return stats.mean_over_seeds(self.resamples[metric], self.plain[metric])


@dataclass(frozen=True, eq=False)
class Board:
    """All lines that were scored on one target set, so that any two are paired. about: the plan's notes on the task."""

    task: str
    data: str
    target: str
    about: Mapping[str, Any]
    lines: Sequence[Line]

    @property
    def title(self) -> str:
        where = "PHANTOM: drawn images" if self.data == "phantom" else self.data
        return f"{self.task} ({where}), {self.target}"

    def budgets(self) -> list[str]:
        return list(dict.fromkeys(line.cell.labels for line in self.lines))

    def at(self, budget: str) -> list[Line]:
        return [line for line in self.lines if line.cell.labels == budget]


def boards(store: Store) -> list[Board]:
    """The leaderboards of a results folder, budgets from few labels to many. Rows of an old fingerprint take no part."""
    plan, rows, failures = store.plan(), store.rows(), store.failures()
    grouped: dict[tuple[Any, ...], list[Planned]] = {}
    for planned in plan.cells:
        c = planned.cell
        axes = (getattr(c, axis) for axis in _AXES)
        grouped.setdefault((c.task, c.data, c.target, planned.target, planned.setting, c.labels, *axes), []).append(planned)
    found: dict[tuple[str, str, str, str], list[Line]] = {}
    for key, cells in grouped.items():
        found.setdefault(key[:4], []).append(_line(store, cells, rows, failures))
    return [
        Board(*key[:3], about=plan.tasks["|".join(key[:3])], lines=sorted(lines, key=lambda line: _budget_order(line.planned[0])))
        for key, lines in found.items()
    ]


def leaderboard(store: Store) -> pd.DataFrame:
    """The tidy leaderboard: columns COLUMNS, metrics in their own range, NaN where a line is not complete."""
    import pandas as pd

    records = []
    for board in boards(store):
        for line in board.lines:
            common = {name: getattr(line.cell, name) for name in ("task", "data", *_AXES, "labels", "target")}
            n_labels = np.mean([row.n_labels for row in line.rows]) if line.rows else np.nan
            for metric in line.plain or [board.about["metric"]]:
                s = line.summary(metric)
                number = {"mean": s.mean, "sd": s.sd, "low": s.low, "high": s.high, "seeds": len(line.rows), "n_labels": n_labels}
                records.append({**common, "metric": metric, **number, "status": line.status})
    return pd.DataFrame(records, columns=list(COLUMNS))


def markdown(store: Store) -> str:
    """The leaderboards as Markdown: the primary metric against the best, then every metric, then what a reader must know."""
    parts = []
    for board in boards(store):
        metric = board.about["metric"]
        others = [name for name in TITLES if name != metric and any(name in line.plain for line in board.lines)]
        parts += [f"## {board.title}", "", *_grid(_cells(board, metric)), "", LEGEND, ""]
        parts += [*_grid(_all_metrics(board, [metric, *others])), "", *(f"- {line}" for line in notes(board)), ""]
    return "\n".join(parts)


def terminal(store: Store, metric: str | None = None) -> list[Table | str]:
    """What `rich` prints: a table a board, its notes under it. Raises UserError for a metric that the folder does not have."""
    from rich.table import Table
    from rich.text import Text

    from medbench.spec import UserError

    found: list[Table | str] = []
    if metric and metric not in TITLES:
        raise UserError(f"Unknown metric '{metric}'.", allowed=TITLES, given=metric)
    for board in boards(store):
        available = sorted({name for line in board.lines for name in line.plain})
        if metric and available and metric not in available:
            raise UserError(f"No metric '{metric}' here.", allowed=available, given=metric)
        header, *body = _cells(board, metric or board.about["metric"])
        table = Table(title=Text(board.title), title_justify="left", title_style="bold")
        for name in header:  # on a narrow terminal counts and intervals break at their blanks; names and numbers stay whole
            whole = name in (*_AXES, "labels", "", "sd", TITLES[metric or board.about["metric"]])
            table.add_column(name, no_wrap=whole, justify="left" if name in _AXES else "right")
        last = ""
        for cells in body:
            if last and cells[0] != last:
                table.add_section()
            last = cells[0]
            best = cells[header.index("")] == "*"
            table.add_row(*map(Text, cells), style="bold" if best else None)  # Text: a name may hold [markup]
        found += [table, LEGEND, *notes(board)]
    return found


def notes(board: Board) -> list[str]:
    """What a reader of this board must know, one sentence a line."""
    about, rows = board.about, [row for line in board.lines for row in line.rows]
    images, groups = about["parts"][board.target]
    group = about["groups"] or "image"
    found = []
    if board.data == "phantom":
        found.append(f"PHANTOM: drawn images. These numbers say that the machinery works, nothing about {board.task}.")
    found += about["marks"]
    if rows:
        networks = {
            row.cell.encoder + (f" at {row.cell.size} px" if row.cell.size else "") + f", {row.provenance['precision']}" for row in rows
        }
        judged = dict.fromkeys(row.cell.protocol for row in rows)
        found.append(f"Setting: {'; '.join(sorted(networks))}; judged by {', '.join(judged)}.")
    found.append(
        f"Scored on {images} {board.target} images of {groups} {group}s; 95 % intervals from 1,000 resamples of {group}s and seeds together."
    )
    if any(row.cell.method == "random" for row in rows) and len({row.cell.pretrain_seed for row in rows}) == 1:
        found.append("One pretraining seed: the intervals hold no variance of pretraining or initialisation.")
    for key, value, seen in sorted({(row.cell.method, row.provenance["weights"], ", ".join(row.provenance["trained_on"])) for row in rows}):
        found.append(f"{key}: weights {value}{f', trained on {seen}' if seen else ''}.")
    for line in board.lines:
        if line.reasons:
            found.append(
                f"{line.cell.method} {line.cell.encoder} {line.cell.protocol} {line.cell.labels} {line.status}: {line.reasons[-1]}"
            )
    absent = {row.metrics["auc"].get("classes") for row in rows} - {None, len(about["classes"])}
    if absent and about["kind"] != "binary":
        found.append(
            f"AUC is the mean over {min(n for n in absent if n is not None)} of {len(about['classes'])} classes: the others have no image."
        )
    return found


def write(store: Store) -> None:
    """leaderboard.md and leaderboard.csv in the results folder."""
    store.write_text("leaderboard.md", markdown(store))
    store.write_text("leaderboard.csv", leaderboard(store).to_csv(index=False))


def _line(store: Store, cells: Sequence[Planned], rows: Mapping[str, Row], failures: Mapping[str, str]) -> Line:
    done = [rows[planned.fingerprint] for planned in cells if planned.fingerprint in rows]
    reasons = [failures[planned.fingerprint] for planned in cells if planned.fingerprint in failures and planned.fingerprint not in rows]
    if len(done) < len(cells):
        return Line(cells[0].cell, cells, done, reasons, {}, {})
    scores = [store.scores(row) for row in done]
    names = scores[0]["metrics"].tolist()
    plain = {name: np.array([_nan(row.metrics[name]["value"]) for row in done]) for name in names}
    resamples = {name: np.stack([score["resamples"][i] for score in scores]).astype(float) for i, name in enumerate(names)}
    return Line(cells[0].cell, cells, done, reasons, plain, resamples)


def _cells(board: Board, metric: str) -> list[list[str]]:
    """Header and body of the main table: one metric with its interval, and the paired difference to the best."""
    axes = _shown_axes(board)
    body = []
    for budget in board.budgets():
        lines = board.at(budget)
        complete = {line.name: line for line in lines if metric in line.plain}
        values = {name: line.resamples[metric] for name, line in complete.items()}
        plain = {name: line.plain[metric] for name, line in complete.items()}
        best, tied = stats.ties(values, plain, higher_is_better=metric != "ece")
        if len(complete) < len(lines):
            best, tied = None, frozenset()  # nothing is called the best before all are there
        for line in lines:
            head = [budget, _count(line), *(str(getattr(line.cell, axis)) for axis in axes)]
            if line.name not in complete:
                body.append([*head, "", "–" if line.complete else line.status, "", "", ""])
                continue
            s = line.summary(metric)
            mark, gap = "*" if line.name == best else "", ""
            if best is not None and line.name != best:
                d = stats.paired_difference(values[line.name], values[best], plain[line.name], plain[best])
                mark = "?" if np.isnan(d.low) else "=" if line.name in tied else ""
                gap = f"{d.value:+.3f} {_interval(d.low, d.high, '+.3f')}"
            body.append([*head, mark, _number(s.mean), _interval(s.low, s.high), _number(s.sd), gap])
    return [["labels", "images", *axes, "", TITLES[metric], "95 %", "sd", "to best, paired"], *body]


def _all_metrics(board: Board, metrics: Sequence[str]) -> list[list[str]]:
    axes = _shown_axes(board)
    header = ["labels", "images", *axes, *(TITLES[metric] for metric in metrics)]
    body = []
    for line in board.lines:
        numbers = []
        for metric in metrics:
            s = line.summary(metric)
            numbers.append(
                f"{_number(s.mean)} {_interval(s.low, s.high)}" if metric in line.plain else "–" if line.complete else line.status
            )
        body.append([line.cell.labels, _count(line), *(str(getattr(line.cell, axis)) for axis in axes), *numbers])
    return [header, *body]


def _shown_axes(board: Board) -> list[str]:
    """The method, and every axis on which the lines differ."""
    return ["method", *(a for a in _AXES[1:] if a != "source" and len({getattr(line.cell, a) for line in board.lines}) > 1)]


def _count(line: Line) -> str:
    """Labelled images over the seeds, and what the budget asked for where that differs."""
    if not line.rows:
        return str(line.planned[0].n_requested)
    counts, asked = sorted({row.n_labels for row in line.rows}), line.planned[0].n_requested
    real = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    return real if counts == [asked] else f"{real} ({asked} asked)"


def _budget_order(planned: Planned) -> tuple[int, float]:
    return planned.n_requested, parse_budget(planned.cell.labels).amount


def _grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; `|` of a user's own names is escaped."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]


def _interval(low: float, high: float, form: str = ".3f") -> str:
    return "[undefined]" if np.isnan(low) or np.isnan(high) else f"[{low:{form}}, {high:{form}}]"


def _number(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value
