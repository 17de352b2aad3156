"""Small trees of the true layouts of APTOS, EyePACS, both PCams, BM cytomorphology, HyperKvasir,
and MedMNIST's archives."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from trees.files import picture, write_csv

from medbench.tasks import endoscopy, marrow


def make_aptos(root: Path) -> Path:
    """60 images of 5 grades."""
    names = [f"{i:012x}" for i in range(60)]
    for i, name in enumerate(names):
        picture(root / "train_images" / f"{name}.png", i)
    write_csv(
        root / "train.csv",
        ["id_code", "diagnosis"],
        [[name, i % 5] for i, name in enumerate(names)],
    )
    write_csv(root / "test.csv", ["id_code"], [["ffffffffffff"]])
    return root


def make_eyepacs(root: Path) -> Path:
    """Both eyes of 40 patients, 5 levels; the eyes of one may differ."""
    rows = [
        [f"{p}_{eye}", (p + k) % 5] for p in range(40) for k, eye in enumerate(("left", "right"))
    ]
    for i, (name, _) in enumerate(rows):
        picture(root / "train" / f"{name}.jpeg", i)
    write_csv(root / "trainLabels.csv", ["image", "level"], rows)
    return root


def make_pcam(root: Path) -> Path:
    """h5 files of 40, 8 and 12 noise patches of 96 pixels, labels by turns.

    X in chunks of 16 rows.
    """
    import h5py

    root.mkdir(parents=True, exist_ok=True)
    for seed, (part, n) in enumerate({"train": 40, "valid": 8, "test": 12}.items()):
        x = np.random.default_rng(seed).integers(0, 256, (n, 96, 96, 3), np.uint8)
        with h5py.File(root / f"camelyonpatch_level_2_split_{part}_x.h5", "w") as file:
            file.create_dataset(
                "x", data=x, chunks=(min(16, n), 96, 96, 3), compression="gzip", compression_opts=1
            )
        with h5py.File(root / f"camelyonpatch_level_2_split_{part}_y.h5", "w") as file:
            file["y"] = (np.arange(n) % 2).astype(np.uint8).reshape(n, 1, 1, 1)
    return root


def make_pcam_kaggle(root: Path) -> Path:
    """40 patches, labels by turns."""
    rows = [[f"{i:040x}", i % 2] for i in range(40)]
    for i, (name, _) in enumerate(rows):
        picture(root / "train" / f"{name}.tif", i)
    write_csv(root / "train_labels.csv", ["id", "label"], rows)
    return root


def make_matek(root: Path) -> Path:
    """Each of 21 classes with 10 cells, in two range folders; BAS, a rare class, without them."""
    for c, name in enumerate(marrow.CLASSES):
        for i in range(10):
            inner = "" if name == "BAS" else ("0001-1000", "1001-2000")[i % 2]
            picture(root / name / inner / f"{name}_{i:05d}.jpg", 10 * c + i)
    return root


def make_hyperkvasir(root: Path, classes: Sequence[str] = endoscopy.CLASSES) -> Path:
    """Ten images of each class, two a fold; folders for `classes` alone, the folds list all.

    Names as published in each place.
    """
    in_folds = {folder: fold for fold, folder in endoscopy.FOLDER_NAMES.items()}
    rows = []
    for c, name in enumerate(endoscopy.CLASSES):
        for i in range(10):
            file = f"{c:04x}-{i:04x}.jpg"
            rows.append([file, in_folds.get(name, name), i % 5])
            if name in classes:
                picture(
                    root
                    / "labeled-images"
                    / f"{'lower' if c % 2 else 'upper'}-gi-tract"
                    / "some-group"
                    / name
                    / file,
                    10 * c + i,
                )
    write_csv(
        root / "5_fold_split.csv", ["file-name", "class-name", "split-index"], rows, delimiter=";"
    )
    return root


def make_medmnist(
    file: Path,
    counts: Sequence[int],
    shape: Sequence[int],
    n_classes: int,
    multilabel: bool = False,
) -> str:
    """An archive of noise of that shape, every class by turns; its MD5."""
    arrays = {}
    for seed, (part, n) in enumerate(zip(("train", "val", "test"), counts, strict=True)):
        rng = np.random.default_rng(seed)
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, *shape), np.uint8)
        one = (np.arange(n) % n_classes).astype(np.uint8)
        arrays[f"{part}_labels"] = (
            np.eye(n_classes, dtype=np.uint8)[one] if multilabel else one[:, None]
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, **arrays)
    return hashlib.md5(file.read_bytes()).hexdigest()
