"""Classes of too few groups for a number to be said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medbench.schema import Note

FEW = 10  # groups of a class: of ten, nine found have the exact 95 % interval .55 to .998
NAMED = 6  # classes in a sentence


def rare(
    classes: Sequence[object], counts: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, int]]:
    """Return class -> {part: its groups there} where a part has fewer than `FEW`, but some.

    counts: part -> groups of each class.
    """
    found: dict[str, dict[str, int]] = {}
    for c, name in enumerate(classes):
        here = {part: int(of[c]) for part, of in counts.items()}
        if any(0 < n < FEW for n in here.values()):
            found[str(name)] = here
    return found


def rare_notes(found: Mapping[str, Mapping[str, int]], of: str) -> list[Note]:
    """Name the rare classes and what depends on them; [] where `found` is empty.

    found: as `rare` gives them. of: what groups are called, in the plural.
    """
    if not found:
        return []
    each = [
        f"{name} ({', '.join(f'{part} {n}' for part, n in counts.items())})"
        for name, counts in found.items()
    ]
    more = f" and {len(each) - NAMED} more" if len(each) > NAMED else ""
    said = f"fewer than {FEW} {of} of {', '.join(each[:NAMED])}{more}"
    return [
        Note(
            "rare",
            f"{said}: results for these classes, and means over classes, depend on single {of}.",
        )
    ]
