"""Names: found by walking folders, refused with the nearest match."""

from __future__ import annotations

import re
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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("Task('films', 1, 'F', 'binry', ('a', 'b'), 'F', None, None, None)", "'binary'"),
        (
            "Task('films', 1, 'F', 'binary', ('a', 'b'), 'F', None, None, None, modality='xray')",
            "'x-ray'",
        ),
        (
            "Task('films', 1, 'F', 'binary', ('a', 'b'), 'F', None, None, None, cases='worse')",
            "'worst'",
        ),
        ("Task('films', license='none')", "'licence'"),
        ("Method('mine', 1, 'M', sources=('imagenet', 'tasks'))", "'task'"),
        ("Method('mine', 1, 'M', sources=('task',), encoders=('tim',))", "'timm'"),
        ("Protocol('mine', 1, 'M', ('multi',), None, False)", "'multilabel'|'multiclass'"),
        ("Protocol('mine', 1, 'M', ('binary',), None, False, needs='image')", "'images'"),
        ("Recipe(None, (), 1, 1, optimiser='adam')", "'adamw'"),
        ("Recipe(None, (), 1, 1, optimizer='adamw')", "'optimiser'"),
        ("Recipe(None, (), 1, 1).having(learning_rate=1)", r"it has objective, crops, .*\blr,"),
    ],
)
def test_a_word_that_a_field_does_not_know_is_refused_where_it_stands(
    call: str, message: str
) -> None:
    from medbench import Method, Protocol, Task
    from medbench.models.pretrain.recipe import Recipe
    from medbench.schema import told

    names = {"Task": Task, "Method": Method, "Protocol": Protocol, "Recipe": Recipe}
    with pytest.raises((UserError, TypeError)) as refused:
        eval(call, names)
    assert re.search(f"(?i:did you mean )?{message}", told(refused.value)), told(refused.value)


def test_a_users_own_entry_is_allowed_first_and_its_functions_are_placed(mine: Path) -> None:
    (mine / "zeros.py").write_text(SOURCE)
    with pytest.raises(UserError, match=r"Unknown protocol 'knnn'\. Allowed: mine, "):
        registry.protocol("knnn")
    assert registry.own_place(registry.protocol("mine").evaluate) == "zeros.py, line 2"
    assert registry.own_place(registry.protocol("knn").evaluate) == ""
