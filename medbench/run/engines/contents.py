"""What a job needs and makes, by content.

Packs, weights and features move between caches that share no disk. The run's own machine has the
master copy, at a `Desk`. A worker elsewhere fetches what its cache lacks, and hands back what it
made. What arrives has checksums, which are looked at when it is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medbench import images
from medbench.data.evaluation_sets import EvaluationSet
from medbench.run.jobs import Job, sets_of
from medbench.run.plans import Plan
from medbench.run.prepare import features_key, pretrained_folder
from medbench.run.units import Unit
from medbench.schema import PlannedCell, UserError, fingerprint
from medbench.system import atomic_write, locks

#: Bytes that travel at once.
CHUNK = 32 << 20
#: Of each kind of folder the file that says that it is finished: it is written last.
MARKS = {"packs": "images.npy", "features": "about.json", "pretrained": "weights.pth"}
Ask = Callable[..., Any]
log = logging.getLogger("medbench")


class Desk:
    """The master copy, on the machine of the run.

    given: files of the user's own that a worker may read.
    """

    def __init__(self, cache_dir: Path, given: Sequence[Path]):
        self.cache_dir, self.given = cache_dir, {str(file) for file in given}
        self.messages: list[tuple[int, Any]] = []

    def files(self, folder: str) -> dict[str, int]:
        """Return name -> bytes of the files of a finished folder of the cache.

        {} where it is not finished.
        """
        place = self.cache_dir / folder
        if not (place / MARKS[folder.partition("/")[0]]).exists():
            return {}
        return {
            file.name: file.stat().st_size
            for file in place.iterdir()
            if file.is_file() and _travels(file.name)
        }

    def size(self, file: str) -> int:
        """Return the bytes of a file of the user's own."""
        return self._place(file).stat().st_size

    def read(self, file: str, offset: int) -> bytes:
        """Read a piece of a file, CHUNK bytes at most from `offset`; b"" at its end.

        file: relative to the cache, or one of `given`.
        """
        with self._place(file).open("rb") as stream:
            stream.seek(offset)
            return stream.read(CHUNK)

    def write(self, file: str, offset: int, piece: bytes, sender: str, last: bool) -> None:
        """Take a piece of a file for the cache, at `offset`; the last one makes the file whole.

        file: relative to the cache. sender: a name that no other process has.
        """
        place = self.cache_dir / file
        partial = place.with_name(f"{place.name}.{sender}.partial")
        place.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("r+b" if offset else "wb") as stream:
            stream.seek(offset)
            stream.write(piece)
        if last:
            atomic_write.sync(partial)
            partial.replace(place)

    def _place(self, file: str) -> Path:
        return Path(file) if file in self.given else self.cache_dir / file

    def tell(self, number: int, message: Any) -> None:
        """Take what a worker tells of a job."""
        self.messages.append((number, message))

    def heard(self) -> list[tuple[int, Any]]:
        """Return what workers told since the last call: (number of the job, message)."""
        found, self.messages = self.messages, []
        return found


def _travels(name: str) -> bool:
    return name != "lock" and not name.endswith(".partial")


