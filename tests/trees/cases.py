"""A table of cases of several images, and features with a sign in them that a test chose."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Sign = Callable[[np.random.Generator, int, np.ndarray], np.ndarray]


def one_of(rng: np.random.Generator, positive: int, images: np.ndarray) -> np.ndarray:
    """A lesion that one of a case's images shows."""
    images[rng.integers(len(images)), 0] += 4.0 * positive
    return images


def spread(rng: np.random.Generator, positive: int, images: np.ndarray) -> np.ndarray:
    """A sign of which each image has a little."""
    images[:, 0] += 0.8 * positive
    return images


def write_cases(
    place: Path,
    sign: Sign,
    train: int = 100,
    test: int = 100,
    size: int = 5,
    columns: Sequence[tuple[str, Callable[[int], str]]] = (),
    seed: int = 0,
) -> tuple[str, str]:
    """(task, encoder) of cases of `size` images, half of them positive, a patient each.

    columns: name and value by the number of a case.
    """
    rng = np.random.default_rng(seed)
    place.mkdir(parents=True)
    rows, features = [], []
    for case in range(train + test):
        positive, part = case % 2, "train" if case < train else "test"
        features.append(sign(rng, positive, rng.normal(size=(size, 12))))
        for i in range(size):
            name = f"c{case}-{i}.png"
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(place / name)
            rows.append(
                [
                    name,
                    "sick" if positive else "healthy",
                    f"p{case}",
                    f"b{case}",
                    part,
                    *(value(case) for _, value in columns),
                ]
            )
    with (place / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [["path", "label", "group", "bag", "split", *(name for name, _ in columns)], *rows]
        )
    np.savez(
        place / "f.npz",
        ids=np.array([row[0] for row in rows]),
        features=np.concatenate(features).astype(np.float32),
    )
    return f"folder:{place / 't.csv'}", f"features:{place / 'f.npz'}"
