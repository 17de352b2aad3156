"""What several processes compute together: a grid that takes its time, and what two stores share."""

from __future__ import annotations

from pathlib import Path

from medbench import Grid, Store

#: Notes each pass over the images in the cache of its process.
SLOW = """
import os, time, torch
from pathlib import Path
class Slow(torch.nn.Module):
    def forward(self, x):
        if len(x) > 20:
            with open(Path(os.environ["MEDBENCH_CACHE"]) / "embeds", "a") as file:
                file.write("x")
            time.sleep(SECONDS)
        return x.mean((2, 3))
"""


def slow_grid(folder: Path, seconds: float, n: int = 4) -> Grid:
    """n encoders, each of which embeds for so long, beside the folder's images."""
    code = SLOW.replace("SECONDS", str(seconds))
    for i in range(n):
        code += f"\ndef slow{i}(size=32, mean=(0, 0, 0), std=(1, 1, 1)):\n    return Slow()\n"
    file = folder.parent / "mine.py"
    file.write_text(code)
    return Grid(
        tasks=(f"folder:{folder}",),
        encoders=tuple(f"{file}:slow{i}" for i in range(n)),
        protocols=("knn",),
        labels=("5/class", "100"),
        seeds=2,
    )


def essence(store: Store) -> dict[str, tuple[object, ...]]:
    """Rows without what differs between two runs."""
    return {
        key: (row.cell, row.n_labels, row.n_requested, row.chosen, row.metrics)
        for key, row in store.rows().items()
    }
