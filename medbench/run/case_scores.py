"""What a protocol answers of the examples that are scored.

For images as it is; for cases all images together, or the mean of its images' scores.

A protocol that judges cases gets their images. Any other learns from each image of a labelled case
with the case's label, and scores each image; a case's probability is the mean of its images', and
it is decided for the class of the largest, a label from 0.5 on, as `report.clinical` has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medbench.data.examples import Examples
from medbench.schema import Bags, HeldOut, Scores, Train
from medbench.stats import metrics
from medbench.stats.case_labels import mean_of_cases

VERSION = 1  # of the ingredient `case scores`: how images' scores become a case's
Evaluate = Callable[[Train, Mapping[str, Any], Sequence[np.ndarray]], Iterator[dict[str, Scores]]]


def answered(
    evaluate: Evaluate,
    train: Train,
    shown: Mapping[str, tuple[np.ndarray, Examples]],
    draws: Sequence[np.ndarray],
    pool: Examples,
    *,
    judges_cases: bool,
) -> Iterator[dict[str, Scores]]:
    """Yield the scores of every set's examples, draw after draw: set's name -> `Scores`.

    evaluate: as `Protocol.evaluate`. train: of images. shown: name -> images and the examples that
    they are. draws: of the pool's examples, (n,) int each. judges_cases: as `Protocol.cases` says;
    else a case has the mean of its images' scores.
    """
    images = {name: array for name, (array, _) in shown.items()}
    if pool.of is None:
        yield from evaluate(train, images, draws)
    elif judges_cases:
        of_cases = replace(train, labels=pool.split.labels, groups=pool.split.groups, case=pool.of)
        yield from evaluate(
            of_cases, {name: Bags(array, _case(of)) for name, (array, of) in shown.items()}, draws
        )
    else:
        of_draws = [np.flatnonzero(np.isin(pool.of, draw)) for draw in draws]
        for answer, index, draw in zip(
            evaluate(train, images, of_draws), of_draws, draws, strict=True
        ):
            # of each labelled image its case's place in the draw
            position = np.searchsorted(draw, pool.of[index])
            yield {
                name: _joined(scores, shown[name][1], position, train.labels.ndim == 2)
                for name, scores in answer.items()
            }


def _case(of: Examples) -> np.ndarray:
    assert of.of is not None, "all sets of a run by case hold cases"
    return of.of


def _joined(scores: Scores, of: Examples, position: np.ndarray, multilabel: bool) -> Scores:
    """Join the scores of images to scores of their cases."""
    mean = np.clip(mean_of_cases(scores.probabilities, _case(of), len(of.split)), 0, 1).astype(
        np.float32
    )
    held = scores.held_out
    if held is not None:
        places, case = np.unique(position[held.index], return_inverse=True)
        held = HeldOut(
            places, mean_of_cases(held.probabilities, case, len(places)).astype(np.float32)
        )
    return replace(
        scores, probabilities=mean, decisions=metrics.decided(mean, multilabel), held_out=held
    )
