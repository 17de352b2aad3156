"""MedMNIST: twelve sets of small images, as `medmnist:NAME[:SIZE]`.

Yang et al. 2023, doi:10.1038/s41597-022-01721-8; SIZE 28, 64, 128, 224. Layout as on Zenodo,
doi:10.5281/zenodo.10519652: one file each, `pathmnist.npz` of 28 pixels, `pathmnist_64.npz`,
`_128`, `_224`, with `{train,val,test}_images` (N, S, S) or (N, S, S, 3) uint8 and
`{train,val,test}_labels` (N, 1), or (N, 14) for chestmnist. Official split, counts and MD5s. 28 is
the default because it is MedMNIST's own.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from medbench.schema import PARTS, Download, Mark, Official, Split, Task, TaskFamily, UserError
from medbench.system import archive_errors
from medbench.tasks import _array_rows as rows
from medbench.tasks import _reading as reading
from medbench.tasks.medmnist.sets import SETS, Set

VERSION = 1
SIZES = (28, 64, 128, 224)
_FOLDERS = ("medmnist", "MedMNIST", ".medmnist")


def open_medmnist(argument: str, **options: object) -> Task:
    """Open the task of `pathmnist`, `path`, `pathmnist:64`.

    Raises UserError for a wrong name or size.
    """
    name, _, size_text = argument.lower().partition(":")
    name = name if name.endswith("mnist") else f"{name}mnist"
    if name not in SETS:
        raise UserError(
            f"Unknown set 'medmnist:{argument}'.",
            allowed=SETS,
            given=name,
            then="medbench run --task medmnist:pathmnist",
        )
    if size_text not in ("", *map(str, SIZES)):
        raise UserError(
            f"{name} has no size '{size_text}'.",
            allowed=map(str, SIZES),
            then=f"medbench run --task medmnist:{name}:64",
        )
    size = int(size_text or SIZES[0])
    task_name = f"medmnist:{name}" + (f":{size}" if size != SIZES[0] else "")
    reading.no_options(task_name, options)
    about = SETS[name]
    return Task(
        task_name,
        version=VERSION,
        title=f"{about.title}, {size} pixels",
        kind=about.kind,
        classes=about.classes,
        data=f"{about.title} {size}",
        n_images=sum(about.counts),
        load=partial(load, name, size),
        find=partial(_find, name, size),
        groups=None,
        modality=about.modality,
        folders=_FOLDERS,
        get=f"download {_url(name, size)}",
        downloads=(
            Download(_url(name, size), _file(name, size), md5=about.md5[SIZES.index(size)]),
        ),
        official=Official(images=dict(zip(PARTS, about.counts, strict=True))),
        citation="Yang et al. 2023, MedMNIST v2, Scientific Data 10:41, doi:10.1038/s41597-022-01721-8, and the set's own source",
        licence=about.licence,
        marks=(
            *about.marks,
            Mark(
                "remark",
                "patients are not known: what the official split keeps apart cannot be checked",
            ),
        ),
        settings={"size": size},
    )


def load(name: str, size: int, root: Path) -> dict[str, Split]:
    """Read the official parts; images are rows of the file.

    Raises UserError for another file than the official one.
    """
    about = SETS[name]
    file = reading.first_existing(root, [_file(name, size)], f"medmnist:{name}")
    again = f"download it again from {_url(name, size)}"
    says = lambda why: UserError(
        f"{file} is not {about.title}'s archive, or broken ({why}).", then=again
    )
    # np.load alone leaves a broken file open
    with archive_errors.reading(says), file.open("rb") as stream, np.load(stream) as archive:
        labels = [np.asarray(archive[f"{part}_labels"]) for part in PARTS]
    images = rows.from_npz(
        file, [f"{part}_images" for part in PARTS], about.md5[SIZES.index(size)], again
    )
    parts = {}
    for part, drawn, label, n in zip(PARTS, images, labels, about.counts, strict=True):
        if not len(drawn) == len(label) == n:
            raise UserError(
                f"{file}: {part} has {len(drawn)} images and {len(label)} labels, not {n}.",
                then=again,
            )
        ids = np.array([f"{part}_{i}" for i in range(n)])
        parts[part] = Split(
            drawn, ids, label if about.kind == "multilabel" else label[:, 0], ids, ids
        )
    return parts


def _find(name: str, size: int, root: Path) -> Path | None:
    places = (root, *(root / folder for folder in _FOLDERS))
    return next((place for place in places if (place / _file(name, size)).is_file()), None)


def _file(name: str, size: int) -> str:
    return f"{name}.npz" if size == SIZES[0] else f"{name}_{size}.npz"


def _url(name: str, size: int) -> str:
    return f"https://zenodo.org/records/10519652/files/{_file(name, size)}"


MEDMNIST = TaskFamily(
    "medmnist",
    usage="medmnist:NAME[:SIZE]",
    title=f"MedMNIST: {', '.join(name.removesuffix('mnist') for name in SETS)}",
    open=open_medmnist,
)
__all__ = ["MEDMNIST", "SETS", "Set", "load", "open_medmnist"]
