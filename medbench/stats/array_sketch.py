"""A few numbers that stand for a large array.

Equal arrays have equal sketches, and how far two sketches lie apart tells how far the arrays do.

With a sketch of what each stage made in every row, `check` can tell which stage moved, without the
arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

PROJECTIONS = 8
_WIDTH = 1024  # columns that an array of any shape is laid out in
_BLOCK = 4096  # rows at a time: a memory-mapped array of any length passes through


def sketch(array: np.ndarray) -> list[float]:
    """Return 1 + PROJECTIONS numbers whose distances are those of arrays (N, ...).

    The root mean square, then `PROJECTIONS` sums of all values with random signs, over the root of
    their count. Each sum is of the size of the root mean square, and the sums of two arrays differ,
    squared and on average, by what the arrays do: random signs keep distances (Achlioptas 2003,
    Database-friendly random projections, doi:10.1016/S0022-0000(03)00025-4); here a sign is the
    product of one for the row and one for the column. Signs come from PCG64's raw stream, which
    numpy keeps as it is. What is not finite counts as 0.
    """
    flat = array.reshape(len(array), math.prod(array.shape[1:]))
    return _numbers(*_sums(flat), flat.size)


def sketch_all(arrays: Iterable[np.ndarray]) -> list[float]:
    """Sketch several arrays of any shape and dtype as one.

    Each has signs of its own, so that changes of two do not cancel.
    """
    squares, sums, count = 0.0, np.zeros(PROJECTIONS), 0
    for i, array in enumerate(arrays):
        values = np.asarray(array).ravel()
        flat = np.pad(values, (0, -len(values) % _WIDTH)).reshape(-1, _WIDTH)
        own_squares, own_sums = _sums(flat)
        squares, sums, count = (
            squares + own_squares,
            sums + own_sums * _signs(1, 2 + i)[:, 0],
            count + len(values),
        )
    return _numbers(squares, sums, count)


def _sums(flat: np.ndarray) -> tuple[float, np.ndarray]:
    """Of (N, D): the sum of squares, and the sums with random signs."""
    rows, columns = _signs(flat.shape[0], 0), _signs(flat.shape[1], 1)
    squares, sums = 0.0, np.zeros(PROJECTIONS)
    for start in range(0, len(flat), _BLOCK):
        block = np.nan_to_num(
            flat[start : start + _BLOCK].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0
        )
        squares += float((block**2).sum())
        sums += np.einsum("jn,nj->j", rows[:, start : start + _BLOCK], block @ columns.T)
    return squares, sums


def _numbers(squares: float, sums: np.ndarray, count: int) -> list[float]:
    count = max(count, 1)
    return [
        float(f"{value:.9g}") for value in (math.sqrt(squares / count), *(sums / math.sqrt(count)))
    ]


def distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Return how far two sketched arrays lie apart, as a share of the larger one's size.

    a, b: as `sketch` gives them, of arrays of one shape. About 1e-6 for rounding, about 1.4 for
    unrelated ones; 0 where both are 0.
    """
    size = max(a[0], b[0])
    apart = math.sqrt(sum((x - y) ** 2 for x, y in zip(a[1:], b[1:], strict=True)) / PROJECTIONS)
    return max(apart, abs(a[0] - b[0])) / size if size else 0.0


def _signs(n: int, stream: int) -> np.ndarray:
    """(PROJECTIONS, n) of -1 and 1."""
    raw = np.random.PCG64(stream).random_raw(math.ceil(PROJECTIONS * n / 64) or 1)
    bits = np.unpackbits(np.asarray(raw, "<u8").view(np.uint8))[: PROJECTIONS * n]
    return bits.reshape(PROJECTIONS, n) * 2.0 - 1.0
