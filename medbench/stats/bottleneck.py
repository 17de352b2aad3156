"""Which source of chance keeps two lines from being told apart.

Test groups, draws of labels, or pretrainings; and how many of it would do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from medbench.stats.estimates import Estimate
from medbench.stats.hypothesis_tests import OUT_OF_REACH, POWER

Name = Literal["groups", "draws", "pretrainings"]


@dataclass(frozen=True)
class Source:
    """One source of a difference's chance.

    variance: what it makes of the difference, with df degrees of freedom; n: how many there are of
    it.
    """

    name: Name
    variance: float
    df: float
    n: int

    def times(self, factor: float) -> Source:
        """Return the source with `factor` times as many units.

        More of them mean less variance, known better where it is known from few; of groups on the
        degrees of freedom at hand, as `more_groups` plans.
        """
        return replace(
            self,
            variance=self.variance / factor,
            df=self.df if self.name == "groups" else self.df * factor,
        )


@dataclass(frozen=True)
class Bottleneck:
    """Name the source of chance that makes most of an interval.

    share: of the interval's squared width. needed: how many of it, in all, would tell the two lines
    apart with POWER, were the truth what was seen; inf: no number of it alone, within reach.
    """

    source: Source
    share: float
    needed: float


def bottleneck(
    difference: float, sources: Sequence[Source], alpha: float = 0.05
) -> Bottleneck | None:
    """Return which source makes most of the interval of a difference; None where none is known.

    sources: those without a known, positive variance are left out. alpha: the uncorrected p that
    decides the difference.
    """
    from medbench.stats.intervals import t_quantile

    known = [
        source
        for source in sources
        if source.variance > 0 and source.df > 0 and math.isfinite(source.variance)
    ]
    squares = [source.variance * t_quantile(1 - alpha, source.df) ** 2 for source in known]
    if not known or not math.isfinite(sum(squares)):
        return None
    largest = max(range(len(known)), key=squares.__getitem__)
    rest = [source for place, source in enumerate(known) if place != largest]
    return Bottleneck(
        known[largest],
        squares[largest] / sum(squares),
        needed(difference, known[largest], rest, alpha),
    )


def needed(difference: float, source: Source, rest: Sequence[Source], alpha: float) -> float:
    """Return how many of a source would show this difference with POWER, the rest as it is.

    alpha: the uncorrected p that decides it. inf where OUT_OF_REACH times as many would not.
    """
    from scipy.special import ndtri

    def enough(n: int) -> bool:
        parts = [source.times(n / source.n), *rest]
        planned = Estimate(abs(difference), tuple((part.variance, part.df) for part in parts))
        return abs(difference) >= planned.half(1 - alpha) + float(ndtri(POWER)) * planned.error

    low, high = source.n, OUT_OF_REACH * source.n
    if not enough(high):
        return float("inf")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return float(high)
