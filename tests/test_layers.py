"""Imports point one way, there is no cycle, and what must answer at once imports nothing heavy."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import medbench

ROOT = Path(medbench.__file__).parent
STRUCTURE = runpy.run_path(
    str(Path(__file__).parents[1] / "benchmarks" / "structure.py"), run_name="structure"
)
LOW = {"schema", "system", "stats", "images"}
#: What each room imports, as CONTRIBUTING draws it, from the lowest to the highest. Tasks, methods
#: and protocols are also loaded by name: `registry` is the one door that this table does not see.
#: `None`: everything.
MAY = {
    "schema": set(),
    "system": {"schema"},
    "stats": {"schema"},
    "images": {"schema", "system"},
    "models": LOW,
    "methods": {"schema", "images", "models"},
    "protocols": {"schema", "stats", "models"},
    "tasks": LOW,
    "data": {*LOW, "tasks"},
    "audit": {*LOW, "models", "protocols", "data"},
    "run": {*LOW, "models", "protocols", "data", "audit"},
    "report": {*LOW, "data", "run"},
    "cli": None,
    "__main__": {"cli"},
    "__init__": {"schema", "models", "protocols", "run", "report"},
}
HEAVY = {
    "torch",
    "timm",
    "sklearn",
    "pandas",
    "scipy",
    "PIL",
    "pydicom",
    "torchvision",
    "huggingface_hub",
}


GRAPH = STRUCTURE["imports"](STRUCTURE["modules"](ROOT), "medbench")


def test_every_room_imports_only_what_lies_below_it() -> None:
    arrows = STRUCTURE["arrows"](GRAPH)
    assert set(MAY) == {room for arrow in arrows for room in arrow}
    for room, allowed in MAY.items():
        used = {other for one, other in arrows if one == room}
        assert allowed is None or used <= allowed, f"{room} imports {sorted(used - allowed)}"
        assert allowed is None or used >= allowed, (
            f"{room} does not import {sorted(allowed - used)}: this table says what is so"
        )


def test_no_arrow_leads_up_and_no_modules_import_each_other() -> None:
    assert STRUCTURE["upward"](STRUCTURE["arrows"](GRAPH)) == []
    assert STRUCTURE["circles"](GRAPH) == []


def test_heavy_functions_are_counted_by_lines_and_by_parameters() -> None:
    nine = ", ".join("abcdefghi")
    sixty, fewer = "    pass\n" * 60, "    pass\n" * 59
    source = (
        f"@decorated\n@again\ndef long(a):\n{sixty}"
        f"def just(a):\n{fewer}"
        f"class Thing:\n    def wide(self, {nine}): ...\n    def fine(self, {nine[:-3]}): ...\n"
        "def outer():\n    def inner(a, b, c, d, e, f, *g, h, **i): ...\n"
    )
    assert STRUCTURE["heavy_functions"]({"room.file": ast.parse(source)}) == [
        ("room.file.long", 61, 1),
        ("room.file.inner", 1, 9),
        ("room.file.wide", 1, 9),
    ]


def test_the_report_reads_rows_and_nothing_else_of_a_run() -> None:
    used = {
        other
        for module, others in GRAPH.items()
        if module.startswith("report")
        for other in others
        if other.split(".")[0] == "run"
    }
    assert used == {"run.store"}


def loaded(code: str) -> set[str]:
    """Heavy top-level packages in sys.modules after running `code` in a new interpreter."""
    script = f"{code}\nimport sys\nprint('LOADED', *sorted({{name.split('.')[0] for name in sys.modules}} & {HEAVY!r}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split("LOADED")[1].split())


CLI = """
import sys
from medbench import cli
sys.argv = ["medbench", *{arguments!r}]
try:
    cli.main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["list", "tasks"],
        ["list", "methods"],
        ["list", "protocols"],
        ["list", "encoders"],
        ["run", "--task", "drem"],
        ["run", "--methods", "simclear"],
        ["run", "--encoder", "resnet51"],
        ["run", "--labels", "0"],
        ["run", "nothing.py"],
        ["data", "list"],
    ],
)
def test_what_must_answer_at_once_imports_nothing_heavy(arguments: list[str]) -> None:
    assert loaded(CLI.format(arguments=arguments)) == set()


@pytest.mark.parametrize("wrong", [["--task", "drem"], ["--encoder", "resnet51"]])
def test_a_wrong_name_is_told_before_what_a_plan_needs_is_imported(wrong: list[str]) -> None:
    asked = "\nprint(sorted({'rich', 'medbench.run.planning', 'medbench.run.execution'} & {*sys.modules}))"
    code = CLI.format(arguments=["run", *wrong]) + asked
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_import_medbench_is_light() -> None:
    assert loaded("import medbench") == set()


def test_the_package_gives_what_a_file_of_a_users_own_needs_and_stays_light() -> None:
    assert (
        loaded(
            "from medbench import Method, Protocol, Scores, Split, Task, Weights, build_encoder; assert callable(build_encoder)"
        )
        == set()
    )


def test_every_public_name_is_there() -> None:
    assert {name for name in medbench.__all__ if getattr(medbench, name, None) is None} == set()
    assert set(medbench.__all__) <= set(dir(medbench))
    with pytest.raises(AttributeError, match="no attribute 'boards'"):
        medbench.boards  # noqa: B018


def test_tables_never_import_torch() -> None:
    assert "torch" not in loaded(
        "import medbench.report.leaderboard, medbench.cli.screen, medbench.report.check, medbench.report.compare, medbench.run.merge, "
        "medbench.report.methods_text, medbench.report.figures, medbench.report.html, medbench.report.clinical.tables"
    )


def test_a_users_own_encoder_is_planned_without_timm_and_scikit_learn(
    folder: Path, tmp_path: Path
) -> None:
    """They take longer to import than all the rest of such a plan."""
    (tmp_path / "own.py").write_text(
        "import torch\n\ndef net(size=32, mean=(0, 0, 0), std=(1, 1, 1)):\n"
        "    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
    )
    words = ["run", "--task", f"folder:{folder}", "--encoder", f"{tmp_path / 'own.py'}:net"]
    found = loaded(CLI.format(arguments=[*words, "--protocols", "knn", "--no-audit", "--plan"]))
    assert "torch" in found and not found & {"timm", "torchvision", "sklearn"}
