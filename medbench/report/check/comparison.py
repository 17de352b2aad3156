"""Each cell beside its reference: the same, better, worse, missing, new, or not comparable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from medbench.report.check.explanation import (
    Explanation,
    explain,
    other_kind,
    row_differences,
)
from medbench.report.check.reference_rows import Given
from medbench.report.check.replaced_cells import replaced_cells
from medbench.report.check.tolerance import BOUNDS, Repeatability
from medbench.schema import Cell, Row
from medbench.stats.metrics import metric

#: From worst to best; all but the last are a failed check, `new` unless it is allowed.
STATUSES = ("worse", "better", "not comparable", "missing", "new", "same")
#: The metric that every row has: it is shown first.
LEADING = "auc"


@dataclass(frozen=True)
class Change:
    """A metric's value, or an end of its interval, then and now.

    In the metric's own unit; None: undefined.
    """

    metric: str
    bound: str  # "value", "low", "high"
    then: float | None
    now: float | None
    tolerance: float

    @property
    def tolerances(self) -> float:
        """The difference in tolerances: beyond 1 it is one.

        Infinite where only one of the two is defined.
        """
        if self.then is None or self.now is None:
            return 0.0 if self.then is self.now else float("inf")
        return abs(self.now - self.then) / self.tolerance

    @property
    def better(self) -> bool:
        """Whether the number moved to its better side; undefined before counts as worse."""
        if self.then is None or self.now is None:
            return self.then is None
        return (self.now < self.then) == (not metric(self.metric).higher_is_better)

    @property
    def name(self) -> str:
        """The metric, and which end of its interval where it is not the value."""
        return (
            self.metric
            if self.bound == "value"
            else f"{self.metric}, {self.bound} end of the interval"
        )


@dataclass(frozen=True)
class CellFinding:
    """Hold one cell's answer.

    changes: beyond tolerance, largest first; of a cell that cannot be compared none is judged.
    largest: the largest difference of all, in tolerances. reason: in words, for what is no matter
    of metrics. line: of the reference, 0 where it has none. replaced_by: the cell that stands in
    its place in the study. shown: what a table shows, where both have numbers. interval: of the
    reference's value of `shown`, 95 %. failed: its row is missing because it failed or was not computed.
    """

    cell: Cell
    status: str
    changes: tuple[Change, ...] = ()
    largest: float = 0.0
    reason: str = ""
    explanation: Explanation | None = None
    line: int = 0
    replaced_by: Cell | None = None
    shown: Change | None = None
    interval: tuple[float, float] | None = None
    failed: bool = False

    @property
    def ordered(self) -> tuple[Change, ...]:
        """Changes beyond tolerance, the one that a table shows first."""
        first = tuple(change for change in self.changes if change is self.shown)
        return first + tuple(change for change in self.changes if change is not self.shown)


@dataclass(frozen=True)
class Comparison:
    """Hold the cells of a check, each compared with the reference.

    findings: worst first. measured: in how many environments the tolerance was; 0: no repeatability
    lies beside the reference. allow_new: whether cells without a reference pass.
    """

    reference: Given
    findings: tuple[CellFinding, ...]
    measured: int
    allow_new: bool = False

    def fails(self, finding: CellFinding) -> bool:
        """Whether this cell makes the check fail."""
        return finding.status != "same" and not (finding.status == "new" and self.allow_new)

    @property
    def red(self) -> bool:
        """Whether the check fails."""
        return any(map(self.fails, self.findings))

    @property
    def unrelated(self) -> bool:
        """Whether reference and study have no cell in common, and none that replaces another."""
        found = {(finding.status, finding.failed) for finding in self.findings}
        return found == {("missing", False), ("new", False)}

    @property
    def counts(self) -> dict[str, int]:
        """The number of cells of each status that occurs, in the order of STATUSES."""
        found = Counter(finding.status for finding in self.findings)
        return {status: found[status] for status in STATUSES if found[status]}


def compare_rows(
    reference: Given, given: Given, repeatability: Repeatability, *, allow_new: bool = False
) -> Comparison:
    """Compare every cell of the reference and of the given rows, worst first.

    What is deterministic is compared exactly, metrics to within `Repeatability.tolerance`.
    allow_new: whether cells without a reference pass.
    """
    gone = [cell for cell in reference.rows if cell not in given.rows]
    fresh = [cell for cell in given.rows if cell not in reference.rows]
    pairs = replaced_cells([cell for cell in gone if cell not in given.failures], fresh)
    findings = [_missing(cell, reference, given) for cell in gone if cell not in pairs]
    taken = {other for other, _ in pairs.values()}
    findings += [CellFinding(cell, "new") for cell in fresh if cell not in taken]
    for cell, row in reference.rows.items():
        line = reference.lines.get(cell, 0)
        if cell in given.rows:
            findings.append(_finding(row, given.rows[cell], repeatability, line))
        elif cell in pairs:
            other, explanation = pairs[cell]
            findings.append(_replaced(row, given.rows[other], repeatability, explanation, line))
    order = lambda f: (
        STATUSES.index(f.status),
        f.shown is None or f.shown.then == f.shown.now,  # those with numbers first
        -max((change.tolerances for change in f.changes), default=0.0),
        f.cell,
    )
    return Comparison(
        reference,
        tuple(sorted(findings, key=order)),
        len(repeatability.environments),
        allow_new,
    )


def _missing(cell: Cell, reference: Given, given: Given) -> CellFinding:
    why = given.failures.get(cell)
    return CellFinding(
        cell,
        "missing",
        reason=why or "the study has no such cell",
        line=reference.lines.get(cell, 0),
        failed=bool(why),
    )


def _replaced(
    then: Row, now: Row, repeatability: Repeatability, explanation: Explanation, line: int
) -> CellFinding:
    """Show a cell beside the one that took its place: what was asked for differs."""
    shown = _leading(_changes(then, now, repeatability))
    return CellFinding(
        then.cell,
        "not comparable",
        reason=f"another cell: {explanation.text}",
        explanation=explanation,
        line=line,
        replaced_by=now.cell,
        shown=shown,
        interval=_interval(then, shown.metric),
    )


def _changes(then: Row, now: Row, repeatability: Repeatability) -> list[Change]:
    return [
        Change(
            metric,
            bound,
            _at(then, metric, bound),
            _at(now, metric, bound),
            repeatability.tolerance(then, metric, bound),
        )
        for metric in dict.fromkeys([*then.metrics, *now.metrics])
        for bound in BOUNDS
    ]


def _leading(changes: Sequence[Change]) -> Change:
    """Return what a table shows of changes: a metric itself before an end of its interval."""
    values = [change for change in changes if change.bound == "value"] or changes
    return next((change for change in values if change.metric == LEADING), values[0])


def _interval(row: Row, metric: str) -> tuple[float, float] | None:
    low, high = (_at(row, metric, bound) for bound in ("low", "high"))
    return None if low is None or high is None else (low, high)


def _finding(then: Row, now: Row, repeatability: Repeatability, line: int) -> CellFinding:
    changes = _changes(then, now, repeatability)
    beyond = tuple(
        sorted(
            (change for change in changes if change.tolerances > 1),
            key=lambda change: -change.tolerances,
        )
    )
    shown = _leading(beyond or changes)
    told = CellFinding(
        then.cell,
        "same",
        largest=max((change.tolerances for change in changes), default=0.0),
        line=line,
        shown=shown,
        interval=_interval(then, shown.metric),
    )
    another = [text for part, text in row_differences(then, now) if part in ("data", "split")]
    kind = other_kind(then.provenance, now.provenance) if beyond else []
    if another or kind:
        return replace(
            told,
            status="not comparable",
            reason="not the same experiment as the reference: " + "; ".join(another or kind),
            explanation=explain(then, now, repeatability, beyond=False),
        )
    if beyond:
        # A leak raises every metric but calibration, and narrows or widens intervals: those judge
        # where nothing else moved.
        judging = [
            change
            for change in beyond
            if change.bound == "value" and metric(change.metric).higher_is_better
        ] or beyond
        return replace(
            told,
            status="better" if all(change.better for change in judging) else "worse",
            changes=beyond,
            explanation=explain(then, now, repeatability),
        )
    if then.fingerprint != now.fingerprint:
        explanation = explain(then, now, repeatability, beyond=False)
        reason = f"its numbers are the same, its identity is another: {explanation.text}"
        return replace(told, status="not comparable", reason=reason, explanation=explanation)
    return told


def _at(row: Row, metric: str, bound: str) -> float | None:
    value = row.metrics.get(metric, {}).get(bound)
    return None if value is None else float(value)
