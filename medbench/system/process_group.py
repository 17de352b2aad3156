"""Processes that work together, as torchrun starts them.

Which this one is, who goes first, and that none works on when another has died.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from medbench.schema import UserError

T = TypeVar("T")
_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_ALONE = "env -u WORLD_SIZE medbench pretrain, for one process; torchrun --nproc-per-node 2 -m medbench pretrain, for two"
_POLL = 0.5  # seconds between two questions to the others


@dataclass(frozen=True, eq=False)
class ProcessGroup:
    """This process among those that work together.

    board: where all of them read and write, outside of what they compute; None for one alone.
    """

    device: str
    rank: int = 0
    size: int = 1
    board: Any = None

    def in_turn(self, work: Callable[[], T]) -> T:
        """Let the first process do `work`, then all others; return what it returns.

        They find in the caches what it made. Nobody waits in a collective, which would be taken for
        lost after some minutes.
        """
        if self.size == 1 or self.rank == 0:
            found = work()
            if self.board is not None:
                self.board.set("first", "done")
            return found
        while not self.board.check(["first"]):
            time.sleep(_POLL)
        return work()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """End all processes on an error of one, and say whose it was, and why.

        The others sit in a collective, and would wait. Raises SystemExit in a process that is not
        the first to fail.
        """
        if self.board is None:
            yield
            return
        over = threading.Event()
        threading.Thread(target=self._watch, args=(over,), daemon=True).start()
        try:
            yield
            self._leave(over)
        except BaseException as error:
            over.set()
            mine = (
                f"process {self.rank}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            )
            if self.board.compare_set("failed", "", mine).decode() != mine:
                raise SystemExit(1) from None  # of all it is told once
            # the others read it, some of them with the board that ends with this process
            time.sleep(2 * _POLL)
            raise
        finally:
            over.set()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(_POLL):
            try:
                failed = self.board.get("failed").decode() if self.board.check(["failed"]) else ""
            except RuntimeError as error:  # the board lies with the first process
                failed = f"the first process is gone ({str(error).splitlines()[0][:100]})"
            if failed and not over.is_set():
                print(
                    f"Stopped with all processes of this training. {failed}",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(1)

    def _leave(self, over: threading.Event) -> None:
        """Leave the group, the first process last.

        The board is with it, and must outlive who reads it.
        """
        from torch import distributed

        if self.rank:
            over.set()
        self.board.set(f"left {self.rank}", "yes")
        while self.rank == 0 and not self.board.check(
            [f"left {rank}" for rank in range(self.size)]
        ):
            time.sleep(_POLL)
        if distributed.is_initialized():
            distributed.destroy_process_group()


def join(device: str) -> ProcessGroup:
    """Join the other processes under torchrun, else return a group of this process alone.

    device: "cpu", or a GPU, of which the process then takes the one of its LOCAL_RANK and makes it
    the current one. Sets up torch.distributed (NCCL on GPUs, Gloo on the CPU), and blocks until all
    WORLD_SIZE processes have come; without WORLD_SIZE, or with 1, nothing of this happens. Raises
    UserError where the environment speaks of several processes that torchrun, or what takes its
    place, has not started, and where LOCAL_RANK is no GPU of this machine; torch's own RuntimeError
    where the others do not come in time.
    """
    processes = _number("WORLD_SIZE", 1)
    if processes == 1:
        return ProcessGroup(device)
    lacking = [name for name in _NEEDED if name not in os.environ]
    if lacking:
        what = f"WORLD_SIZE is {processes}, and {', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set: this is not a process of torchrun's."
        raise UserError(what, then=_ALONE)
    import torch

    # which exports what its documentation names by other ways than mypy knows
    distributed: Any = torch.distributed
    if device != "cpu":
        device = _own_gpu(torch.cuda.device_count())
        torch.cuda.set_device(device)  # what is told to all goes over it
    board, rank, processes = next(distributed.rendezvous("env://"))
    # without a device of its own a barrier of NCCL takes the first GPU in every process, and hangs
    place = None if device == "cpu" else torch.device(device)
    meeting = distributed.PrefixStore("collectives", board)
    backend = "gloo" if device == "cpu" else "nccl"
    distributed.init_process_group(
        backend, store=meeting, rank=rank, world_size=processes, device_id=place
    )
    return ProcessGroup(device, rank, processes, distributed.PrefixStore("medbench", board))


def _own_gpu(there: int) -> str:
    """Return the GPU of this process.

    there: how many this machine has.
    """
    local = _number("LOCAL_RANK", 0)
    if local >= there:
        what = f"LOCAL_RANK is {local}, and this machine has {there} GPU{'' if there == 1 else 's'}: a process takes one."
        raise UserError(
            what, then=f"torchrun --nproc-per-node {max(there, 1)} -m medbench pretrain"
        )
    return f"cuda:{local}"


def _number(name: str, default: int) -> int:
    """Read a number from the environment. Raises UserError for what is no number."""
    given = os.environ.get(name, str(default))
    if not given.isdecimal():
        raise UserError(
            f"{name} is '{given}'.", allowed=["a number, as torchrun sets it"], then=_ALONE
        )
    return max(int(given), 1) if name == "WORLD_SIZE" else int(given)
