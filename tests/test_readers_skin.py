"""ISIC 2019, PAD-UFES-20 and SCIN: names, lesions, patients, cases, and copies that belong to
nobody."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from trees import skin

from medbench.schema import PARTS, Split, UserError
from medbench.tasks import _reading as reading
from medbench.tasks import isic2019, pad_ufes, scin


def joined(parts: dict[str, Split], column: str) -> np.ndarray:
    return np.concatenate([getattr(split, column) for split in parts.values()])


def test_isic_names_are_matched_with_and_without_downsampled(tmp_path: Path) -> None:
    parts = isic2019.load(skin.make_isic(tmp_path))
    ids, groups = joined(parts, "ids"), joined(parts, "groups")
    assert not any("downsampled" in name for name in ids)
    files = [
        image.stem.removesuffix("_downsampled") for part in parts.values() for image in part.images
    ]
    assert files == ids.tolist()
    assert sorted(groups[ids >= "ISIC_0000080"]) == [f"ISIC_{i:07d}" for i in range(80, 85)], (
        "an image of no lesion is its own"
    )
    assert len(set(groups)) == 60 + 5
    assert np.isnan(np.concatenate([part.meta["age"] for part in parts.values()])).sum() == 10


def test_isic_refuses_two_classes_for_an_image(tmp_path: Path) -> None:
    root = skin.make_isic(tmp_path)
    file = root / "ISIC_2019_Training_GroundTruth.csv"
    file.write_text(file.read_text().replace("ISIC_0000003,0.0", "ISIC_0000003,1.0"))
    with pytest.raises(UserError, match="gives 'ISIC_0000003' no class, or several"):
        isic2019.load(root)


def test_pad_ufes_groups_patients_and_bags_lesions(tmp_path: Path) -> None:
    root = skin.make_pad_ufes(tmp_path)
    parts = pad_ufes.load(root)
    assert len(set(joined(parts, "groups"))) == 45
    assert len(set(joined(parts, "bags"))) == 60
    assert set(parts["train"].meta) == {"age", "sex", "localization", "skin_type"}, (
        "biopsed gives the label away"
    )
    file = root / "metadata.csv"
    file.write_text(file.read_text().replace(",NEV,", ",NEVUS,"))
    with pytest.raises(UserError, match=r"unknown label 'NEVUS'.*Did you mean 'NEV'"):
        pad_ufes.load(root)


@pytest.mark.parametrize(
    "names",
    ["dermatologist_skin_condition_label_name", "dermatologist_skin_condition_on_label_name"],
)
def test_scin_takes_the_condition_of_the_largest_weight(tmp_path: Path, names: str) -> None:
    parts = scin.load(skin.make_scin(tmp_path, names))
    for part in parts.values():
        for case, label in zip(part.bags, part.labels, strict=True):
            assert label == int(case.lstrip("-")) % 11, "the tree's rule; the last class is other"
    assert "0" not in joined(parts, "ids"), "listed by two cases"
    assert "-70" not in joined(parts, "groups"), "no label"


def test_scin_lacks_one_image_and_no_more(tmp_path: Path) -> None:
    root = skin.make_scin(tmp_path)
    whole = len(joined(scin.load(root), "ids"))
    (root / "images" / "500.png").unlink()
    assert len(joined(scin.load(root), "ids")) == whole - 1
    (root / "images" / "501.png").unlink()
    with pytest.raises(UserError, match=r"SCIN in .* lacks 2 of "):
        scin.load(root)


def test_scin_says_what_a_label_should_be(tmp_path: Path) -> None:
    root = skin.make_scin(tmp_path)
    file = root / "scin_labels.csv"
    file.write_text(file.read_text().replace("{'Impetigo': 0.3, 'Eczema': 0.7}", "Eczema"))
    with pytest.raises(UserError, match="'Eczema' is not a dict of condition and weight"):
        scin.load(root)


def whole(images: Sequence[Path], labels: Sequence[int], groups: Sequence[str]) -> Split:
    ids = np.array([image.stem for image in images])
    return Split(images, ids, np.array(labels), np.array(groups), ids)


def test_copies_stay_together_and_those_with_two_labels_are_left_out(tmp_path: Path) -> None:
    images = [skin.picture(tmp_path / f"{i:02d}.png", i) for i in range(40)]
    # 0, 2 and 21 of three patients; 5 and 6 of two classes
    for source, copy in ((0, 21), (21, 2), (5, 6)):
        shutil.copy(images[source], images[copy])
    labels = [i % 2 if i != 21 else 0 for i in range(40)]
    parts = reading.divide(whole(images, labels, [f"p{i // 2}" for i in range(40)]), key="t")
    assert sorted(joined(parts, "ids")) == [f"{i:02d}" for i in range(40) if i not in (5, 6)]
    where = {name: part for part in PARTS for name in parts[part].ids}
    together = {where[name] for name in ("00", "01", "02", "03", "20", "21")}
    assert len(together) == 1, "two of a patient, and the patients that share a copy"
    without = reading.divide(
        whole(images[22:], labels[22:], [f"p{i // 2}" for i in range(22, 40)]), key="t"
    )
    assert set(joined(without, "groups")) == {f"p{i}" for i in range(11, 20)}, (
        "names stay where nothing is joined"
    )
