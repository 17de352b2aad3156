"""Frozen features (N, D) of a pack, cached by content.

One pass serves every budget, seed and protocol.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench import images
from medbench.models.encoder_checks import check_unchanged, tensor_digests
from medbench.models.stage_sketches import stage_sketches
from medbench.models.user_encoder import BESIDE
from medbench.schema import Encoder, Method, UserError, Weights, checked, fingerprint, parsed
from medbench.schema.ingredients import raised
from medbench.stats.array_sketch import sketch
from medbench.system import atomic_write, locks
from medbench.system.environment import machine
from medbench.system.precision import kind
from medbench.system.progress_listener import report_progress
from medbench.system.row_checksums import DamagedArray, RowChecksums, crc32, record_of, seen_blocks

if TYPE_CHECKING:
    import torch

    from medbench.models.forward_pass import Division

# an ingredient, see `schema.ingredients`; raise it with every change of a feature, of BATCH, too
EMBEDDING = 1
log = logging.getLogger("medbench")
COUNT = 20  # writing what was done to the disk costs a twentieth of the time at most
HALF = 20  # times `BESIDE` in half precision: in a batch of another size its rounding is another
BATCH = 128  # another batch size changes the last bits of a feature


@dataclass(frozen=True, eq=False)
class Features:
    """Hold the frozen features of N images, and how they were made.

    array: (N, D) float32, memory-mapped (a write stays in memory). seconds: what computing them
    took, loading the encoder excluded. made_with: device and versions of the run that computed
    them, which may be an older one; None: they were given. checks: what the stages before them
    gave, see `stage_sketches`; {} where they were given, or are older than it.
    """

    array: np.ndarray
    seconds: float
    images_per_second: float | None  # None: they were given
    made_with: Mapping[str, Any] | None
    checks: Mapping[str, Any] = field(default_factory=dict)


def feature_key(
    pack_key: str, encoder: Encoder, weights: Weights, method: Method, precision: str, device: str
) -> str:
    """Return the cache key of features: a hash of everything that can change one of them.

    The kind of device (cpu, cuda) is included, as it changes the last bits. pack_key: of the
    images.
    """
    how = [method.name, method.stated_version, dict(method.settings)]
    return fingerprint(
        *(
            "features",
            1,
            128,
            pack_key,
            encoder.identity(),
            weights.identity,
            how,
            precision,
            kind(device),
        ),
        *raised({"features": EMBEDDING}),
    )


def cached(cache_dir: Path, key: str) -> Features | None:
    """Return the finished features of that key; None where there are none.

    What is damaged is removed, with a line that says so: it is computed again.
    """
    from filelock import Timeout

    folder = cache_dir / "features" / key
    try:
        return _opened(folder)
    except (ValueError, TypeError, FileNotFoundError) as error:
        try:
            with locks.locked(folder / "lock", timeout=0):
                _discard(folder, error)
        except Timeout:
            pass  # whoever holds it looks at it, too
    return None


def _opened(folder: Path) -> Features | None:
    """Open features; those of an older medbench are taken as they are, and get checksums.

    Raises ValueError, TypeError or FileNotFoundError for what is damaged.
    """
    if not (folder / "about.json").exists():
        return None
    record = parsed((folder / "about.json").read_bytes())
    checked(record, RECORD)
    sums = record_of(record)
    if sums is None:
        array = np.load(folder / "features.npy", mmap_mode="c")
        with suppress(OSError):  # a cache that cannot be written can be read
            atomic_write.record(
                folder / "about.json", {**record, "checksums": RowChecksums.of(array).to_json()}
            )
    else:
        array = sums.open(folder / "features.npy", "c")
        seen = seen_blocks(folder / "features.npy", sums)
        if not seen.all():  # a probe reads all of them, again and again
            sums.check(array)
            seen[:] = True
    return Features(
        array,
        record["seconds"],
        record["images_per_second"],
        record["made_with"],
        record.get("checks", {}),
    )


RECORD: dict[str, Any] = {
    "seconds": (int, float),
    "images_per_second": (int, float),
    "made_with": dict,
}


def _discard(folder: Path, why: Exception) -> None:
    log.warning("the features in %s are damaged (%s): computing them again", folder, why)
    _remove(folder)


def extract_features(
    pack: images.Pixels,
    build: Callable[[], torch.nn.Module],
    encoder: Encoder,
    key: str,
    cache_dir: Path,
    *,
    device: str,
    precision: str,
    stage: str = "embedding",
) -> Features:
    """Return the features of all N images of a pack, from the cache, else computed.

    build() -> the encoder; it is called only if needed. key: of `feature_key`. device: resolved.
    stage: the name under which progress is reported. A run that is killed, or loses its power,
    loses the batch in hand, and what has come since the last count where a disk is slow: batches
    that are on the disk are counted, the next run goes on after them. Another run that wants the
    same features waits for this one. Raises UserError for an encoder that does not give (n, D)
    numbers.
    """
    folder = cache_dir / "features" / key
    folder.mkdir(parents=True, exist_ok=True)
    with locks.locked(folder / "lock"):
        atomic_write.remove_abandoned(folder)
        try:
            found = _opened(folder)
        except (ValueError, TypeError, FileNotFoundError) as error:
            _discard(folder, error)
            found = None
        if found is None:
            _compute(pack, build(), encoder, folder, device, precision, stage)
            found = _opened(folder)
    assert found is not None
    return found


def _compute(
    pack: images.Pixels,
    net: torch.nn.Module,
    encoder: Encoder,
    folder: Path,
    device: str,
    precision: str,
    stage: str,
) -> None:
    total = len(pack)
    file, counter = folder / "features.npy", folder / "done.json"
    from medbench.models.forward_pass import Division

    done, seconds, out = _resume(file, counter, total)
    division = Division()
    crc = crc32(out[:done]) if out is not None else 0
    counted_rows = done
    checks, before = stage_sketches(pack, net, encoder, BATCH), tensor_digests(net)
    start = time.perf_counter() - seconds
    counted, counting = start, 0.0  # when, and how long it took
    report_progress(stage, done, total, "images")
    for values in forward(net, pack, np.arange(done, total), encoder, device, precision, division):
        if out is None:
            images.check_space(folder, total * values.shape[1] * 4)
            out = np.lib.format.open_memmap(file, "w+", np.float32, (total, values.shape[1]))
            images.reserve(file)
        out[done : done + len(values)] = values
        done += len(values)
        now = time.perf_counter()
        if now - counted > COUNT * counting:
            _check_sound(net, before, encoder, folder)  # what is counted is not looked at again
            out.flush()
            # a counter that reached the disk before its features would leave zeros among them
            atomic_write.sync(file)
            crc, counted_rows = crc32(out[counted_rows:done], crc), done
            atomic_write.record(
                counter,
                {"done": done, "seconds": now - start, "shape": list(out.shape), "crc32": crc},
            )
            counted, counting = time.perf_counter(), time.perf_counter() - now
        report_progress(stage, done, total, "images")
    assert out is not None, "a pack holds at least one image"
    _check_sound(net, before, encoder, folder)
    if encoder.kind == "function":
        _check_repeats(net, pack, out, encoder, folder, device, precision)
    out.flush()
    atomic_write.sync(file)
    seconds = time.perf_counter() - start
    # This file's presence publishes the features: nothing reads an entry without it.
    about = {
        "seconds": seconds,
        "images_per_second": total / seconds,
        "encoder": encoder.name,
        "size": encoder.size,
    }
    checks["features"] = sketch(out)
    sums = RowChecksums.of(out).to_json()
    made_with = {
        **machine(device),
        **({"images_at_a_time": division.largest} if division.largest else {}),
    }
    atomic_write.record(
        folder / "about.json",
        {**about, "made_with": made_with, "checks": checks, "checksums": sums},
    )
    counter.unlink(missing_ok=True)


def _check_sound(
    net: torch.nn.Module,
    before: dict[str, tuple[tuple[int, ...], str]],
    encoder: Encoder,
    folder: Path,
) -> None:
    """Check that the network's tensors are what they were.

    Raises UserError, and leaves nothing to go on from.
    """
    try:
        check_unchanged(net, before, encoder)
    except UserError:
        _remove(folder)
        raise


def _check_repeats(
    net: torch.nn.Module,
    pack: images.Pixels,
    out: np.ndarray,
    encoder: Encoder,
    folder: Path,
    device: str,
    precision: str,
) -> None:
    """Check that images get the same features beside others than they stood.

    Raises UserError: what a function of a user's keeps need not be a tensor, and what it does need
    not last.
    """
    index = np.unique(np.linspace(0, len(pack) - 1, min(BATCH, len(pack))).astype(int))
    again = next(forward(net, pack, index, encoder, device, precision))
    first = out[index]
    # what is not finite, the protocols tell
    largest = float(np.abs(first[np.isfinite(first)]).max(initial=0))
    apart = BESIDE * largest * (1 if precision == "fp32" else HALF)
    other = int((~np.isclose(again, first, rtol=0, atol=apart, equal_nan=True)).any(1).sum())
    if other:
        _remove(folder)
        what = f"{encoder.name} gives {other} of {len(index)} images other vectors at the end of the pass than in its course."
        raise UserError(what, then="fix the function: a vector must depend on the image alone")


def _remove(folder: Path) -> None:
    for name in ("about.json", "done.json", "features.npy"):
        (folder / name).unlink(missing_ok=True)


def forward(
    net: torch.nn.Module,
    pack: images.Pixels,
    index: np.ndarray,
    encoder: Encoder,
    device: str,
    precision: str,
    division: Division | None = None,
) -> Iterator[np.ndarray]:
    """Yield features (B, D) float32, batch after batch, at the encoder's own forward speed.

    index: (n,) rows of the pack, in that order. division: what batches were divided in, is noted
    there.
    """
    from medbench.models import forward_pass

    batches = images.batches(pack, index, BATCH, device, encoder.mean, encoder.std)
    return forward_pass.encoded(
        net, batches, encoder, device, precision, division or forward_pass.Division()
    )


def _resume(file: Path, counter: Path, total: int) -> tuple[int, float, np.memmap[Any, Any] | None]:
    """Return images done, seconds spent, and the features of a run that was killed.

    (0, 0, None) where there was none, or it left them damaged.
    """
    try:
        record = parsed(counter.read_bytes())
        checked(record, {"done": int, "seconds": (int, float), "shape": list, "crc32": int})
        out = RowChecksums(tuple(record["shape"]), "<f4", 1, ()).open(file, "r+")
        if len(out) != total or crc32(out[: record["done"]]) != record["crc32"]:
            raise DamagedArray("the rows that were done have another checksum")
    except FileNotFoundError:
        return 0, 0.0, None
    except (ValueError, TypeError) as error:
        log.warning(
            "the unfinished features %s cannot be gone on with (%s): beginning anew", file, error
        )
        file.unlink(missing_ok=True)
        return 0, 0.0, None
    return record["done"], record["seconds"], out
