"""What a user brings instead of a timm encoder: a function that returns a module, or a file of ids and vectors."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.schema import Encoder, UserError
from medbench.system import archive_errors

if TYPE_CHECKING:
    import torch

BESIDE = 1e-3  # of the largest value: more than rounding, even in half precision


@cache
def module(encoder: Encoder) -> torch.nn.Module:
    """The module that the user's function returns, in eval mode, tried on two black images, and on two of noise: together and one by one.

    Raises UserError, also where an image's vector depends on what stands beside it: scores of test images would then depend on each other.

    Cached: the plan hashes its weights, the run uses it.
    """
    import torch

    assert encoder.file is not None, "a function has a file"
    spec = importlib.util.spec_from_file_location(f"medbench_user_{encoder.file.stem}", encoder.file)
    assert spec is not None and spec.loader is not None, "the suffix is .py"
    loaded = importlib.util.module_from_spec(spec)
    name = encoder.name.rpartition(":")[2]
    try:
        spec.loader.exec_module(loaded)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # layers that the function leaves as they are drawn must be the same in the next run
            net = getattr(loaded, name)(size=encoder.size)
        if not isinstance(net, torch.nn.Module):
            raise TypeError(f"it returned a {type(net).__name__}, not a torch.nn.Module")
        with torch.inference_mode():
            out = net.eval()(torch.zeros(2, 3, encoder.size, encoder.size))
            noise = torch.rand(2, 3, encoder.size, encoder.size, generator=torch.Generator().manual_seed(0))
            together, alone = net(noise), [net(image[None]) for image in noise]
    except Exception as error:  # somebody else's code can fail in every way; the message carries the reason
        raise UserError(f"{encoder.name} failed: {type(error).__name__}: {error}", then="mend the function") from error
    if not isinstance(out, torch.Tensor) or out.ndim != 2 or len(out) != 2 or not out.isfinite().all():
        shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise UserError(f"{encoder.name} gave {shape} for two images of {encoder.size} px.", allowed=["(2, D), finite numbers"])
    if not torch.allclose(together, torch.cat(alone), rtol=0, atol=BESIDE * float(together.abs().nan_to_num().max()), equal_nan=True):
        what = f"{encoder.name} gives an image another vector where another image stands beside it, or at another call."
        raise UserError(what, then="mend the function: batch norms with running statistics, no dropout in eval mode")
    return net


def module_hash(encoder: Encoder) -> str:
    """SHA-256 of the module's weights and buffers, of the file's text, and of the user's own files that it imports."""
    import torch

    assert encoder.file is not None, "a function has a file"
    digest = hashlib.sha256(encoder.file.read_bytes())
    made = module(encoder)  # what it imports is known to Python from here on
    for other in imported(encoder.file):
        digest.update(other.read_bytes())
    for name, value in made.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def imported(file: Path) -> list[Path]:
    """The Python files that a file which was run imports, and those that they import, sorted by the names of their modules; what is installed
    is left out: versions of packages stand in a row's provenance."""
    found: dict[str, Path] = {}
    waiting: list[tuple[Path, str]] = [(file, "")]
    while waiting:
        one, package = waiting.pop()
        for name in _names(one, package) - set(found):
            spec = getattr(sys.modules.get(name), "__spec__", None)
            if spec is None or not spec.has_location or name.partition(".")[0] == "medbench":
                continue
            origin = Path(spec.origin).resolve()
            if origin.suffix == ".py" and not _installed(origin):
                found[name] = origin
                waiting.append((origin, spec.parent))
    return [found[name] for name in sorted(found)]


def _names(file: Path, package: str) -> set[str]:
    """Modules that a file's import statements may mean, packages above them included."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = (
                importlib.util.resolve_name("." * node.level + (node.module or ""), package or None) if node.level else node.module or ""
            )
            names |= {whole, *(f"{whole}.{alias.name}" for alias in node.names)}
    return {".".join(parts[: i + 1]) for parts in (name.split(".") for name in names) for i in range(len(parts))}


def _installed(file: Path) -> bool:
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(place in file.parents for place in places)


def load_features(file: Path, ids: Sequence[str], needed: Sequence[bool]) -> np.ndarray:
    """(N, D) float32: the vectors of `ids`, in that order; NaN for an image that is not `needed` and not there.

    A .npz file holds `ids` (n,) str and `load_features` (n, D); a .parquet file a column `id` and D columns of numbers. Raises UserError that names
    what is missing, double or not finite. Ids that no image has are left alone.
    """
    names, vectors = _read(file)
    row: dict[str, int] = {}
    for i, name in enumerate(names):
        if row.setdefault(name, i) != i:
            raise UserError(f"{file.name} holds the id '{name}' twice (rows {row[name] + 1} and {i + 1}).")
    missing = [name for name, need in zip(ids, needed, strict=True) if need and name not in row]
    if missing:
        shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        then = "medbench data split TASK --ids prints the ids it must hold"
        raise UserError(f"{file.name} lacks {len(missing)} of {sum(needed)} images: {shown}", then=then)
    out = np.full((len(ids), vectors.shape[1]), np.nan, np.float32)
    there = np.array([name in row for name in ids])
    out[there] = vectors[[row[name] for name in np.asarray(ids)[there]]]
    bad = np.flatnonzero(np.asarray(needed) & ~np.isfinite(out).all(1))
    if len(bad):
        raise UserError(f"{file.name} holds values that are not finite, for {len(bad)} images: {ids[bad[0]]} is the first.")
    return out


def _read(file: Path) -> tuple[list[str], np.ndarray]:
    names, vectors = _read_npz(file) if file.suffix == ".npz" else _read_parquet(file)
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.number) or len(vectors) != len(names) or vectors.shape[1] == 0:
        raise UserError(f"{file.name} holds {len(names)} ids and features of shape {vectors.shape}.", allowed=["ids (n,), features (n, D)"])
    return names, vectors


def _read_npz(file: Path) -> tuple[list[str], np.ndarray]:
    then = "np.savez(FILE, ids=ids, features=features)"
    with (
        archive_errors.reading(lambda why: UserError(f"{file} is not a readable .npz file ({why}).", then=then)),
        file.open("rb") as stream,  # np.load alone leaves a broken file open
        np.load(stream) as arrays,
    ):
        found: dict[str, Any] = dict(arrays)
    if not {"ids", "features"} <= set(found):
        raise UserError(f"{file.name} holds {', '.join(found) or 'nothing'}.", allowed=["ids (n,)", "features (n, D)"])
    return [str(name) for name in np.atleast_1d(found["ids"])], found["features"]


def _read_parquet(file: Path) -> tuple[list[str], np.ndarray]:
    import pandas as pd

    try:
        frame = pd.read_parquet(file)
    except ImportError as error:
        raise UserError(f"{file.name} needs a package that reads parquet.", then="pip install medbench[parquet]") from error
    except Exception as error:  # of pandas, or of whichever package reads the file: each has its own
        raise UserError(f"{file} is not a readable .parquet file ({type(error).__name__}: {error}).") from error
    if "id" not in frame.columns:
        raise UserError(f"{file.name} has no column 'id', but {', '.join(map(str, frame.columns[:5]))}.")
    numbers = frame.drop(columns="id")
    texts = [str(name) for name, kind in numbers.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if texts:
        raise UserError(f"{file.name}: column '{texts[0]}' does not hold numbers.", allowed=["id, and D columns of numbers"])
    return frame["id"].astype(str).tolist(), numbers.to_numpy(np.float32, na_value=np.nan)
