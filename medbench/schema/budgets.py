"""How many labels: `10%`, `5/class`, `n50`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from medbench.schema.errors import UserError


@dataclass(frozen=True)
class Budget:
    """How many labels.

    `percent` of the pool, `per_class` images of each class, or `total` with equal numbers a class.

    >>> [str(parse_budget(s)) for s in ("1", "10%", "all", "5/class", "n50")]
    ['1%', '10%', '100%', '5/class', 'n50']
    """

    unit: Literal["percent", "per_class", "total"]
    amount: float

    def __str__(self) -> str:
        form = {"percent": "{:.10g}%", "per_class": "{:.0f}/class", "total": "n{:.0f}"}[self.unit]
        return form.format(self.amount)


ALL = Budget("percent", 100)


@lru_cache(maxsize=1024)
def parse_budget(text: str) -> Budget:
    """Parse a label budget: `1`, `0.5%`, `all`, `5/class` or `n50`.

    A bare number is a percentage, above 0 and at most 100; counts are whole. Case and blanks around
    do not matter. Raises UserError for anything else.
    """
    given = text.strip()
    word = given.lower()
    try:
        if word == "all":
            return ALL
        if word.endswith("/class"):
            budget = Budget("per_class", int(word.removesuffix("/class")))
        elif word.startswith("n"):
            budget = Budget("total", int(word[1:]))
        else:
            budget = Budget("percent", float(word.removesuffix("%")))
        top = 100 if budget.unit == "percent" else float("inf")
        if not 0 < budget.amount <= top or budget.amount == float("inf"):
            raise ValueError
    except ValueError:
        raise UserError(
            f"Label budget '{given}' is not understood.",
            allowed=[
                "a percentage above 0 and up to 100 (1, 0.5%)",
                "5/class",
                "n50 (50 in all, equal numbers a class)",
                "all",
            ],
            given=word,
            then="medbench run --labels 1,10,100",
        ) from None
    return budget
