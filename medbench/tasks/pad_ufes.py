"""PAD-UFES-20: six kinds of skin lesion in smartphone photographs.

Pacheco et al. 2020, doi:10.1016/j.dib.2020.106221. Layout as on Mendeley Data,
doi:10.17632/zr7vgbcyr2: `metadata.csv` with `patient_id,lesion_id,...,diagnostic,...,img_id,...`
and of the patient `age`, `gender`, `region` (of the body), `fitspatrick` (sic, the skin type), and
images `images/PAT_*_*_*.png` (three zips, `imgs_part_1` to `imgs_part_3`, which may stay folders).
`img_id` carries the suffix.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from medbench.schema import Download, Mark, Split, Task
from medbench.tasks import _reading as reading

CLASSES = ("NEV", "BCC", "ACK", "SEK", "SCC", "MEL")
_PARTS = tuple(f"imgs_part_{i}" for i in (1, 2, 3))
_IMAGES = ("images", *(f"images/{part}" for part in _PARTS), *_PARTS)
_META = {"sex": "gender", "localization": "region", "skin_type": "fitspatrick"}
_FOLDERS = ("pad-ufes-20", "PAD-UFES-20", "pad_ufes_20", "pad-ufes")


def load(root: Path) -> dict[str, Split]:
    """Read the three parts, split by patient.

    `biopsed` is left out of the metadata: all cancers are biopsy-proven, so it gives the label
    away. Raises UserError where the table or an image is missing.
    """
    file = reading.first_existing(root, ["metadata.csv"], "pad-ufes")
    rows = reading.read_table(
        file,
        ("patient_id", "lesion_id", "diagnostic", "img_id"),
        "pad-ufes",
        also=("age", *_META.values()),
    )
    ids = reading.once(np.array([name.removesuffix(".png") for name in rows["img_id"]]), file)
    labels = reading.codes(rows["diagnostic"], CLASSES, file)
    bags = np.array(
        [
            f"{patient}_{lesion}"
            for patient, lesion in zip(rows["patient_id"], rows["lesion_id"], strict=True)
        ]
    )
    meta = reading.metadata(rows, _META, age="age")
    images = reading.listed_files(
        ids, reading.files(root, _IMAGES, "pad-ufes"), "PAD-UFES-20", root, "pad-ufes"
    )
    return reading.divide(
        Split(images, ids, labels, rows["patient_id"], bags, meta), key="pad-ufes 1"
    )


PAD_UFES = Task(
    "pad-ufes",
    version=1,
    title="Skin lesions in smartphone photographs, 6 classes",
    kind="multiclass",
    classes=CLASSES,
    data="PAD-UFES-20",
    n_images=2_298,
    load=load,
    find=partial(reading.folder, names=_FOLDERS, marks=("metadata.csv",)),
    groups="patient",
    bags="lesion",
    folders=_FOLDERS,
    get="download doi:10.17632/zr7vgbcyr2 and unpack it: metadata.csv beside images/",
    downloads=(
        # version 1, as Mendeley Data's "Download All" gives it: metadata.csv and
        # images/imgs_part_{1,2,3}.zip
        Download(
            "https://prod-dcd-datasets-cache-zipfiles.s3.eu-west-1.amazonaws.com/zr7vgbcyr2-1.zip",
            unpack="zip",
            nested=True,
        ),
    ),
    citation="Pacheco et al. 2020, PAD-UFES-20, Data in Brief 32:106221, doi:10.1016/j.dib.2020.106221",
    licence="see doi:10.17632/zr7vgbcyr2",
    marks=(Mark("split", "split made by medbench: none is published"),),
)
