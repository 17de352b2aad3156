"""The comparisons of a board, family by family.

Each pair of lines at equal labels with its difference, interval, corrected p and verdict.

Which question a reader asks is a `Family`; every table that shows a p or a mark says which
(`Family.words`). Each budget is a family of its own, see `stats.families`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from medbench import stats
from medbench.report.leaderboard.board import Leaderboard
from medbench.report.leaderboard.entry import LeaderboardEntry
from medbench.schema import Note, UserError
from medbench.stats.metrics import METRICS
from medbench.system.progress_listener import report_progress


@dataclass(frozen=True)
class Family:
    """What is asked of a board: which lines are compared.

    kind: "best", "baseline" or "all". against: of a `baseline`, its method, or the words in which
    the board names the line. among: what its lines share, where it is one of several; "": nothing.
    """

    kind: stats.Kind = "best"
    against: str = ""
    among: str = ""

    @property
    def words(self) -> str:
        """Which p values were corrected together, as every table says it."""
        asked = {
            "best": "against the best",
            "baseline": f"against {self.against}",
            "all": "all pairs",
        }[self.kind]
        among = f" ({self.among})" if self.among else ""
        return f"{asked}, at each budget (5 %, step-down max-T){among}"


BEST, ALL_PAIRS = Family(), Family("all")
#: The method that others are held against where nothing is asked for; and of how many lines at
#: most.
SUPERVISED, MANY = "supervised", 100


@dataclass(frozen=True, eq=False)
class PairwiseComparison:
    """Two lines at one budget, and what is shown of their difference.

    verdict: about `first`. p_permuted: of these draws, not corrected; None where it was not asked
    for.
    """

    first: LeaderboardEntry
    second: LeaderboardEntry
    verdict: stats.Verdict
    p_permuted: float | None = None

    @property
    def decided(self) -> bool:
        """Whether the two are shown to differ, or to be practically equal."""
        return self.verdict.word != "not decidable"


def comparisons(
    board: Leaderboard,
    metric: str,
    family: Family = BEST,
    margin: float = 0.0,
    *,
    budgets: Collection[str] = (),
) -> list[PairwiseComparison]:
    """Compare a family, budget after budget, of the lines that are complete there.

    In each pair the better first, against a baseline that second. margin: what is too small to
    matter, in the metric's own unit. budgets: only at these, which changes no p. Raises UserError
    for a baseline that no line or more than one is.
    """
    if family.kind == "baseline":
        _known_baseline(board, family.against)
    spread = pretraining_spread(board, metric)
    asked = [budget for budget in board.budgets() if not budgets or budget in budgets]
    found = []
    for done, budget in enumerate(asked):
        report_progress(f"{board.task} pairs", done, len(asked), "budgets")
        found += of_lines(
            [line for line in board.at(budget) if metric in line.plain],
            metric,
            family,
            margin,
            spread,
            board,
        )
    report_progress(f"{board.task} pairs", len(asked), len(asked), "budgets")
    return found


def of_lines(
    lines: Sequence[LeaderboardEntry],
    metric: str,
    family: Family,
    margin: float,
    spread: dict[str, stats.Spread],
    board: Leaderboard,
) -> list[PairwiseComparison]:
    """Compare complete lines of one budget, as `comparisons` does.

    spread: `pretraining_spread` of their board.
    """
    base = (
        next(
            (place for place, line in enumerate(lines) if is_named(board, line, family.against)),
            None,
        )
        if family.against
        else None
    )
    if family.kind == "baseline" and base is None:
        return []  # it is not finished at this budget
    made = stats.compared(
        [line.sample(metric) for line in lines],
        family.kind,
        baseline=base,
        margin=margin,
        higher_is_better=METRICS[metric].higher_is_better,
        pretraining=[spread.get(line.name) for line in lines],
    )
    return [PairwiseComparison(lines[one.first], lines[one.second], one.verdict) for one in made]


def pretraining_spread(board: Leaderboard, metric: str) -> dict[str, stats.Spread]:
    """Return how much one pretraining of a line differs from another: line's name -> spread.

    From all lines and budgets; of those pretrained more than once.
    """
    several = [line for line in board.lines if metric in line.plain and line.pretrainings > 1]
    return dict(
        stats.pretraining_spread(
            [line.sample(metric) for line in several], [line.name for line in several]
        )
    )


def is_named(board: Leaderboard, line: LeaderboardEntry, asked: str) -> bool:
    """Return whether a line is what a person calls it.

    Its method, or all in which the board's lines differ.
    """
    return asked in (
        line.cell.method,
        line.name,
        " ".join(str(getattr(line.cell, axis)) for axis in board.axes),
    )


def _known_baseline(board: Leaderboard, asked: str) -> None:
    names = {
        line.name: " ".join(str(getattr(line.cell, axis)) for axis in board.axes)
        for line in board.lines
    }
    alike = {line.name for line in board.lines if is_named(board, line, asked)}
    if not alike:
        methods = dict.fromkeys(line.cell.method for line in board.lines)
        raise UserError(
            f"No line of {board.title} is '{asked}'.",
            allowed=list(methods),
            given=asked,
            then=f"medbench compare FOLDER --against {next(iter(methods))}",
        )
    if len(alike) > 1:
        raise UserError(
            f"'{asked}' is {len(alike)} lines of {board.title}.",
            allowed=[names[name] for name in names if name in alike],
            given=asked,
        )


def divided(board: Leaderboard, family: Family) -> list[tuple[Leaderboard, Family]]:
    """Divide a board into the lines at the place of each line of a baseline that is a method.

    The board as it is, where the family has one line as its baseline.
    """
    bases = {line.name: line for line in board.lines if line.cell.method == family.against}
    places = {place_of(base) for base in bases.values()}
    if len(bases) == 1 or len(places) < len(bases) or not places:
        return [(board, family)]
    return [_at_place_of(board, base) for base in bases.values()]


def _at_place_of(board: Leaderboard, base: LeaderboardEntry) -> tuple[Leaderboard, Family]:
    """Take the lines of the encoder and protocol of this one, and no other of its method."""
    alike = [
        line
        for line in board.lines
        if place_of(line) == place_of(base)
        and (line.name == base.name or line.cell.method != base.cell.method)
    ]
    shared = (str(getattr(base.cell, axis)) for axis in board.axes[1:])
    among = "" if len(alike) == len(board.lines) else " ".join(shared)
    return replace(board, lines=alike), Family("baseline", base.cell.method, among)


def to_supervised(board: Leaderboard, metric: str) -> list[Note]:
    """Say how each method stands to the supervised weights of its own encoder and protocol.

    Budget after budget; [] without finished ones.
    """
    if len(board.lines) > MANY:
        return []
    said = []
    for base in {
        line.name: line for line in board.lines if line.cell.method == SUPERVISED
    }.values():
        among, family = _at_place_of(board, base)
        found = comparisons(among, metric, family)
        each = [
            f"{budget}: {verdicts}"
            for budget in board.budgets()
            if (verdicts := _verdicts([pair for pair in found if pair.first.cell.labels == budget]))
        ]
        if each:
            words = f"{family.words[:1].upper()}{family.words[1:]}"
            said.append(Note("baseline", f"{words}. {'. '.join(each)}."))
    return said


def _verdicts(found: Sequence[PairwiseComparison]) -> str:
    """Write the methods of each verdict.

    As `better simclr, micle; worse random; not decidable dino`.
    """
    each = {
        word: [pair.first.cell.method for pair in found if pair.verdict.word == word]
        for word in ("better", "worse", "practically equal", "not decidable")
    }
    return "; ".join(
        f"{word} {', '.join(dict.fromkeys(methods))}" for word, methods in each.items() if methods
    )


def place_of(line: LeaderboardEntry) -> tuple[object, ...]:
    """Return where a line stands beside its method: encoder, readout, size, protocol."""
    cell = line.cell
    return cell.encoder, cell.readout, cell.size, cell.protocol
