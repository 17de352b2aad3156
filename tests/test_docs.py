"""README and docs: every command that they show exists with every option named, every link leads to
a file, no line is longer than a screen."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from medbench.cli.options import command_line
from medbench.schema import OPTIONS, Grid

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = command_line()


def shown(page: Path) -> list[str]:
    """Commands of a page: lines of its fenced blocks, and code between backticks that begins with
    medbench and a space."""
    text = page.read_text()
    fenced = re.findall(r"^```\n(.*?)^```", text, re.S | re.M)
    lines = [line for block in fenced for line in block.splitlines()]
    return [
        line
        for line in [*lines, *re.findall(r"`(medbench [^`\n]+)`", text)]
        if re.match(r"(uv run )?medbench ", line)
    ]


def parsed(line: str) -> tuple[list[str], list[str]]:
    """(the command's words, its options)."""
    words = shlex.split(line.removeprefix("uv run "), comments=True)[1:]
    command, name = COMMANDS, []
    while words and hasattr(command, "commands") and words[0] in command.commands:
        name.append(words[0])
        command = command.commands[words.pop(0)]
    return name, [word.partition("=")[0] for word in words if word.startswith("-")]


@pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.name if page.parent == ROOT else f"docs/{page.name}"
)
def test_commands_and_options_that_a_page_shows_exist(page: Path) -> None:
    unknown = []
    for line in shown(page):
        name, options = parsed(line)
        command = COMMANDS
        for word in name:
            command = command.commands[word]  # type: ignore[attr-defined]
        known = {
            flag
            for parameter in command.params
            for flag in (*parameter.opts, *parameter.secondary_opts)
        } | {"--help"}
        if not (name or options) or not set(options) <= known:
            unknown.append((line, sorted(set(options) - known)))
    assert not unknown


def test_pages_show_commands() -> None:
    """The patterns above find what is there."""
    assert sum(map(len, map(shown, PAGES))) > 40
    assert {name[0] for page in PAGES for line in shown(page) if (name := parsed(line)[0])} == set(
        COMMANDS.commands
    )  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.name if page.parent == ROOT else f"docs/{page.name}"
)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert all((page.parent / link).exists() for link in links if "://" not in link), links


def test_files_that_a_page_names_are_there() -> None:
    """A path of the repository between backticks; a line that is one names a file that its block
    makes."""
    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(
            r"`((?:medbench|benchmarks|tests|results)/[\w./-]+)`(?!\n\n```)", page.read_text()
        )
    }
    assert named and not [(page, name) for page, name in named if not (ROOT / name).exists()]


def test_python_of_the_pages_compiles() -> None:
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)
    ]
    assert len(blocks) >= 5
    for block in blocks:
        compile(block, "page", "exec")


def grid_fields() -> str:
    """The table of docs/grid.md: field, default, option and help of every field of `Grid`."""
    kinds = {field.name: str(field.type).replace(" | ", " or ") for field in fields(Grid)}
    lines = ["| field | type | default | option | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{name}` | `{kinds[name]}` | `{getattr(Grid(), name)!r}` | `{option.flag}` | {option.help} |"
        for name, option in OPTIONS.items()
    ]
    return "\n".join(lines) + "\n"


def test_every_field_of_a_grid_stands_on_its_page() -> None:
    """`python tests/test_docs.py` writes the table anew."""
    assert (ROOT / "docs" / "grid.md").read_text().endswith(f"\n\n{grid_fields()}")


EXAMPLES = sorted(
    file.relative_to(ROOT) for file in ROOT.glob("medbench/**/*.py") if ">>>" in file.read_text()
)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.as_posix())
def test_examples_in_docstrings_hold(file: Path) -> None:
    module = importlib.import_module(".".join(file.with_suffix("").parts).removesuffix(".__init__"))
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted and not found.failed


if __name__ == "__main__":
    page = ROOT / "docs" / "grid.md"
    page.write_text(page.read_text().partition("| field |")[0] + grid_fields())


def test_every_shipped_task_stands_in_the_table_of_tasks() -> None:
    from medbench.schema import registry

    page = (ROOT / "docs" / "tasks.md").read_text()
    lacking = [
        f"| `{name}` | {task.data} |"
        for name, task in registry.tasks().items()
        if not task.code and f"| `{name}` | {task.data} |" not in page
    ]
    assert not lacking, f"docs/tasks.md lacks the rows {lacking}"
    rows = dict(re.findall(r"^\| `([\w-]+)` \|.*\| (yes |)\|$", page, re.M))
    drawn = {name for name, task in registry.tasks().items() if task.phantom and not task.code}
    assert {name for name, yes in rows.items() if yes} == drawn


def test_every_shipped_method_stands_in_the_table_of_methods() -> None:
    from medbench.schema import registry

    table = (ROOT / "docs" / "methods.md").read_text().partition("\n\n`medbench list")[0]
    named = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in row.split("`")[1::2]
    }
    lacking = {name for name, method in registry.methods().items() if not method.code} - named
    assert not lacking, f"the first table of docs/methods.md lacks {sorted(lacking)}"
