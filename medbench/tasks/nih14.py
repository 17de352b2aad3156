"""NIH ChestX-ray14: fourteen findings mined from reports, four labelled anew by experts.

Wang et al. 2017, arXiv:1705.02315. Layout as on nihcc.app.box.com/v/ChestXray-NIHCC: `images_001/`
to `images_012/` (each perhaps with `images/` in it) or one flat `images/`,
`Data_Entry_2017_v2020.csv`, `train_val_list.txt`, `test_list.txt`. Columns of the table: `Image
Index,Finding Labels,Follow-up #,Patient ID, Patient Age,Patient Gender,View
Position,OriginalImage[Width,Height],...`. Its header looks broken (`OriginalImage[Width,Height]`
counts as two names), so that columns are found by name and those behind are not used. Labels are
joined by `|`.

Expert labels (Majkowska et al. 2020, doi:10.1148/radiol.2019191293), from
gs://gcs-public-data--healthcare-nih-chest-xray-labels: in the folder `four_findings_expert_labels`
the files `validation_labels.csv` and `test_labels.csv` (saved alone:
`four_findings_expert_labels_test_labels.csv`), with `Image Index`, `Patient Age`, `Patient Gender`,
`View Position` and others of NIH's columns, and a column of YES and NO for each finding.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from medbench.schema import Download, Mark, Official, Split, Task, UserError
from medbench.tasks import _reading as reading

CLASSES = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
#: Column of the experts' table -> class of Truong et al. 2021, who also have `other`: no finding.
FINDINGS = {
    "Pneumothorax": "pneumothorax",
    "Nodule or mass": "nodule or mass",
    "Airspace opacity": "opacity",
    "Fracture": "fracture",
}
_TABLE = "Data_Entry_2017_v2020.csv"
_EXPERT = (
    "four_findings_expert_labels/{}_labels.csv",
    "four_findings_expert_labels_{}_labels.csv",
    "{}_labels.csv",
)
_NUMBERED = [f"images_{i:03d}" for i in range(1, 13)]
_IMAGES = ("images", *_NUMBERED, *(f"{name}/images" for name in _NUMBERED))
_META = {"sex": "Patient Gender", "view": "View Position"}
_FOLDERS = ("nih", "NIH", "ChestXray-NIHCC", "chestxray14", "nih-chest-xrays")
_CITATION = "Wang et al. 2017, ChestX-ray8, CVPR, arXiv:1705.02315"
_GET = "download images_*.tar.gz, Data_Entry_2017_v2020.csv and both lists from nihcc.app.box.com/v/ChestXray-NIHCC and unpack them into one folder"
#: images_001.tar.gz to images_012.tar.gz, as in NIH's own batch_download_zips.py.
_BOX = (
    "vfk49d74nhbxq3nqjg0900w5nvkorp5c",
    "i28rlmbvmfjbl8p2n3ril0pptcmcu9d1",
    "f1t00wrtdk94satdfb9olcolqx20z2jp",
    "0aowwzs5lhjrceb3qp67ahp0rd1l1etg",
    "v5e3goj22zr6h8tzualxfsqlqaygfbsn",
    "asi7ikud9jwnkrnkj99jnpfkjdes7l6l",
    "jn1b4mw4n6lnh74ovmcjb8y48h8xj07n",
    "tvpxmn7qyrgl0w8wfh9kqfjskv6nmm1j",
    "upyy3ml7qdumlgk2rfcvlb9k6gvqq2pj",
    "l6nilvfa9cg3s28tqv1qc1olm3gnz54p",
    "hhq8fkdgvcari67vfhs7ppg2w6ni4jze",
    "ioqwiy20ihqwyr8pf4c24eazhh281pbu",
)
_DOWNLOADS = tuple(
    Download(f"https://nihcc.box.com/shared/static/{name}.gz", folder, unpack="tar")
    for name, folder in zip(_BOX, _NUMBERED, strict=True)
)
_LICENCE = (
    "free; name NIH as the source, link to nihcc.app.box.com/v/ChestXray-NIHCC and cite the paper"
)


def load(root: Path) -> dict[str, Split]:
    """Read train and val, 9 to 1 of the official training list's patients, and the official test.

    Labels (N, 14) float64. Raises UserError where a list or an image is missing.
    """
    file = reading.first_existing(root, [_TABLE], "nih14")
    rows = reading.read_table(
        file,
        ("Image Index", "Finding Labels", "Patient ID"),
        "nih14",
        also=("Patient Age", *_META.values()),
    )
    names = reading.once(rows["Image Index"], file)
    found = [set(text.split("|")) - {"No Finding"} for text in rows["Finding Labels"].tolist()]
    reading.codes(np.array(sorted(set().union(*found))), CLASSES, file)  # raises for an unknown one
    ids = np.array([name.removesuffix(".png") for name in names])
    whole = Split(
        images=reading.listed_files(
            ids, reading.files(root, _IMAGES, "nih14"), "NIH ChestX-ray14", root, "nih14"
        ),
        ids=ids,
        labels=np.array([[float(name in labels) for name in CLASSES] for labels in found]),
        groups=rows["Patient ID"],
        bags=ids,
        meta=reading.metadata(rows, _META, age="Patient Age"),
    )
    row = {name: i for i, name in enumerate(names.tolist())}
    pool, test = (_listed(root, name, row) for name in ("train_val_list.txt", "test_list.txt"))
    return {**reading.divide(whole.take(pool), "nih14 1", (0.9, 0.1)), "test": whole.take(test)}


def _listed(root: Path, name: str, row: dict[str, int]) -> np.ndarray:
    file = reading.first_existing(root, [name], "nih14")
    names = file.read_text(encoding="utf-8").split()
    unknown = [name for name in names if name not in row]
    if unknown or not names:
        problem = (
            f"lists {len(unknown)} images that {_TABLE} does not have: {unknown[0]}"
            if unknown
            else "is empty"
        )
        raise UserError(f"{file} {problem}.", then="download both again")
    return np.array([row[name] for name in names])


def load_expert(root: Path) -> dict[str, Split]:
    """Read train, the experts' validation set (Truong et al. 2021), and test, their test set.

    There is no val. Images with several findings are left out, as there; those without any are
    `other`. Raises UserError where a list or an image is missing.
    """
    return {
        part: _read_expert(root, name) for part, name in (("train", "validation"), ("test", "test"))
    }


def _read_expert(root: Path, part: str) -> Split:
    file = reading.first_existing(root, [pattern.format(part) for pattern in _EXPERT], "nih-expert")
    rows = reading.read_table(
        file, ("Image Index", *FINDINGS), "nih-expert", also=("Patient Age", *_META.values())
    )
    present = np.column_stack(
        [reading.values(rows[name], {"YES": 1, "NO": 0}, file) for name in FINDINGS]
    )
    kept = present.sum(1) <= 1
    labels = np.where(present.any(1), present.argmax(1), len(FINDINGS))[kept]
    ids = np.array(
        [name.removesuffix(".png") for name in reading.once(rows["Image Index"], file)[kept]]
    )
    images = reading.listed_files(
        ids, reading.files(root, _IMAGES, "nih-expert"), "NIH ChestX-ray14", root, "nih-expert"
    )
    patients = np.array([name.split("_")[0] for name in ids])  # 00000013_005: patient, follow-up
    meta = {
        name: column[kept]
        for name, column in reading.metadata(rows, _META, age="Patient Age").items()
    }
    return Split(images, ids, labels, patients, ids, meta)


NIH14 = Task(
    "nih14",
    version=1,
    title="Chest radiographs, 14 findings",
    kind="multilabel",
    classes=CLASSES,
    data="NIH ChestX-ray14",
    n_images=112_120,
    load=load,
    find=partial(reading.folder, names=_FOLDERS, marks=(_TABLE,)),
    groups="patient",
    modality="x-ray",
    folders=_FOLDERS,
    get=_GET,
    downloads=_DOWNLOADS,
    steps=(
        "open https://nihcc.app.box.com/v/ChestXray-NIHCC, where the tables have no address of their own",
        f"download {_TABLE}, train_val_list.txt and test_list.txt into the folder nih, beside images_001",
    ),
    official=Official(
        classes={
            "all": (
                11_559,
                2_776,
                13_317,
                19_894,
                5_782,
                6_331,
                1_431,
                5_302,
                4_667,
                2_303,
                2_516,
                1_686,
                3_385,
                227,
            )
        }
    ),
    citation=_CITATION,
    licence=_LICENCE,
    marks=(Mark("remark", "labels were mined from reports"),),
)
NIH_EXPERT = Task(
    "nih-expert",
    version=1,
    title="Chest radiographs, 4 findings by experts and none of them",
    kind="multiclass",
    classes=(*FINDINGS.values(), "other"),
    data="NIH ChestX-ray14, expert labels",
    n_images=2_167 + 1_613,  # of 2,414 and 1,962, after the exclusion
    load=load_expert,
    find=partial(
        reading.folder,
        names=_FOLDERS,
        marks=tuple(pattern.format("validation") for pattern in _EXPERT),
    ),
    groups="patient",
    modality="x-ray",
    folders=_FOLDERS,
    get=f"{_GET}; beside them gs://gcs-public-data--healthcare-nih-chest-xray-labels/four_findings_expert_labels",
    downloads=_DOWNLOADS,
    steps=(
        "the experts' labels: https://cloud.google.com/healthcare-api/docs/resources/public-datasets/nih-chest#additional_labels",
        "gsutil cp -r gs://gcs-public-data--healthcare-nih-chest-xray-labels/four_findings_expert_labels nih/ (it may ask for a Google account)",
        "that is test_labels.csv and validation_labels.csv in nih/four_findings_expert_labels, beside images_001",
    ),
    official=Official(
        images={"train": 2_167, "test": 1_613},
        classes={"train": (11, 114, 787, 38, 1_217), "test": (46, 82, 795, 30, 660)},
    ),
    citation=f"Majkowska et al. 2020, Radiology 294:421, doi:10.1148/radiol.2019191293; {_CITATION}",
    licence=_LICENCE,
    marks=(Mark("remark", "images with several of the four findings are left out"),),
)
