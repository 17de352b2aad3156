"""All images of a task at one size in one memory-mapped file, so that each is decoded once in the life of the data set.

The whole image is squeezed to size x size; no border is cut off, for findings lie there: the costophrenic angles and apices of a chest
film, the rim of a fundus image. The price, a changed aspect ratio, is the same for all methods.

A JPEG of at least 6 times the wanted size is read by its decoder at 1/2, 1/4 or 1/8, never below 3 times that size, and resampled from there: 2.2 to 4.5
times as fast as a full decode, and on average .11 to .23 grey levels from it (`benchmarks/jpeg_decode.py`).

A pack is made for each size and interpolation, straight from the decoded image: resampling a stored pack again would make an encoder's input depend on
a size that no checkpoint knows. Decoding once for each size is the price.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from medbench.images.decoding import DECODERS, picture
from medbench.images.hashing import ContentHash
from medbench.schema import Image, UserError, fingerprint, parsed
from medbench.schema.ingredients import raised
from medbench.system import atomic_write
from medbench.system.cache_folder import check_space, disk_errors, reserve
from medbench.system.progress_listener import report_progress
from medbench.system.row_checksums import CheckedRows, DamagedArray, RowChecksums, crc32, record_of, seen_blocks

RESIZE = 1  # an ingredient, see `schema.ingredients`; raise it with every change of a pixel that the decoders do not make
INTERPOLATIONS = ("bicubic", "bilinear")
CHUNK = 32  # images a job, and a checksum: what a killed run can lose of each worker
_SMALL = 200  # images that are decoded sooner than workers have started

log = logging.getLogger("medbench")
Bad = list[tuple[int, str]]  # (row, why) of images that cannot be decoded


class Pixels(Protocol):
    """Images of one size that can be read: a pack, or what is made of one while it is read."""

    def __len__(self) -> int: ...

    @property
    def array(self) -> Any:
        """(N, size, size, 3) uint8 RGB, or what gives such rows by slice and index."""


@dataclass(frozen=True)
class Pack:
    """N images of size x size pixels, finished on disk. `key` names their content; a pack can be sent to another process as it is.

    sums: of its rows. images, interpolation: what it was made of, from which rows that are damaged on disk are made again; in another process
    it has no images, and such rows end the work there.
    """

    key: str
    file: Path
    size: int
    n: int
    sums: RowChecksums = field(repr=False)
    images: Sequence[Image] = field(repr=False, compare=False)
    interpolation: str = "bicubic"

    def __len__(self) -> int:
        return self.n

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "images": ()}

    @property
    def array(self) -> CheckedRows:
        """(N, size, size, 3) uint8 RGB, memory-mapped, read-only; opened anew at each call. Rows are compared with their checksum where they
        are first read."""
        return CheckedRows(self.sums.open(self.file), self.sums, seen_blocks(self.file, self.sums), self._repair)

    def _repair(self, block: int) -> None:
        """Decode the images of a damaged block again. Raises UserError where they do not give what they gave."""
        from filelock import FileLock

        first = block * self.sums.rows
        name = f"{self.file}: images {first} to {min(first + self.sums.rows, self.n) - 1}"
        with FileLock(self.file.with_name("lock")):
            if crc32(self.sums.open(self.file)[first : first + self.sums.rows]) == self.sums.crc32[block]:
                return  # another process was faster
            log.warning("%s are damaged on disk: decoding them again", name)
            job = PackJob(str(self.file), first, list(self.images[first : first + self.sums.rows]), self.size, self.interpolation)
            bad, found = fill_rows(job) if self.images else ([], -1)
            if found != self.sums.crc32[block]:
                _discard(self.file.parent)
                why = bad[0][1] if bad else "they cannot be decoded to the same pixels here"
                raise UserError(f"{name} are damaged on disk ({why}). The pack was removed.", then="the same command makes it anew")


class PackJob(NamedTuple):
    """Images for rows `start`, `start + 1`, ... of a pack's partial file."""

    file: str
    start: int
    images: list[Image]
    size: int
    interpolation: str


