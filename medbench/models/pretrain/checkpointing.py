"""What of a pretraining is on disk, and which of the processes that share it writes."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from medbench.system import atomic_write, locks
from medbench.system.cache_folder import archive_is_whole
from medbench.system.environment import machine
from medbench.system.progress_listener import report_progress

SAVE_EVERY = 20.0  # seconds; rarer where writing takes long
POLL = 5.0  # seconds between two questions for a lock that another run holds


@dataclass(frozen=True)
class DistributedContext:
    """The processes that train together. One, where no process group is initialised."""

    rank: int
    size: int

    @staticmethod
    def here() -> DistributedContext:
        """Return the place of this process in torch's group, 0 of 1 outside of one."""
        shared = distributed.is_available() and distributed.is_initialized()
        return (
            DistributedContext(distributed.get_rank(), distributed.get_world_size())
            if shared
            else DistributedContext(0, 1)
        )

    def share(self, n: int) -> slice:
        """Return which of n members of a batch are this process's."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def wrap(self, module: torch.nn.Module, device: str) -> torch.nn.Module:
        """Wrap the network so that its gradients are those of the whole batch.

        Batch norm sees the whole batch on GPUs; on CPUs, which torch has no such layer for, its
        share.
        """
        if self.size == 1:
            return module
        cuda = torch.device(device).type == "cuda"
        if cuda:
            # torch's own drops the activation that timm's norms carry
            from timm.layers.norm_act import convert_sync_batchnorm

            convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        with warnings.catch_warnings():
            # torch's new name for it (2.15) is not there in 2.9, and means a little less
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return torch.nn.parallel.DistributedDataParallel(
                module, device_ids=[torch.device(device)] if cuda else None, broadcast_buffers=False
            )

    def mean(self, value: torch.Tensor) -> float:
        """Return the mean of a value over the processes.

        value: one number, of shape ().
        """
        if self.size > 1:
            value = value.clone()
            distributed.all_reduce(value)
        return float(value) / self.size

    def barrier(self) -> None:
        """Wait until every process of the group has come here."""
        if self.size > 1:
            distributed.barrier()

    def told(self, value: Any) -> Any:
        """Return what the first process says, in all processes.

        As each disk has its own answer. value: the first one's counts; it must be picklable.
        """
        if self.size == 1:
            return value
        said = [value if self.rank == 0 else None]
        distributed.broadcast_object_list(said)
        return said[0]

    def gathered(self, value: Any) -> list[Any]:
        """Return what each process says, in their order, in all processes.

        value: must be picklable.
        """
        if self.size == 1:
            return [value]
        said: list[Any] = [None] * self.size
        distributed.all_gather_object(said, value)
        return said


@contextmanager
def locked(folder: Path, world: DistributedContext) -> Iterator[bool]:
    """Hold the folder of a pretraining while inside; give whether it is still to be done.

    False where another run has finished it while this one waited. The first process holds it, and
    says how it stands: on several machines each may have a folder of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        # asked for again and again: a process that waits in a collective for minutes is taken for
        # lost
        while not world.told(
            _taken(folder / "lock", held, POLL if world.size > 1 else -1)
            if world.rank == 0
            else None
        ):
            pass
        if world.rank == 0:
            atomic_write.remove_abandoned(folder)
        yield not world.told((folder / "weights.pth").exists())
        world.barrier()


def _taken(file: Path, held: ExitStack, timeout: float) -> bool:
    from filelock import Timeout

    try:
        held.enter_context(locks.locked(file, timeout))
    except Timeout:
        return False
    return True


def finished(folder: Path) -> bool:
    """Return whether a pretraining's weights are there and whole, as the first process sees it."""
    world = DistributedContext.here()
    return bool(
        world.told(
            archive_is_whole(folder / "weights.pth", "pretraining again")
            if world.rank == 0
            else None
        )
    )


@dataclass(eq=False)
class CheckpointWriter:
    """Checkpoint, history and progress of one pretraining.

    total: views. stage: as which it reports its progress.
    """

    folder: Path
    world: DistributedContext
    device: str
    total: int
    stage: str
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0  # of the runs before this one
    started: float = field(default_factory=time.perf_counter)
    saved_at: float = field(default_factory=time.perf_counter)
    saving: float = 0.0

    def load(self) -> dict[str, Any] | None:
        """Load the state that a killed run left, or None.

        On the CPU: networks and optimiser copy what they need to where they are.
        """
        saved: dict[str, Any] | None = self.world.told(
            self._own() if self.world.rank == 0 else None
        )
        if saved is not None:
            self.history, self.seconds = saved["history"], saved["seconds"]
        return saved

    def _own(self) -> dict[str, Any] | None:
        file = self.folder / "checkpoint.pth"
        if not archive_is_whole(file, "beginning anew", kept=False):
            return None
        found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return found

    def note(self, views: float, record: Mapping[str, Any]) -> None:
        """Add a record to the history, at so many views seen, and report the progress."""
        self.history.append({**record, "views": round(views), "seconds": round(self._seconds(), 1)})
        if self.world.rank == 0 and record.get("loss") is not None:
            speed = views / max(self._seconds(), 1e-9)
            chance = f" (chance {record['chance']:.3f})" if "chance" in record else ""
            report_progress(
                self.stage,
                round(views),
                self.total,
                "views",
                f"loss {record['loss']:.3f}{chance}, {speed:.0f} views/s",
            )

    def due(self) -> bool:
        """Return whether it is time for a checkpoint.

        Often enough to lose little, seldom enough to cost little.
        """
        return time.perf_counter() - self.saved_at > max(SAVE_EVERY, 20 * self.saving)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write what a killed training goes on from: its state and its history.

        state: as torch.save takes it. In a process that is not the first nothing is written. Raises
        OSError for a full disk.
        """
        start = time.perf_counter()
        if self.world.rank == 0:
            whole = {**state, "history": self.history, "seconds": self._seconds()}
            atomic_write.archive(
                self.folder / "checkpoint.pth", lambda file: torch.save(whole, file)
            )
            self.write_history()
        self.saved_at = time.perf_counter()
        self.saving = self.saved_at - start

    def finish(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Write the weights, whose presence says that the pretraining is done."""
        if self.world.rank == 0:
            self.write_history()
            plain = {name: value.cpu().contiguous() for name, value in weights.items()}
            atomic_write.archive(self.folder / "weights.pth", lambda file: torch.save(plain, file))
            (self.folder / "checkpoint.pth").unlink(missing_ok=True)

    def write_history(self) -> None:
        """Write history.json: machine, seconds, views a second and steps.

        In a process that is not the first nothing is written.
        """
        if self.world.rank > 0:
            return
        views = self.history[-1]["views"] if self.history else 0
        speed = {
            "seconds": round(self._seconds(), 1),
            "views_per_second": round(views / max(self._seconds(), 1e-9), 1),
        }
        steps = [
            {name: None if _undefined(value) else value for name, value in step.items()}
            for step in self.history
        ]
        record = {**machine(self.device), **speed, "processes": self.world.size, "steps": steps}
        atomic_write.record(self.folder / "history.json", record, indent=1)

    def _seconds(self) -> float:
        return self.seconds + time.perf_counter() - self.started


def _undefined(value: Any) -> bool:
    """JSON has no NaN: the loss of a training that failed is null."""
    return isinstance(value, float) and not math.isfinite(value)
