"""medbench: which pretrained encoder should a medical image classifier start from, how few labels will do, can the difference be trusted?

What the command line does, as functions:

    from pathlib import Path
    from medbench import Grid, Store, grid, registry, run, table

    store = run.run(Grid(tasks=("derm",), labels=("1", "10", "100")), Path("runs/derm"))   # medbench run
    table.leaderboard(store)        # a tidy pandas frame; table.markdown, table.terminal, table.write       (medbench table)
    grid.plan(Grid())               # every cell with its fingerprint, before any work                      (medbench run --plan)
    grid.splits(Grid())             # ids and hash of every part and label budget                           (medbench data split)
    registry.tasks()                # registry.methods(), registry.protocols()                              (medbench list)
"""

from medbench.spec import Grid, UserError
from medbench.store import Store

__all__ = ["Grid", "Store", "UserError"]
__version__ = "0.1.0"