def pack_key(hashes: Sequence[str], size: int, interpolation: str) -> str:
    """64 hex digits: the images' content in order, and everything that is done to their pixels. hashes: as `content_hashes` gives them."""
    return fingerprint("pack", 1, size, interpolation, list(hashes), *raised(pixel_ingredients(hashes)))


def pixel_ingredients(hashes: Iterable[str]) -> dict[str, int]:
    """What the pixels of images with these content hashes are made by: the decoder of each of their formats, and the resize."""
    formats = {content.file_format for content in hashes if isinstance(content, ContentHash)} - {""}
    return {**{f"decoder {name}": DECODERS[name] for name in sorted(formats)}, "resize": RESIZE}


def pack(
    images: Sequence[Image],
    hashes: Sequence[str],
    size: int,
    interpolation: str,
    cache_dir: Path,
    workers: int | None = None,
    *,
    stage: str = "packing images",
) -> Pack:
    """The pack of these images: from the cache, else decoded on `workers` (default: all) cores.

    hashes: as `content_hashes` gives them. interpolation: "bicubic" or "bilinear", antialiased. A run that was killed goes on where it
    stopped; another process that wants the same pack waits for it. Memory does not grow with N. stage: as which it reports its progress.
    Raises UserError that names the images that cannot be decoded (ten of them, and how many); and for a full disk.
    """
    from filelock import FileLock

    if interpolation not in INTERPOLATIONS:
        raise UserError(f"Unknown interpolation '{interpolation}'.", allowed=INTERPOLATIONS, given=interpolation)
    if not len(images) or len(images) != len(hashes):
        raise ValueError(f"{len(images)} images with {len(hashes)} hashes make no pack")
    key = pack_key(hashes, size, interpolation)
    folder = cache_dir / "packs" / key
    shape = (len(images), size, size, 3)
    sums = _finished(folder, shape)
    if sums is None:
        with disk_errors(folder, _bytes(shape)):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                atomic_write.remove_abandoned(folder)
                sums = _finished(folder, shape, locked=True) or _fill(folder, shape, images, interpolation, stage, workers)
    return Pack(key, folder / "images.npy", size, len(images), sums, images, interpolation)


