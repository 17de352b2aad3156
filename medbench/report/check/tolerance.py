"""How far a number may lie from its reference.

Twice what it moved by between environments at one commit, and one image's decision.

Repeatability is measured, never assumed, and never taken from the sampling interval: that one is
thirty times as wide and would hide every regression. The doubling is for the machine that was not
measured. One decision is the least that a counted metric can change by where rounding moves a score
over a threshold, and so the least that a check on another processor must bear even if no measured
environment did it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medbench.schema import ChecksumError, Row, UserError, parsed, with_checksum

NAME = "repeatability.json"
FACTOR = 2.0
#: Where a row does not say how many images of each class were scored: it is older than the record
#: of them.
UNKNOWN_STEP = 0.005
# of a sketch, as a share: float32 kernels on other vector units move the features of a deep network
# by 1e-6 to 1e-7
ROUNDING = 1e-5
BOUNDS = ("value", "low", "high")


@dataclass(frozen=True)
class Repeatability:
    """Hold the measured spread of equal runs.

    spread: "task data method protocol" -> name -> largest range over the environments; of `auc`,
    `auc low` and `auc high` in the metric's own unit, of `features` and `scores` as
    `array_sketch.distance`.
    """

    spread: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    environments: Sequence[Mapping[str, Any]] = ()

    @staticmethod
    def beside(reference: Path) -> Repeatability:
        """Read the repeatability that lies beside a reference's rows; an empty one without any.

        Raises UserError for a damaged file.
        """
        file = reference.with_name(NAME)
        if not file.is_file():
            return Repeatability()
        try:
            record = parsed(file.read_bytes())
            spread = {
                str(key): {str(k): float(v) for k, v in of.items()}
                for key, of in record["spread"].items()
            }
            return Repeatability(spread, tuple(dict(entry) for entry in record["environments"]))
        except ChecksumError as error:
            what = f"{file} was changed after medbench wrote it: its checksum is another."
            raise UserError(what, then=_again(file)) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            what = f"{file} is not a repeatability of medbench."
            raise UserError(what, then=_again(file)) from error

    def of(self, row: Row, name: str) -> float:
        """Return the measured range of `name` of a row's task, method and protocol.

        name: as in `spread`. Where these are new, the largest of this protocol; 0 where there is
        none.
        """
        found = self.spread.get(row_key(row))
        if found is None:
            like = [
                of
                for other, of in self.spread.items()
                if other.rpartition(" ")[2] == row.cell.protocol
            ]
            return float(max((of.get(name, 0.0) for of in like), default=0.0))
        return float(found.get(name, 0.0))

    def tolerance(self, row: Row, metric: str, bound: str = "value") -> float:
        """Return how far a metric's value, or an end of its interval, may lie from `row`.

        `row` is the reference. An end is a value on a resample, which holds the image of a decision
        more than once: two steps (kernels for SSE4 moved a mean AUC of five findings by 1e-5, the
        low end of its interval by 8e-5).
        """
        if bound == "value":
            return FACTOR * self.of(row, metric) + decision_step(row, metric)
        return FACTOR * self.of(row, f"{metric} {bound}") + 2 * decision_step(row, metric)

    def moved(self, row: Row, name: str, apart: float) -> bool:
        """Return whether sketches lie further apart than repeating moves them.

        name: "features" or "scores". apart: their `array_sketch.distance`.
        """
        return apart > max(ROUNDING, FACTOR * self.of(row, name))

    def text(self) -> str:
        """Write the content of a file, with its checksum."""
        environments = [dict(sorted(entry.items())) for entry in self.environments]
        spread = {key: dict(sorted(of.items())) for key, of in sorted(self.spread.items())}
        return (
            with_checksum({"environments": environments, "spread": spread}, indent=1).decode()
            + "\n"
        )


def _again(file: Path) -> str:
    reference = file.with_name("rows.jsonl")
    return f"git restore {file}, or remove it and measure again: medbench check --measure --rows A --rows B --against {reference}"


def row_key(row: Row) -> str:
    """Return what rows of one tolerance share: task, data, method, protocol."""
    cell = row.cell
    return f"{cell.task} {cell.data} {cell.method} {cell.protocol}".replace("\n", " ")


def decision_step(row: Row, metric: str) -> float:
    """Return what one decision changes a metric by at most, to leading order.

    The decision is of an image of the rarest class that is scored (n of N, C classes).

    accuracy 1/N; balanced accuracy 1/(Cn); f1 2/(Cn), since 2h / (support + predicted) gains a hit
    and a prediction; kappa 2/(N - m), m of the largest class, where nearly all are decided to be of
    it; weighted kappa (C - 1)^2/S for a decision from one end to the other, S the squared distances
    of the classes' numbers from their mean, the least disagreement to expect; ECE 2/N, an image
    that leaves one bin for another. Multi-label: the decision on one of C labels, over which the
    metrics are averaged. AUC has no decisions: an image of the rarest class (multi-label: of the
    fewest with, or without, a label) passes one of the N - n others, or one in a hundred, as where
    scores lie close (kernels for other vector units moved the interval's end of an SVM on random
    features, chosen from 14 images, by 1e-4; by a pair, 7e-5, it would have been red).
    """
    part = row.provenance.get("parts", {}).get(row.cell.target, {})
    every = part.get("classes", [])
    counts = [count for count in every if count]
    if not counts:
        return UNKNOWN_STEP
    total, rarest, classes = int(part["images"]), min(counts), len(counts)
    passed = max(1 / max(total - rarest, 1), 0.01) / rarest
    each: dict[str, float] = {
        "accuracy": 1 / total,
        "balanced_accuracy": 1 / (classes * rarest),
        "f1": 2 / (classes * rarest),
        "kappa": 2 / max(total - max(counts), 1),
        "weighted_kappa": (len(every) - 1) ** 2 / max(_squares(every), 1),
        "ece": 2 / total,
        "auc": passed / (classes if classes > 2 else 1),
    }
    if sum(counts) != total:  # of labels that do not exclude each other
        # images with, or without, one of them
        smaller = max(min(min(count, total - count) for count in counts), 1)
        balanced, kappa = 1 / (2 * classes * smaller), 2 / (classes * smaller)
        each |= {"accuracy": 1 / (classes * total), "balanced_accuracy": balanced, "kappa": kappa}
        passed = max(1 / max(total - smaller, 1), 0.01) / smaller
        each |= {"ece": 2 / (classes * total), "auc": passed / classes}
    return each.get(metric, UNKNOWN_STEP)


def _squares(counts: Sequence[int]) -> float:
    """Sum over images of (class number - mean class number)^2."""
    mean = sum(i * count for i, count in enumerate(counts)) / sum(counts)
    return float(sum(count * (i - mean) ** 2 for i, count in enumerate(counts)))


def sketched(row: Row, name: str) -> list[list[float]]:
    """Return a row's sketches of its scores, or of each member's stage; [] where it has none.

    name: "scores", "features", "pixels" or "input".
    """
    if name == "scores":
        scores = row.provenance.get("scores", {}).get("probabilities")
        return [scores] if scores else []
    checks = [(made or {}).get("checks", {}) for made in row.provenance.get("features", [])]
    return [check[name] for check in checks if name in check]
