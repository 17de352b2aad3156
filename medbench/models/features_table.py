"""What a user brings instead of an encoder: a file of ids and vectors.

A .npz file says by the names of its arrays which numbers are features. A table says it by the names
of its columns: a label, a fold or an index that was left in it is a number, too, and would be the
best feature of all. So its features are called alike, and whatever is called otherwise is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.schema import UserError, told
from medbench.system import archive_errors, file_kinds

if TYPE_CHECKING:
    import pandas as pd

ALLOWED = (
    "id, and features f0, f1, ... or others with one common prefix",
    "id, and one column of lists",
)
_THEN = "write the ids and the features alone: frame[['id', 'f0', 'f1', ...]].to_parquet(FILE)"
#: What no feature is called, numbered or not: `label_0`, `fold1`, what pandas makes of an index.
_NO_FEATURE = {
    *(
        "label",
        "labels",
        "class",
        "classes",
        "target",
        "targets",
        "truth",
        "onehot",
        "diagnosis",
        "outcome",
        "grade",
    ),
    *(
        "fold",
        "split",
        "part",
        "group",
        "patient",
        "bag",
        "id",
        "index",
        "level",
        "unnamed",
        "age",
        "sex",
    ),
}
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class FeaturesTable:
    """Hold the features of a user's file.

    file: its name. ids: n of them, in the form NFC, each once. values: (n, D) float32. names: D, as
    a message shows them.
    """

    file: str
    ids: list[str]
    values: np.ndarray
    names: tuple[str, ...]

    def of(self, ids: Sequence[str], needed: Sequence[bool]) -> np.ndarray:
        """Return the vectors of `ids`, in that order: (N, D) float32.

        NaN for an image that is not `needed` and not there. Raises UserError that names what is
        missing or not finite. Ids that no image has are left alone.
        """
        row = {name: i for i, name in enumerate(self.ids)}
        ids = [unicodedata.normalize("NFC", name) for name in ids]
        missing = [name for name, need in zip(ids, needed, strict=True) if need and name not in row]
        if missing:
            shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
            holds = (
                f"; it holds '{self.ids[0]}'" if len(missing) == sum(needed) and self.ids else ""
            )
            then = "medbench data split TASK --ids prints the ids it must hold"
            raise UserError(
                f"{self.file} lacks {len(missing)} of {sum(needed)} images: {shown}{holds}",
                then=then,
            )
        out = np.full((len(ids), self.values.shape[1]), np.nan, np.float32)
        there = np.array([name in row for name in ids])
        out[there] = self.values[[row[name] for name in np.asarray(ids)[there]]]
        bad = np.flatnonzero(np.asarray(needed) & ~np.isfinite(out).all(1))
        if len(bad):
            raise UserError(
                f"{self.file} holds values that are not finite, for {len(bad)} images: {ids[bad[0]]} is the first."
            )
        return out


def read(file: Path) -> FeaturesTable:
    """Read ids and features from a file of the user's.

    A .npz file holds `ids` (n,) str and `features` (n, D). A .parquet file holds a column `id`, and
    the features in the largest set of columns of one prefix: behind it stands a number (`f0`,
    `dino_12`, plain `0`, `1`, ...), or, where it ends in `_`, `.`, `:` or a space, a word
    (`original_glcm_Contrast`); among numbers a word is none (`feat_0`, `feat_label`). Raises
    UserError for other shapes and types, an id that stands there twice, and columns of which it is
    not clear what they are.
    """
    ids, values, names = _read_npz(file) if file.suffix == ".npz" else _read_parquet(file)
    if (
        values.ndim != 2
        or values.dtype.kind not in "iuf"
        or len(values) != len(ids)
        or values.shape[1] == 0
    ):
        what = f"{file.name} holds {len(ids)} ids and features of shape {values.shape} and type {values.dtype}."
        raise UserError(what, allowed=["ids (n,), features (n, D), real numbers"])
    ids = [unicodedata.normalize("NFC", name) for name in ids]
    first: dict[str, int] = {}
    for i, name in enumerate(ids):
        if first.setdefault(name, i) != i:
            raise UserError(
                f"{file.name} holds the id '{name}' twice (rows {first[name] + 1} and {i + 1})."
            )
    # what a float32 does not hold is infinite, and is named as such
    with np.errstate(over="ignore"):
        return FeaturesTable(
            file.name,
            ids,
            values.astype(np.float32, copy=False),
            names or tuple(map(str, range(values.shape[1]))),
        )


def _read_npz(file: Path) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    def wrong(why: str) -> UserError:
        if "Object arrays" in why:
            what = f"{file} holds Python objects, not texts and numbers; reading these could run code of its author, so medbench does not."
            return UserError(
                what,
                then="np.savez(FILE, ids=np.array(ids, dtype=str), features=np.array(features, dtype='float32'))",
            )
        return UserError(
            f"{file} is not a readable .npz file ({why}).",
            then="np.savez(FILE, ids=ids, features=features)",
        )

    with file.open("rb") as stream:
        kind = file_kinds.kind_of(head := stream.read(file_kinds.HEAD))
    if kind and not head.startswith(b"PK"):
        raise UserError(
            f"{file} is {kind}, and no .npz file.",
            then="np.savez(FILE, ids=ids, features=features)",
        )
    with (
        archive_errors.reading(wrong),
        file.open("rb") as stream,  # np.load alone leaves a broken file open
        np.load(stream) as arrays,
    ):
        found: dict[str, Any] = dict(arrays)
        ids = _texts(np.atleast_1d(found.get("ids", ())))
    if not {"ids", "features"} <= set(found):
        raise UserError(
            f"{file.name} holds {', '.join(found) or 'nothing'}.",
            allowed=["ids (n,)", "features (n, D)"],
        )
    return ids, found["features"], ()


def _texts(ids: np.ndarray) -> list[str]:
    """Ids as texts: bytes, as HDF5 and older NumPy code hold them, are UTF-8.

    Raises UnicodeDecodeError.
    """
    return [name.decode() if isinstance(name, bytes) else str(name) for name in ids.tolist()]


def _read_parquet(file: Path) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    import pandas as pd

    try:
        frame = pd.read_parquet(file)
    except ImportError as error:
        raise UserError(
            f"{file.name} needs a package that reads parquet.", then="pip install medbench[parquet]"
        ) from error
    except (
        Exception
    ) as error:  # of pandas, or of whichever package reads the file: each has its own
        raise UserError(f"{file} is not a readable .parquet file ({told(error)}).") from error
    if frame.index.name == "id":
        if "id" in frame.columns:
            raise UserError(f"{file.name} has a column 'id' and an index of that name.", then=_THEN)
        frame = frame.reset_index()
    frame.columns = frame.columns.map(str)
    if "id" not in frame.columns:
        raise UserError(f"{file.name} has no column 'id', but {_listed(frame.columns)}.")
    if frame.columns.has_duplicates:
        raise UserError(
            f"{file.name} has two columns '{frame.columns[frame.columns.duplicated()][0]}'."
        )
    if frame["id"].isna().any():
        raise UserError(
            f"{file.name} has no id in {int(frame['id'].isna().sum())} of {len(frame)} rows.",
            then=_THEN,
        )
    ids, rest = frame["id"].astype(str).tolist(), frame.drop(columns="id")
    lists = [name for name in rest if _holds_lists(rest[name])]
    if lists:
        _refuse_others(file, rest, [lists[0]], f"the features are the lists in '{lists[0]}'")
        values = _stacked(file, ids, rest[lists[0]])
        return ids, values, tuple(f"{lists[0]}[{i}]" for i in range(values.shape[1]))
    columns, called = _columns(list(rest.columns))
    _refuse_others(file, rest, columns, called)
    return ids, rest[columns].to_numpy(np.float32, na_value=np.nan), tuple(columns)


def _columns(names: Sequence[str]) -> tuple[list[str], str]:
    """Choose the columns that are features by their names, and say what makes them so.

    Those with one prefix, the largest such set: a number follows it (`f0`, `dino_12`, plain `0`,
    `1`, ...), or it ends in `_`, `.`, `:` or a space and a word follows (`original_glcm_Contrast`).
    Among numbers a word is none (`feat_0`, `feat_label`).
    """
    prefixes = {
        name: prefix
        for name in names
        if (prefix := _prefix(name)) is not None
        and prefix.strip(" _.:-([").casefold() not in _NO_FEATURE
    }
    (prefix, n), *_ = Counter(prefixes.values()).most_common(1) or [("", 0)]
    alone = n == 1 and len(names) > 1
    chosen = [name for name in names if prefixes.get(name) == prefix] if n and not alone else []
    chosen = [name for name in chosen if name[len(prefix) :].casefold() not in _NO_FEATURE]
    numbered = [name for name in chosen if re.fullmatch(r"\d+\W*", name[len(prefix) :])]
    if 2 * len(numbered) > len(chosen):  # a word among numbers is what was left in the table
        chosen = numbered
    numbers = Counter(int(re.sub(r"\D", "", name[len(prefix) :])) for name in numbered)
    twice = next((number for number, count in numbers.items() if count > 1), None)
    if twice is not None:
        raise UserError(f"Two columns are the feature {prefix}{twice}.", allowed=ALLOWED)
    shown = f"{chosen[0]}, {chosen[1]}, ..." if len(chosen) > 1 else chosen[0] if chosen else ""
    return (
        chosen,
        f"the features are called {shown} ({len(chosen)})"
        if chosen
        else "no columns are called alike",
    )


def _prefix(name: str) -> str | None:
    numbered = re.fullmatch(r"(.*?)\d+\W*", name)
    if numbered:
        return numbered[1]
    worded = re.match(r"[^_.: ]+[_.: ]", name)
    return worded[0] if worded else None


def _refuse_others(file: Path, rest: pd.DataFrame, columns: Sequence[str], called: str) -> None:
    """Raise UserError for columns that are no features by their names, or no numbers."""
    from pandas.api.types import is_float_dtype, is_integer_dtype

    others = [name for name in rest if name not in columns]
    if others or not columns:
        what = f"{file.name}: {_listed(others)} {'is not a feature' if len(others) == 1 else 'are not features'}: {called}."
        raise UserError(
            what if others else f"{file.name} holds ids alone.", allowed=ALLOWED, then=_THEN
        )
    texts = [
        name
        for name in columns
        if not is_float_dtype(rest[name].dtype)
        and not is_integer_dtype(rest[name].dtype)
        and not _holds_lists(rest[name])
    ]
    if texts:
        raise UserError(f"{file.name}: column '{texts[0]}' does not hold numbers.", allowed=ALLOWED)


def _holds_lists(column: pd.Series[Any]) -> bool:
    return column.dtype == object and any(
        isinstance(value, (list, tuple, np.ndarray)) for value in column.dropna()[:1]
    )


def _stacked(file: Path, ids: Sequence[str], column: pd.Series[Any]) -> np.ndarray:
    """(n, D) of a column of lists.

    Raises UserError for lists of different lengths, or that hold something else than numbers.
    """
    rows = [np.asarray(value if value is not None else ()) for value in column]
    for name, row in zip(ids, rows, strict=True):
        if row.shape != rows[0].shape or row.ndim != 1 or row.dtype.kind not in "iuf":
            what = f"{file.name}: the list of '{name}' in '{column.name}' is not a list of {rows[0].size} numbers, as the first is."
            raise UserError(what, allowed=ALLOWED)
    return np.stack(rows)


def _listed(names: Sequence[str]) -> str:
    shown = [f"'{name}'" for name in list(names)[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
