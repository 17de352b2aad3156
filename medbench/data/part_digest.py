"""A part in a few words, to tell two versions of a data set apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medbench.data.content_checks import plain_labels
from medbench.schema import Split, fingerprint
from medbench.stats import splits as sampling


def part_digest(split: Split, content: Sequence[str], classes: int) -> dict[str, Any]:
    """Summarise a part in a few words, as an entry of `TaskData.digests`.

    content: what each example is, see `examples.contents`. classes: their number. The order of
    images does not matter.
    """
    columns = {
        "content": content,
        "labels": plain_labels(split.labels),
        "groups": split.groups.tolist(),
    }
    named = {
        name: dict(zip(split.ids.tolist(), values, strict=True)) for name, values in columns.items()
    }
    pairs = sorted(map(str, zip(content, columns["labels"], strict=True)))
    return {
        "images": len(split),
        "classes": _counts(split.labels, classes),
        "ids": sampling.ids_hash(split.ids)[:16],
        **{name: fingerprint(values)[:16] for name, values in named.items()},
        "scored": fingerprint(pairs)[:16],
    }


def _counts(labels: np.ndarray, classes: int) -> list[int]:
    counts: list[int] = (
        np.bincount(labels, minlength=classes) if labels.ndim == 1 else (labels == 1).sum(0)
    ).tolist()
    return counts
