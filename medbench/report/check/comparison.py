"""Each cell beside its reference: the same, better, worse, missing, new, or not comparable."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from medbench.report.check.explanation import (
    Explanation,
    another_cell,
    explain,
    other_kind,
    row_differences,
)
from medbench.report.check.reference_rows import Given
from medbench.report.check.tolerance import BOUNDS, Repeatability
from medbench.schema import Cell, Row
from medbench.stats.metrics import metric

#: From worst to best; all but the last two are a failed check.
STATUSES = ("worse", "better", "not comparable", "missing", "new", "same")
RED = STATUSES[:4]


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

    changes: beyond tolerance, largest first. nearest: the largest difference of all, in tolerances.
    reason: in words, for what is no matter of metrics. line: of the reference, 0 where it has none.
    """

    cell: Cell
    status: str
    changes: tuple[Change, ...] = ()
    nearest: float = 0.0
    reason: str = ""
    explanation: Explanation | None = None
    line: int = 0


@dataclass(frozen=True)
class Comparison:
    """Hold the cells of a check, each compared with the reference.

    findings: worst first. measured: in how many environments the tolerance was; 0: no repeatability
    lies beside the reference.
    """

    reference: Given
    findings: tuple[CellFinding, ...]
    measured: int

    @property
    def red(self) -> bool:
        """Whether the check fails."""
        return any(finding.status in RED for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """The number of cells of each status that occurs, in the order of STATUSES."""
        found = Counter(finding.status for finding in self.findings)
        return {status: found[status] for status in STATUSES if found[status]}


def compare_rows(reference: Given, given: Given, repeatability: Repeatability) -> Comparison:
    """Compare every cell of either.

    What is deterministic is compared exactly, metrics to within `Repeatability.tolerance`.
    """
    gone = [cell for cell in reference.rows if cell not in given.rows]
    fresh = [cell for cell in given.rows if cell not in reference.rows]
    findings = [_missing(cell, reference, given, fresh) for cell in gone]
    findings += [CellFinding(cell, "new") for cell in fresh]
    for cell, row in reference.rows.items():
        if cell in given.rows:
            findings.append(
                _finding(row, given.rows[cell], repeatability, reference.lines.get(cell, 0))
            )
    order = lambda f: (
        STATUSES.index(f.status),
        -max((change.tolerances for change in f.changes), default=0.0),
        f.cell,
    )
    return Comparison(
        reference, tuple(sorted(findings, key=order)), len(repeatability.environments)
    )


def _missing(cell: Cell, reference: Given, given: Given, fresh: list[Cell]) -> CellFinding:
    line = reference.lines.get(cell, 0)
    if cell in given.failures:
        return CellFinding(cell, "missing", reason=f"it failed: {given.failures[cell]}", line=line)
    other = another_cell(cell, fresh)
    return CellFinding(
        cell,
        "missing",
        reason=other.text if other else "no such cell was run",
        explanation=other,
        line=line,
    )


def _finding(then: Row, now: Row, repeatability: Repeatability, line: int) -> CellFinding:
    changes = [
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
    beyond = tuple(
        sorted(
            (change for change in changes if change.tolerances > 1),
            key=lambda change: -change.tolerances,
        )
    )
    nearest = max((change.tolerances for change in changes), default=0.0)
    another = [text for part, text in row_differences(then, now) if part in ("data", "split")]
    kind = other_kind(then.provenance, now.provenance) if beyond else []
    if another or kind:
        reason = "not the same experiment as the reference: " + "; ".join(another or kind)
        return CellFinding(
            then.cell,
            "not comparable",
            (),
            nearest,
            reason,
            explain(then, now, repeatability, beyond=False),
            line,
        )
    if beyond:
        # A leak raises every metric but calibration, and narrows or widens intervals: those judge
        # where nothing else moved.
        leading = [
            change
            for change in beyond
            if change.bound == "value" and metric(change.metric).higher_is_better
        ] or beyond
        status = "better" if all(change.better for change in leading) else "worse"
        return CellFinding(
            then.cell, status, beyond, nearest, "", explain(then, now, repeatability), line
        )
    if then.fingerprint != now.fingerprint:
        explanation = explain(then, now, repeatability, beyond=False)
        reason = f"its numbers are the same, its identity is another: {explanation.text}"
        return CellFinding(then.cell, "not comparable", (), nearest, reason, explanation, line)
    return CellFinding(then.cell, "same", (), nearest, line=line)


def _at(row: Row, metric: str, bound: str) -> float | None:
    value = row.metrics.get(metric, {}).get(bound)
    return None if value is None else float(value)
