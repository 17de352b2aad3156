"""Which line of each leaderboard the clinical tables are of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medbench.report.leaderboard import Leaderboard, LeaderboardEntry, known_metric, shown_axes
from medbench.schema import UserError, parse_budget
from medbench.stats.metrics import METRICS


def best_lines(
    boards: Sequence[Leaderboard],
    method: str | None,
    labels: str | None,
    protocol: str | None,
    target: str | None,
    metric: str | None,
) -> list[tuple[Leaderboard, LeaderboardEntry]]:
    """Return the best complete line of each leaderboard among those asked for.

    At the largest budget asked for. Raises UserError where none is. target: the name of the scored
    set; default: the test (else val) part alone, where there is one.
    """
    targets = sorted({board.target for board in boards})
    own = [name for name in ("test", "val") if name in targets][:1] or targets
    wanted = [target] if target else own
    if target and target not in targets:
        raise UserError(f"Nothing was scored on '{target}' here.", allowed=targets, given=target)
    boards = [board for board in boards if board.target in wanted]
    known_metric(boards, metric)
    budget = None if labels is None else str(parse_budget(labels))
    asked = {"method": method, "labels": budget, "protocol": protocol}
    cells = [line.cell for board in boards for line in board.lines]
    for axis, given in asked.items():
        there = sorted({str(getattr(cell, axis)) for cell in cells})
        if given is not None and given not in there:
            raise UserError(
                f"No line with {axis} '{given}' is in these results.", allowed=there, given=given
            )
    found = []
    for board in boards:
        shown = board.shown(metric)
        sign = METRICS[shown].sign
        lines = [
            line
            for line in board.lines
            if all(given in (None, str(getattr(line.cell, axis))) for axis, given in asked.items())
        ]
        done = [
            line for line in lines if shown in line.plain and not np.isnan(line.plain[shown]).any()
        ]
        if done:
            last = done[-1].cell.labels  # budgets stand from few labels to many
            found.append(
                (
                    board,
                    max(
                        (line for line in done if line.cell.labels == last),
                        key=lambda line: sign * np.mean(line.plain[shown]),
                    ),
                )
            )
    if not found:
        raise UserError("No finished line is what was asked for.", then="medbench table FOLDER")
    return found


def caption(board: Leaderboard, line: LeaderboardEntry) -> str:
    """Name a board and one of its lines above a table.

    `derm (HAM10000), test: supervised linear, 10% labels, 3 draws`.
    """
    axes = shown_axes(board.lines)
    words = [str(getattr(line.cell, axis)) for axis in dict.fromkeys([*axes, "protocol"])]
    draws = f"{len(line.rows)} draws" if len(line.rows) > 1 else "one draw"
    of = f"; of a selection, {board.selection}" if board.selection else ""
    return f"{board.title}: {' '.join(words)}, {line.cell.labels} labels, {draws}{of}"
