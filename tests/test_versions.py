"""Code that makes a result must not change under an old version number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from record_versions import RECORD, code_hash, current

HELP = (
    "raise its version if results change, then in any case: uv run python tests/record_versions.py"
)


@pytest.mark.parametrize(
    "name", sorted(json.loads(RECORD.read_text()))
)  # not `current()`: every process that collects tests would work it out
def test_code_and_version_belong_together(name: str) -> None:
    recorded = json.loads(RECORD.read_text())
    assert name in current(), f"{name} is gone: {HELP}"
    assert current()[name] == recorded[name], f"the code of {name} is not the recorded one: {HELP}"


def test_every_version_is_recorded() -> None:
    assert set(current()) == set(json.loads(RECORD.read_text())), HELP


def test_prose_imports_and_places_do_not_count_and_code_does(tmp_path: Path) -> None:
    same = [
        '"""A."""\nimport a\nfrom b import c\n\ndef f():\n    """B."""\n    from d import e\n    return c + e\n',
        "from x.y import c\n\ndef f():\n    from z import g as e  # why\n    return c + e\n",
    ]
    hashes = []
    for name, text in zip("ab", [*same, same[0].replace("c + e", "c - e")], strict=False):
        (tmp_path / f"{name}.py").write_text(text)
        hashes.append(code_hash(tmp_path / f"{name}.py"))
    (tmp_path / "a.py").write_text(same[0].replace("c + e", "c - e"))
    assert hashes[0] == hashes[1] != code_hash(tmp_path / "a.py")
    assert (
        code_hash(tmp_path / "a.py", tmp_path / "b.py")
        == code_hash(tmp_path / "b.py", tmp_path / "a.py")
        not in hashes
    )
