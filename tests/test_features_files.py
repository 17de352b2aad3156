"""Files of features: which columns are features by their names, and what is refused of a file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medbench import UserError
from medbench.models import features_table

RNG = np.random.default_rng(0)


NOISE = {f"f{i}": RNG.normal(size=4) for i in range(3)}


def table(tmp_path: Path, columns: dict[str, Any], index: str = "") -> Path:
    frame = pd.DataFrame({"id": list("abcd"), **columns})
    (frame.set_index(index) if index else frame).to_parquet(
        tmp_path / "t.parquet", index=bool(index)
    )
    return tmp_path / "t.parquet"


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (NOISE, ("f0", "f1", "f2")),
        ({"0": [1.0] * 4, "1": [2] * 4}, ("0", "1")),
        ({"dino_007": [1.0] * 4, "dino_010": [1] * 4}, ("dino_007", "dino_010")),
        (
            {"feat.area": [1.0] * 4, "feat.mean": [2.0] * 4, "feat.1": [3.0] * 4},
            ("feat.area", "feat.mean", "feat.1"),
        ),
        ({"f[0]": [1.0] * 4}, ("f[0]",)),
        ({"vector": [[1.0, 2.0]] * 4}, ("vector[0]", "vector[1]")),
    ],
)
def test_features_by_their_names(
    columns: dict[str, Any], names: tuple[str, ...], tmp_path: Path
) -> None:
    found = features_table.read(table(tmp_path, columns))
    assert found.names == names
    assert found.values.shape == (4, len(names))
    assert found.values.dtype == np.float32


def test_an_index_may_hold_the_ids(tmp_path: Path) -> None:
    assert features_table.read(table(tmp_path, NOISE, index="id")).ids == list("abcd")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {**NOISE, "label": [0, 1, 0, 1]},
            r"'label' is not a feature: the features are called f0, f1, \.\.\. \(3\)\. Allowed: id, and",
        ),
        (
            {"index": [0, 1, 2, 3], **NOISE, "fold": [0, 1, 0, 1]},
            r"'index', 'fold' are not features",
        ),
        ({"Unnamed: 0": [0, 1, 2, 3], **NOISE}, r"'Unnamed: 0' is not a feature"),
        ({"level_0": [0, 1, 2, 3], **NOISE}, r"'level_0' is not a feature"),
        ({**NOISE, "malignant": [True, False] * 2}, r"'malignant' is not a feature"),
        ({**NOISE, "fold1": [1.0] * 4, "path": list("wxyz")}, r"'fold1', 'path' are not features"),
        (
            {"0": [1.0] * 4, "1": [1.0] * 4, "label": [0, 1] * 2},
            r"'label' is not a feature: the features are called 0, 1, \.\.\. \(2\)",
        ),
        (
            {"area": [1.0] * 4, "mean": [1.0] * 4},
            r"'area', 'mean' are not features: no columns are called alike",
        ),
        ({"score": [1.0] * 4}, r"'score' is not a feature"),
        ({"label_0": [1.0] * 4, "label_1": [0.0] * 4}, r"'label_0', 'label_1' are not features"),
        ({"f0": [1.0] * 4, "y": [0, 1] * 2}, r"are not features|is not a feature"),
        ({"f1": [1.0] * 4, "f01": [1.0] * 4}, r"Two columns are the feature f1"),
        (
            {"vector": [[1.0, 2.0]] * 4, "label": [0, 1] * 2},
            r"'label' is not a feature: the features are the lists in 'vector'",
        ),
        (
            {"vector": [[1.0, 2.0]] * 3 + [[1.0]]},
            r"the list of 'd' in 'vector' is not a list of 2 numbers",
        ),
        (
            {"vector": [[1.0, 2.0]] * 3 + [None]},
            r"the list of 'd' in 'vector' is not a list of 2 numbers",
        ),
        ({"vector": [["x", "y"]] * 4}, r"is not a list of 2 numbers"),
        ({"f0": list("wxyz"), "f1": [1.0] * 4}, r"column 'f0' does not hold numbers"),
        ({"f0": [1.0] * 4, "f1": [True, False] * 2}, r"column 'f1' does not hold numbers"),
        (
            {"feat_0": [1.0] * 4, "feat_1": [2.0] * 4, "feat_label": [0.0, 1.0] * 2},
            r"'feat_label' is not a feature",
        ),
        (
            {"emb.0": [1.0] * 4, "emb.1": [2.0] * 4, "emb.split": [0.0, 1.0] * 2},
            r"'emb.split' is not a feature",
        ),
        (
            {"glcm_a": [1.0] * 4, "glcm_b": [2.0] * 4, "glcm_Target": [0, 1] * 2},
            r"'glcm_Target' is not a feature",
        ),
        (
            {"class_0": [1.0, 0.0] * 2, "class_1": [0.0, 1.0] * 2},
            r"'class_0', 'class_1' are not features",
        ),
        ({}, r"holds ids alone"),
    ],
)
def test_columns_that_are_no_features(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        features_table.read(table(tmp_path, columns))


def test_ids_in_a_column_and_in_the_index_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"id": list("abcd"), **NOISE}, index=pd.Index(list("wxyz"), name="id")).to_parquet(
        tmp_path / "t.parquet"
    )
    with pytest.raises(UserError, match=r"has a column 'id' and an index of that name"):
        features_table.read(tmp_path / "t.parquet")


def test_ids_in_another_unicode_form_are_found(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", ids=["e\u0301.png"], features=np.ones((1, 2)))
    assert features_table.read(tmp_path / "f.npz").of(["\u00e9.png"], [True]).tolist() == [[1, 1]]


@pytest.fixture
def vectors(tmp_path: Path) -> Callable[..., Path]:
    def save(**arrays: object) -> Path:
        np.savez(tmp_path / "f.npz", **arrays)  # type: ignore[arg-type]
        return tmp_path / "f.npz"

    return save


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"ids": ["a", "b"], "features": np.ones((2, 3))},
            r"f\.npz lacks 1 of 2 images: c\. Next: medbench data split TASK --ids",
        ),
        (
            {"ids": ["a", "c", "a"], "features": np.ones((3, 3))},
            r"holds the id 'a' twice \(rows 1 and 3\)",
        ),
        (
            {"ids": ["a", "c"], "features": np.array([[1.0], [np.nan]])},
            r"not finite, for 1 images: c is the first",
        ),
        ({"ids": ["a", "c"], "features": np.ones(2)}, r"holds 2 ids and features of shape \(2,\)"),
        ({"names": ["a", "c"]}, r"f\.npz holds names\. Allowed: ids \(n,\), features \(n, D\)"),
    ],
)
def test_features_that_are_wrong(
    arrays: dict[str, object], message: str, vectors: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=message):
        features_table.read(vectors(**arrays)).of(["a", "b", "c"], [True, False, True])


def test_ids_of_bytes_are_texts_and_objects_are_refused(vectors: Callable[..., Path]) -> None:
    assert features_table.read(
        vectors(ids=np.array([b"a", "\xe9".encode()]), features=np.ones((2, 3)))
    ).ids == [
        "a",
        "\xe9",
    ]
    for wrong in (
        {"ids": np.array(["a"], object), "features": np.ones((1, 3))},
        {"ids": ["a"], "features": np.ones((1, 3), object)},
    ):
        with pytest.raises(
            UserError,
            match=r"f\.npz holds Python objects, not texts and numbers; .* Next: np\.savez\(FILE, ids=np\.array\(ids, dtype=str\)",
        ):
            features_table.read(vectors(**wrong))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**7, 10**6)}
    )
    with zipfile.ZipFile(vectors(ids=["a"]), "a") as archive:
        archive.writestr("features.npy", header.getvalue())
    with pytest.raises(
        UserError, match=r"f\.npz is not a readable \.npz file \(\w*MemoryError: Unable to allocate"
    ):
        features_table.read(Path(str(archive.filename)))
    np.save(f"{archive.filename}.npy", np.ones(3))
    Path(f"{archive.filename}.npy").rename(str(archive.filename))
    with pytest.raises(UserError, match=r"f\.npz is a NumPy array, and no \.npz file"):
        features_table.read(Path(str(archive.filename)))
    with pytest.raises(
        UserError, match=r"f\.npz is not a readable \.npz file \(UnicodeDecodeError"
    ):
        features_table.read(vectors(ids=np.array([b"\xff"]), features=np.ones((1, 3))))


def test_an_image_that_is_not_needed_may_be_missing(vectors: Callable[..., Path]) -> None:
    out = features_table.read(vectors(ids=["c", "a"], features=np.array([[3.0], [1.0]]))).of(
        ["a", "b", "c"], [True, False, True]
    )
    assert out[[0, 2], 0].tolist() == [1, 3]
    assert np.isnan(out[1, 0])


@pytest.mark.parametrize(
    "spoil",
    [lambda data: b"", lambda data: data[:260] + bytes(40) + data[300:]],
    ids=["empty", "a hole"],
)
def test_a_broken_features_file_is_named(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "v.npz",
        ids=np.array(["a"] * 50),
        features=np.random.default_rng(0).random((50, 30)),
    )
    (tmp_path / "v.npz").write_bytes(spoil((tmp_path / "v.npz").read_bytes()))
    with pytest.raises(UserError, match=r"v\.npz is not a readable \.npz file"):
        features_table.read(tmp_path / "v.npz").of(["a"], [True])


def test_missing_values_of_any_kind_of_column_are_found(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {"id": ["a", "b"], "x0": [1.0, 2.0], "x1": pd.array([1, None], dtype="Int64")}
    )
    frame.to_parquet(tmp_path / "v.parquet")
    assert features_table.read(tmp_path / "v.parquet").of(["a"], [True]).tolist() == [[1, 1]]
    with pytest.raises(UserError, match=r"not finite, for 1 images: b"):
        features_table.read(tmp_path / "v.parquet").of(["a", "b"], [True, True])


@pytest.mark.parametrize("kind", ["complex64", "timedelta64[s]", "bool", "<U1"])
def test_arrays_that_are_no_real_numbers(kind: str, tmp_path: Path) -> None:
    """Before: complex numbers lost their imaginary part."""
    np.savez(tmp_path / "f.npz", ids=["a", "b"], features=np.ones((2, 3)).astype(kind))
    said = rf"f\.npz holds .* and type {kind.split('[')[0]}.*real numbers"
    with pytest.raises(UserError, match=said):
        features_table.read(tmp_path / "f.npz")


@pytest.mark.parametrize("values", [[1j, 2.0], pd.to_timedelta([1, 2], unit="s"), [True, False]])
def test_a_column_of_another_kind_of_number_is_refused(
    values: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parquet itself has no complex numbers, readers of it may."""
    frame = pd.DataFrame({"id": ["a", "b"], "f0": values})
    monkeypatch.setattr(pd, "read_parquet", lambda file: frame)
    with pytest.raises(UserError, match="f0"):
        features_table.read(tmp_path / "f.parquet")
