"""Names: found by walking folders, refused with the nearest match."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from medbench.schema import Protocol, UserError, registry


@pytest.mark.parametrize(
    ("call", "name", "message"),
    [
        (
            registry.task,
            "drem",
            r"Unknown task 'drem'\. Allowed: .*\(\d+ in all\)\. Did you mean 'derm'\? Next: medbench list tasks",
        ),
        (
            registry.method,
            "supervized",
            r"Unknown method 'supervized'\..*Did you mean 'supervised'\? Next: medbench list methods",
        ),
        (
            registry.protocol,
            "liner",
            r"Unknown protocol 'liner'\..*Did you mean 'linear'\? Next: medbench list protocols",
        ),
    ],
)
def test_a_wrong_name_gets_the_nearest(call: object, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call(name)  # type: ignore[operator]


def test_options_of_a_folder_are_refused_elsewhere() -> None:
    with pytest.raises(UserError, match="--ordinal describes a folder of your own"):
        registry.task("derm", ordinal=True)


def test_one_file_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol in a file of its own is found without touching another file.

    Two of one name are an error.
    """
    import medbench.protocols

    source = "from medbench import Protocol\nMINE = Protocol('mine', 1, 'Mine', ('binary',), lambda train, targets, draws: iter(()), False)\n"
    (tmp_path / "mine_file.py").write_text(source)
    monkeypatch.setattr(
        medbench.protocols, "__path__", [*medbench.protocols.__path__, str(tmp_path)]
    )
    registry._collect.cache_clear()
    try:
        assert registry.protocol("mine").title == "Mine"
        (tmp_path / "other_file.py").write_text(source)
        registry._collect.cache_clear()
        with pytest.raises(
            ValueError,
            match=r"medbench\.protocols\.other_file defines a second protocol named 'mine'",
        ):
            registry._collect("protocols", Protocol)
    finally:
        registry._collect.cache_clear()
        for name in ("mine_file", "other_file"):
            sys.modules.pop(f"medbench.protocols.{name}", None)
