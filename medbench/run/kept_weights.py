"""What fine-tuning trained, kept in the cache for `medbench export`: a file a draw, `tuned`.

It is no part of a fingerprint: a row is the same with and without it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medbench.protocols.finetune import recipe_of
from medbench.schema import Encoder, Note, Protocol, Row, UserError, registry
from medbench.system import atomic_write
from medbench.system.precision import kind

if TYPE_CHECKING:
    from medbench.run.units import Unit

FOLDER = "tuned"  # of the cache


def kept_file(cache_dir: Path, fingerprint: str, device: str) -> Path:
    """Return where the cache keeps a row's fine-tuned weights, whether or not it does.

    device: "cpu" or a GPU, whose weights are others.
    """
    return cache_dir / FOLDER / f"{fingerprint}-{kind(device)}" / "weights.pth"


def keep(cache_dir: Path, fingerprint: str, row: Row, scratch: Path, device: str) -> None:
    """Keep what a fit left in its scratch folder, where it stays for a run that is killed.

    fingerprint: of the row on the task's own part. row: any row of the fit, on whatever set.
    """
    left = scratch / _of_training(row)
    if left.is_file():
        kept = kept_file(cache_dir, fingerprint, device)
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic_write.write(kept, partial(_link, left))


def _link(left: Path, new: Path) -> None:
    try:
        os.link(left, new)
    except OSError:  # a file system without hard links
        shutil.copyfile(left, new)


def lay_out(cache_dir: Path, row: Row, scratch: Path, device: str) -> bool:
    """Copy a row's kept weights to where a fit goes on from; return whether there were any.

    scratch: the fit's folder, made if missing.
    """
    kept = kept_file(cache_dir, row.fingerprint, device)
    if kept.is_file():
        scratch.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept, scratch / _of_training(row))
    return kept.is_file()


def _of_training(row: Row) -> str:
    from medbench.models.finetune.state import state_name

    return state_name(int(row.chosen.get("rank", 0)), float(row.chosen["rate"]), 1.0)


def check_keeps(protocols: Iterable[Protocol]) -> None:
    """Raise UserError where none of them fine-tunes."""
    if not any(recipe_of(one) for one in protocols):
        allowed = [name for name, one in registry.protocols().items() if recipe_of(one)]
        raise UserError(
            "--keep-weights keeps what fine-tuning trained, and no protocol here does.",
            allowed=allowed,
            then="leave it out, or --protocols finetune",
        )


def kept_note(units: Iterable[Unit], protocols: Iterable[Protocol], cache_dir: Path) -> Note:
    """Say how many files are kept, and about how large they are."""
    tuning = {one.name for one in protocols if recipe_of(one) is not None}
    files, total = 0, 0
    for unit in units:
        draws = {
            (planned.cell.protocol, planned.cell.labels, planned.cell.seed)
            for planned in unit.cells
            if planned.cell.protocol in tuning
        }
        files += len(draws)
        if draws:
            members = unit.members or (unit,)
            total += len(draws) * sum(_bytes(member.encoder) for member in members)
    text = (
        f"the weights of fine-tuned networks are kept in {cache_dir / FOLDER} as their rows are made: "
        f"at most {files} files, {total / 1e6:,.0f} MB"
    )
    return Note("remark", text)


def _bytes(encoder: Encoder) -> int:
    """About how much the weights of a network take; 0 of one that is not timm's."""
    if encoder.kind != "timm":
        return 0
    import timm
    import torch

    with torch.device("meta"):
        net = timm.create_model(encoder.architecture, pretrained=False, num_classes=0)
    return sum(value.numel() * value.element_size() for value in net.state_dict().values())
