"""`data get`: what may be downloaded without an account, placed in the layout that the reader finds.

    url --fetch--> ROOT/.medbench-get/NAME-xxxxxxxx/3.file --unpack--> .../3.tree --rename--> .../tree, 3.done
    when all are done:                                                 .../tree --rename--> ROOT/NAME

Until the last rename no reader sees anything. A second try goes on with what has come; two at once wait for each other.
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from medbench.data.reader_answers import loaded
from medbench.schema import Download, Task, UserError, fingerprint
from medbench.system import download, locks
from medbench.tasks import _reading as reading

STAGING = ".medbench-get"


def get(
    task: Task, root: Path, cache_dir: Path, say: Callable[[str], None] = lambda line: None
) -> Path | None:
    """Download what `task.downloads` names into the data folder `root`; return the task's folder.

    None: nothing can be downloaded. Nothing is fetched that is there already, and no file of a
    person's own is replaced. say: is called with a line before long work. Raises UserError where a
    download fails or is not what was published, and where `root` cannot be written.
    """
    if not task.downloads:
        return None
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / STAGING).mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{root} cannot be written: {error.strerror}.",
            then=f"medbench data get {task.name} --data FOLDER",
        ) from error
    place = task.find(root) or root / task.folders[0]
    staging = (
        root / STAGING / f"{place.name}-{fingerprint([vars(item) for item in task.downloads])[:8]}"
    )
    with locks.locked(f"{staging}.lock"):
        if is_complete(task, root):
            return task.find(root)
        # says that what is still missing is what is got by hand
        placed = staging.with_suffix(".placed")
        had = bool(task.steps) and placed.exists()
        wanted = [item for item in task.downloads if not _there(item, place, had)]
        if not wanted:
            return place
        say(_announcement(task, wanted, place))
        staging.mkdir(exist_ok=True)
        for number, item in enumerate(task.downloads):
            done = staging / f"{number}.done"
            if item in wanted and not done.exists():
                _bring(task, item, staging, number, cache_dir)
                done.touch()
        tree = staging / "tree"
        if tree.exists():
            _refuse_others(tree, place, task)
            _merge(tree, place)
        placed.touch()
        shutil.rmtree(staging)
    return place


def is_complete(task: Task, root: Path) -> bool:
    """Return whether all of the task's data is there, as far as names tell. No pixel is read."""
    found = task.find(root)
    if found is None or (task.partial is not None and task.partial(found)):
        return False
    files = [item for item in task.downloads if item.unpack in ("", "gzip")]
    if not all(_there(item, found) for item in files):
        return False
    if files and len(files) == len(task.downloads):
        return True
    try:
        with reading.as_listed():
            total = sum(map(len, loaded(task, found).values()))
    except UserError:
        return False
    return task.n_images in (None, total)


def steps(task: Task, root: Path) -> list[str]:
    """List what a user does by hand, numbered, from the address to the command that verifies it."""
    by_hand = task.steps or (task.get,)
    lines = [
        f"the data folder is {root}" + ("" if root.exists() else ", which you make first"),
        *by_hand,
        f"medbench data verify {task.name}",
    ]
    return [f"{number}. {line}" for number, line in enumerate(lines, start=1)]


def _announcement(task: Task, wanted: list[Download], place: Path) -> str:
    sizes = [item.size for item in wanted]
    known = sum(size for size in sizes if size)
    size = (
        f"{known / 1e9:.2f} GB"
        if all(sizes)
        else f"at least {known / 1e9:.2f} GB"
        if known
        else "of a size that the servers will say"
    )
    files = f"{len(wanted)} file{'s' if len(wanted) != 1 else ''}"
    return f"{task.data}: {files}, {size}, to {place}. Licence: {task.licence}. It can be stopped and goes on at the next call."


def _there(item: Download, place: Path, had: bool = False) -> bool:
    """had: it was placed by an earlier call. What an archive held cannot be told from names."""
    return (
        (place / item.to).is_file()
        if item.unpack in ("", "gzip")
        else had and bool(item.to) and (place / item.to).is_dir()
    )


