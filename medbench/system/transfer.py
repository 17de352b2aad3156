"""From the host to a GPU and back without waiting for it.

Out of pinned memory, in as few copies as there are moments, one step behind or ahead.

On a CPU everything here is the thing itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

_ALIGNED = 16  # bytes: a tensor in a shared block begins at a multiple, where every type may


def sent(tensors: Sequence[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """Copy small CPU tensors of any shapes to a GPU in one transfer; nobody waits for it.

    On another device nothing is copied: the same tensors come back. Tensors must have a type that
    numpy knows (not bfloat16), and need no gradient. The returned ones share one block of the GPU's
    memory.
    """
    import torch

    if device.type != "cuda":
        return list(tensors)
    starts, end = [], 0
    for tensor in tensors:
        starts.append(end)
        end += -(-tensor.numel() * tensor.element_size() // _ALIGNED) * _ALIGNED
    block = torch.empty(end, dtype=torch.uint8, pin_memory=True)
    host = block.numpy()
    for start, tensor in zip(starts, tensors, strict=True):
        values = tensor.contiguous().numpy().reshape(-1).view("u1")
        host[start : start + len(values)] = values
    there = block.to(device, non_blocking=True)
    return [
        there[start : start + tensor.numel() * tensor.element_size()]
        .view(tensor.dtype)
        .view(tensor.shape)
        for start, tensor in zip(starts, tensors, strict=True)
    ]


def array_sent(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy one numpy array to the device as a tensor, as `sent` does.

    On a device that is no GPU it shares the array's memory.
    """
    import torch

    return sent([torch.from_numpy(array)], device)[0]


class SideStream:
    """Blocks of pinned memory on their way to a GPU, beside what it computes.

    They arrive in the order in which they were sent.
    """

    def __init__(self, device: torch.device):
        import torch

        self.device = device
        self.stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.moving: deque[tuple[torch.Tensor, Any]] = deque()

    def __len__(self) -> int:
        return len(self.moving)

    def send(self, block: torch.Tensor) -> None:
        """Begin to move a block (n, ...) to the device."""
        import torch

        if self.stream is None:
            self.moving.append((block, None))
            return
        with torch.cuda.stream(self.stream):
            there, arrived = block.to(self.device, non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(self.stream)
        self.moving.append((there, arrived))

    def receive(self) -> torch.Tensor:
        """Return the block (n, ...) that was sent first, on the device.

        The device waits for it, the host does not. Raises IndexError where none is on its way.
        """
        import torch

        block, arrived = self.moving.popleft()
        if arrived is not None:
            here = torch.cuda.current_stream(self.device)
            here.wait_event(arrived)
            # its memory belongs to the side stream, which must not take it back too soon
            block.record_stream(here)
        return block


class Fetched:
    """A tensor on its way to the host, queued behind what makes it.

    `array` waits for that alone, not for what was queued since.
    """

    def __init__(self, values: torch.Tensor):
        import torch

        self.shape, self.host = values.shape, values
        self.arrived: Any = None
        if values.is_cuda:
            self.host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self.host.copy_(values, non_blocking=True)
            self.arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            # which need not be the process's first GPU
            self.arrived.record(torch.cuda.current_stream(values.device))

    def array(self) -> np.ndarray:
        """Wait for the copy, and return it, (n, ...)."""
        if self.arrived is not None:
            self.arrived.synchronize()
        found: np.ndarray = self.host.numpy()
        return found
