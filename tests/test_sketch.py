"""Sketches: what they tell of a distance, against the distance itself."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medbench.stats.array_sketch import distance, sketch


@pytest.mark.parametrize("share", [1e-6, 1e-3, 0.1])
def test_the_distance_of_sketches_is_the_distance_of_arrays(share: float) -> None:
    """Eight projections: the estimate is off by a quarter (one standard deviation) at a time, its
    mean over 60 arrays by little."""
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(60):
        a = rng.normal(size=(50, 30))
        b = a + share * rng.normal(size=a.shape)
        ratios.append(
            distance(sketch(a), sketch(b))
            / (np.linalg.norm(a - b) / max(np.linalg.norm(a), np.linalg.norm(b)))
        )
    assert np.sqrt(np.mean(np.square(ratios))) == pytest.approx(1, abs=0.15)
    assert min(ratios) > 0.2 and max(ratios) < 2.5


def test_what_a_sketch_sees() -> None:
    a = np.random.default_rng(1).random((7, 4, 4, 3))
    assert distance(sketch(a), sketch(a.copy())) == 0
    assert distance(sketch(a), sketch(a[..., ::-1])) > 0.1, "channels in another order"
    assert distance(sketch(a), sketch(a[::-1])) > 0.1, "rows in another order"
    assert distance(sketch(a), sketch(1.5 * a)) == pytest.approx(1 / 3, abs=0.2), "another scale"


def test_a_sketch_does_not_depend_on_blocks_or_dtype_and_is_json() -> None:
    a = np.random.default_rng(2).random((9000, 5)).astype(np.float32)
    assert sketch(a) == pytest.approx(sketch(a.astype(np.float64)), abs=1e-9)
    assert sketch(a.reshape(9000, 5, 1)) == sketch(a)
    a[3, 2] = np.nan
    assert json.dumps(sketch(a), allow_nan=False)
    assert sketch(np.zeros((0, 3))) == [0.0] * 9
    assert distance(sketch(np.zeros((4, 3))), sketch(np.zeros((4, 3)))) == 0


def test_signs_stay_as_they_are() -> None:
    """PCG64 is the same with every version of numpy.

    A committed reference holds sketches of another day.
    """
    assert sketch(np.eye(3))[1:] == pytest.approx([-1 / 3, 1, 1, -1 / 3, -1 / 3, -1 / 3, 1 / 3, 1])
