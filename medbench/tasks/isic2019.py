"""ISIC 2019: eight kinds of skin lesion in dermoscopy.

The challenge's training set; its test set has no public labels.

Layout as on challenge.isic-archive.com/data/#2019: `ISIC_2019_Training_Input/*.jpg`,
`ISIC_2019_Training_GroundTruth.csv` with `image` and one column of 0.0 and 1.0 for each class,
`ISIC_2019_Training_Metadata.csv` with `image,age_approx,anatom_site_general,lesion_id,sex`. Some
names end in `_downsampled`, not always in both places.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from medbench.schema import Download, Mark, Official, Split, Task, UserError
from medbench.tasks import _ham10000_lesions as same
from medbench.tasks import _reading as reading
from medbench.tasks._joined_groups import joined

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
_TRUTH, _METADATA = "ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Metadata.csv"
_INPUT = "ISIC_2019_Training_Input"
_META = {"sex": "sex", "localization": "anatom_site_general"}
_BUCKET = "https://isic-challenge-data.s3.amazonaws.com/2019"  # what the challenge's page links to
_FOLDERS = ("isic2019", "ISIC2019", "ISIC_2019", "isic-2019")


def load(root: Path) -> dict[str, Split]:
    """Read the three parts, split by lesion.

    An image without a lesion_id is a lesion of its own. HAM10000's images are among these, under
    the same names: the lesions that it has under two ids are joined here too. Raises UserError
    where a file or image is missing, or labels are not as published.
    """
    file = reading.first_existing(root, [_TRUTH], "isic2019")
    truth = reading.read_table(file, ("image", *CLASSES), "isic2019")
    about = reading.read_table(
        reading.first_existing(root, [_METADATA], "isic2019"),
        ("image", "lesion_id"),
        "isic2019",
        also=("age_approx", *_META.values()),
    )
    ids = reading.once(np.array([_name(text) for text in truth["image"]]), file)
    row = {_name(text): i for i, text in enumerate(about["image"])}
    unknown = [name for name in ids if name not in row]
    if unknown:
        raise UserError(
            f"{_METADATA} in {root} lacks {len(unknown)} of {len(ids)} images: {unknown[0]}.",
            then="download it again",
        )
    chosen = np.column_stack([truth[name].astype(float) for name in CLASSES]) == 1
    if (chosen.sum(1) != 1).any():
        raise UserError(
            f"{file} gives '{ids[chosen.sum(1) != 1][0]}' no class, or several.",
            allowed=CLASSES,
            then="download it again",
        )
    order = np.array([row[name] for name in ids])
    lesions = np.array(
        [lesion or name for lesion, name in zip(about["lesion_id"][order], ids, strict=True)]
    )
    lesions = joined(ids, lesions, same.same_lesion())
    places = {
        _name(name): path
        for name, path in reading.files(root, [_INPUT, f"{_INPUT}/{_INPUT}"], "isic2019").items()
    }
    meta = {
        name: column[order]
        for name, column in reading.metadata(about, _META, age="age_approx").items()
    }
    images = reading.listed_files(ids, places, "ISIC 2019", root, "isic2019")
    return reading.divide(
        Split(images, ids, chosen.argmax(1), lesions, lesions, meta), key="isic2019 1"
    )


def _name(text: str) -> str:
    return text.removesuffix("_downsampled")


ISIC2019 = Task(
    "isic2019",
    version=2,
    title="Skin lesions in dermoscopy, 8 classes",
    kind="multiclass",
    classes=CLASSES,
    data="ISIC 2019",
    n_images=25_331,
    load=load,
    find=partial(reading.folder, names=_FOLDERS, marks=(_TRUTH,)),
    groups="lesion",
    bags="lesion",
    modality="dermoscopy",
    folders=_FOLDERS,
    get=f"download {_INPUT}.zip, {_TRUTH} and {_METADATA} from challenge.isic-archive.com/data/#2019 and unpack them into one folder",
    downloads=(
        Download(f"{_BUCKET}/{_INPUT}.zip", _INPUT, unpack="zip"),
        Download(f"{_BUCKET}/{_TRUTH}", _TRUTH),
        Download(f"{_BUCKET}/{_METADATA}", _METADATA),
    ),
    # training and test list of Nielsen et al. 2023, which together are the challenge's training set
    official=Official(classes={"all": (4_522, 12_875, 3_323, 867, 2_624, 239, 253, 628)}),
    citation="Tschandl et al. 2018, doi:10.1038/sdata.2018.161; Codella et al. 2018, arXiv:1710.05006; Combalia et al. 2019, arXiv:1908.02288",
    licence="see challenge.isic-archive.com/data (the parts' own licences)",
    marks=(Mark("split", "split made by medbench: the challenge's test set has no public labels"),),
)
