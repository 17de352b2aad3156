"""All images of a task at one size in one memory-mapped file, so that each is decoded once in the life of the data set.

The whole image is squeezed to size x size; no border is cut off, for findings lie there: the costophrenic angles and apices of a chest
film, the rim of a fundus image. The price, a changed aspect ratio, is the same for all methods.

A pack is made for each size and interpolation, straight from the decoded image: resampling a stored pack again would make an encoder's input depend on
a size that no checkpoint knows. Decoding once for each size is the price.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from medbench.images.decoding import DECODERS, picture
from medbench.images.hashing import ContentHash
from medbench.schema import Image, UserError, fingerprint
from medbench.schema.ingredients import raised
from medbench.system.cache_folder import check_space, disk_errors, reserve
from medbench.system.progress_listener import report_progress

RESIZE = 1  # an ingredient, see `schema.ingredients`; raise it with every change of a pixel that the decoders do not make
INTERPOLATIONS = ("bicubic", "bilinear")
CHUNK = 32  # images a job: what a killed run can lose of each worker
_SMALL = 200  # images that are decoded sooner than workers have started

Bad = list[tuple[int, str]]  # (row, why) of images that cannot be decoded


class Pixels(Protocol):
    """Images of one size that can be read: a pack, or what is made of one while it is read."""

    def __len__(self) -> int: ...

    @property
    def array(self) -> np.ndarray:
        """(N, size, size, 3) uint8 RGB, or what gives such rows by slice and index."""


@dataclass(frozen=True)
class Pack:
    """N images of size x size pixels, finished on disk. `key` names their content; a pack can be sent to another process as it is."""

    key: str
    file: Path
    size: int
    n: int

    def __len__(self) -> int:
        return self.n

    @property
    def array(self) -> np.ndarray:
        """(N, size, size, 3) uint8 RGB, memory-mapped, read-only; opened anew at each call."""
        return np.lib.format.open_memmap(self.file, mode="r")


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
    result = Pack(key, folder / "images.npy", size, len(images))
    if not result.file.exists():
        with disk_errors(folder, _bytes(result)):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                if not result.file.exists():
                    _fill(result, images, interpolation, stage, workers)
    return result


def fill_rows(job: PackJob) -> Bad:
    """Decode, resize and write a job's images; rows are durable when it returns. Images that cannot be decoded come back with why."""
    bad: Bad = []
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
            stream.seek(position)
            stream.write(pixels.tobytes())
        stream.flush()
        os.fsync(stream.fileno())
    return bad


def squeeze(image: Image, size: int, interpolation: str) -> np.ndarray:
    """(size, size, 3) uint8 RGB of a file or a drawing. Raises UserError for a file that cannot be decoded."""
    from PIL import Image as pillow

    source = picture(image, wanted=size)
    if source.size != (size, size):
        source = source.resize((size, size), pillow.Resampling[interpolation.upper()])
    return np.asarray(source.convert("RGB"))


def _fill(result: Pack, images: Sequence[Image], interpolation: str, stage: str, workers: int | None) -> None:
    """Under the lock: write images.partial.npy chunk by chunk, count chunks in done.npy, rename at the end."""
    from medbench.system import worker_pool

    total = len(result)
    partial, done_file = result.file.with_name("images.partial.npy"), result.file.with_name("done.npy")
    done = _resume(result, partial, done_file)
    todo = np.flatnonzero(done == 0).tolist()
    jobs = [PackJob(str(partial), c * CHUNK, list(images[c * CHUNK : (c + 1) * CHUNK]), result.size, interpolation) for c in todo]
    left = sum(len(job.images) for job in jobs)
    report_progress(stage, total - left, total, "images")
    bad: Bad = []
    with closing(worker_pool.run_jobs(fill_rows, jobs, 1 if left < _SMALL else workers)) as finished:  # workers end before the lock goes
        for job, problems in finished:
            bad += problems
            if not problems:
                done[job.start // CHUNK] = 1
                done.flush()
            left -= len(job.images)
            report_progress(stage, total - left, total, "images")
    del done
    if bad:
        partial.unlink()
        done_file.unlink()
        reasons = "; ".join(why for _, why in sorted(bad)[:10])
        more = " ..." if len(bad) > 10 else ""
        what = f"{len(bad)} of {total} images cannot be decoded: {reasons}{more}"
        raise UserError(what, then="replace or leave out these files")
    partial.replace(result.file)
    done_file.unlink()


def _resume(result: Pack, partial: Path, done_file: Path) -> np.memmap:
    """(chunks,) uint8, 1 = on disk, memory-mapped; fresh files where none can be gone on with."""
    chunks = -(-len(result) // CHUNK)
    shape = (len(result), result.size, result.size, 3)
    if partial.exists() and done_file.exists() and partial.stat().st_size >= _bytes(result):
        done = np.lib.format.open_memmap(done_file, "r+")
        if done.shape == (chunks,):
            return done
    done_file.unlink(missing_ok=True)
    partial.unlink(missing_ok=True)
    check_space(partial.parent, _bytes(result))
    np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
    reserve(partial)
    fresh = done_file.with_name("done.partial.npy")
    np.save(fresh, np.zeros(chunks, np.uint8))
    fresh.replace(done_file)
    return np.lib.format.open_memmap(done_file, "r+")


def _bytes(result: Pack) -> int:
    return len(result) * result.size * result.size * 3
