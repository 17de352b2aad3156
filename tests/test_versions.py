"""Code that makes a result must not change under an old version number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from record_versions import RECORD, code_hash, current

HELP = "raise its version if results change, then in any case: uv run python tests/record_versions.py"


@pytest.mark.parametrize("name", sorted(current()))
def test_code_and_version_belong_together(name: str) -> None:
    recorded = json.loads(RECORD.read_text())
    assert name in recorded, f"{name} is new: {HELP}"
    assert current()[name] == recorded[name], f"the code of {name} is not the recorded one: {HELP}"


def test_prose_does_not_count_and_code_does(tmp_path: Path) -> None:
    versions = ['"""A."""\ndef f():\n    """B."""\n    return 1\n', "def f():\n    # why\n    return 1\n", "def f():\n    return 2\n"]
    hashes = []
    for text in versions:
        (tmp_path / "a.py").write_text(text)
        hashes.append(code_hash(tmp_path / "a.py"))
    assert hashes[0] == hashes[1] != hashes[2]
