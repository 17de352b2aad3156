"""What was found on an encoder, as records and as lines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EncoderFinding:
    """One finding on an encoder's input or output.

    what: "range", "mean and std", "channel order", "interpolation", "size", "readout" or "weights".
    """

    what: str
    evidence: str
    fix: str


@dataclass(frozen=True)
class Candidate:
    """A preprocessing that was tried.

    misfit: nats, lower is better; comparable within one network.
    """

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    order: str
    interpolation: str
    misfit: float


@dataclass(frozen=True)
class EncoderReport:
    """Hold what the examination of an encoder found.

    findings: what is wrong. candidates: what was tried, best first. notes: what was measured, and
    what could not be.
    """

    findings: tuple[EncoderFinding, ...]
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]

    def records(self) -> list[dict[str, Any]]:
        """Return a record per finding, note and tried preprocessing."""
        kinds = (
            ("finding", map(asdict, self.findings)),
            ("note", ({"text": note} for note in self.notes)),
        )
        return [
            {"kind": kind, **one}
            for kind, every in (*kinds, ("preprocessing", map(asdict, self.candidates)))
            for one in every
        ]

    def lines(self) -> list[str]:
        """Write the report in lines for a person."""
        shown = [f"{f.what.upper()}: {f.evidence}. Fix: {f.fix}" for f in self.findings] or [
            "nothing found"
        ]
        shown += [f"note: {note}" for note in self.notes]
        if self.candidates:
            width = max(len(c.name) for c in self.candidates)
            shown.append(
                f"{'preprocessing':<{width}}  order  interpolation  misfit (nats, lower is better)"
            )
            shown += [
                f"{c.name:<{width}}  {c.order:<5}  {c.interpolation:<13}  {c.misfit:+.2f}"
                for c in self.candidates
            ]
        return shown
