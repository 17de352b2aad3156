"""What a percentage of labels holds of each class beside what it holds of the images.

A draw is stratified, a published fraction often is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medbench.schema import ALL, Note, of_class, parse_budget

ALIKE = 0.05  # by how much a class's share may exceed that of the images without being told


@dataclass(frozen=True, eq=False)
class Held:
    """Images, and images of each class (C,): of a draw, or of the pool that it is drawn from.

    Several labels an image: its positives.
    """

    images: float
    of_class: np.ndarray


def held(labels: np.ndarray, classes: int) -> Held:
    """Count the images of each class.

    labels: (N,) int, or (N, C) float as in `Split`: then the positives of each label. classes: C.
    """
    return Held(len(labels), np.array([int(of_class(labels, c).sum()) for c in range(classes)]))


def share_notes(
    draws: Mapping[str, Iterable[Held]],
    pool: Held,
    classes: Sequence[str],
    *,
    several: bool,
    task: str = "",
    of: str = "image",
) -> list[Note]:
    """Write what percentages below 100 hold of a class that stands out: the mean of their draws.

    [] where none does: each class has the share that the images have. draws: budget -> its draws.
    several: an image may have several labels; their sum is told, too. task: a name to begin with.
    of: what is drawn, an image or a case.
    """
    told: list[str] = []
    for labels, of_budget in draws.items():
        drawn = list(of_budget)
        budget = parse_budget(labels)
        if budget.unit != "percent" or budget == ALL or not drawn:
            continue
        said = _share_text(_mean(drawn), pool, classes, several, of)
        means = f" (mean of {len(drawn)} draws)" if len(drawn) > 1 else ""
        if said:
            told.append(f"{labels} {said}{means}")
    if not told:
        return []
    end = ". A published fraction drawn at random contains the same share of every class"
    return [Note("enriched", f"{task}{': ' if task else ''}{'; '.join(told)}{end}.")]


def _mean(drawn: Sequence[Held]) -> Held:
    return Held(
        float(np.mean([of.images for of in drawn])), np.mean([of.of_class for of in drawn], axis=0)
    )


def _share_text(drawn: Held, pool: Held, classes: Sequence[str], several: bool, of: str) -> str:
    """Write the share of the images, the findings and the class that stands out most.

    As `contains 1.1 % of the images, 2.7 % of the findings and 1.8 % of Consolidation`; "" where
    none stands out.
    """
    images = drawn.images / pool.images
    there = np.flatnonzero(pool.of_class)
    if not len(there):
        return ""
    shares = drawn.of_class[there] / pool.of_class[there]
    most, findings = int(np.argmax(shares)), float(drawn.of_class.sum() / pool.of_class.sum())
    if max(float(shares[most]), findings if several else 0.0) <= (1 + ALIKE) * images:
        return ""
    parts = [
        f"{_percent(images)} of the {of}s",
        *([f"{_percent(findings)} of the findings"] if several else []),
    ]
    return f"contains {', '.join(parts)} and {_percent(float(shares[most]))} of {classes[int(there[most])]}"


def _percent(share: float) -> str:
    """Three digits.

    >>> _percent(0.0106), _percent(0.25)
    ('1.06 %', '25 %')
    """
    return f"{100 * share:.3g} %"
