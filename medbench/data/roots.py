"""Where data sets are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from medbench.schema import user_path


def data_roots(cache_dir: Path) -> list[Path]:
    """Return where data sets are looked for when `--data` is not given.

    MEDBENCH_DATA, where it is set, then `data` in the cache.
    """
    named = os.environ.get("MEDBENCH_DATA")
    return [*([user_path(named)] if named else []), cache_dir / "data"]
