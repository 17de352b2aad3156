"""Imports point one way, there is no cycle, and what must answer at once imports nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import medbench

ROOT = Path(medbench.__file__).parent
#: What each stage may import, as CONTRIBUTING draws it. `None`: everything.
MAY = {
    "spec": set(),
    "registry": {"spec"},
    "sampling": {"spec"},
    "images": {"spec"},
    "encoders": {"spec", "readout", "checkpoints"},
    "readout": set(),
    "given": {"spec", "broken"},
    "weights": {"spec", "encoders", "readout", "checkpoints"},
    "metrics": {"spec"},
    "stats": set(),
    "garbage": set(),
    "npz": set(),
    "broken": set(),
    "store": {"spec", "garbage", "npz", "broken", "durable"},
    "probe": {"spec"},
    "embed": {"spec", "images", "machine", "sketch", "precision", "durable"},
    "machine": set(),
    "precision": {"spec"},
    "devices": {"spec", "precision"},
    "durable": set(),
    "forked": {"spec"},
    "data": {"spec", "images", "sampling"},
    "sketch": set(),
    "targets": {"spec", "registry", "images", "data", "corruptions"},
    "corruptions": {"spec", "images"},
    "units": {"spec", "registry", "images", "encoders", "checkpoints", "pretrain", "data"},
    "command": {"spec"},
    "grid": {
        "command",
        "spec",
        "registry",
        "sampling",
        "images",
        "encoders",
        "given",
        "pretrain",
        "data",
        "units",
        "embed",
        "metrics",
        "stats",
        "targets",
        "audit",
        "precision",
        "study",
    },
    "provenance": {"spec", "sampling", "embed", "units", "machine", "sketch", "targets"},
    "prepare": {"spec", "images", "embed", "pretrain", "fusion", "data", "units", "grid", "targets", "corruptions", "precision"},
    "pretraining": {"spec", "registry", "units", "grid", "prepare", "devices", "views"},
    "run": {
        "spec",
        "registry",
        "embed",
        "metrics",
        "stats",
        "store",
        "units",
        "grid",
        "prepare",
        "precision",
        "devices",
        "provenance",
        "targets",
    },
    "forecast": {"devices", "embed", "store", "units", "grid", "prepare", "run"},
    "study": {"spec"},
    "check": {"spec", "durable", "sketch", "store"},
    "table": {"spec", "forked", "stats", "store"},
    "datasets": {"spec", "durable", "images", "data", "fetch", "tasks"},
    "screen": {"grid", "forecast", "units"},  # their types only
    "tasks": {"spec", "sampling", "images", "fetch", "broken"},
    "views": set(),
    "pretrain": {"spec", "views", "machine", "weights", "checkpoints", "precision", "durable"},
    "checkpoints": {"spec", "fetch"},
    "fetch": {"spec", "broken", "durable"},
    "fusion": {"spec", "sampling", "metrics"},
    "finetune": {"spec", "sampling", "metrics", "views", "precision", "durable"},
    "audit": {"spec", "durable", "registry", "sampling", "images", "encoders", "embed", "metrics", "stats", "data", "protocols"},
    "doctor": {"spec", "given", "data", "encoders", "weights", "machine", "images", "registry"},
    "plot": {"spec", "forked", "metrics", "stats", "store", "table", "clinical"},
    "clinical": {"spec", "metrics", "stats", "table"},
    "compare": {"spec", "metrics", "stats", "store", "table"},
    "merge": {"spec", "store"},
    "paper": {"spec", "registry", "table"},
    "page": {"spec", "forked", "registry", "images", "data", "stats", "store", "table", "plot", "compare", "paper", "clinical"},
    "methods": {"spec", "weights", "given", "pretrain", "views", "fusion"},
    "protocols": {"spec", "probe", "sampling", "finetune"},
    "shortcuts": {"spec", "sampling", "metrics", "stats", "protocols", "grid", "prepare", "devices"},
    "estimator": {"spec", "protocols"},
    "cli": None,
    "__main__": {"cli"},
    "__init__": {"spec", "store", "estimator"},
}
HEAVY = {"torch", "timm", "sklearn", "pandas", "scipy", "PIL", "pydicom", "torchvision", "huggingface_hub"}


def imports(file: Path) -> set[str]:
    """The stages that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "medbench":
            rest = node.module.split(".")[1:]
            found |= {rest[0]} if rest else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("medbench.")}
    return found


def stages() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for file in ROOT.rglob("*.py"):
        stage = file.relative_to(ROOT).parts[0].removesuffix(".py")
        graph.setdefault(stage, set()).update(imports(file) - {stage})
    return graph


def test_every_stage_imports_only_what_lies_below_it() -> None:
    for stage, used in stages().items():
        allowed = MAY[stage]
        assert allowed is None or used <= allowed, f"{stage} imports {sorted(used - allowed)}"
        assert allowed is None or used >= allowed, f"{stage} does not import {sorted(allowed - used)}: this table says what is so"


def test_there_is_no_cycle() -> None:
    TopologicalSorter(stages()).prepare()


def loaded(code: str) -> set[str]:
    """Heavy top-level packages in sys.modules after running `code` in a new interpreter."""
    script = f"{code}\nimport sys\nprint('LOADED', *sorted({{name.split('.')[0] for name in sys.modules}} & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
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


def test_import_medbench_is_light() -> None:
    assert loaded("import medbench") == set()


def test_tables_never_import_torch() -> None:
    assert "torch" not in loaded(
        "import medbench.table, medbench.screen, medbench.check, medbench.compare, medbench.merge, medbench.paper, medbench.plot, "
        "medbench.clinical.sheets"
    )
