"""SCIN: everyday skin conditions in photographs by the people who have them.

Ward et al. 2024, arXiv:2402.18545. Layout as in gs://dx-scin-public-data/dataset: `scin_cases.csv`
(`case_id`, `image_1_path` to `image_3_path`, `age_group`, `sex_at_birth`, `fitzpatrick_skin_type`),
`scin_labels.csv` (`case_id`, `weighted_skin_condition_label`: a Python dict of condition ->
weight), `images/`. The list of the dermatologists' own names, which the schema and the release
spell differently (`dermatologist_skin_condition_label_name`, `..._on_label_name`), is not read.

A case's class is the condition of the largest weight: ten common ones, and `other`, as Azizi et al.
merge rare conditions. Cases without a weighted label (not gradable, or several conditions) are left
out.

There is no shift from or to it: no other set of the suite has one of the ten conditions, and those
that the others have are merged into `other`.
"""

from __future__ import annotations

import ast
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from medbench.schema import Mark, Split, Task, UserError
from medbench.tasks import _reading as reading

CONDITIONS = (
    "Eczema",
    "Allergic Contact Dermatitis",
    "Insect Bite",
    "Urticaria",
    "Psoriasis",
    "Folliculitis",
    "Irritant Contact Dermatitis",
    "Tinea",
    "Herpes Zoster",
    "Drug Rash",
)
CLASSES = (*CONDITIONS, "other")
# of the listed images is not in the bucket (github.com/google-research-datasets/scin/issues/1)
_UNAVAILABLE = 1
_PATHS = ("image_1_path", "image_2_path", "image_3_path")
_META = {"age_group": "age_group", "sex": "sex_at_birth", "skin_type": "fitzpatrick_skin_type"}
_FOLDERS = ("scin", "SCIN", "scin/dataset", "dx-scin-public-data/dataset")


def load(root: Path) -> dict[str, Split]:
    """Read the three parts, split by case.

    An image that is listed by several cases is left out: which of them it shows cannot be told (15
    such images, Ward et al.'s README). Raises UserError where a table or an image is missing.
    """
    file = reading.first_existing(root, ["scin_cases.csv"], "scin")
    cases = reading.read_table(file, ("case_id", *_PATHS), "scin", also=tuple(_META.values()))
    reading.once(cases["case_id"], file)
    label_file = reading.first_existing(root, ["scin_labels.csv"], "scin")
    labels = reading.read_table(label_file, ("case_id", "weighted_skin_condition_label"), "scin")
    class_of = {
        case: _class(text, label_file)
        for case, text in zip(
            labels["case_id"].tolist(),
            labels["weighted_skin_condition_label"].tolist(),
            strict=True,
        )
        if text not in ("", "{}")
    }
    where = [
        (i, Path(cases[column][i]).stem)
        for i in range(len(cases["case_id"]))
        for column in _PATHS
        if cases[column][i]
    ]
    times = Counter(name for _, name in where)
    shown = [(i, name) for i, name in where if cases["case_id"][i] in class_of and times[name] == 1]
    if not shown:
        raise UserError(
            f"No case of {file} has an image and a label in {label_file}.",
            then="medbench data list scin",
        )
    places = reading.files(root, ["images"], "scin")
    gone = [name for _, name in shown if name not in places]
    if len(gone) <= _UNAVAILABLE:
        shown = [(i, name) for i, name in shown if name in places]
    row, ids = np.array([i for i, _ in shown]), np.array([name for _, name in shown])
    images = reading.listed_files(ids, places, "SCIN", root, "scin")
    case = cases["case_id"][row]
    meta = {name: column[row] for name, column in reading.metadata(cases, _META).items()}
    return reading.divide(
        Split(images, ids, np.array([class_of[name] for name in case]), case, case, meta),
        key="scin 1",
    )


def _class(text: str, file: Path) -> int:
    """Return the condition of the largest weight; of equal ones the first."""
    try:
        weights = ast.literal_eval(text)
        name = max(weights, key=weights.__getitem__)
    except (ValueError, SyntaxError, TypeError) as error:
        raise UserError(
            f"{file}: weighted_skin_condition_label '{text[:60]}' is not a dict of condition and weight."
        ) from error
    return CLASSES.index(name) if name in CONDITIONS else len(CONDITIONS)


SCIN = Task(
    "scin",
    version=1,
    title="Skin conditions in people's own photographs, 10 common ones and other",
    kind="multiclass",
    classes=CLASSES,
    data="SCIN",
    load=load,
    find=partial(reading.folder, names=_FOLDERS, marks=("scin_cases.csv",)),
    groups="case",
    bags="case",
    folders=_FOLDERS,
    get="gsutil -m cp -r gs://dx-scin-public-data/dataset scin (github.com/google-research-datasets/scin)",
    steps=(
        "read the licence: https://github.com/google-research-datasets/scin",
        "with Google's gsutil (no account is needed), in the data folder: gsutil -m cp -r gs://dx-scin-public-data/dataset scin",
        "that is scin/scin_cases.csv, scin/scin_labels.csv and scin/images/",
    ),
    citation="Ward et al. 2024, Crowdsourcing Dermatology Images with Google Search Ads, arXiv:2402.18545",
    licence="SCIN Data Use License",
    marks=(
        Mark("split", "split made by medbench: none is published"),
        Mark(
            "remark",
            "class: the condition of the largest weight; cases without a label are left out",
        ),
    ),
)
