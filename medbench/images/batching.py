"""Rows of a pack -> batches on the device, read ahead in threads.

A GPU gets them on a stream of their own, and is never waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.images.packing import Pixels
from medbench.system.progress_listener import heard_in_threads
from medbench.system.row_checksums import rows_into
from medbench.system.transfer import SideStream
from medbench.system.worker_pool import cores

if TYPE_CHECKING:
    import torch

_AHEAD = 2  # batches that wait, ready or being read, while the encoder works
# threads that read for a GPU, which takes 20,000 images a second; a CPU has no more than one to
# spare
_READERS = 2


def batches(
    pack: Pixels,
    index: np.ndarray,
    batch_size: int,
    device: str | torch.device,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    dtype: torch.dtype | None = None,
) -> Iterator[torch.Tensor]:
    """Yield (B, 3, S, S) tensors, (x / 255 - mean) / std, of the images at `index` (n,).

    In that order; the last may be smaller. mean, std: of R, G, B in [0, 1]. dtype: float32 by
    default. Memory format channels_last: the pack's own order, so it costs nothing. uint8 goes to
    the device, a quarter of the bytes; the arithmetic is done there.
    """
    import torch

    target = torch.device(device)
    # x / 255 / std - mean / std with one multiplication and one addition a value
    scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32, device=target)
    shift = torch.tensor(
        [-m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32, device=target
    )
    for block in blocks(pack.array, index, batch_size, target):
        yield normalise(block, scale, shift, dtype or torch.float32)


def blocks(
    array: Any, index: np.ndarray, batch_size: int, device: torch.device
) -> Iterator[torch.Tensor]:
    """Yield rows of a pack as (B, S, S, 3) uint8 tensors on the device, in the order of `index`.

    array: (N, S, S, 3) uint8, memory-mapped or computed (`Pack.array`). index: (n,) int. B is
    `batch_size`, and less in the last block where it does not divide n. Threads read ahead; closing
    the generator, or taking its last block, ends them.
    """
    index = np.asarray(index)
    return parts_ahead(
        array,
        (index[start : start + batch_size] for start in range(0, len(index), batch_size)),
        device,
    )


def parts_ahead(
    array: Any, wanted: Iterable[np.ndarray], device: torch.device
) -> Iterator[torch.Tensor]:
    """Yield the rows of each index (B,) int of `wanted` as (B, S, S, 3) uint8 on the device.

    array: (N, S, S, 3) uint8. `wanted` is read a few indices ahead of what is yielded, by threads
    that end when the generator is closed or exhausted.
    """
    gpu, parts = device.type == "cuda", iter(wanted)
    readers = _readers(array) if gpu else 1
    ahead = max(_AHEAD * _READERS, readers) if gpu else _AHEAD
    side = SideStream(device)
    read = heard_in_threads(rows_read)
    reading: deque[Future[torch.Tensor]] = deque()
    with ThreadPoolExecutor(readers, "medbench reader") as threads:
        try:
            while True:
                while len(reading) + len(side) <= ahead and (part := next(parts, None)) is not None:
                    reading.append(threads.submit(read, array, part, gpu))
                if not reading and not side:
                    return
                # on its way while the device works on the batch before; but what is not read yet is
                # waited for by nobody that has work
                while reading and (not side or (len(side) < 2 and reading[0].done())):
                    side.send(reading.popleft().result())
                yield side.receive()
        finally:
            for waiting in reading:
                waiting.cancel()


def _readers(array: Any) -> int:
    """How many threads read for a GPU: all cores, where rows are computed and not copied."""
    return max(_READERS, cores()) if getattr(array, "computed", False) else _READERS


def rows_read(array: Any, index: np.ndarray, pin: bool) -> torch.Tensor:
    """Return (B, S, S, 3) uint8: a copy of the rows at `index`, in pinned memory if asked for.

    The one copy that is made.
    """
    import torch

    if not pin:
        run = _as_range(index)
        found = array[index] if run is None else np.array(array[run])
        # a slice hides what lies beyond the end
        return torch.from_numpy(found if len(found) == len(index) else array[index])
    block = torch.empty((len(index), *array.shape[1:]), dtype=torch.uint8, pin_memory=True)
    rows_into(array, index, block.numpy())
    return block


def _as_range(index: np.ndarray) -> slice | None:
    """Return the rows as a slice, where they follow one another.

    It is read without a list of places.
    """
    if (
        len(index)
        and index[0] >= 0
        and int(index[-1]) - int(index[0]) == len(index) - 1
        and (np.diff(index) == 1).all()
    ):
        return slice(int(index[0]), int(index[-1]) + 1)
    return None


def normalise(
    block: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Return (B, 3, S, S) of `dtype`, channels_last.

    Block (B, S, S, 3) uint8 times scale (3,) plus shift (3,), per channel.
    """
    b, height, width, _ = block.shape
    # whole image rows as the last axis: three values a pixel would leave the processor's vector
    # units idle
    rows = block.reshape(b, height, width * 3).float()
    return (
        rows.mul_(scale.repeat(width))
        .add_(shift.repeat(width))
        .view(b, height, width, 3)
        .permute(0, 3, 1, 2)
        .to(dtype)
    )