def _bring(task: Task, item: Download, staging: Path, number: int, cache_dir: Path) -> None:
    """Fetch one file, verify it, and put it, or what it holds, into staging/tree."""
    name = PurePosixPath(item.to or item.url.partition("?")[0]).name
    file = staging / f"{number}.{name.removesuffix(_SUFFIX[item.unpack])}{_SUFFIX[item.unpack]}"
    if not file.exists():
        try:
            verify = lambda part: _verify(item, part, cache_dir)
            download.retrieve(
                item.url,
                file,
                verify,
                size=item.size,
                sure=bool(item.sha256 or item.md5),
                name=name,
            )
        except OSError as error:
            by_hand = f"medbench data get {task.name} again goes on where it stopped; or by hand: {task.get}"
            raise UserError(
                f"{item.url} cannot be fetched ({download.reason(error)}).", then=by_hand
            ) from error
    fresh, into = staging / f"{number}.tree", staging / "tree" / item.to
    if fresh.exists():
        shutil.rmtree(fresh)  # of a call that was killed
    if item.unpack:
        try:
            download.unpack(file, item.unpack, fresh, f"unpacking {name}", nested=item.nested)
        except UserError:
            file.unlink()
            raise
        except OSError as error:
            what = f"{name} cannot be unpacked in {staging}: {error.strerror}."
            raise UserError(
                what, then="free some space and run the same command again: what has come is kept"
            ) from error
    _remember(item, file, cache_dir)  # what cannot be read is not remembered
    if item.unpack in ("zip", "tar"):
        _merge(_without_wrapper(fresh, into.name), into)
        shutil.rmtree(fresh, ignore_errors=True)
    elif item.unpack == "gzip":
        into.parent.mkdir(parents=True, exist_ok=True)
        next(fresh.iterdir()).replace(into)
        fresh.rmdir()
    else:
        into.parent.mkdir(parents=True, exist_ok=True)
        file.replace(into)
    file.unlink(missing_ok=True)


_SUFFIX = {"": "", "zip": ".zip", "tar": ".tar", "gzip": ".gz"}


def _verify(item: Download, file: Path, cache_dir: Path) -> None:
    """Raise UserError for a file that is not the published one, or not the one that came first."""
    with file.open("rb") as stream:
        head = stream.read(200).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        raise UserError(
            f"{item.url} gave a web page, not the file: the address has changed, or it asks for a login.",
            then=f"look at {item.url}",
        )
    for kind, published in (("md5", item.md5), ("sha256", item.sha256)):
        found = download.file_digest(file, kind) if published else ""
        if found != published:
            what = f"What came from {item.url} is not the published file: {kind.upper()} {found[:12]}, published {published[:12]}."
            raise UserError(f"{what} It was deleted.", then="run the same command again")
    if _record(item, cache_dir).exists():
        _remember(item, file, cache_dir)


def _record(item: Download, cache_dir: Path) -> Path:
    return cache_dir / "downloads" / f"{fingerprint(item.url)[:16]}.json"


def _remember(item: Download, file: Path, cache_dir: Path) -> None:
    """Where no hash is published, the first one seen is kept, and enforced from then on."""
    if not (item.md5 or item.sha256):
        download.first_seen(
            _record(item, cache_dir), download.sha256(file), f"The bytes of {item.url}"
        )


def _without_wrapper(tree: Path, name: str) -> Path:
    """Return the folder that holds the files.

    Archives are packed with and without a folder of their own name.
    """
    inside = list(tree.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() and inside[0].name == name else tree


def _refuse_others(tree: Path, place: Path, task: Task) -> None:
    """Raise UserError for a user's file in the way of another one, before anything is moved."""
    for new in tree.rglob("*"):
        old = place / new.relative_to(tree)
        if old.exists() and (
            new.is_dir() != old.is_dir()
            or (new.is_file() and not filecmp.cmp(new, old, shallow=False))
        ):
            what = f"{old} is there and is not the file of {task.data}: it is not replaced."
            raise UserError(
                what,
                then=f"move it away, then medbench data get {task.name}: nothing is downloaded twice",
            )


def _merge(source: Path, target: Path) -> None:
    """Move a tree to where it belongs.

    It takes one rename where nothing is there yet, else file by file, a rename each.
    """
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    elif source.is_dir():
        for child in sorted(source.iterdir()):
            _merge(child, target / child.name)
    else:
        source.replace(target)
