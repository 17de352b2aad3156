"""How much pretrainings of one method differ, beside how much draws of the labelled subset do."""

from __future__ import annotations

import numpy as np

from medbench.report.leaderboard.board import Leaderboard
from medbench.schema import Note
from medbench.stats import number_format
from medbench.stats.metrics import METRICS


def pretraining_notes(board: Leaderboard, metric: str) -> list[Note]:
    """Name both standard deviations of each complete line that was pretrained more than once.

    That of a pretraining is of its mean over draws. Of a draw: inside one pretraining, the mean
    over pretrainings of the variance, and its root. [] where no line has several.
    """
    said = []
    for budget in board.budgets():
        of_budget = []
        for line in board.at(budget):
            if not line.complete or metric not in line.plain or line.pretrainings < 2:
                continue
            sample = line.sample(metric)
            plain = sample.plain.reshape(sample.pretrainings, -1)
            if np.isnan(plain).any():
                continue
            between = number_format.number_text(float(plain.mean(1).std(ddof=1)))
            within = (
                number_format.number_text(float(np.sqrt(plain.var(1, ddof=1).mean())))
                if plain.shape[1] > 1
                else "one draw"
            )
            of_budget.append(f"{board.called(line)} {between} ({within})")
        if of_budget:
            said.append(f"{budget} {', '.join(of_budget)}")
    if not said:
        return []
    of = f"Standard deviation of {METRICS[metric].title} between pretrainings, and in brackets between draws of the labels"
    return [Note("chance", f"{of}: {'; '.join(said)}.")]
