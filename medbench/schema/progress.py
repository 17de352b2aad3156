"""How far long work is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: What a library's user gives as `progress`: called with (stage, done, total), once more with done
#: = total at the end.
ProgressCallback = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Progress:
    """How far one stage of long work is.

    Attributes
    ----------
    stage : str
        What is worked on, in words. It names the stage: one bar on the screen.
    done, total : int
        In `unit`s. A stage ends with done = total.
    unit : str
        What is counted, in the plural: "images", "views", "steps", "folds", "MB".
    detail : str
        How it goes, in a word ("loss 1.234"), or "".
    """

    stage: str
    done: int
    total: int
    unit: str
    detail: str = ""
