"""medbench: which pretrained encoder should a medical image classifier start from, how few labels will do, can the difference be trusted?

What the command line does, as functions:

    from pathlib import Path
    from medbench import Grid, Store, data, grid, registry, run, table

    store = run.run(Grid(tasks=("derm",), labels=("1", "10", "100")), Path("runs/derm"))   # medbench run
    table.leaderboard(store)        # a tidy pandas frame; table.markdown, table.terminal, table.write       (medbench table)
    grid.plan(Grid())               # every cell with its fingerprint, before any work                      (medbench run --plan)
    grid.splits(Grid())             # ids and hash of every part and label budget                           (medbench data split)
    registry.tasks()                # registry.methods(), registry.protocols()                              (medbench list)
    data.locate(task, None, cache)  # where a task's data lies, or why it was not found                     (medbench data list)

`medbench.LinearProbe` is the linear probe alone, as a scikit-learn classifier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medbench.spec import Grid, UserError
from medbench.store import Store

if TYPE_CHECKING:
    from medbench.estimator import LinearProbe

__all__ = ["Grid", "LinearProbe", "Store", "UserError"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "LinearProbe":  # on demand: it needs scikit-learn and torch, which take seconds to import
        from medbench.estimator import LinearProbe

        return LinearProbe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
