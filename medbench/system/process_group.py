"""Processes that work together, as torchrun starts them: which this one is."""

from __future__ import annotations

import os

from medbench.schema import UserError

_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_ALONE = "env -u WORLD_SIZE medbench pretrain, for one process; torchrun --nproc-per-node 2 -m medbench pretrain, for two"


def join(device: str) -> tuple[str, int, int]:
    """Under torchrun: join the other processes. This one's device, its rank, and their number; 0 and 1 where it is alone.

    Raises UserError where the surroundings speak of several processes that torchrun, or what takes its place, has not started.
    """
    processes = _number("WORLD_SIZE", 1)
    if processes == 1:
        return device, 0, 1
    lacking = [name for name in _NEEDED if name not in os.environ]
    if lacking:
        what = f"WORLD_SIZE is {processes}, and {', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set: this is no process of torchrun's."
        raise UserError(what, then=_ALONE)
    import torch
    from torch import distributed

    if device != "cpu":
        device = _own_gpu(torch.cuda.device_count())
    if not distributed.is_initialized():
        # without a device of its own a barrier of NCCL takes the first GPU in every process, and hangs
        place = None if device == "cpu" else torch.device(device)
        distributed.init_process_group("gloo" if device == "cpu" else "nccl", device_id=place)
    return device, distributed.get_rank(), processes


def _own_gpu(there: int) -> str:
    """Return the GPU of this process.

    there: how many this machine has.
    """
    local = _number("LOCAL_RANK", 0)
    if local >= there:
        what = f"LOCAL_RANK is {local}, and this machine has {there} GPU{'' if there == 1 else 's'}: a process takes one."
        raise UserError(what, then=f"torchrun --nproc-per-node {max(there, 1)} -m medbench pretrain")
    return f"cuda:{local}"


def _number(name: str, default: int) -> int:
    """Read a number from the environment. Raises UserError for what is no number."""
    given = os.environ.get(name, str(default))
    if not given.isdecimal():
        raise UserError(f"{name} is '{given}'.", allowed=["a number, as torchrun sets it"], then=_ALONE)
    return max(int(given), 1) if name == "WORLD_SIZE" else int(given)
