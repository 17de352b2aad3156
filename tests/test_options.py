"""Options of the command line come from the fields of `Grid`.

Its flags, helps and defaults stand nowhere else.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import medbench as package
from medbench.cli.options import app, command_line
from medbench.run import feature_audit, labelled_subsets, planning, pretrain_only, validation
from medbench.run.command_line import asking, command
from medbench.schema import OPTIONS, Grid, UserError

ROOT = Path(package.__file__).parent


def commands() -> dict[str, Any]:
    """Name, as `data get` -> command."""
    found: dict[str, Any] = {}
    for name, one in command_line().commands.items():
        found[name] = one
        found.update(
            {f"{name} {inner}": other for inner, other in getattr(one, "commands", {}).items()}
        )
    return found


COMMANDS = commands()


def flags(name: str) -> set[str]:
    return {
        flag
        for parameter in COMMANDS[name].params
        for flag in (*parameter.opts, *parameter.secondary_opts)
        if flag[0] == "-"
    }


class Asked(Exception):
    """Ends a command where its grid is read."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Grid]:
    """asked("run", "--seeds", "2") -> the grid that the command works on."""

    def stop(grid: Grid, *arguments: Any) -> None:
        raise Asked(grid)

    for module, name in (
        (validation, "resolve_grid"),
        (planning, "plan"),
        (labelled_subsets, "splits"),
        (pretrain_only, "alone"),
        (feature_audit, "audit_features"),
    ):
        monkeypatch.setattr(module, name, stop)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Grid:
        with pytest.raises(Asked) as caught:
            app(list(arguments))
        grid = caught.value.args[0]
        assert isinstance(grid, Grid)
        return grid

    return call


