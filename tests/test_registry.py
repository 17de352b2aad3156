"""Names: found by walking folders, refused with the nearest match."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medbench.schema import UserError, registry


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


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files the registry takes for protocols."""
    import medbench.protocols

    monkeypatch.setattr(
        medbench.protocols, "__path__", [*medbench.protocols.__path__, str(tmp_path)]
    )
    registry._collect.cache_clear()
    yield tmp_path
    registry._collect.cache_clear()
    for file in tmp_path.glob("*.py"):
        sys.modules.pop(f"medbench.protocols.{file.stem}", None)


SOURCE = "from medbench import Protocol\nMINE = Protocol('mine', 1, 'Mine', ('binary',), lambda train, targets, draws: iter(()), False)\n"


def test_one_file_is_one_entry(mine: Path) -> None:
    """A protocol in a file of its own is found without touching another file.

    Two of one name are an error, of which both files are named.
    """
    (mine / "mine_file.py").write_text(SOURCE)
    assert registry.protocol("mine").title == "Mine"
    (mine / "other_file.py").write_text(SOURCE)
    registry._collect.cache_clear()
    with pytest.raises(
        UserError,
        match=r"mine_file\.py and .*other_file\.py each hold a protocol named 'mine'\. Next: give one of them another name",
    ):
        registry.protocols()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("A = 1\ndef broken(:\n", r"broken_file\.py, line 2: .* SyntaxError"),
        ("A = 1\n\nB = C\n", r"broken_file\.py, line 3: .* NameError: name 'C' is not defined"),
        ("import nowhere_at_all\n", r"broken_file\.py, line 1: .* ModuleNotFoundError"),
        (
            "from medbench import Protocol\nP = Protocol('a')\n",
            r"broken_file\.py, line 2: .* TypeError: .* missing",
        ),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_its_line(
    source: str, message: str, mine: Path
) -> None:
    (mine / "broken_file.py").write_text(source)
    with pytest.raises(UserError, match=message + r".* Next: fix that file"):
        registry.protocols()
