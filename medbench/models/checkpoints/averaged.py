"""Weights averaged over the steps of a training, under whatever name a file has them.

The ones that are meant, beside those of the last step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medbench.schema import UserError

#: A part of a name that says so: `state_dict_ema`, `params_ema`, `avg_model`, `SWA`.
_SAYS_SO = re.compile(
    r"(?:^|[_.\- ])(?:ema|swa|avg|averag(?:e|ed|ing)|polyak|shadow|moving_average)(?=$|[_.\- ])",
    re.IGNORECASE,
)
_DEEPEST = 4  # dicts on the way to an average: callbacks > EMA > state_dict
# of the raw network's tensors, at least, that its average has: less is statistics of a training
_KEPT = 0.5


def says_so(name: object) -> bool:
    """Return whether a name says that what it names is an average.

    >>> says_so("params_ema"), says_so("model"), says_so("exp_average_loss"), says_so("schema")
    (True, False, True, False)
    """
    return isinstance(name, str) and _SAYS_SO.search(name) is not None


def elsewhere(tree: Mapping[str, Any], raw: object, called: str) -> tuple[str, ...]:
    """Return the way to an average of the network `raw` in a checkpoint, called so.

    Keys, from the outermost on; () where there is none. called: the checkpoint, for a message.
    Raises UserError for an average without names.
    """
    least = max(1, _KEPT * _tensors(raw))
    for path, found in _averages(tree):
        if isinstance(found, Mapping) and _tensors(found) >= least:
            return path
        if isinstance(found, Sequence) and _tensors(dict(enumerate(found))) >= least:
            raise UserError(
                f"the averaged weights of {called} ({' > '.join(path)}) are a list without names.",
                then="copy them into the network (torch_ema: ema.copy_to(model.parameters())), and torch.save(model.state_dict(), FILE)",
            )
    return ()


def is_whole(average: object, networks: Sequence[object]) -> bool:
    """Return whether a so-called average has as many tensors as a network of the same file."""
    return _tensors(average) >= _KEPT * max(map(_tensors, networks))


def prefixes(keys: Sequence[str]) -> list[str]:
    """Return first components of keys that name an average of what the other keys name.

    Each with its point.
    """
    first = [key.partition(".")[0] for key in keys if "." in key]
    return [
        f"{name}."
        for name in dict.fromkeys(first)
        if says_so(name) and first.count(name) >= _KEPT * (len(keys) - first.count(name))
    ]


def _averages(
    tree: Mapping[str, Any], path: tuple[str, ...] = (), within: bool = False
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and value of what an average may be, those that lie higher first.

    within: below a name that says so.
    """
    inner = [
        (name, value)
        for name, value in tree.items()
        if isinstance(name, str) and isinstance(value, (Mapping, list, tuple))
    ]
    for name, value in inner:
        if within or says_so(name):
            yield (*path, name), value
    if len(path) < _DEEPEST:
        for name, value in inner:
            if isinstance(value, Mapping):
                yield from _averages(value, (*path, name), within or says_so(name))


def _tensors(tree: object, depth: int = 0) -> int:
    """How many tensors that are no single numbers a dict holds.

    Those of the fullest dict in it, where it holds dicts.
    """
    import torch

    if not isinstance(tree, Mapping) or depth > _DEEPEST:
        return 0
    own = sum(isinstance(value, torch.Tensor) and value.ndim > 0 for value in tree.values())
    return max([own, *(_tensors(value, depth + 1) for value in tree.values())])
