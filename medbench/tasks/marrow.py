"""Bone marrow cells in 21 classes, from 945 patients.

Matek et al. 2021, doi:10.1182/blood.2020010568. Layout as on TCIA, doi:10.7937/TCIA.AXH3-T579:
`BM_cytomorphology_data/<CLASS>/<range>/<CLASS>_00001.jpg`; rare classes have no range folder. No
path carries a patient, so that none can be kept on one side.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from medbench.images import leftovers
from medbench.schema import Mark, Split, Task, UserError
from medbench.tasks import _reading as reading

CLASSES = (
    "ABE",
    "ART",
    "BAS",
    "BLA",
    "EBO",
    "EOS",
    "FGC",
    "HAC",
    "KSC",
    "LYI",
    "LYT",
    "MMZ",
    "MON",
    "MYB",
    "NGB",
    "NGS",
    "NIF",
    "OTH",
    "PEB",
    "PLM",
    "PMO",
)
_DATA = "BM_cytomorphology_data"
_FOLDERS = (
    _DATA,
    f"bone_marrow/{_DATA}",
    f"Bone-Marrow-Cytomorphology/{_DATA}",
    f"matek/{_DATA}",
    f"marrow/{_DATA}",
)


def load(root: Path) -> dict[str, Split]:
    """Read the three parts, split by image.

    Classes whose folder is missing stay empty. Raises UserError for a folder of no class.
    """
    strange = [
        e.name
        for e in sorted(root.iterdir())
        if e.is_dir() and e.name not in CLASSES and not leftovers.left_behind(e.name)
    ]
    if strange:
        raise UserError(
            f"{root} holds the folder '{strange[0]}', no class of Matek et al.",
            allowed=CLASSES,
            given=strange[0],
            then=_THEN,
        )
    found = [(c, file) for c, label in enumerate(CLASSES) for file in reading.walk(root / label)]
    if not found:
        raise UserError(
            f"{root} holds no images.", allowed=[f"{name}/" for name in CLASSES], then=_THEN
        )
    ids = np.array([path.stem for _, path in found])
    labels = np.array([c for c, _ in found], np.int64)
    return reading.divide(
        Split([path for _, path in found], reading.once(ids, root), labels, ids, ids),
        key="marrow 1",
    )


_THEN = "medbench data list marrow"
MARROW = Task(
    "marrow",
    version=1,
    title="Bone marrow cells, 21 classes",
    kind="multiclass",
    classes=CLASSES,
    data="BM cytomorphology",
    n_images=171_375,
    load=load,
    find=partial(reading.folder, names=_FOLDERS, marks=("NGS", "LYT", "EBO")),
    groups=None,
    modality="cytology",
    folders=_FOLDERS,
    get="download doi:10.7937/TCIA.AXH3-T579 (with IBM Aspera) and unpack BM_cytomorphology_data",
    gigabytes=6.8,
    steps=(
        "open https://doi.org/10.7937/TCIA.AXH3-T579 and press Download beside the images; it takes IBM Aspera Connect, and no account",
        "unpack it so that the data folder holds BM_cytomorphology_data/ABE, ART, BAS ... (21 folders)",
    ),
    citation="Matek et al. 2021, Highly accurate differentiation of bone marrow cell morphologies, Blood 138:1917, doi:10.1182/blood.2020010568",
    licence="CC BY 4.0",
    marks=(
        Mark("split", "split made by medbench: none is published"),
        Mark("remark", "patient unknown: cells of one of 945 patients stand on both sides"),
    ),
)
