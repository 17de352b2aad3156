"""Which names are one name, spelled in two ways: labels, patients, bags, columns.

One rule for all of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal

#: Cyrillic and Greek letters, in small, whose capitals look like these Latin ones.
_LOOK = str.maketrans("авекмнорстухіјѕ" + "αβεζηικμνορτυχ", "abekmhopctyxijs" + "abezhikmnoptyx")
#: Dotless i, and the dot that the small letter of a dotted capital keeps.
_TURKISH = {0x131: "i", 0x307: None}
#: What shows nothing and is no format character (Unicode's Default_Ignorable_Code_Point), and the
#: blank of braille.
_NOTHING = {
    **dict.fromkeys(
        [
            0x34F,
            0x115F,
            0x1160,
            0x17B4,
            0x17B5,
            0x3164,
            0xFFA0,
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
        ]
    ),
    0x2800: " ",
}
_QUOTES = dict.fromkeys(map(ord, "\"'`´‘’‚“”„«»"))
_DASHES = re.compile("[\u2010-\u2015\u2212\ufe58\uff0d]")
#: An exponent counts with a sign or a fraction alone: `12e3` may be a piece of a hash.
_NUMBER = re.compile(
    r"([+-]?)(\d+\.?\d*|\.\d+|\d+,\d+)(?:(?<=[.,])\d*|(?:(?<=\d)|(?<=\.))e[+-]\d{1,4})?"
)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}((,\d{3})+|( \d{3})+)")
#: What is kept of a gap between two digits (patient 1-11 is not 11-1), and of a minus after a gap;
#: what a number begins with. No text holds them.
_BREAK, _MINUS, _VALUE = "\0", "\1", "\2"
_GAP = re.compile(
    r"(?<=[^\W_])[\s_.,;:/\\|~#-]+(?=[^\W\d_])|(?<=[^\W\d_])[\s_.,;:/\\|~#-]+(?=[^\W_])"
)


def visible(text: str) -> str:
    """Return a text as a person sees it.

    Characters that show nothing are gone, forms of one character are one, each gap is one space.

    >>> visible(" cafe\\u0301\\u200b  au\\u00a0lait ")
    'café au lait'
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_NOTHING)
    if not text.isprintable():
        text = "".join(
            c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf")
        )
    return " ".join(text.split())


def spelling(text: str) -> str:
    """Return what is the same for two spellings of one name.

    Padding with zeros inside a name is `alike`'s own. Not looked at: case, gaps and the signs that
    stand for one beside a letter (`_`, `-`, `.`, `/`, `:`, ...), quotes, brackets around it, `#`
    and `=` before it, Unicode forms, characters that show nothing, letters of another alphabet that
    look alike, how a number is written. A sign at an end is part of the name (`HER2+`, `HER2-`),
    and so is the order of words.

    >>> spelling("007") == spelling("7.0") == spelling(" 7 ")
    True
    >>> spelling("Patient_7") == spelling("patient 7"), spelling("HER2+") == spelling("HER2-"), spelling("1-11") == spelling("11-1")
    (True, False, False)
    """
    text = visible(text).casefold()
    if not text.isascii():
        text = _DASHES.sub("-", visible(text.translate(_TURKISH)).translate(_LOOK))
    text = text.translate(_QUOTES).lstrip("#= ").strip()
    bare = re.fullmatch(r"[(\[{]\s*([^()\[\]{}]*?)\s*[)\]}]", text)
    text = bare[1] if bare else text
    if _NUMBER.fullmatch(text) or _THOUSANDS.fullmatch(text):
        return _written(
            re.sub("[ ,]", "", text) if _THOUSANDS.fullmatch(text) else text.replace(",", ".")
        )
    text = re.sub(r"(?<=\d)[\s_-]+(?=\d)", _BREAK, text)
    text = re.sub(r"(?<=\s)-(?=\d)", _MINUS, text)
    return re.sub(r"\s+", "", _GAP.sub("", text)).strip("_.,;")


def _written(number: str) -> str:
    """Write a number of any length in one way: a float would make two long ids equal."""
    sign, digits, exponent = Decimal(number).as_tuple()
    kept = "".join(map(str, digits)).lstrip("0")
    bare = kept.rstrip("0")
    return (
        f"{_VALUE}{'-' if sign else ''}{bare}e{int(exponent) + len(kept) - len(bare)}"
        if bare
        else f"{_VALUE}0"
    )


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of different names that are one by `spelling`.

    Names that differ in zeros before a number alone (`P007`, `P7`). Names of one length do not
    count as padded: hashes (`a01b1`, `a1b01`) are not.

    >>> alike(["7", "P7", "007", "P007", "8"])
    [('007', '7'), ('P007', 'P7')]
    """
    same: dict[str, str] = {}
    padded: dict[str, tuple[str, str]] = {}
    pairs = []
    for name in sorted(set(names)):
        key = spelling(name)
        other = same.setdefault(key, name)
        if other == name:
            # zeros there are no padding; pieces of a UID are whole numbers
            fraction = "." if key.count(".") == 1 else ""
            found, whole = padded.setdefault(
                re.sub(rf"(?<![\d,{fraction}])0+(?=\d)", "", key), (name, key)
            )
            other = found if len(whole) != len(key) else name
        if other != name:
            pairs.append((other, name))
    return pairs
