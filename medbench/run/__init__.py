"""Grid -> plan -> rows on disk: the only room that knows the order of the stages.

    run(Grid(...), folder) -> Store        plan(grid) -> every cell with its fingerprint, before any work        splits(grid) -> label budgets

Names are loaded when they are asked for: reading a results folder (`run.store`) needs none of the
stages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medbench.run.execution import execute, run
    from medbench.run.labelled_subsets import splits
    from medbench.run.planning import plan
    from medbench.run.plans import Plan

__all__ = ["Plan", "execute", "plan", "run", "splits"]
_MODULES = {
    "execute": "execution",
    "run": "execution",
    "Plan": "plans",
    "plan": "planning",
    "splits": "labelled_subsets",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
