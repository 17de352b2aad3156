"""Rows of a pack -> normalised batches on the device, read ahead by one thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medbench.images.packing import Pixels
from medbench.system.progress_listener import heard_in_threads

if TYPE_CHECKING:
    import torch

_AHEAD = 2  # batches that wait, ready, while the encoder works


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
    """Yield (B, 3, S, S) tensors, (x / 255 - mean) / std, of the images at `index` (n,) int, in that order; the last may be smaller.

    mean, std: of R, G, B in [0, 1]. dtype: float32 by default. Memory format channels_last: the pack's own order, so it costs nothing.
    uint8 goes to the device, a quarter of the bytes; the arithmetic is done there.
    """
    import torch

    target = torch.device(device)
    ready: queue.Queue[torch.Tensor | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()
    args = (pack.array, np.asarray(index), batch_size, target.type == "cuda", ready, stop)
    reader = threading.Thread(target=heard_in_threads(_read_ahead), args=args, daemon=True)
    reader.start()
    # x / 255 / std - mean / std with one multiplication and one addition a value
    scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32, device=target)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32, device=target)
    try:
        while (block := ready.get()) is not None:
            if isinstance(block, BaseException):
                raise block
            yield normalise(block.to(target, non_blocking=True), scale, shift, dtype or torch.float32)
    finally:
        stop.set()
        reader.join()


def normalise(block: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(B, 3, S, S) of `dtype`, channels_last: block (B, S, S, 3) uint8 times scale (3,) plus shift (3,), per channel."""
    b, height, width, _ = block.shape
    # whole image rows as the last axis: three values a pixel would leave the processor's vector units idle
    rows = block.reshape(b, height, width * 3).float()
    return rows.mul_(scale.repeat(width)).add_(shift.repeat(width)).view(b, height, width, 3).permute(0, 3, 1, 2).to(dtype)


def _read_ahead(
    array: np.ndarray,
    index: np.ndarray,
    batch_size: int,
    pin: bool,
    ready: queue.Queue[torch.Tensor | BaseException | None],
    stop: threading.Event,
) -> None:
    import torch

    try:
        for start in range(0, len(index), batch_size):
            block = torch.from_numpy(array[index[start : start + batch_size]])
            if not _put(ready, block.pin_memory() if pin else block, stop):
                return
        _put(ready, None, stop)
    except BaseException as error:  # whatever it is, the consumer must hear of it
        _put(ready, error, stop)


def _put(ready: queue.Queue[torch.Tensor | BaseException | None], item: torch.Tensor | BaseException | None, stop: threading.Event) -> bool:
    """Put an item into the queue; return False where the consumer has gone."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
