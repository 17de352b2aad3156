"""Counts in words, and names that somebody else chose, written so that no reader obeys them.

A terminal, a spreadsheet, a viewer of Markdown.
"""

from __future__ import annotations

import re

#: What a terminal obeys, and what turns the order of a line's letters round: the control
#: characters, separators of lines, marks of direction.
_OBEYED = [
    *range(0x20),
    *range(0x7F, 0xA0),
    0x2028,
    0x2029,
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
]
_ESCAPED = {code: ascii(chr(code))[1:-1] for code in _OBEYED}
_FORMULA = re.compile(r"[\s\x00-\x1f]*[=+\-@].", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_QUOTED = re.compile(
    r"""(['"])(?:[A-Za-z]:)?(?:~|\\\\)?[\\/](?:[^'"<>|\n]*[\\/])?([^\\/'"<>|\n]*)\1"""
)
_BARE = re.compile(
    r"""(?<![\w/.:<~])(?:file://)?(?:[A-Za-z]:)?(?:~|\\)?[\\/](?:[^\\/\s'"<>|:,;()]+[\\/])+([^\\/\s'"<>|:,;()]*)"""
)


def counted(n: int, noun: str, verbs: tuple[str, str] | None = None) -> str:
    """Write a number of things, with the verb that agrees with it where two are given.

    >>> counted(1, "cell"), counted(1200, "cell"), counted(1, "image", ("is", "are"))
    ('1 cell', '1,200 cells', '1 image is')
    """
    said = f"{n:,} {noun}{'s' * (n != 1)}"
    return f"{said} {verbs[n != 1]}" if verbs else said


def printable(text: str, kept: str = "") -> str:
    """Spell out the control characters of a text, but for those in `kept`.

    >>> printable("a\\x1b[2Jb\\n", kept="\\n")
    'a\\\\x1b[2Jb\\n'
    """
    if text.isprintable():
        return text
    return text.translate(
        {code: spelled for code, spelled in _ESCAPED.items() if chr(code) not in kept}
    )


def is_plain(text: str) -> bool:
    """Return whether `printable` leaves a text as it is."""
    return printable(text) == text


def csv_cell(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula.

    Such a text begins with an apostrophe. Numbers and single signs stay.

    >>> [csv_cell(value) for value in ("=1+1", "-0.5", "=", -2, "+49 sum")]
    ["'=1+1", '-0.5', '=', -2, "'+49 sum"]
    """
    if not isinstance(value, str):
        return value
    text = printable(value, kept="\n\t")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def csv_text(cell: str) -> str:
    """Return what `csv_cell` was given, of a cell that is read again.

    >>> [csv_text(cell) for cell in ("'=1+1", "'s Gravenhage", "-0.5")]
    ['=1+1', "'s Gravenhage", '-0.5']
    """
    return cell[1:] if cell.startswith("'") and csv_cell(cell[1:]) == cell else cell


def in_markdown(text: str) -> str:
    """One line of Markdown that holds no HTML, and no link or image.

    >>> in_markdown("<b>a\\nb</b> ![x](y) p < .05")
    '&lt;b>a b&lt;/b> ![x]\\\\(y) p < .05'
    """
    return _TAG.sub("&lt;", printable(" ".join(text.splitlines()))).replace("](", "]\\(")


def placeless(text: str) -> str:
    """Return a text without folders of a machine: of a path the last name stays.

    >>> placeless("No such file: '/home/Ann Lee/ham/x.png'"), placeless("see /data/ham/x.png, 5/class")
    ("No such file: 'x.png'", 'see x.png, 5/class')
    """
    if "/" not in text and "\\" not in text:
        return text
    return _BARE.sub(r"\1", _QUOTED.sub(r"\1\2\1", text))