def test_the_versions_are_told_in_one_line(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert medbench("--version") == 0
    line = r"medbench \S+( \(commit [0-9a-f]{7}\+?\))?, torch \S+, Python 3\.\d+\.\S+\n"
    assert re.fullmatch(line, capsys.readouterr().out)


def another(name: str, default: Any) -> Any:
    """A value of a field that is not its default."""
    if isinstance(default, bool):
        return not default
    if isinstance(default, tuple):
        return ("one", "two")
    hint = get_type_hints(Grid)[name]
    return 7 if int in (hint, *get_args(hint)) else "other"


def test_without_an_option_a_run_asks_for_the_grid_of_all_defaults(
    asked: Callable[..., Grid],
) -> None:
    assert asked("run") == Grid()


@pytest.mark.parametrize("name", OPTIONS)
def test_run_reads_what_a_printed_command_says(name: str, asked: Callable[..., Grid]) -> None:
    """Each field there and back: what a page says was run asks for the same grid."""
    value = another(name, getattr(Grid(), name))
    grid = Grid(**{name: value, "data": "phantom"} if name != "data" else {})
    assert asked(*shlex.split(command(grid))[1:]) == grid
    assert asked(*shlex.split(asking(**{name: value}))[1:]) == Grid(**{name: value})


def test_every_field_has_an_option_and_every_option_is_one_of_a_field_or_of_the_run() -> None:
    assert list(OPTIONS) == [field.name for field in fields(Grid)]
    assert len({option.flag for option in OPTIONS.values()}) == len(OPTIONS)
    own = {"--device", "--out", "--plan", "--rehash", "--no-audit", "--json", "--help", "-h"}
    own |= {
        "--devices",
        "--workers",
        "--shard",
        "--engine",
        "--jobs",
        "--gpus",
        "--time",
        "--partition",
        "--account",
        "--print",
        "--address",
    }
    assert flags("run") | own == {option.flag for option in OPTIONS.values()} | own
    assert all(option.help.endswith(".") for option in OPTIONS.values())


@pytest.mark.parametrize("name", ["run", "pretrain", "shortcuts", "data split"])
def test_help_shows_the_flag_the_help_and_the_default_of_the_field(name: str) -> None:
    """A parameter that carries the name of a field carries its flag, and in `run` its help and its
    default, too."""
    parameters = {parameter.name: parameter for parameter in COMMANDS[name].params}
    shared = [field for field in OPTIONS if field in parameters]
    assert len(shared) >= 5
    for field in shared:
        assert OPTIONS[field].flag in parameters[field].opts
    for field in shared if name == "run" else ():
        assert parameters[field].help == OPTIONS[field].help
        default = getattr(Grid(), field)
        shown = parameters[field].default
        if isinstance(default, tuple):
            assert (
                tuple(shown or ()) == default
                if OPTIONS[field].repeated
                else tuple((shown or "").split(",")) == (default or ("",))
            )
        else:
            assert shown == default


def test_the_other_commands_make_their_grid_of_the_same_options(asked: Callable[..., Grid]) -> None:
    shared = ("--size", "64", "--data", "here", "--precision", "bf16", "--pretrain", "paper")
    same = {"size": 64, "data": "here", "precision": "bf16", "pretrain": "paper"}
    assert asked("pretrain", "--method", "dino", "--seed", "2", *shared) == Grid(
        methods=("dino",), source="imagenet+task", pretrain_seeds=3, **same
    )
    assert asked(
        "shortcuts", "derm", "--encoder", "a,b", "--readout", "cls", *shared, "--allow-leak"
    ) == Grid(
        methods=("supervised",),
        labels=("100",),
        seeds=1,
        encoders=("a", "b"),
        readouts=("cls",),
        allow_leak=True,
        **same,
    )
    assert asked("shortcuts", "derm", "--encoder", "features:x.npz", "--on", "val").methods == ()
    assert asked(
        "data", "split", "chest", "--labels", "5/class", "--ordinal", "--data", "here"
    ) == Grid(tasks=("chest",), labels=("5/class",), data="here", ordinal=True)


def test_an_option_that_is_given_comes_before_a_studys_choice_even_at_its_default(
    asked: Callable[..., Grid], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from medbench import Grid\nGRID = Grid(tasks=('chest',), seeds=9, weights='w', audit=False, levels=('2',))"
    )
    study = Grid(tasks=("chest",), seeds=9, weights="w", audit=False, levels=("2",))
    assert asked("run", "mine.py") == study
    given = asked(
        "run",
        "mine.py",
        "--task",
        "derm",
        "--seeds",
        "auto",
        "--weights",
        "",
        "--audit",
        "--levels",
        "1,2,3,4,5",
    )
    assert given == Grid(weights="")


@pytest.mark.parametrize("name", [name for name in COMMANDS if "--data" in flags(name)])
def test_an_empty_folder_is_refused_wherever_data_is_an_option(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unset variable of a shell is no wish for the default."""
    monkeypatch.chdir(tmp_path)
    needed = [["x"] for parameter in COMMANDS[name].params if parameter.required]
    with pytest.raises(
        UserError, match=r"--data is empty\. Next: give it a value, or leave --data out"
    ):
        app([*name.split(), *(word for words in needed for word in words), "--data", ""])


def texts() -> Iterator[tuple[str, str]]:
    """(file, text) of every text of the package that names a command, and of every text of a
    UserError; what is filled in as {}."""
    for file in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        errors = [
            call
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "UserError"
        ]
        inside = {id(node) for call in errors for node in ast.walk(call)}
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        parts = docstrings | {
            id(value)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for value in node.values
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(
                    str(value.value) if isinstance(value, ast.Constant) else "{}"
                    for value in node.values
                )
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in parts
            ):
                text = node.value
            else:
                continue
            if id(node) in inside or re.search(r"medbench [a-z]+ .*--", text):
                yield str(file.relative_to(ROOT)), text


def unknown_flags(text: str) -> Iterator[tuple[str, bool]]:
    """(flag, is it none) of each flag in a text.

    Of the command that stands before it, where one does.
    """
    for piece in re.split(r"(?=medbench [a-z])|, ", text):
        named = re.match(r"medbench ([a-z]+(?: [a-z]+)?)", piece)
        words = [named[1], named[1].split()[0]] if named else []
        allowed = next((flags(word) for word in words if word in COMMANDS), EVERY)
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", piece):
            yield flag, flag not in allowed | FOREIGN


# of convmv, torchrun, uv, ray and squeue
FOREIGN = {"--notest", "--nproc-per-node", "--python", "--head", "--me"}
EVERY = {flag for name in COMMANDS for flag in flags(name)}


def test_every_flag_in_a_message_is_an_option_of_the_command_it_names() -> None:
    """A flag that is renamed on `Grid` cannot stay behind in the words of an error."""
    found = [
        (file, text, flag, wrong) for file, text in texts() for flag, wrong in unknown_flags(text)
    ]
    assert len(found) > 50
    assert [one for one in found if one[-1]] == []


def test_every_flag_of_a_printed_command_in_the_manual_and_the_studies_is_an_option() -> None:
    root = ROOT.parent
    files = [
        root / "README.md",
        root / "CONTRIBUTING.md",
        *sorted((root / "benchmarks").glob("*.py")),
        *sorted((root / "results").glob("*.md")),
    ]
    lines = [
        (file.name, line)
        for file in files
        for line in file.read_text().replace("\\\n", "").splitlines()
        if "medbench " in line
    ]
    found = [
        (*where, flag, wrong)
        for where in lines
        for flag, wrong in unknown_flags(where[1][where[1].index("medbench ") :])
    ]
    assert len(found) > 20
    assert [one for one in found if one[-1]] == []


def test_a_command_without_the_field_refuses_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["data", "split", "derm", "--methods", "dino"])
    assert ended.value.code == 2 and "No such option: --methods" in capsys.readouterr().err
