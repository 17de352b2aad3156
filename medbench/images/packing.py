"""All images of a task at one size in one memory-mapped file.

So each is decoded once in the life of the data set. The whole image is squeezed to size x size; no
border is cut off, for findings lie there: the costophrenic angles and apices of a chest film, the
rim of a fundus image. The price, a changed aspect ratio, is the same for all methods. An encoder of
the hub, and `--crop`, may ask for another crop (`cropping`).

A JPEG of at least 6 times the wanted size is read by its decoder at 1/2, 1/4 or 1/8, never below 3
times that size, and resampled from there: 2.2 to 4.5 times as fast as a full decode, and on average
.11 to .23 grey levels from it (`benchmarks/jpeg_decode.py`).

A pack is made for each size and interpolation, straight from the decoded image: resampling a stored
pack again would make an encoder's input depend on a size that no checkpoint knows. Several packs of
the same images are made in one reading (`packs`), each from its own reduced decode.
"""

from __future__ import annotations

import logging
import os
import time
import zlib
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from medbench.images.cropping import SQUASH
from medbench.images.squeezing import (
    INTERPOLATIONS,
    PackForm,
    PackPlace,
    pixel_ingredients,
    squeezed,
)
from medbench.images.unfinished_pack import CHUNK, UnfinishedPack, size_in_bytes
from medbench.schema import Image, UserError, fingerprint, parsed
from medbench.schema.ingredients import raised
from medbench.system import atomic_write, locks
from medbench.system.cache_folder import disk_errors
from medbench.system.progress_listener import report_progress
from medbench.system.row_checksums import (
    CheckedRows,
    DamagedArray,
    RowChecksums,
    crc32,
    record_of,
    seen_blocks,
)

# seconds of work that a killed run can lose; and syncing costs a twentieth of the time at most
SYNC_EVERY, SYNC_SHARE = 1.0, 20
_SMALL = 200  # images that are decoded sooner than workers have started

log = logging.getLogger("medbench")
Bad = list[tuple[int, str]]  # (row, why) of images that cannot be decoded


class Pixels(Protocol):
    """Images of one size that can be read: a pack, or what is made of one while it is read."""

    def __len__(self) -> int: ...

    @property
    def array(self) -> Any:
        """The pixels, (N, size, size, 3) uint8 RGB, or what gives such rows by slice and index."""


@dataclass(frozen=True)
class Pack:
    """N images of size x size pixels, finished on disk.

    `key` names their content; a pack can be sent to another process as it is.

    sums: of its rows. images, interpolation, crop: what it was made of, from which rows that are
    damaged on disk are made again; in another process it has no images, and such rows end the work
    there.
    """

    key: str
    file: Path
    size: int
    n: int
    sums: RowChecksums = field(repr=False)
    images: Sequence[Image] = field(repr=False, compare=False)
    interpolation: str = "bicubic"
    crop: str = SQUASH

    def __len__(self) -> int:
        return self.n

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "images": ()}

    @property
    def array(self) -> CheckedRows:
        """Map (N, size, size, 3) uint8 RGB from disk, read-only; opened anew at each call.

        Rows are compared with their checksum where they are first read.
        """
        return CheckedRows(
            self.sums.open(self.file), self.sums, seen_blocks(self.file, self.sums), self._repair
        )

    def _repair(self, block: int) -> None:
        """Decode the images of a damaged block again.

        Raises UserError where they do not give what they gave.
        """
        first = block * self.sums.rows
        name = f"{self.file}: images {first} to {min(first + self.sums.rows, self.n) - 1}"
        with locks.locked(self.file.with_name("lock")):
            if (
                crc32(self.sums.open(self.file)[first : first + self.sums.rows])
                == self.sums.crc32[block]
            ):
                return  # another process was faster
            log.warning("%s are damaged on disk: decoding them again", name)
            place = PackPlace(str(self.file), self.size, self.interpolation, self.crop)
            bad, (found,) = (
                fill_rows(
                    PackJob(first, list(self.images[first : first + self.sums.rows]), (place,))
                )
                if self.images
                else ([], (-1,))
            )
            atomic_write.sync(self.file)
            if found != self.sums.crc32[block]:
                _discard(self.file.parent)
                why = bad[0][1] if bad else "they cannot be decoded to the same pixels here"
                raise UserError(
                    f"{name} are damaged on disk ({why}). The pack was removed.",
                    then="the same command makes it anew",
                )


