"""What a result was computed with: device, package versions, commit."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any


@cache
def machine(device: str) -> dict[str, Any]:
    """Return what a result is computed with, as a row's provenance keeps it.

    The device in words and its kind (cpu, cuda), vector units, package versions, and the commit of
    medbench's source, where it is a checkout; an installed package is told by a hash of its code.
    device: resolved.
    """
    import torch

    packages = ("medbench", "numpy", "scikit-learn", "timm", "torch")
    cpu = f"cpu ({platform.processor() or platform.machine()}, {torch.get_num_threads()} threads)"
    return {
        "device": cpu if device == "cpu" else torch.cuda.get_device_name(device),
        "device_kind": torch.device(device).type,
        "vector_units": torch.backends.cpu.get_cpu_capability(),
        "versions": {
            "python": platform.python_version(),
            **{package: _version(package) for package in packages},
        },
        "commit": _commit() or f"installed {_code_hash()}",
    }


def version_line() -> str:
    """Return `medbench 0.1.0 (commit 1a2b3c4), torch 2.5.1, Python 3.11.9`; torch is not loaded."""
    commit = _commit()
    where = f" (commit {commit[:7]}{'+' * commit.endswith('+')})" if commit else ""
    return f"medbench {_version('medbench')}{where}, torch {_version('torch')}, Python {platform.python_version()}"


def _version(package: str) -> str:
    """Return the version of a package.

    A source tree on the path is no installed package: its version stands in its own file.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        file = Path(__file__).resolve().parents[2] / "pyproject.toml"
        if package != "medbench" or not file.exists():
            return "not installed"
        version: str = tomllib.loads(file.read_text())["project"]["version"]
        return version


def _commit() -> str | None:
    """Return the git commit of medbench's own source, with `+` where files differ from it.

    None for an installed package.
    """
    source = Path(__file__).resolve().parents[1]
    if not (source.parent / ".git").exists() or shutil.which("git") is None:
        return None
    git = ["git", "-C", str(source)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "."], capture_output=True, text=True
    )
    return head.stdout.strip() + ("+" if changed.stdout else "") if head.returncode == 0 else None


def _code_hash() -> str:
    """Return 16 hex digits of the package's own Python files, as they are installed."""
    source = Path(__file__).resolve().parents[1]
    found = hashlib.sha256()
    for file in sorted(source.rglob("*.py")):
        found.update(file.relative_to(source).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:16]
