"""What of a pretraining is on disk, and which of the processes that share it writes."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
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


@dataclass(frozen=True)
class DistributedContext:
    """The processes that train together. One, where no process group is initialised."""

    rank: int
    size: int

    @staticmethod
    def here() -> DistributedContext:
        shared = distributed.is_available() and distributed.is_initialized()
        return DistributedContext(distributed.get_rank(), distributed.get_world_size()) if shared else DistributedContext(0, 1)

    def share(self, n: int) -> slice:
        """Return this process's members of n."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def wrap(self, module: torch.nn.Module, device: str) -> torch.nn.Module:
        """Gradients as of the whole batch. Batch norm sees the whole batch on GPUs; on CPUs, which torch has no such layer for, its share."""
        if self.size == 1:
            return module
        cuda = torch.device(device).type == "cuda"
        if cuda:
            from timm.layers.norm_act import convert_sync_batchnorm  # torch's own drops the activation that timm's norms carry

            convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        with warnings.catch_warnings():
            # torch's new name for it (2.15) is not there in 2.9, and means a little less
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return torch.nn.parallel.DistributedDataParallel(
                module, device_ids=[torch.device(device)] if cuda else None, broadcast_buffers=False
            )

    def mean(self, value: torch.Tensor) -> float:
        """Over the processes."""
        if self.size > 1:
            value = value.clone()
            distributed.all_reduce(value)
        return float(value) / self.size

    def barrier(self) -> None:
        if self.size > 1:
            distributed.barrier()


@contextmanager
def locked(folder: Path, world: DistributedContext) -> Iterator[bool]:
    """Hold the folder; False where another run has finished it while this one waited."""
    folder.mkdir(parents=True, exist_ok=True)
    with locks.locked(folder / "lock") if world.rank == 0 else nullcontext():
        world.barrier()
        done = (folder / "weights.pth").exists()
        if world.rank == 0:
            atomic_write.remove_abandoned(folder)
        world.barrier()
        yield not done
        world.barrier()


@dataclass(eq=False)
class CheckpointWriter:
    """Checkpoint, history and progress of one pretraining. total: views. stage: as which it reports its progress."""

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
        """Load the state that a killed run left, or None."""
        file = self.folder / "checkpoint.pth"
        if not archive_is_whole(file, "beginning anew", kept=False):
            return None
        saved: dict[str, Any] = torch.load(file, map_location=self.device, weights_only=True)
        self.history, self.seconds = saved["history"], saved["seconds"]
        return saved

    def note(self, views: float, record: Mapping[str, Any]) -> None:
        """Add a line to the history."""
        self.history.append({**record, "views": round(views), "seconds": round(self._seconds(), 1)})
        if self.world.rank == 0 and record.get("loss") is not None:
            speed = views / max(self._seconds(), 1e-9)
            report_progress(self.stage, round(views), self.total, "views", f"loss {record['loss']:.3f}, {speed:.0f} views/s")

    def due(self) -> bool:
        """Whether it is time for a checkpoint: often enough to lose little, seldom enough to cost little."""
        return time.perf_counter() - self.saved_at > max(SAVE_EVERY, 20 * self.saving)

    def save(self, state: Mapping[str, Any]) -> None:
        start = time.perf_counter()
        if self.world.rank == 0:
            whole = {**state, "history": self.history, "seconds": self._seconds()}
            atomic_write.archive(self.folder / "checkpoint.pth", lambda file: torch.save(whole, file))
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
        if self.world.rank > 0:
            return
        views = self.history[-1]["views"] if self.history else 0
        speed = {"seconds": round(self._seconds(), 1), "views_per_second": round(views / max(self._seconds(), 1e-9), 1)}
        steps = [{name: None if _undefined(value) else value for name, value in step.items()} for step in self.history]
        record = {**machine(self.device), **speed, "processes": self.world.size, "steps": steps}
        atomic_write.record(self.folder / "history.json", record, indent=1)

    def _seconds(self) -> float:
        return self.seconds + time.perf_counter() - self.started


def _undefined(value: Any) -> bool:
    """JSON has no NaN: the loss of a training that failed is null."""
    return isinstance(value, float) and not math.isfinite(value)