def _finished(folder: Path, shape: tuple[int, ...], *, locked: bool = False) -> RowChecksums | None:
    """The checksums of a pack that is on disk; None where there is none that can be used. Its rows are looked at when they are read.

    locked: this process holds the folder, and removes what is damaged, or gives checksums to a pack of an older medbench.
    """
    file, about = folder / "images.npy", folder / "about.json"
    if not file.exists():
        return None
    try:
        sums = record_of(parsed(about.read_bytes())) if about.exists() else None
        whole = RowChecksums(shape, "|u1", CHUNK, ())
        pixels = (sums or whole).open(file)
        if pixels.shape != shape or (sums and len(sums.crc32) != -(-len(pixels) // sums.rows)):
            raise DamagedArray(f"it holds {pixels.shape} instead of {shape}")
    except (ValueError, TypeError) as error:
        if locked:
            log.warning("%s is damaged (%s): making it anew", file, error)
            _discard(folder)
        return None
    if sums is None and locked:
        sums = RowChecksums.of(pixels, CHUNK)
        atomic_write.record(about, {"checksums": sums.to_json()})
    return sums


def _discard(folder: Path) -> None:
    for name in ("images.npy", "about.json"):
        (folder / name).unlink(missing_ok=True)


def fill_rows(job: PackJob) -> tuple[Bad, int]:
    """Decode, resize and write a job's images; rows are durable when it returns. Images that cannot be decoded come back with why, and the
    CRC-32 of all rows with them."""
    bad: Bad = []
    found = 0
    row_bytes = job.size * job.size * 3
    with open(job.file, "r+b") as stream:
        end = os.fstat(stream.fileno()).st_size
        header = np.lib.format.open_memmap(job.file, "r").offset
        for i, image in enumerate(job.images, start=job.start):
            try:
                pixels = squeeze(image, job.size, job.interpolation)
            except UserError as error:
                bad.append((i, str(error)))
                continue
            position = header + i * row_bytes
            assert position + row_bytes <= end, "a row beyond the end of its pack"
            content = pixels.tobytes()
            stream.seek(position)
            stream.write(content)
            found = zlib.crc32(content, found)
        stream.flush()
        os.fsync(stream.fileno())
    return bad, found


def squeeze(image: Image, size: int, interpolation: str) -> np.ndarray:
    """(size, size, 3) uint8 RGB of a file or a drawing. Raises UserError for a file that cannot be decoded."""
    from PIL import Image as pillow

    source = picture(image, wanted=size)
    if source.size != (size, size):
        source = source.resize((size, size), pillow.Resampling[interpolation.upper()])
    return np.asarray(source.convert("RGB"))


def _fill(
    folder: Path, shape: tuple[int, ...], images: Sequence[Image], interpolation: str, stage: str, workers: int | None
) -> RowChecksums:
    """Under the lock: write images.partial.npy chunk by chunk, keep their checksums in done.npy, rename at the end."""
    from medbench.system import worker_pool

    total, size = shape[:2]
    partial_file, done_file = folder / "images.partial.npy", folder / "done.npy"
    done = _resume(shape, partial_file, done_file)
    todo = np.flatnonzero(done == 0).tolist()
    jobs = [PackJob(str(partial_file), c * CHUNK, list(images[c * CHUNK : (c + 1) * CHUNK]), size, interpolation) for c in todo]
    left = sum(len(job.images) for job in jobs)
    report_progress(stage, total - left, total, "images")
    bad: Bad = []
    with closing(worker_pool.run_jobs(fill_rows, jobs, 1 if left < _SMALL else workers)) as finished:  # workers end before the lock goes
        for job, (problems, found) in finished:
            bad += problems
            if not problems:
                done[job.start // CHUNK] = _DONE | found
                done.flush()
            left -= len(job.images)
            report_progress(stage, total - left, total, "images")
    sums = RowChecksums(shape, "|u1", CHUNK, tuple((np.asarray(done) & 0xFFFFFFFF).tolist()))
    del done
    if bad:
        partial_file.unlink()
        done_file.unlink()
        reasons = "; ".join(why for _, why in sorted(bad)[:10])
        more = " ..." if len(bad) > 10 else ""
        what = f"{len(bad)} of {total} images cannot be decoded: {reasons}{more}"
        raise UserError(what, then="replace or leave out these files")
    atomic_write.record(folder / "about.json", {"checksums": sums.to_json()})
    partial_file.replace(folder / "images.npy")
    done_file.unlink()
    return sums


_DONE = 1 << 32  # beside a chunk's checksum, which may be 0


def _resume(shape: tuple[int, ...], partial_file: Path, done_file: Path) -> np.memmap:
    """(chunks,) uint64, 0 = not on disk, else `_DONE` and the checksum, memory-mapped; fresh files where none can be gone on with."""
    chunks = -(-shape[0] // CHUNK)
    try:
        RowChecksums(shape, "|u1", CHUNK, ()).open(partial_file)
        return RowChecksums((chunks,), "<u8", chunks, ()).open(done_file, "r+")
    except (FileNotFoundError, DamagedArray):
        pass
    done_file.unlink(missing_ok=True)
    partial_file.unlink(missing_ok=True)
    check_space(partial_file.parent, _bytes(shape))
    np.lib.format.open_memmap(partial_file, "w+", np.uint8, shape)
    reserve(partial_file)
    fresh = done_file.with_name("done.partial.npy")
    np.save(fresh, np.zeros(chunks, "<u8"))
    fresh.replace(done_file)
    return np.lib.format.open_memmap(done_file, "r+")


def _bytes(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))
