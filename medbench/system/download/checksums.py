"""The hash of a file, and the memory of the first one seen where nobody publishes it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from medbench.schema import UserError, parsed
from medbench.system import atomic_write
from medbench.system.progress_listener import report_megabytes

_BLOCK = 1 << 23


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hex digits."""
    return file_digest(file, "sha256")


def file_digest(file: Path, kind: str, stage: str = "") -> str:
    """Return the digest of a file's content in hex.

    kind: "md5" or "sha256". stage: as which it reports its progress; "": it does not.
    """
    told = report_megabytes(stage)
    found, total = hashlib.new(kind, usedforsecurity=False), file.stat().st_size
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            found.update(block)
            told(stream.tell(), total)
    return found.hexdigest()


def first_seen(record: Path, sha: str, what: str) -> None:
    """Record the first hash seen in the file `record`, and raise UserError for any other later on.

    For where nobody publishes a hash that lasts. sha: 64 hex digits. what: "The weights of 'x'", as
    the message begins. Raises UserError for a damaged record, too.
    """
    if record.exists():
        try:
            first = parsed(record.read_bytes())["sha256"]
        except (
            ValueError,
            TypeError,
            KeyError,
        ) as error:  # it is there to be enforced: not passed over
            raise UserError(
                f"{record} is damaged ({error}).",
                then="delete it: the hash of the file that is here now is remembered",
            ) from error
        if first != sha:
            raise UserError(
                f"{what} have changed: SHA-256 {sha[:12]}, first seen as {first[:12]}.",
                then=f"delete {record} if that is expected",
            )
        return
    record.parent.mkdir(parents=True, exist_ok=True)
    atomic_write.record(record, {"sha256": sha})