class PackJob(NamedTuple):
    """Images for rows `start`, `start + 1`, ... of each of these files."""

    start: int
    images: list[Image]
    places: tuple[PackPlace, ...]


def pack_key(hashes: Sequence[str], size: int, interpolation: str, crop: str = SQUASH) -> str:
    """Return 64 hex digits of the images' content in order and all that is done to their pixels.

    hashes: as `content_hashes` gives them.
    """
    return fingerprint(
        *("pack", 1, size, interpolation, list(hashes)),
        *raised(pixel_ingredients(hashes)),
        *([{"crop": crop}] if crop != SQUASH else []),
    )


def pack(
    images: Sequence[Image],
    hashes: Sequence[str],
    size: int,
    interpolation: str,
    cache_dir: Path,
    workers: int | None = None,
    *,
    crop: str = SQUASH,
    stage: str = "packing images",
) -> Pack:
    """Return the pack of these images at one size, interpolation and crop.

    Arguments and errors are those of `packs`, which makes several packs and reads each file once.
    """
    form = PackForm(size, interpolation, crop)
    return packs(images, hashes, [form], cache_dir, workers, stage=stage)[0]


def packs(
    images: Sequence[Image],
    hashes: Sequence[str],
    forms: Sequence[PackForm],
    cache_dir: Path,
    workers: int | None = None,
    *,
    stage: str = "packing images",
) -> list[Pack]:
    """Return one `Pack` for each of `forms`, in their order, from the cache or decoded now.

    A pack is (N, size, size, 3) uint8 on disk, in `cache_dir`/packs/`pack_key`. hashes: of the N
    images, as `content_hashes` gives them. workers: processes that decode; None: all cores. Each
    file is read once for all packs that are missing. A run that was killed goes on where it
    stopped; another process that wants one of these packs waits for it. Memory does not grow with
    N. stage: the name under which progress is reported.

    Raises UserError that names the images that cannot be decoded (ten of them, and how many), for
    an unknown interpolation and for a full disk; ValueError where there are no images, or not as
    many hashes.
    """
    for form in forms:
        if form.interpolation not in INTERPOLATIONS:
            raise UserError(
                f"Unknown interpolation '{form.interpolation}'.",
                allowed=INTERPOLATIONS,
                given=form.interpolation,
            )
    if not len(images) or len(images) != len(hashes):
        raise ValueError(f"{len(images)} images with {len(hashes)} hashes make no pack")
    keys = {form: pack_key(hashes, *form) for form in forms}
    folders = {form: cache_dir / "packs" / key for form, key in keys.items()}
    shapes = {form: (len(images), form.size, form.size, 3) for form in forms}
    found = {form: _finished(folders[form], shapes[form]) for form in folders}
    # all processes lock in one order
    lacking = sorted((form for form, sums in found.items() if sums is None), key=keys.__getitem__)
    if lacking:
        with (
            disk_errors(folders[lacking[0]], sum(size_in_bytes(shapes[form]) for form in lacking)),
            ExitStack() as held,
        ):
            for form in lacking:
                folders[form].mkdir(parents=True, exist_ok=True)
                held.enter_context(locks.locked(folders[form] / "lock"))
                atomic_write.remove_abandoned(folders[form])
                found[form] = _finished(folders[form], shapes[form], locked=True)
            partial = [
                UnfinishedPack(folders[form], shapes[form], form)
                for form in lacking
                if found[form] is None
            ]
            if partial:
                found.update(
                    zip(
                        (one.form for one in partial),
                        _fill(partial, images, stage, workers),
                        strict=True,
                    )
                )
    made = []
    for form in forms:
        sums = found[form]
        assert sums is not None, "what was lacking was made"
        made.append(
            Pack(
                keys[form],
                folders[form] / "images.npy",
                form.size,
                len(images),
                sums,
                images,
                form.interpolation,
                form.crop,
            )
        )
    return made


