"""CheXpert: five findings on chest radiographs, the labels of Azizi et al. 2021.

Irvin et al. 2019, arXiv:1901.07031. Layout as downloaded from Stanford: `CheXpert-v1.0/` or
`CheXpert-v1.0-small/` with `train.csv`, `valid.csv`, and images
`train/patient00001/study1/view1_frontal.jpg`. Columns `Path,Sex,Age,Frontal/Lateral,AP/PA`, then 14
findings: 1 present, 0 absent, blank not mentioned, which is read as absent as the authors do, -1
uncertain.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from medbench.schema import Mark, Official, Shift, Split, Task, TaskFamily, UserError
from medbench.tasks import _reading as reading
from medbench.tasks import phantoms

CLASSES = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
#: What -1 becomes. `ignore` is the default: it invents no label, and what Azizi et al. did was NOT
#: FOUND.
POLICIES = {"ignore": np.nan, "ones": 1.0, "zeros": 0.0}
#: Labels of 1 and of -1 in train.csv, in the order of CLASSES.
POSITIVE, UNCERTAIN = (
    (33_376, 27_000, 14_783, 52_246, 86_187),
    (33_739, 8_087, 27_742, 12_984, 11_628),
)
_NIH = "another hospital, frontal views alone, labels mined from reports by other rules"
_META = {"sex": "Sex", "view": "Frontal/Lateral", "projection": "AP/PA"}
_FOLDERS = (
    "CheXpert-v1.0-small",
    "CheXpert-v1.0",
    "chexpert",
    "chexpert/CheXpert-v1.0-small",
    "chexpert/CheXpert-v1.0",
)


def load(uncertain: str, root: Path) -> dict[str, Split]:
    """Read train and val, 9 to 1 of the patients of train.csv, and test.

    test: the official validation set, read by radiologists, without uncertain labels. Labels (N, 5)
    float64; uncertain: a name in POLICIES, what becomes of them in train and val. Bags are studies.
    Raises UserError where a table or an image is missing, or a label is not as published.
    """
    pool, test = (_read(root, name, uncertain) for name in ("train.csv", "valid.csv"))
    return {**reading.divide(pool, "chexpert 1", (0.9, 0.1)), "test": test}


def _read(root: Path, name: str, uncertain: str) -> Split:
    file = reading.first_existing(root, [name], "chexpert")
    rows = reading.read_table(file, ("Path", *CLASSES), "chexpert", also=("Age", *_META.values()))
    # the first is the folder's name, which may have been changed
    paths = [text.split("/")[1:] for text in rows["Path"].tolist()]
    strange = next(
        (text for text, path in zip(rows["Path"], paths, strict=True) if len(path) != 4), None
    )
    if strange is not None:
        raise UserError(
            f"{file}: the Path '{strange}' is not .../train/patient00001/study1/view1_frontal.jpg.",
            then="download it again",
        )
    meaning = {
        "": 0.0,
        "0": 0.0,
        "0.0": 0.0,
        "1": 1.0,
        "1.0": 1.0,
        "-1": POLICIES[uncertain],
        "-1.0": POLICIES[uncertain],
    }
    return Split(
        images=reading.require_images(
            [root.joinpath(*path) for path in paths], "CheXpert", root, "chexpert"
        ),
        ids=reading.once(np.array(["/".join(path[1:]).rsplit(".", 1)[0] for path in paths]), file),
        labels=np.column_stack([reading.values(rows[name], meaning, file) for name in CLASSES]),
        groups=np.array([path[1] for path in paths]),
        bags=np.array(["/".join(path[1:3]) for path in paths]),
        meta=reading.metadata(rows, _META, age="Age"),
    )


def open_chexpert(policy: str, **options: object) -> Task:
    """Return the task with another reading of uncertain labels, as `chexpert:ones`.

    policy: a name in POLICIES. Raises UserError for any other, and for options of folders.
    """
    reading.no_options(f"chexpert:{policy}", options)
    if policy not in POLICIES:
        raise UserError(
            f"Unknown policy '{policy}' for uncertain labels.",
            allowed=POLICIES,
            given=policy,
            then="medbench run --task chexpert:ones",
        )
    return CHEXPERT if policy == "ignore" else _task(f"chexpert:{policy}", policy)


def _task(name: str, uncertain: str) -> Task:
    return Task(
        name,
        version=1,
        title="Chest radiographs, 5 findings",
        kind="multilabel",
        classes=CLASSES,
        data="CheXpert",
        n_images=223_414 + 234,  # rows of train.csv and valid.csv
        load=partial(load, uncertain),
        find=partial(reading.folder, names=_FOLDERS, marks=("valid.csv", "train/patient00001")),
        groups="patient",
        bags="study",
        modality="x-ray",
        phantom=partial(phantoms.chest, POLICIES[uncertain]),
        folders=_FOLDERS,
        get="register at stanfordmlgroup.github.io/competitions/chexpert, download CheXpert-v1.0-small and unpack it",
        registration="Stanford",
        steps=(
            "register at https://stanfordmlgroup.github.io/competitions/chexpert and accept the research agreement",
            "download CheXpert-v1.0-small, or CheXpert-v1.0, from the address that is given then",
            "unpack it in the data folder: CheXpert-v1.0-small/train.csv, valid.csv, train/, valid/",
        ),
        official=Official(
            images={"train+val": 223_414, "test": 234},
            classes={
                "train+val": tuple(
                    sure + (uncertain == "ones") * doubtful
                    for sure, doubtful in zip(POSITIVE, UNCERTAIN, strict=True)
                )
            },
        ),
        citation="Irvin et al. 2019, CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels, AAAI, arXiv:1901.07031",
        licence="research agreement with Stanford, accepted on registration",
        marks=(
            Mark("remark", f"uncertain labels: {uncertain}; not mentioned: absent"),
            Mark(
                "remark",
                "tested on the official validation set, read by radiologists; the other labels were mined from reports",
            ),
        ),
        settings={"uncertain": uncertain},
        shifts={
            "nih14": Shift(
                {**{name: (name,) for name in CLASSES[:-1]}, "Pleural Effusion": ("Effusion",)},
                _NIH,
            )
        },
    )


CHEXPERT = _task("chexpert", "ignore")
#: The default chest task.
CHEST = replace(CHEXPERT, name="chest")
CHEXPERT_FAMILY = TaskFamily(
    "chexpert",
    usage="chexpert:POLICY",
    title="CheXpert with uncertain labels read as ones or zeros, not ignored",
    open=open_chexpert,
)
