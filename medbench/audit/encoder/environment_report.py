"""Versions, device, memory, disk and data at a glance, to paste into a bug report."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import torch


def device_report() -> list[str]:
    """Return versions, device, memory, disk and data in lines, to paste into a bug report.

    The home folder is written ~, so that it names nobody. Nothing is written.
    """
    from medbench.data import task_data
    from medbench.images import cache_folder
    from medbench.schema import registry
    from medbench.system.environment import machine

    known = machine("cuda:0" if torch.cuda.is_available() else "cpu")
    cache = cache_folder(to_write=False)
    lines = ["  ".join(f"{name} {version}" for name, version in known["versions"].items())]
    lines.append(f"device: {known['device']}; {os.cpu_count()} cores; {_memory()}")
    for name, place in (("cache", cache), ("results", Path.cwd())):
        disk = next(folder for folder in (place, *place.parents) if folder.exists())
        lines.append(
            f"{name}: {shortened(place)}, {shutil.disk_usage(disk).free / 1e9:.1f} GB free"
        )
    roots = {
        task.name: task_data.locate(task, None, cache)[0] for task in registry.tasks().values()
    }
    lines += [f"{name}: {shortened(root)}" for name, root in roots.items() if root]
    lacking = [name for name, root in roots.items() if not root]
    return [*lines, *([f"data not found: {', '.join(lacking)}"] if lacking else [])]


def _memory() -> str:
    """Physical memory, and the GPU's."""
    total = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        if hasattr(os, "sysconf")
        else math.nan
    )
    gpu = (
        f", {torch.cuda.get_device_properties(0).total_memory / 1e9:.0f} GB on the GPU"
        if torch.cuda.is_available()
        else ""
    )
    return f"{total:.0f} GB memory{gpu}"


def shortened(path: Path) -> str:
    """Shorten a path, as folders above it may name somebody.

    The home folder becomes ~; of a path that lies elsewhere the last part stays.
    """
    # as it stands, where nobody has a home
    path, home = path.absolute(), Path(os.path.expanduser("~"))
    return str(
        "~" / path.relative_to(home) if path.is_relative_to(home) else Path("...", path.name)
    )
