"""How many draws of the labelled subset a line gets.

Known before anything is computed, from what a draw costs and never from what came out.
"""

from __future__ import annotations

from collections.abc import Sequence

from medbench.schema import AUTO, Method, Protocol

#: Images of a draw, at most about so many -> draws of a classifier on frozen features, whose fit
#: takes a fraction of a second there.
PROBED = ((200, 20), (1000, 10), (3000, 5))
#: Above, of all that is trained end to end, and initialisations where all labels are used.
FEWEST = 3
#: Whole groups are taken until the count is reached: a draw of 200 images may hold 220.
ABOUT = 1.1


def number_of_draws(
    asked: int | str, images: int, protocol: Protocol | None = None, method: Method | None = None
) -> int:
    """Return what was asked for; of "auto" as many as draws of so many images are worth.

    A fusion's own head gets half as many as a probe: its training takes five to ten times as long
    as a probe's fit.

    >>> [number_of_draws("auto", images) for images in (70, 220, 701, 2000, 7006)], number_of_draws(4, 70)
    ([20, 20, 10, 5, 3], 4)

    Parameters
    ----------
    asked : a number, or "auto".
    images : in a labelled subset of the budget, the first.
    protocol, method : of the line; None: a classifier on frozen features.
    """
    if asked != AUTO:
        return int(asked)
    if protocol is not None and protocol.needs == "images":
        return FEWEST
    draws = next((draws for most, draws in PROBED if images <= ABOUT * most), FEWEST)
    return max(FEWEST, draws // 2) if method is not None and method.own_head else draws


def most_draws(
    asked: int | str, protocols: Sequence[Protocol], methods: Sequence[Method], images: int
) -> int:
    """Return the most draws of any line of a grid, for a subset of so many images.

    asked: as of `number_of_draws`.
    """
    return max(
        number_of_draws(asked, images, protocol, method)
        for protocol in protocols
        for method in methods
    )


def number_of_initialisations(asked: int | str) -> int:
    """Return how often a head that is drawn is initialised, where all labels are used.

    asked: a number, or "auto", which is FEWEST.
    """
    return FEWEST if asked == AUTO else int(asked)