class Elsewhere:
    """A worker's cache. ask("read", ...) calls the desk's method."""

    def __init__(self, cache_dir: Path, ask: Ask):
        self.cache_dir, self.ask = cache_dir, ask

    def fetch(self, folder: str) -> bool:
        """Have a finished folder of the cache here, copied from the desk where it lacks here.

        folder: relative to the cache. False where the desk has none.
        """
        place, kind = self.cache_dir / folder, folder.partition("/")[0]
        if (place / MARKS[kind]).exists():
            return True
        files = self.ask("files", folder)
        if not files:
            return False
        place.mkdir(parents=True, exist_ok=True)
        with locks.locked(place / "lock"):
            for name in sorted(files, key=lambda name: name == MARKS[kind]):
                if not (place / name).exists():
                    self._get(f"{folder}/{name}", place / name, files[name])
        return True

    def own(self, file: Path) -> Path:
        """Return the place here of a file of the user's own on the machine of the run.

        The same place where a file of that size is there, else a copy in the cache, fetched now.
        """
        size = self.ask("size", str(file))
        if file.exists() and file.stat().st_size == size:
            return file
        place = self.cache_dir / "fetched" / fingerprint(str(file), size)[:32] / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        with locks.locked(place.parent / "lock"):
            if not place.exists():
                self._get(str(file), place, size)
        return place

    def _get(self, name: str, place: Path, size: int) -> None:
        def fill(partial: Path) -> None:
            with partial.open("wb") as stream:
                for offset in range(0, max(size, 1), CHUNK):
                    stream.write(self.ask("read", name, offset))
                if stream.tell() != size:
                    raise UserError(f"{name} changed while it was fetched.", then="run again")

        atomic_write.write(place, fill)

    def hand_back(self, folder: str) -> None:
        """Give the desk a finished folder that it lacks."""
        place, mark = self.cache_dir / folder, MARKS[folder.partition("/")[0]]
        if not (place / mark).exists() or self.ask("files", folder):
            return
        names = [file.name for file in place.iterdir() if file.is_file() and _travels(file.name)]
        for name in sorted(names, key=lambda name: name == mark):
            size, sender = (place / name).stat().st_size, f"{atomic_write.machine()}"
            with (place / name).open("rb") as stream:
                for offset in range(0, max(size, 1), CHUNK):
                    self.ask(
                        "write",
                        f"{folder}/{name}",
                        offset,
                        stream.read(CHUNK),
                        sender,
                        offset + CHUNK >= size,
                    )

    def plan(self, plan: Plan) -> Plan:
        """Return a plan with this cache, and with the user's own files as they lie here."""
        return replace(
            plan, cache_dir=self.cache_dir, units=tuple(self._unit(unit) for unit in plan.units)
        )

    def _unit(self, unit: Unit) -> Unit:
        encoder = (
            replace(unit.encoder, file=self.own(unit.encoder.file))
            if unit.encoder.file
            else unit.encoder
        )
        weights, start = (
            replace(one, file=self.own(one.file)) if one and one.file else one
            for one in (unit.weights, unit.start)
        )
        assert weights is not None
        return replace(
            unit,
            encoder=encoder,
            weights=weights,
            start=start,
            members=tuple(map(self._unit, unit.members)),
        )


def files_of(plan: Plan) -> list[Path]:
    """List the files that a plan's units read beside the images.

    Weights, a user's own functions and features.
    """
    parts = [part for unit in plan.units for part in (unit, *unit.members)]
    named = [
        file
        for part in parts
        for file in (part.encoder.file, part.weights.file, part.start.file if part.start else None)
    ]
    return list(dict.fromkeys(file for file in named if file))


def packs_of(plan: Plan, job: Job, todo: Sequence[PlannedCell]) -> list[str]:
    """Name the folders of the packs that a job's images lie in, each once.

    Relative to the cache folder: `packs/KEY`. todo: the cells of the job that lack a row.
    """
    keys = []
    for part in job.unit.members or (job.unit,):
        for target in (
            (None, *plan.targets_of(part.data)) if part.encoder.kind != "features" else ()
        ):
            if target is None or (
                target.apart
                and not target.corruption
                and any(cell.cell.target == target.name for cell in todo)
            ):
                hashes = target.hashes if target else part.data.hashes
                keys.append(images.pack_key(hashes, *part.encoder.form))
    return [f"packs/{key}" for key in dict.fromkeys(keys)]


def made_of(plan: Plan, job: Job, todo: Sequence[PlannedCell], device: str) -> list[str]:
    """Name the folders of weights and features that a job takes or makes, each once.

    Relative to the cache folder: `pretrained/NAME`, `features/KEY`. They need not exist. todo: the
    cells of the job that lack a row; a job that trains on pixels has no features. device: that
    weights are pretrained on.
    """
    found = []
    sets: list[EvaluationSet | None] = [] if job.pixels else sets_of(plan, job.unit, todo)
    for part in job.unit.members or (job.unit,):
        if part.recipes:
            found.append(f"pretrained/{pretrained_folder(plan, part, device).name}")
        if part.encoder.kind != "features":
            found += [f"features/{features_key(part, device, target)}" for target in sets]
    return list(dict.fromkeys(found))
