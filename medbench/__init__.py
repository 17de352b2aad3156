"""medbench: which pretrained encoder should a medical image classifier start from?

It also tells how few labels will do, and whether a difference can be trusted. What the command line
does, as functions:

    from pathlib import Path
    from medbench import Grid, Store, data, registry, run, table

    store = run.run(Grid(tasks=("derm",), labels=("1", "10", "100")), Path("runs/derm"))   # medbench run
    table.leaderboard(store)        # a tidy pandas frame; table.markdown, table.terminal, table.write       (medbench table)
    run.plan(Grid())                # every cell with its fingerprint, before any work                      (medbench run --plan)
    run.splits(Grid())              # ids and hash of every part and label budget                           (medbench data split)
    registry.tasks()                # registry.methods(), registry.protocols()                              (medbench list)
    data.locate(task, None, cache)  # where a task's data lies, or why it was not found                     (medbench data list)

`Task`, `Split`, `Mark`, `Method`, `Weights`, `build_encoder`, `Protocol` and `Scores` are what a
file of your own needs that adds a task, a method or a protocol. `medbench.advise` says what more
labels would bring, of a study's rows or of any learning curve. `medbench.load` reads a model that
`medbench export` wrote. `medbench.LinearProbe` is the linear probe alone, as a scikit-learn
classifier.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medbench.models.exported import load
    from medbench.models.weights import build_encoder
    from medbench.protocols._sklearn import LinearProbe
    from medbench.report import advise, compare
    from medbench.report import leaderboard as table
    from medbench.run import cost_estimate as forecast
    from medbench.run import planning as grid
    from medbench.run.store import Store
    from medbench.schema import (
        Grid,
        Mark,
        Method,
        Protocol,
        Scores,
        Split,
        Task,
        UserError,
        Weights,
        registry,
    )

__all__ = [
    "Grid",
    "LinearProbe",
    "Mark",
    "Method",
    "Protocol",
    "Scores",
    "Split",
    "Store",
    "Task",
    "UserError",
    "Weights",
    "advise",
    "build_encoder",
    "compare",
    "forecast",
    "grid",
    "load",
    "registry",
    "table",
]
__version__ = "0.1.0"
#: The modules behind the public names, and the functions and classes. All are loaded on demand: the
#: command line begins here, and whoever stops it while modules are imported must find `__main__`
#: listening; scikit-learn and torch take seconds.
_MODULES = {
    **{name: f"medbench.{name}" for name in ("data", "images", "run", "schema", "stats")},
    "advise": "medbench.report.advise",
    "compare": "medbench.report.compare",
    "forecast": "medbench.run.cost_estimate",
    "grid": "medbench.run.planning",
    "registry": "medbench.schema.registry",
    "table": "medbench.report.leaderboard",
}
_NAMES = {
    **dict.fromkeys(
        ("Grid", "Mark", "Method", "Protocol", "Scores", "Split", "Task", "UserError", "Weights"),
        "medbench.schema",
    ),
    "Store": "medbench.run.store",
    "LinearProbe": "medbench.protocols._sklearn",
    "build_encoder": "medbench.models.weights",
    "load": "medbench.models.exported",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
