"""Where data sets are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from medbench.schema import user_path


def data_roots(cache_dir: Path) -> list[Path]:
    """Where data sets are looked for when `--data` is not given."""
    named = os.environ.get("MEDBENCH_DATA")
    return [*([user_path(named)] if named else []), cache_dir / "data"]
