"""k nearest neighbours as Nielsen et al. (2023) set them.

After a power transform and PCA, k = 5 x classes, votes weighted by distance.

The transforms are those of `svm` and `logreg`, with the same departures. With fewer labelled images
than k their code raises an error: here all of them vote. A class without a labelled image gets
probability 0. Ordinal classes are treated as nominal; multi-label tasks are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from medbench.protocols._features import blocks, check_finite
from medbench.protocols.svm_logreg import EXCLUSIVE, NIELSEN, TRANSFORMS, fitted, transforms
from medbench.schema import Protocol, Scores, Train

if TYPE_CHECKING:
    import numpy as np

NEIGHBOURS_A_CLASS = 5


def knn_nielsen2023(
    train: Train, targets: Mapping[str, np.ndarray], draws: Sequence[np.ndarray]
) -> Iterator[dict[str, Scores]]:
    """Yield the scores of every target, draw after draw, from features (M, D).

    See `Protocol`. draws: (n,) int64 each. Raises UserError for features that are not finite.
    """
    import numpy as np
    from sklearn.neighbors import KNeighborsClassifier

    check_finite({"training": train.features, **targets})
    for draw in draws:
        labels = train.labels[draw]
        seen = np.unique(labels)
        inside, transform = transforms(train.features[draw])
        solvable = len(seen) > 1 and inside.shape[1] > 0
        k = min(NEIGHBOURS_A_CLASS * train.n_classes, len(labels))
        chosen = {
            "k": k,
            "rule": "as published"
            if solvable
            else "nothing to fit: one class, or no feature varies",
        }
        model = KNeighborsClassifier(k, weights="distance")
        if solvable:
            fitted(model, inside, labels)
        scores = {}
        for name, features in targets.items():
            shares = np.full((len(features), len(seen)), 1 / len(seen))
            for rows in (
                blocks(len(features), max(features.shape[1], len(labels))) if solvable else ()
            ):
                shares[rows] = model.predict_proba(transform(features[rows]))
            probabilities = np.zeros((len(features), train.n_classes), np.float32)
            probabilities[:, seen] = shares
            scores[name] = Scores(
                probabilities, seen[shares.argmax(1)], chosen, {"components": inside.shape[1]}
            )
        yield scores


KNN_NIELSEN2023 = Protocol(
    name="knn-nielsen2023",
    version=1,
    title="k nearest neighbours after a power transform and PCA, k = 5 x classes, weighted by distance, as Nielsen et al. 2023 set them",
    kinds=EXCLUSIVE,
    evaluate=knn_nielsen2023,
    seeded=False,
    settings={**TRANSFORMS, "neighbours_a_class": NEIGHBOURS_A_CLASS, "weights": "distance"},
    citation=NIELSEN,
    divides=False,
)
