"""A linear probe of cases.

The mean of a case's image features is one vector, and `linear` does the rest.

So the penalty is chosen by cross-validation over cases, groups whole. The mean of what `linear`
says of each image, the other way to judge a case by a linear probe, is what `linear` itself gives
in a run by case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from medbench.protocols import linear
from medbench.schema import KINDS, Bags, Protocol, Scores, Train

if TYPE_CHECKING:
    import numpy as np


def case_mean(
    train: Train, targets: Mapping[str, Bags], draws: Sequence[np.ndarray]
) -> Iterator[dict[str, Scores]]:
    """Yield the scores of every target, draw after draw, from the mean features (M, D) of cases.

    See `Protocol`. draws: (n,) int64 each, of cases. Raises UserError for features that are not
    finite.
    """
    assert train.case is not None, "a protocol that judges cases is told of them"
    means = replace(train, features=_means(Bags(train.features, train.case)), case=None)
    yield from linear.evaluate(means, {name: _means(bags) for name, bags in targets.items()}, draws)


def _means(bags: Bags) -> np.ndarray:
    """(M, D) float32."""
    import numpy as np

    from medbench.stats.case_labels import mean_of_cases

    return mean_of_cases(bags.images, bags.case, len(bags)).astype(np.float32)


CASE_MEAN = Protocol(
    name="case-mean",
    version=1,
    title="Linear probe of cases: the mean of a case's image features, penalty by grouped cross-validation on the labelled cases",
    kinds=KINDS,
    evaluate=case_mean,
    seeded=False,
    settings={**linear.LINEAR.settings, "pooled": "mean", "linear": linear.LINEAR.version},
    citation=linear.LINEAR.citation,
    cases=True,
)
