"""What touched a row beside its own settings, by name: the version of each piece of code whose change can move a number.

Version 1 of an ingredient is what the first committed rows were made with, and says nothing: a key holds the versions that differ from 1. Raising
one therefore makes older exactly the rows, packs, features and weights that it touches, and naming a new ingredient makes nothing older.

    decoder FORMAT   files of that format among the images                 resize      every image
    crops            random views: pretraining, fine-tuning                features    frozen features
    draws            labelled subsets below 100 %                          folds       whatever is chosen or held out inside a subset
    resamples        the bootstrap's matrix                                metric NAME the definition of a metric
    validation part  when a fine-tuning of several labels an image holds images out

How an interval is computed from resamples, and how a difference is tested, is no ingredient: tables work it out from what is saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

#: The names of the seven numbers that every fingerprint begins with, which are frozen: `run.ingredients.FROZEN`.
CODE = ("plan", "draws", "pixels", "features", "batch", "metric definitions", "resamples")


def raised(touched: Mapping[str, int]) -> list[dict[str, int]]:
    """What a key appends: nothing, or one mapping of the ingredients whose version is not 1.

    >>> raised({"crops": 1}), raised({"crops": 2, "draws": 1})
    ([], [{'crops': 2}])
    """
    beyond = {name: version for name, version in touched.items() if version != 1}
    return [beyond] if beyond else []


def later(default: Any) -> Any:
    """A field of `Cell`, `Encoder`, `Recipe` or `Crop` that was added after the first committed rows: see `stated`."""
    return field(default=default, metadata={"later": True})


def stated(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that enter its identity: all, but a `later` one at its default. So adding an option makes no row older."""
    return {one.name: now for one in fields(value) if (now := getattr(value, one.name)) != one.default or not one.metadata.get("later")}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, what) of each part of two identities, as a row's provenance and a plan hold them, that both state and that differs.

    An identity without `ingredients` has version 1 of each.
    """
    found = []
    for name, one, other in zip(CODE, then.get("code", ()), now.get("code", ()), strict=False):
        if one != other:
            found.append((name, f"{name} {one} -> {other}"))
    old, new = then.get("ingredients", {}), now.get("ingredients", {})
    for name in sorted({*old, *new}):
        one, other = old.get(name, 1), new.get(name, 1)
        if one != other:
            found.append((name, f"{name} {one} -> {other}"))
    for name in ("method", "protocol"):
        one, other = then.get(name), now.get(name)
        if one and other and one != other:
            found.append((name, f"{name} version {one[0]} -> {other[0]}" if one[0] != other[0] else f"settings of the {name}"))
    one, other = then.get("encoder"), now.get("encoder")
    if one and other and one != other:
        moved = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
        found.append(("encoder", f"the encoder's {', '.join(moved)}"))
    if then.get("task") and now.get("task") and then["task"] != now["task"]:
        found.append(("task", "the task's data, version or settings"))
    return found
