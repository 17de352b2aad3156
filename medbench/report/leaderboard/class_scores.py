"""How much of each class a line finds, and how it ranks it.

Counted from saved scores, mean over draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medbench.run.store import NoPredictions, Store
from medbench.schema import Row
from medbench.stats import metrics


@dataclass(frozen=True, eq=False)
class ClassScores:
    """How much of each class a line finds, and how it ranks it; all (C,).

    images: with the class. found: how many of these were found, over all draws as `images`. auc:
    against the rest, NaN where one of the two is missing.
    """

    images: np.ndarray
    found: np.ndarray
    auc: np.ndarray

    def worst(self, among: Sequence[int]) -> int:
        """Return the class with the smallest share found, among those of `among` that have images.

        Where none of them has an image, among all classes.
        """
        there = [c for c in among if self.images[c]] or np.flatnonzero(self.images).tolist()
        return int(there[np.argmin([self.recall(c) for c in there])])

    def recall(self, c: int) -> float:
        """Return the share in [0, 1] of a class's images that were decided to be of it."""
        return float(self.found[c] / self.images[c])


def class_scores(rows: Sequence[Row], stores: Sequence[Store]) -> ClassScores | None:
    """Return the class scores of the rows of one line, each in its results folder.

    A binary task has both its classes. None where predictions were not shared.
    """
    try:
        labels = stores[0].target(str(rows[0].provenance["target"]))["labels"]
        scores = [store.scores(row) for store, row in zip(stores, rows, strict=True)]
    except NoPredictions:
        return None
    classes = scores[0]["probabilities"].shape[1]
    truth = labels == 1 if labels.ndim == 2 else labels[:, None] == np.arange(classes)
    found = np.mean([(truth & _decided(of["decisions"], classes)).sum(0) for of in scores], axis=0)
    auc = np.mean(
        [[_auc(labels, of["probabilities"], c) for c in range(classes)] for of in scores], axis=0
    )
    return ClassScores(truth.sum(0), found, auc)


def _decided(decisions: np.ndarray, classes: int) -> np.ndarray:
    """(M, C) bool: for which classes an image was decided."""
    of_class: np.ndarray = (
        decisions == 1 if decisions.ndim == 2 else decisions[:, None] == np.arange(classes)
    )
    return of_class


def _auc(labels: np.ndarray, probabilities: np.ndarray, c: int) -> float:
    known = np.flatnonzero(~np.isnan(labels[:, c])) if labels.ndim == 2 else np.arange(len(labels))
    positive = labels[known, c] == 1 if labels.ndim == 2 else labels == c
    return float(
        metrics.auc(
            positive, probabilities[known, c].astype(float), np.ones((len(known), 1), np.uint8)
        )[0]
    )
