"""What timm says of its architectures and checkpoints, kept in the cache.

Importing it takes seconds of CPU, and a plan asks it for a few words.

An answer is taken for the timm that gave it, known by the names, sizes and times of its files
whatever version they say, for that version of torch, and for the code that asked: a record can be
lost, never wrong.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medbench.schema import checked, fingerprint, parsed
from medbench.system import atomic_write
from medbench.system.cache_folder import cache_folder

log = logging.getLogger("medbench")
FOLDER = "timm"  # in the cache
Three = tuple[float, float, float]


@dataclass(frozen=True)
class CheckpointConfig:
    """What timm declares of a checkpoint, or of an architecture alone.

    Names and defaults are its `PretrainedCfg`'s.
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    fixed_input_size: bool = False
    mean: Three = (0.485, 0.456, 0.406)
    std: Three = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"
    num_classes: int = 1000
    hf_hub_id: str | None = None
    hf_hub_filename: str | None = None


@cache
def architectures() -> tuple[str, ...]:
    """Return all timm architectures, sorted.

    Read from timm's source text, so that they are known before timm was ever imported (a test
    compares the two).
    """
    entry = re.compile(r"^@register_model\s*\ndef (\w+)", re.MULTILINE)
    files = (_folder() / "models").glob("*.py")
    return tuple(
        sorted(name for file in files for name in entry.findall(file.read_text(encoding="utf-8")))
    )


@cache
def tags_of(architecture: str) -> tuple[str, ...]:
    """Return the checkpoints that timm lists for an architecture, by their tags; () where none."""
    return tuple(_catalogue()["tags"].get(architecture, ()))


def config_of(architecture: str, tag: str) -> CheckpointConfig:
    """Return what timm declares of a checkpoint, or, with tag "", of the architecture alone.

    Raises KeyError for one that timm does not list.
    """
    stated = _catalogue()["configs"][f"{architecture}.{tag}" if tag else architecture]
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stated.items()
    }
    return CheckpointConfig(**values)


@cache
def _catalogue() -> dict[str, Any]:
    found: dict[str, Any] = kept(_all_checkpoints)
    return found


def _all_checkpoints() -> dict[str, Any]:
    """tags: architecture -> its checkpoints, in timm's order.

    configs: architecture, or architecture.tag -> what differs from the defaults.
    """
    import timm

    tags: dict[str, list[str]] = {}
    for name in timm.list_pretrained():
        architecture, _, tag = name.partition(".")
        if tag:
            tags.setdefault(architecture, []).append(tag)
    plain = CheckpointConfig()
    configs = {}
    for name in dict.fromkeys([*timm.list_models(), *timm.list_models(include_tags=True)]):
        declared = timm.get_pretrained_cfg(name)
        if declared is not None:
            stated = {field.name: getattr(declared, field.name) for field in fields(plain)}
            configs[name] = {
                word: value for word, value in stated.items() if value != getattr(plain, word)
            }
    return {"tags": tags, "configs": configs}


def kept(question: Callable[..., Any], *parts: Any, **handed: Any) -> Any:
    """Return question(*parts, **handed), plain values of JSON, from the cache where they lie there.

    parts: all that the answer depends on beside timm, torch and code; handed: what says the same in
    another form.
    """
    about = [
        question.__module__,
        question.__qualname__,
        _sha256(Path(question.__code__.co_filename)),
        *_makers(),
        *parts,
    ]
    file = cache_folder(to_write=False) / FOLDER / fingerprint(*about)[:32] / "about.json"
    try:
        record = parsed(file.read_bytes())
        checked(record, {"answer": object})
        return record["answer"]
    except FileNotFoundError:
        pass
    except (ValueError, TypeError) as error:
        log.warning("%s is damaged (%s): asking timm again", file, error)
    answer = question(*parts, **handed)
    with suppress(OSError):  # a cache that cannot be written is told by what must write there
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write.record(file, {"answer": answer})
    return answer


@cache
def _makers() -> tuple[str, ...]:
    """Of timm's files, of torch, and of the code of this room."""
    timm = _folder()
    states = []
    for place, inner, names in os.walk(timm):
        inner.sort()
        states += [
            (os.path.relpath(entry, timm), entry.stat().st_size, entry.stat().st_mtime_ns)
            for name in sorted(names)
            if (entry := Path(place, name)).suffix == ".py"
        ]
    own = [(file.name, _sha256(file)) for file in sorted(Path(__file__).parent.rglob("*.py"))]
    return fingerprint(states), version("torch"), fingerprint(own)


def _sha256(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def _folder() -> Path:
    found = importlib.util.find_spec("timm")
    assert found is not None and found.submodule_search_locations, "timm is a dependency"
    return Path(found.submodule_search_locations[0])
