"""Re-record the code behind every version: run after raising a version, or where a change of code does not change a result.

uv run python tests/record_versions.py
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

import medbench
from medbench import embed, images, metrics, registry, sampling, stats
from medbench import grid as grids
from medbench.tasks import folder

ROOT = Path(medbench.__file__).parent
RECORD = Path(__file__).parent / "golden" / "versions.json"


def code_hash(*files: Path) -> str:
    """SHA-256 of the files' syntax trees without docstrings: comments, layout and prose may change freely."""
    digest = hashlib.sha256()
    for file in sorted(files):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(_dump(tree).encode())
    return digest.hexdigest()[:16]


def _dump(node: object) -> str:
    """The tree as text, the same with every Python: `ast.dump` prints fields that only some versions have."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [] and name != "kind")
        return f"{type(node).__name__}({', '.join(f'{name}={_dump(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{', '.join(map(_dump, node))}]"
    return repr(node)


def entries() -> dict[str, tuple[int, list[Path]]]:
    """Name -> version and the files that make its result. An entry's file is found by the registry's own rule: one file an entry."""
    found: dict[str, tuple[int, list[Path]]] = {
        "sampling": (sampling.VERSION, [ROOT / "sampling.py"]),
        "metrics": (metrics.VERSION, [ROOT / "metrics.py"]),
        "images": (images.VERSION, sorted((ROOT / "images").glob("*.py"))),
        "embed": (embed.VERSION, [ROOT / "embed.py"]),
        "grid": (grids.VERSION, [ROOT / "grid.py"]),
    }
    kinds = {"tasks": registry.tasks, "methods": registry.methods, "protocols": registry.protocols}
    for kind, entry_of in kinds.items():
        for name, entry in entry_of().items():
            found[f"{kind}/{name}"] = (entry.version, [_file_of(kind, entry)])
    found["protocols/linear"][1].extend(sorted((ROOT / "probe").glob("*.py")))
    for name in ("knn", "svm", "logreg"):
        found[f"protocols/{name}"][1].append(ROOT / "protocols" / "linear.py")
    found["tasks/folder"] = (folder.VERSION, sorted((ROOT / "tasks" / "folder").glob("*.py")))
    found["stats"] = (stats.VERSION, [ROOT / "stats.py"])
    found["run"] = (grids.VERSION, [ROOT / "run.py", ROOT / "data.py"])
    found["tasks/derm"][1].extend((ROOT / "tasks" / "phantom").glob("*.py"))
    for method in registry.methods():
        found[f"methods/{method}"][1].extend(ROOT / f"{stage}.py" for stage in ("encoders", "given", "readout", "weights"))
    return found


def _file_of(folder: str, entry: object) -> Path:
    import importlib
    import pkgutil

    package = importlib.import_module(f"medbench.{folder}")
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        if any(value is entry for value in vars(module).values()) and module.__file__:
            return Path(module.__file__)
    raise LookupError(entry)


def current() -> dict[str, list[object]]:
    return {name: [version, code_hash(*files)] for name, (version, files) in entries().items()}


if __name__ == "__main__":
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(current(), indent=1) + "\n")
    print(f"recorded {len(current())} versions in {RECORD}")
