"""How an official checkpoint comes here.

Looked for in the cache, downloaded, verified, its hash remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medbench.models.checkpoints import state_dicts
from medbench.models.checkpoints.catalogue import CHECKPOINTS, Checkpoint
from medbench.schema import UserError, Weights
from medbench.system import download, locks


def weights(checkpoint: Checkpoint, cache_dir: Path) -> Weights:
    """Return the weights of an official checkpoint, verified and readable in its layout.

    They are downloaded if they are not here yet, under a lock. Raises UserError where they cannot
    be had, or are not the published ones.
    """
    file = place(checkpoint, cache_dir)
    file.parent.mkdir(parents=True, exist_ok=True)
    with locks.locked(f"{file.parent}.lock"):
        if not file.is_file():
            _download(checkpoint, file)
        digest = download.sha256(file)
        _verify(
            checkpoint,
            digest,
            file,
            then=f"delete it, or keep it elsewhere and give it to --weights with --encoder {checkpoint.encoder}",
        )
        if not _record(cache_dir, checkpoint.name).exists():
            state_dicts.state_dict(file, checkpoint.layout)  # what cannot be read is not recorded
        remember(cache_dir, checkpoint.name, digest)
    return Weights(
        checkpoint.name,
        digest,
        checkpoint.trained_on,
        file,
        checkpoint.layout,
        checkpoint.mean,
        checkpoint.std,
        checkpoint.interpolation,
    )


def place(checkpoint: Checkpoint, cache_dir: Path) -> Path:
    """Return where a checkpoint's file lies once it is here, under its published name.

    A person may put it there by hand.
    """
    return cache_dir / "weights" / checkpoint.name / checkpoint.file


def records(cache_dir: Path) -> list[dict[str, object]]:
    """Return a record per checkpoint.

    What it is, whose images it has seen, and whether it is here.
    """
    found = []
    for entry in CHECKPOINTS:
        here = place(entry, cache_dir).is_file()
        about: dict[str, object] = {
            "name": entry.name,
            "method": entry.method,
            "encoder": entry.encoder,
            "trained_on": list(entry.trained_on),
        }
        found.append(
            {**about, "bytes": entry.size, "auto": entry.official, "here": here, "url": entry.url}
        )
    return found


def lines(cache_dir: Path) -> Iterator[str]:
    """Yield the table of the checkpoints, one per line.

    Name, method, encoder, whose images it has seen, size, whether it is here.
    """
    rows = [("name", "method", "encoder", "trained on", "size", "")]
    for entry in CHECKPOINTS:
        file = place(entry, cache_dir)
        here = file.is_file()
        size = file.stat().st_size if here else entry.size
        auto = ["auto"] if entry.official else []
        state = ", ".join(
            [
                *auto,
                "in the cache"
                if here
                else "to be fetched"
                if entry.url
                else "to be converted by hand",
            ]
        )
        rows.append(
            (
                entry.name,
                entry.method,
                entry.encoder,
                ", ".join(entry.trained_on),
                f"{size / 1e6:.0f} MB" if size else "",
                state,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def remember(cache_dir: Path, name: str, sha: str) -> None:
    """Record the first hash seen of weights that have no lasting published hash, and enforce it.

    Raises UserError for another hash than the recorded one.
    """
    download.first_seen(_record(cache_dir, name), sha, f"The weights of '{name}'")


def _record(cache_dir: Path, name: str) -> Path:
    return cache_dir / "weights" / f"{name}.json"


def _verify(checkpoint: Checkpoint, digest: str, what: Path | str, then: str) -> None:
    if not digest.startswith(checkpoint.sha256):
        shown = slice(len(checkpoint.sha256[:12]))
        raise UserError(
            f"{what} is not the published '{checkpoint.name}': SHA-256 {digest[shown]}, published {checkpoint.sha256[shown]}.",
            then=then,
        )


def _download(checkpoint: Checkpoint, file: Path) -> None:
    """Fetch a checkpoint to `file`, which appears complete and verified or not at all.

    The folder's lock is held. Raises UserError.
    """
    absent = f"The weights of '{checkpoint.name}' are not in the cache"
    by_hand = f"put {file.name} into {file.parent} and run the same command again"
    if not checkpoint.url:
        raise UserError(
            f"{absent} and cannot be downloaded as they are.", then=f"{checkpoint.note}; {by_hand}"
        )
    what = f"What came from {checkpoint.url}"

    def verify(part: Path) -> None:
        _verify(checkpoint, download.sha256(part), what, then="run the same command again")
        state_dicts.container(part, what)

    try:
        download.retrieve(
            checkpoint.url, file, verify, size=checkpoint.size, sure=len(checkpoint.sha256) == 64
        )
    except OSError as error:  # requests' errors are OSErrors too
        then = f"with a network, run the same command again; or fetch {checkpoint.url} elsewhere, {by_hand}"
        raise UserError(
            f"{absent} and cannot be fetched ({download.reason(error)}).", then=then
        ) from error
