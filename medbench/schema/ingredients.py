"""What touched a row beside its own settings, by name.

The version of each piece of code whose change can move a number. Version 1 of an ingredient is what
the first committed rows were made with, and says nothing: a key holds the versions that differ from
1. Raising one therefore makes older exactly the rows, packs, features and weights that it touches,
and naming a new ingredient makes nothing older.

    decoder FORMAT   files of that format among the images                 resize      every image
    crops            random views: pretraining, fine-tuning                features    frozen features
    draws            labelled subsets below 100 %                          folds       whatever is chosen or held out inside a subset
    resamples        the bootstrap's matrix                                metric NAME the definition of a metric
    validation part  when a fine-tuning of several labels an image holds images out
    case scores      a case whose images are judged one by one (`run.case_scores`)
    division         a draw that is divided otherwise than each once was by itself (`run.division`): 2, whether it is; 3, and into which folds

How an interval is computed from resamples, and how a difference is tested, is no ingredient: tables
work it out from what is saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

#: The names of the seven numbers that every fingerprint begins with, which are frozen:
#: `run.ingredients.FROZEN`.
CODE = ("plan", "draws", "pixels", "features", "batch", "metric definitions", "resamples")


def raised(touched: Mapping[str, int]) -> list[dict[str, int]]:
    """Return what a key appends for the ingredients that touched something.

    [] where all have version 1, else one mapping: ingredient -> version, of those that do not.

    >>> raised({"crops": 1}), raised({"crops": 2, "draws": 1})
    ([], [{'crops': 2}])
    """
    beyond = {name: version for name, version in touched.items() if version != 1}
    return [beyond] if beyond else []


def later(default: Any) -> Any:
    """Declare a field that was added after the first committed rows: see `stated`.

    It is a field of `Cell`, `Encoder`, `Recipe` or `Crop`.
    """
    return field(default=default, metadata={"later": True})


def stated(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that enter its identity.

    These are all fields, except a `later` one at its default. So a new option makes no row older.
    """
    return {
        one.name: now
        for one in fields(value)
        if (now := getattr(value, one.name)) != one.default or not one.metadata.get("later")
    }


@dataclass(frozen=True)
class Difference:
    """Describe a part of two identities that differs.

    of: "code" (one of `CODE`), "ingredient", "method", "protocol", "encoder" or "task". name: the
    ingredient, the field of an encoder, "version" or "settings"; of a task "" where
    its version was not kept. then, now: its versions or values, None where only a hash is kept.
    """

    of: str
    name: str
    then: Any = None
    now: Any = None

    def __str__(self) -> str:
        if self.of == "task" and not self.name:
            return "the task's version or settings"
        if self.name == "settings":
            return f"settings of the {self.of}"
        whose = {
            "encoder": "the encoder's ",
            "method": "method ",
            "protocol": "protocol ",
            "task": "task ",
        }.get(self.of, "")
        return f"{whose}{self.name} {self.then} -> {self.now}"


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Return each part of two identities that both state and that differs.

    As a row's provenance and a plan hold them. An identity without `ingredients` has version 1 of
    each.
    """
    codes = zip(CODE, then.get("code", ()), now.get("code", ()), strict=False)
    found = [Difference("code", name, one, other) for name, one, other in codes if one != other]
    old, new = then.get("ingredients", {}), now.get("ingredients", {})
    versions = [
        Difference("ingredient", name, old.get(name, 1), new.get(name, 1))
        for name in sorted({*old, *new})
    ]
    found += [one for one in versions if one.then != one.now]
    for of in ("method", "protocol"):
        one, other = then.get(of), now.get(of)
        if one and other and one != other:
            found.append(
                Difference(of, "version", one[0], other[0])
                if one[0] != other[0]
                else Difference(of, "settings")
            )
    one, other = then.get("encoder"), now.get("encoder")
    if one and other:
        fields_ = [
            Difference("encoder", name, one.get(name), other.get(name))
            for name in sorted({*one, *other})
        ]
        found += [field_ for field_ in fields_ if field_.then != field_.now]
    if then.get("task") and now.get("task") and then["task"] != now["task"]:
        one, other = then.get("task_version"), now.get("task_version")
        known = one is not None and other is not None
        found.append(
            Difference("task", "version", one, other)
            if known and one != other
            else Difference("task", "settings" if known else "")
        )
    return found