def _finished(folder: Path, shape: tuple[int, ...], *, locked: bool = False) -> RowChecksums | None:
    """Return the checksums of a pack that is on disk; None where no pack there can be used.

    Its rows are looked at when they are read. locked: this process holds the folder, and removes
    what is damaged, or gives checksums to a pack of an older medbench.
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


def fill_rows(job: PackJob) -> tuple[Bad, list[int]]:
    """Decode, resize and write a job's images; whoever asked syncs.

    Images that cannot be decoded come back with why, and the CRC-32 of all rows of each place with
    them.
    """
    bad: Bad = []
    found = [0] * len(job.places)
    with ExitStack() as opened:
        streams = [opened.enter_context(open(place.file, "r+b")) for place in job.places]
        headers = [np.lib.format.open_memmap(place.file, "r").offset for place in job.places]
        for i, image in enumerate(job.images, start=job.start):
            try:
                rows = squeezed(image, job.places)
            except UserError as error:
                bad.append((i, str(error)))
                continue
            for p, (stream, header, pixels) in enumerate(zip(streams, headers, rows, strict=True)):
                position = header + i * pixels.nbytes
                assert position + pixels.nbytes <= os.fstat(stream.fileno()).st_size, (
                    "a row beyond the end of its pack"
                )
                content = pixels.tobytes()
                stream.seek(position)
                stream.write(content)
                found[p] = zlib.crc32(content, found[p])
    return bad, found


def _fill(
    partial: Sequence[UnfinishedPack], images: Sequence[Image], stage: str, workers: int | None
) -> list[RowChecksums]:
    """Chunk by chunk, each for all packs that lack it; rename at the end."""
    from medbench.system import worker_pool

    total = len(images)
    jobs = []
    for chunk in range(-(-total // CHUNK)):
        places = tuple(one.place for one in partial if one.done[chunk] == 0)
        if places:
            jobs.append(
                PackJob(chunk * CHUNK, list(images[chunk * CHUNK : (chunk + 1) * CHUNK]), places)
            )
    left = sum(len(job.images) for job in jobs)
    # workers end before the locks go
    with closing(
        worker_pool.run_jobs(fill_rows, jobs, 1 if left < _SMALL else workers)
    ) as finished:
        bad = _take(finished, partial, left, total, stage)
    if bad:
        for one in partial:
            one.remove()
        reasons = "; ".join(why for _, why in sorted(bad)[:10])
        more = " ..." if len(bad) > 10 else ""
        what = f"{len(bad)} of {total} images cannot be decoded: {reasons}{more}"
        raise UserError(what, then="replace or leave out these files")
    return [one.publish() for one in partial]


def _take(
    finished: Generator[tuple[PackJob, tuple[Bad, list[int]]], None, None],
    partial: Sequence[UnfinishedPack],
    left: int,
    total: int,
    stage: str,
) -> Bad:
    """Take jobs as they are done, report, and sync now and then, and at the end however it comes.

    Returns what cannot be decoded.
    """
    bad: Bad = []
    synced, syncing = time.perf_counter(), 0.0
    by_file = {one.place.file: one for one in partial}
    report_progress(stage, total - left, total, "images")
    try:
        for job, (problems, sums) in finished:
            bad += problems
            if not problems:
                for place, found in zip(job.places, sums, strict=True):
                    by_file[place.file].written[job.start // CHUNK] = found
            now = time.perf_counter()
            if now - synced > max(SYNC_EVERY, SYNC_SHARE * syncing):
                for one in partial:
                    one.settle()
                synced = time.perf_counter()
                syncing = synced - now
            left -= len(job.images)
            report_progress(stage, total - left, total, "images")
    finally:
        for one in partial:
            one.settle()
    return bad
