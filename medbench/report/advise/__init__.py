"""What more labels would bring.

From the rows of a study, or from any learning curve, to predictions, a sentence and a picture.
Never imports torch.

from medbench import Store, advise
for made in advise.from_results(Store("runs/derm"), target=0.9):
    print(made.sentence)
found = advise.predict(sizes=[25, 50, 100, 200], scores=[0.70, 0.74, 0.77, 0.80], at=[400, 1000])      # published curves, too
found.value, found.low, found.high
"""

from __future__ import annotations

from collections.abc import Sequence

from medbench.report.advise.advice import BEYOND, MORE, Advice, LineAdvice, advise
from medbench.report.advise.curves import curves_of, left_out, luck
from medbench.report.leaderboard import Leaderboard, at_home, known_metric, leaderboards
from medbench.run.store import Store
from medbench.schema import UserError
from medbench.stats.extrapolation import Prediction, ScoredCurve, crossing, labels_for, predict
from medbench.stats.metrics import METRICS

__all__ = [
    "BEYOND",
    "MORE",
    "Advice",
    "LineAdvice",
    "Prediction",
    "ScoredCurve",
    "advise",
    "check_asked",
    "crossing",
    "extrapolated",
    "from_boards",
    "from_results",
    "labels_for",
    "predict",
]


def from_results(
    *stores: Store,
    metric: str | None = None,
    target: float | None = None,
    more: Sequence[float] = MORE,
) -> list[Advice]:
    """Advise on each task's own part that has a finished line, from results folders.

    metric: None: each task's primary one. target: a score, in the metric's own unit, whose labels
    are asked for. more: how many times the labels are shown. [] where no line is finished. Raises
    UserError for a metric, a target or times that cannot be asked for.
    """
    return from_boards(leaderboards(*stores), metric=metric, target=target, more=more)


def from_boards(
    boards: Sequence[Leaderboard],
    *,
    metric: str | None = None,
    target: float | None = None,
    more: Sequence[float] = MORE,
) -> list[Advice]:
    """Advise on each task's own part that has a finished line, from leaderboards.

    Arguments and errors as of `from_results`.
    """
    known_metric(boards, metric)
    made = []
    for board in at_home(boards):
        shown = board.shown(metric)
        check_asked(shown, target, more)
        if curves := curves_of(board.own, shown):
            made.append(
                advise(
                    board.title,
                    curves,
                    target=target,
                    more=more,
                    luck=luck(board.own, shown),
                    notes=left_out(board.own, shown),
                )
            )
    return made


def extrapolated(metric: str) -> bool:
    """Return whether the curve of a metric (by name) can be followed.

    Not of one that chance makes larger on fewer images.
    """
    return not METRICS[metric].grows_by_chance


def check_asked(metric: str, target: float | None, more: Sequence[float]) -> None:
    """Raise UserError for a metric, a target or times that cannot be asked for.

    A metric that is not extrapolated, a target outside its range, times that ask for fewer labels.
    """
    about = METRICS[metric]
    if not extrapolated(metric):
        able = [name for name in METRICS if extrapolated(name)]
        raise UserError(
            f"{about.title} is not extrapolated: chance makes it larger on fewer images.",
            allowed=able,
            given=metric,
        )
    low, high = about.range
    if target is not None and not low < target < high:
        raise UserError(
            f"--target {target:g} lies outside of {about.title}, {low:g} to {high:g}.",
            then="medbench advise FOLDER --target 0.9",
        )
    if not more or not all(1 < times < float("inf") for times in more):
        raise UserError(
            "--more takes numbers above 1: how many times the labels that there are.",
            then="medbench advise FOLDER --more 2,5,10",
        )
