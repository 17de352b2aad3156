"""Re-record the code behind every version.

Run after raising a version, or where a change of code does not change a result.

uv run python tests/record_versions.py
"""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

import medbench
from medbench import stats
from medbench.data import evaluation_sets
from medbench.images import augment, decoding, squeezing
from medbench.images.corruptions import catalogue
from medbench.models import features, pretrain
from medbench.run import case_scores, ingredients
from medbench.schema import registry
from medbench.schema.own_code import tree_text
from medbench.stats import metrics, splits

ROOT = Path(medbench.__file__).parent
RECORD = Path(__file__).parent / "golden" / "versions.json"


def code_hash(*files: Path) -> str:
    """SHA-256 of the files' syntax trees without docstrings, imports and `__all__`: comments,
    layout and prose may change freely, and so may the place of a file, its name and the places of
    what it uses. The same files in another order have the same hash.
    """
    return hashlib.sha256(
        "".join(sorted(_text_hash(file.read_text(encoding="utf-8")) for file in files)).encode()
    ).hexdigest()[:16]


@cache
def _text_hash(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:]
        for field, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(node, field, [one for one in value if not _names_alone(one)])
    if not tree.body:
        return ""  # a package's own file that says where its names are
    return hashlib.sha256(tree_text(tree).encode()).hexdigest()


def _names_alone(node: object) -> bool:
    """Whether a statement says nothing but where names come from, or which are public."""
    exported = (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "__all__"
    )
    return exported or isinstance(node, ast.Import | ast.ImportFrom)


def entries() -> dict[str, tuple[object, list[Path]]]:
    """Name -> version and the files that make its result.

    An entry's file is found by the registry's own rule: one file an entry.
    """
    found: dict[str, tuple[object, list[Path]]] = {
        "draws and folds": (
            [splits.DRAWS, splits.FOLDS, splits.VALIDATION, splits.DIVISION],
            [ROOT / "stats" / "splits.py"],
        ),
        "metrics": (
            {name: metric.version for name, metric in metrics.METRICS.items()},
            [ROOT / "stats" / "metrics.py"],
        ),
        "resamples": (stats.RESAMPLES, [ROOT / "stats" / "bootstrap.py"]),
        "decoder dicom": (
            decoding.DECODERS["dicom"],
            [
                ROOT / "images" / f"{name}.py"
                for name in ("dicom", "dicom_file", "dicom_tables", "grey_levels")
            ],
        ),
        "decoders of Pillow": (
            {name: version for name, version in decoding.DECODERS.items() if name != "dicom"},
            [ROOT / "images" / f"{name}.py" for name in ("decoding", "grey_levels", "tiff")],
        ),
        "resize": (
            squeezing.RESIZE,
            [
                ROOT / "images" / f"{name}.py"
                for name in ("packing", "squeezing", "unfinished_pack", "cropping")
            ],
        ),
        "crops": (augment.CROPS, _files("images", "augment")),
        "features": (
            features.EMBEDDING,
            [
                ROOT / "models" / "features.py",
                ROOT / "models" / "stage_sketches.py",
                ROOT / "images" / "batching.py",
                ROOT / "system" / "precision.py",
            ],
        ),
        "plan": (
            list(ingredients.FROZEN),
            [
                ROOT / "run" / f"{name}.py"
                for name in (
                    "planning",
                    "plans",
                    "planned_cells",
                    "labelled_subsets",
                    "given_features",
                    "validation",
                    "ingredients",
                    "execution",
                    "missing_cells",
                    "job_steps",
                    "scored_sets",
                    "fitting",
                    "run_context",
                    "units",
                    "prepare",
                )
            ]
            + [
                ROOT / "data" / f"{name}.py"
                for name in ("task_data", "part_checks", "reader_answers", "examples")
            ],
        ),
        "pretrain": (
            pretrain.VERSION,
            [*_files("models", "pretrain"), ROOT / "system" / "precision.py"],
        ),
        "corruptions": (catalogue.VERSION, _files("images", "corruptions")),
        "case scores": (
            case_scores.VERSION,
            [ROOT / "run" / "case_scores.py", ROOT / "stats" / "case_labels.py"],
        ),
        "targets": (evaluation_sets.VERSION, _files("data", "evaluation_sets")),
    }
    kinds = {"tasks": registry.tasks, "methods": registry.methods, "protocols": registry.protocols}
    for kind, entry_of in kinds.items():
        for name, entry in entry_of().items():
            found[f"{kind}/{name}"] = (entry.version, files_behind(_file_of(kind, name)))
    for family in registry.families().values():
        found[f"tasks/{family.name}"] = (
            getattr(registry.module_of("tasks", family.name), "VERSION", 1),
            files_behind(_file_of("tasks", family.name)),
        )
    return found


def _files(*folder: str) -> list[Path]:
    """The modules of one folder, without those of the folders in it."""
    return sorted(ROOT.joinpath(*folder).glob("*.py"))


#: Modules and packages whose code makes an entry's result. Others have a version of their own, or
#: decide nothing.
BEHIND = (
    "tasks",
    "methods",
    "protocols",
    "models.pretrain",
    "images.augment",
    "models.finetune",
    "models.fusion",
    "models.logistic",
    "models.power_transform",
    "system.precision",
    "models.weights",
    "models.encoders",
    "models.user_encoder",
    "models.readout",
)


def files_behind(file: Path) -> list[Path]:
    """The file and all that it imports of `BEHIND`, and what those import."""
    found: set[Path] = set()
    waiting = {file, *(file.parent.glob("*.py") if file.name == "__init__.py" else ())}
    while waiting:
        one = waiting.pop()
        found.add(one)
        waiting |= {other for other in _imports(one) if _is_behind(other)} - found
    return sorted(found)


def _is_behind(file: Path) -> bool:
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    return any(f"{module}.".startswith(f"{place}.") for place in BEHIND)


@cache
def _imports(file: Path) -> set[Path]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("medbench"):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    paths = [ROOT.joinpath(*name.split(".")[1:]) for name in names if name != "medbench"]
    return {
        found
        for path in paths
        for found in (path.with_suffix(".py"), path / "__init__.py")
        if found.is_file()
    }


def _file_of(folder: str, name: str) -> Path:
    return Path(str(registry.module_of(folder, name).__file__))


@cache
def current() -> dict[str, list[object]]:
    return {name: [version, code_hash(*files)] for name, (version, files) in entries().items()}


if __name__ == "__main__":
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(current(), indent=1) + "\n")
    print(f"recorded {len(current())} versions in {RECORD}")
