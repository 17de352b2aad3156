"""The labels of a listing: which kind of task they make, its classes, and a number for each image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medbench.schema import Kind, UserError, alike, spelling, visible
from medbench.stats.metadata_levels import is_blank
from medbench.tasks.folder.class_order import by_degree, by_name
from medbench.tasks.folder.csv_listing import MULTI
from medbench.tasks.folder.listing import Listing, table_in

_TRUTH = {spelling("1"): 1.0, spelling("0"): 0.0, spelling("-1"): math.nan}


def labels_of(
    listing: Listing, ordinal: bool, order: Sequence[str]
) -> tuple[Kind, tuple[str, ...], np.ndarray]:
    """Return kind, classes, and labels of a listing.

    Labels are (N,) int64 or (N, C) float64 with NaN = uncertain. ordinal, order: as of
    `open_folder`. Raises UserError that names the line of a label that is missing or wrong.
    """
    several = [name for name in listing.columns if name.startswith(MULTI)]
    if several:
        return "multilabel", *_multilabel(listing, several, ordinal)
    texts = listing.columns["label"]
    for text, line in zip(texts, listing.where, strict=True):
        if is_blank(text):
            raise UserError(
                f"{line} has no label ('{text}').",
                then="label it, or take it out; a class that is called so needs another name",
            )
    classes = by_name(list(set(texts)))
    _check_apart(classes)
    if len(classes) < (3 if ordinal else 2):
        least = "three classes for an ordinal task" if ordinal else "two classes"
        then = table_in(listing.root) if listing.where == listing.ids else None
        raise UserError(
            f"{listing.root.name} has {', '.join(classes)} alone; it takes at least {least}.",
            then=then or None,
        )
    if ordinal:
        classes = by_degree(classes, order)
    number = {name: c for c, name in enumerate(classes)}
    kind: Kind = "ordinal" if ordinal else "binary" if len(classes) == 2 else "multiclass"
    return kind, classes, np.array([number[text] for text in texts], np.int64)


def _multilabel(
    listing: Listing, several: list[str], ordinal: bool
) -> tuple[tuple[str, ...], np.ndarray]:
    if ordinal:
        raise UserError(
            "An ordinal task has one label column; this one has several.",
            then="run it without --ordinal and --order",
        )
    if len(several) == 1 or "label" in listing.columns:
        raise UserError(
            f"Either one column label, or two and more label:NAME; there is {', '.join(c for c in listing.columns if 'label' in c)}."
        )
    classes = tuple(name.removeprefix(MULTI) for name in several)
    _check_apart(classes)
    labels = np.array([_truths(name, listing) for name in several]).T
    return classes, labels


def _truths(name: str, listing: Listing) -> list[float]:
    meant = {
        text: math.nan if is_blank(text) else _TRUTH.get(spelling(text))
        for text in set(listing.columns[name])
    }
    for text, line in zip(listing.columns[name], listing.where, strict=True):
        if meant[text] is None:
            raise UserError(
                f"{line}: '{text}' in {name}.", allowed=["1", "0", "blank or -1 (uncertain)"]
            )
    return [value for text in listing.columns[name] if (value := meant[text]) is not None]


def _check_apart(classes: Sequence[str]) -> None:
    """Raise UserError for two classes that are one by their spelling."""
    for one, other in alike(classes):
        a, b = (name if visible(name) == name else ascii(name)[1:-1] for name in (one, other))
        raise UserError(
            f"The labels '{a}' and '{b}' look like one class.",
            then="spell them alike, or give them names that differ by more",
        )
