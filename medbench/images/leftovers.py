"""Image files that are no images of a task.

What systems leave in folders, and what was made of an image and lies beside it.

Both are told by name. What systems leave is nobody's image. A mask, a preview or an annotated
picture is told by the image that it was made of: the same name, with a word before, after, or as a
folder. Without that image a name alone proves nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path, PurePath, PurePosixPath

from medbench.images import decoding

#: Folders and files that systems, network disks and notebooks make, in small; and all that starts
#: with a dot.
_LEFT = {
    *(
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "icon\r",
        "__macosx",
        "__pycache__",
        "dicomdir",
    ),
    *(
        "@eadir",
        "@recycle",
        "#recycle",
        "@tmp",
        "#snapshot",
        "@recently-snapshot",
        "@__thumb",
        "@sharebin",
    ),
    *("@synoeastream", "~snapshot", "backups.backupdb", "_gsdata_", "recycled", "found.000"),
    *(
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",
        "network trash folder",
        "temporary items",
    ),
}
# nobody means them
_HIDDEN = {".ipynb_checkpoints", ".thumbnails", ".@__thumb", ".trashes", ".appledouble"}
_LEFT_STARTS = ("synofile_thumb", "synophoto_thumb", "~$")
_PREVIEW = r"overlays?|heatmaps?|gradcam|saliency|bbox|thumbs?|thumbnails?|previews?|rois?|crops?|cropped|resized|pred(?:iction)?s?|augmented|rotated|flipped"
_MAP = r"trimaps?|vessels?|edges?|[12](?:st|nd)[ _-]?(?:manual|ho)|manual|segmentation[ _-]?(?:objects?|class)"
_DRAWN = rf"masks?|segmentations?|superpixels?|gt|ground[ _-]?truths?|annotations?|contours?|{_MAP}|{_PREVIEW}"
_COPY = r"copy|kopie|copie|copia|kopia|conflicted copy|sync-conflict|aug|[hv]?flip|rot\d*|clahe|enhanced|denoised"
_WORD = rf"{_DRAWN}|seg|segm|segmented|annotated|annot|labels?|labelmaps?|instances?|depth|binary|bw|cam|attention|prob|tn|{_COPY}"
_SAID = re.compile(rf"(?:^|[ ._(-])(?:{_WORD})(?=$|[ ._)-]|\d)", re.IGNORECASE)
_FOLDER = re.compile(
    rf"(?!(?:no|non|with|without)[ ._-])(?:.*[ ._-])?(?:{_DRAWN}|labels|labelmaps?)_?(?:tr|ts)?",
    re.IGNORECASE,
)
_SIZED = re.compile(r"(.+?)(?:[-_]\d+x\d+|@\dx)", re.IGNORECASE)  # a preview that a web site makes
_NEGATED = re.compile(rf"(?:no|non|with|without)[ ._-]?(?:{_DRAWN})$", re.IGNORECASE)
#: Those that say it without the image beside them.
_PLAIN = re.compile(
    r".+[ ._-](?:masks?|segmentations?|superpixels?|ground[ _-]?truth|thumbnails?)(?:[ ._-]?\d+)?",
    re.IGNORECASE,
)


def left_behind(name: str) -> str:
    """Return what a file or folder is called among those that systems leave.

    Its name, or `._*` and `hidden files` for images; "" for others.

    Parameters
    ----------
    name : str
        Without folders.

    Returns
    -------
    str

    >>> left_behind("@eaDir"), left_behind("._1.png"), left_behind("1.png")
    ('@eaDir', '._*', '')
    """
    low = name.lower()
    if low.startswith("._"):
        return "._*"
    if low.startswith("."):
        return "hidden files" if low.endswith(decoding.SUFFIXES) else name
    return name if low in _LEFT or low.startswith(_LEFT_STARTS) else ""


def folders_below(top: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield `top` and all folders below, with the names in each, links followed, each once.

    (folder, names of folders in it, names of files in it). Who takes names out of the second list
    keeps them from being entered, as in `os.walk`. Raises OSError where one cannot be read.
    """
    visited = set()
    for place, inner, names in os.walk(top, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:  # a link that leads back up
            inner.clear()
            continue
        visited.add(real)
        yield Path(place), inner, names


def _refuse(error: OSError) -> None:
    raise error


def litter(name: str) -> str:
    """List what `left_behind` lists, but for what is merely hidden.

    A person who names that in a table means it.
    """
    found = left_behind(name)
    return found if not name.startswith(".") or found == "._*" or name.lower() in _HIDDEN else ""


def images_below(place: PurePath) -> int:
    """Return how many files a folder holds, or is, whose suffix is an image's."""
    if not os.path.isdir(place):
        return int(place.name.lower().endswith(decoding.SUFFIXES))
    return sum(
        name.lower().endswith(decoding.SUFFIXES) for _, _, names in os.walk(place) for name in names
    )


def made_of(paths: Iterable[str]) -> dict[str, str]:
    """Return image -> the image that it was made of.

    For the masks, previews and annotated pictures among relative POSIX paths.

    >>> made_of(["a/1.png", "a/1_mask.png", "b/images/2.png", "b/masks/2.png", "a/3_mask.png"])
    {'a/1_mask.png': 'a/1.png', 'b/masks/2.png': 'b/images/2.png'}
    """
    every = list(paths)
    made = {path: names for path in every if (names := list(_origins(PurePosixPath(path))))}
    # of a million images few are called so, and only what these may come from is looked for
    wanted = {name for names in made.values() for name in names}
    by_name: dict[tuple[str, ...], str] = {}
    for path in map(PurePosixPath, every if wanted else ()):
        if not any(map(_is_drawn, path.parts[:-1])):
            folders, stem = path.parts[:-1], path.stem.casefold()
            for short in [folders, *(folders[:k] + folders[k + 1 :] for k in range(len(folders)))]:
                if (*short, stem) in wanted:
                    by_name.setdefault((*short, stem), path.as_posix())
    found = {}
    for text, names in made.items():
        called = PurePosixPath(text).as_posix()
        origins = (by_name[name] for name in names if name in by_name)
        origin = next((origin for origin in origins if origin != called), None)
        if origin is not None:
            found[called] = origin
    return found


@cache
def _is_drawn(folder: str) -> bool:
    return _FOLDER.fullmatch(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", folder)) is not None


def _origins(path: PurePosixPath) -> Iterable[tuple[str, ...]]:
    """Folders and stem of images that this one may have been made of."""
    folders, stem = path.parts[:-1], path.stem.casefold()
    within = [k for k, name in enumerate(folders) if _is_drawn(name)]
    stems = list(_shorter(stem))
    for name in stems:
        if not within:
            yield (*folders, name)
    for k in within:
        for name in (stem, *stems):
            yield (*folders[:k], *folders[k + 1 :], name)
            yield (*(folder for i, folder in enumerate(folders) if i not in within), name)


def _shorter(stem: str) -> Iterable[str]:
    """Yield the stem without a word that says what was made, and all after it or before it."""
    sized = _SIZED.fullmatch(stem)
    if sized:
        yield sized[1]
    for said in _SAID.finditer(stem):
        breaks = [
            m.start() for m in re.finditer(r"[ ._(-]+", stem) if 0 < m.start() <= said.start()
        ]
        yield from (stem[:at] for at in reversed(breaks))
        if said.start() == 0:
            yield stem[said.end() :].lstrip(" ._-0123456789") or ""
            yield stem[said.end() :].lstrip(" ._-")


def says_so(path: str) -> bool:
    """Return whether an image is called a mask or a preview, whatever lies beside it."""
    return _PLAIN.fullmatch(PurePosixPath(path).stem) is not None


def no_class(folders: dict[str, Sequence[str]]) -> tuple[str, str] | None:
    """Find a folder of masks or previews among class folders, and the one they were made of.

    None where there is none. folders: name -> the images below it, relative POSIX paths. It is
    called so, and half of its images are called as those of the other one. Not where a class is
    called `no mask` or `with mask`.
    """
    for name, paths in folders.items():
        if (
            not _is_drawn(name)
            or not re.search(rf"(?:{_DRAWN})$", name, re.IGNORECASE)
            or any(map(_NEGATED.match, folders))
        ):
            continue
        own = [
            {PurePosixPath(path).stem.casefold(), *_shorter(PurePosixPath(path).stem.casefold())}
            for path in paths
        ]
        for other, others in folders.items():
            stems = {PurePosixPath(path).stem.casefold() for path in others}
            if (
                own
                and not _is_drawn(other)
                and sum(bool(names & stems) for names in own) * 2 >= len(own)
            ):
                return name, other
    return None
