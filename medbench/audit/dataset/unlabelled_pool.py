"""A task's images without labels, less what would make a score too good.

Left out and counted: every copy of a validation or test image, by the audit's own search, and every
image of a group that stands there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medbench import images
from medbench.audit.dataset import auditing, closer_look, duplicates
from medbench.audit.dataset.audited_data import of_data, of_list
from medbench.audit.dataset.pack_rows import Rows
from medbench.data.evaluation_sets import EvaluationSet
from medbench.data.task_data import TaskData
from medbench.data.unlabelled import UnlabelledPool, sources
from medbench.images.joined_rows import JoinedRows
from medbench.models import encoders
from medbench.schema import Grid, Image, UserError, checked, fingerprint, parsed, spelling
from medbench.system import atomic_write

#: Of copies alone: a pool may have many, and each that is found keeps the search going.
EFFORT = duplicates.Effort(far=10, points=False, random=160, patience=256, limit=2_000, per_image=1)
VERSION = 2  # raise it with every change of what is left out


def with_unlabelled(
    data: TaskData,
    grid: Grid,
    tasks: Sequence[str],
    cache_dir: Path,
    away: Sequence[EvaluationSet] = (),
) -> TaskData:
    """Return the data of a run with its images without labels.

    Those of the task itself, and those that the user names (`grid.unlabelled`), less copies and
    images of groups of validation and test. tasks: the names of the run's. away: other data sets
    that the run is scored on, of which no copy may be seen either. Raises UserError where they are
    not found, or none is left.
    """
    found = _collected(data, grid, tasks, cache_dir)
    if found is None:
        return data
    word = data.task.groups or "patient"
    names = {
        spelling(name)
        for part, split in data.parts.items()
        if part != "train"
        for name in np.unique(split.groups).tolist()
    }
    theirs = np.array(
        [found.grouped and spelling(name) in names for name in found.groups.tolist()], bool
    )
    copies = _copies(found, data, cache_dir, away)
    kept = np.flatnonzero(~(copies | theirs))
    if not len(kept):
        raise UserError(
            f"Every unlabelled image of '{data.task.name}' is a copy, or of a {word}, of its validation and test parts."
        )
    left = replace(
        _taken(found, kept),
        copies=int(copies.sum()),
        patients=int((theirs & ~copies).sum()),
        away=tuple(dict.fromkeys(other.name for other in away)),
    )
    return replace(data, unlabelled=left)


def _collected(
    data: TaskData, grid: Grid, tasks: Sequence[str], cache_dir: Path
) -> UnlabelledPool | None:
    """Read all that there is; None where nothing was given."""
    every: list[Image] = []
    hashes: list[str] = []
    groups: list[str] = []
    names, named = [], []
    own = data.task.unlabelled if data.data != "phantom" else None
    if own is not None:
        names.append(own.name)
        every += own.images
        hashes += images.content_hashes(own.images, cache_dir, f"reading {own.name}")
        groups += (
            [f"{own.name}/{one}" for one in own.ids.tolist()]
            if own.groups is None
            else own.groups.tolist()
        )
        named.append(own.groups is not None)
    word, theirs = data.task.groups or "patient", ""
    for name, place, owners in sources(grid, data.task.name, tasks, cache_dir):
        listed = of_list(place, cache_dir)
        names.append(name)
        every += listed.images
        hashes += listed.hashes
        whose = owners.read(place) if owners else {}
        own_name = [f"{name}/{one}" for one in listed.ids.tolist()]
        stems = [Path(one).stem for one in listed.ids.tolist()]
        if listed.grouped:
            own_name = listed.groups.tolist()
        groups += [whose.get(stem, one) for stem, one in zip(stems, own_name, strict=True)]
        named.append(bool(listed.grouped) or all(stem in whose for stem in stems))
        if owners and whose and word not in (owners.word, "group"):
            theirs = owners.word  # names of another kind than the task's
    if not every:
        return None
    grouped = all(named) and data.task.groups is not None and not theirs
    return UnlabelledPool(
        tuple(names), every, hashes, np.array(groups), grouped, word, owners=theirs
    )


def _taken(pool: UnlabelledPool, index: np.ndarray) -> UnlabelledPool:
    # a list of content hashes knows each image's format, and keeps it
    return replace(
        pool,
        images=[pool.images[i] for i in index],
        hashes=[pool.hashes[i] for i in index],
        groups=pool.groups[index],
    )


def _copies(
    pool: UnlabelledPool, data: TaskData, cache_dir: Path, away: Sequence[EvaluationSet] = ()
) -> np.ndarray:
    """(N,) bool: which images of a pool show what a validation or test image shows.

    From the cache where it was searched before.
    """
    about = [VERSION, list(pool.hashes), list(data.hashes), data.where("train").stop]
    if away:
        about.append([list(other.hashes) for other in away])
    file = cache_dir / "audits" / f"unlabelled-{fingerprint(*about)[:32]}.json"
    found = np.zeros(len(pool), bool)
    try:
        record = parsed(file.read_bytes())
        checked(record, {"copies": list})
        found[np.array(record["copies"], int)] = True
        return found
    except (FileNotFoundError, ValueError, TypeError, IndexError):  # a broken entry is made anew
        found[:] = False
    held = np.array(
        [
            row
            for part in data.parts
            if part != "train"
            for row in range(*data.where(part).indices(len(data.hashes)))
        ],
        int,
    )
    theirs = {data.hashes[row] for row in held} | {one for other in away for one in other.hashes}
    found[:] = [name in theirs for name in pool.hashes]
    rest = np.flatnonzero(~found)
    if len(rest):
        found[rest[_like(pool, rest, data, held, cache_dir, away)]] = True
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write.record(file, {"copies": np.flatnonzero(found).tolist()})
    return found


def _like(
    pool: UnlabelledPool,
    rest: np.ndarray,
    data: TaskData,
    held: np.ndarray,
    cache_dir: Path,
    away: Sequence[EvaluationSet],
) -> np.ndarray:
    """(n,) int, positions in `rest`.

    Images of the pool that are a held image, or one of another data set, resized, compressed again,
    mirrored or turned.
    """
    subject = of_data(data)
    typical = auditing.typical_side(subject)
    encoder = encoders.encoder(encoders.EMBEDDED, auditing.compared_size(typical))
    parts = [
        (", ".join(pool.names), pool.images, pool.hashes, rest),
        (subject.name, subject.images, subject.hashes, held),
        *(
            (other.name, other.split.images, other.hashes, np.arange(len(other.hashes)))
            for other in away
        ),
    ]
    packs = [
        images.packs(
            some,
            hashes,
            [images.PackForm(*encoder.form)],
            cache_dir,
            stage=f"packing {name} at {encoder.size} px",
        )[0]
        for name, some, hashes, _ in parts
    ]
    both = JoinedRows([(pack.array, rows) for pack, (*_, rows) in zip(packs, parts, strict=True)])
    read = closer_look.reader_for(
        [some[i] for _, some, _, rows in parts for i in rows.tolist()], typical
    )
    sides = np.repeat([0, 1], [len(rest), len(both) - len(rest)])
    found = duplicates.near(Rows(both, np.arange(len(both))), sides, EFFORT, read)
    return np.array(sorted({pair.i for pair in found.pairs if pair.kind == "near"}), int)
