"""In which order the classes of a folder stand, and what a person need not say of it.

Numbers and the scales that everybody knows.

A weighted kappa on classes in a wrong order is another number, so nothing is guessed: words that
are neither are refused by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile

from medbench.schema import UserError, spelling, visible

#: A class that stands below every number and below the first word of a scale.
_NONE = "none no non not normal healthy absent negative nil unaffected control"
#: From least to most; the words of one level mean the same. `low normal high` is in none of them:
#: as a value of blood it has another order than as a grade.
_SCALES: tuple[tuple[str, ...], ...] = (
    (
        f"{_NONE}|nondemented",
        "questionable|doubtful|borderline|trace|trivial",
        "minimal|very mild",
        "mild|slight|light",
        "mild moderate",
        "moderate|medium",
        "moderate severe|moderately severe",
        "severe|marked",
        "very severe|extreme|critical",
        "proliferative|proliferate|pdr",
    ),
    (
        "none|no|absent|negative",
        "very low",
        "low",
        "low intermediate|intermediate low",
        "intermediate|medium|moderate|mid|middle",
        "high intermediate|intermediate high",
        "high",
        "very high",
    ),
    (
        _NONE,
        "low grade|lgd",
        "intermediate grade",
        "high grade|hgd",
        "cancer|carcinoma|adenocarcinoma",
    ),
    ("normal|negative|nilm", "ascus|asc us", "lsil", "hsil", "scc|cancer|carcinoma"),
    (_NONE, "early|initial", "intermediate|middle|mid", "late|advanced", "end|terminal"),
    ("well", "moderate|moderately", "poor|poorly", "undifferentiated"),
    ("very small|tiny", "small", "medium|intermediate", "large|big", "very large|huge"),
    ("bad|poor|inadequate", "fair|average|acceptable", "good|adequate", "excellent"),
)
_ROMAN = {
    text: value
    for value, text in enumerate(("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"), 1)
}
_VALUE = rf"\d+(?:[.,]\d+)?|(?<![a-z])(?:{'|'.join(sorted(_ROMAN, key=len, reverse=True))})"
#: `grade 2`, `IIIa`, `0-1`, `1 - mild`, `<5`, `3+`: what stands before it, the number or the range,
#: a letter, and what stands behind.
_NUMBERED = re.compile(
    rf"(?P<before>.*?)(?P<sign>[<>≤≥]?)\s*(?P<low>{_VALUE})(?:(?:[-–]| to )(?P<high>{_VALUE}))?(?P<letter>[a-d]?)(?P<after>(?:\+|st|nd|rd|th)?(?![a-z0-9]).*)"
)
Key = tuple[float, ...]


def by_name(classes: Sequence[str]) -> tuple[str, ...]:
    """Order classes that have no order of their own.

    They go by their numbers where all are numbers, else by their names.
    """
    return tuple(
        sorted(sorted(classes), key=float) if all(map(is_number, classes)) else sorted(classes)
    )


def by_degree(classes: Sequence[str], order: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the classes of an ordinal task from least to most.

    order: as a person named them, () where nobody did. Raises UserError where they name other
    classes, and where the order cannot be told from numbers or the words of one scale.

    >>> by_degree(["mild", "none", "severe"]), by_degree(["Grade II", "Grade IV", "Grade III"]), by_degree(["10 - ADED", "1 - no", "2 - x"])
    (('none', 'mild', 'severe'), ('Grade II', 'Grade III', 'Grade IV'), ('1 - no', '2 - x', '10 -
    ADED'))
    """
    if order:
        return _as_named(classes, order)
    found = {
        tuple(sorted(classes, key=keys.__getitem__))
        for keys in (_numbers(classes), _words(classes))
        if keys
    }
    if len(found) == 1:
        return found.pop()
    shown = ", ".join(sorted(classes))
    known, unknown = _of_a_scale(classes)
    why = "they are not numbers, and no scale that medbench knows"
    if found:
        why = "their numbers say one, their words another"
    elif unknown:
        why = f"{', '.join(known)} are of a scale, and {', '.join(unknown)} {'are not words' if len(unknown) > 1 else 'is not a word'} of it"
    what = f"The order of the classes {shown} cannot be told: {why}."
    raise UserError(
        what,
        then=f"say it, from least to most: --order {_example([*known, *unknown] or sorted(classes))}, in your order",
    )


def is_number(text: str) -> bool:
    """Return whether a text is a decimal number: `3`, `-0.5`, `1e3`."""
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None


def _as_named(classes: Sequence[str], order: Sequence[str]) -> tuple[str, ...]:
    """Order the classes as these names, which may be spelled otherwise.

    Raises UserError for one that is unknown, twice there, or missing.
    """
    called = {spelling(name): name for name in classes}
    unknown = next((name for name in order if spelling(name) not in called), None)
    if unknown is not None:
        raise UserError(
            f"--order names '{unknown}', which is not a class.",
            allowed=sorted(classes),
            given=unknown,
        )
    named = [called[spelling(name)] for name in order]
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"--order names '{twice}' twice.", then=f"--order {_example(classes)}, in your order"
        )
    left = sorted(set(classes) - set(named))
    if left:
        what = f"--order leaves out {', '.join(left)}: it names every class, from least to most."
        raise UserError(what, then=f"--order {_example([*named, *left])}, in your order")
    return tuple(named)


def _example(classes: Sequence[str]) -> str:
    text = ",".join(classes)
    return text if re.fullmatch(r"[\w,.+-]+", text) else f"'{text}'"


def _numbers(classes: Sequence[str]) -> dict[str, Key]:
    """Return class -> its number.

    Where each has another one after the same words (`grade 2`) and at most one says that there is
    nothing; else {}.
    """
    if all(map(is_number, classes)):
        return {name: (float(name),) for name in classes}
    return _lettered(classes) or _numbered(classes)


def _numbered(classes: Sequence[str]) -> dict[str, Key]:
    texts = _without_common_beginning(classes)
    matches = {name: match for name, text in texts.items() if (match := _NUMBERED.fullmatch(text))}
    numbers = {name: _key(match) for name, match in matches.items()}
    nothing = [name for name in classes if name not in numbers]
    if (
        len({match["before"].strip(" _-.:#") for match in matches.values()}) != 1
        or len(nothing) > 1
    ):
        return {}
    if nothing and (not _says_nothing(_tokens(nothing[0])) or min(numbers.values())[0] <= 0):
        return {}
    keys: dict[str, Key] = {**numbers, **dict.fromkeys(nothing, (0.0, 0.0, 0.0))}
    return keys if len(set(keys.values())) == len(classes) else {}


def _without_common_beginning(classes: Sequence[str]) -> dict[str, str]:
    """Class -> its name in small letters without the whole words that all begin with.

    The number of `HER2 3+` is 3.
    """
    texts = {name: _split_camel(name) for name in classes}
    alike = len(
        list(takewhile(lambda signs: len(set(signs)) == 1, zip(*texts.values(), strict=False)))
    )
    words = max(
        (end for end in range(alike + 1) if not texts[classes[0]][end - 1 : end].isalnum()),
        default=0,
    )
    return {name: text[words:] for name, text in texts.items()}


def _says_nothing(words: Sequence[str]) -> bool:
    return bool(words) and words[0] in _NONE.split()


def _key(match: re.Match[str]) -> Key:
    low, high = (_value(match[name] or match["low"]) for name in ("low", "high"))
    side = {"<": -1.0, "≤": -1.0, ">": 1.0, "≥": 1.0}.get(match["sign"], 0.0)
    letter = float(ord(match["letter"])) if match["letter"] else 0.0
    return ((low + high) / 2, side, letter)


def _value(text: str) -> float:
    return float(_ROMAN.get(text, 0) or text.replace(",", "."))


def _lettered(classes: Sequence[str]) -> dict[str, Key]:
    """Read `A`, `B`, `C`, or `density a`, `density b`, ...

    Without a gap from the first letter on, else {}.
    """
    tokens = {name: _tokens(name) for name in classes}
    letters = sorted(words[-1] if words else "" for words in tokens.values())
    alike = len({tuple(words[:-1]) for words in tokens.values()}) == 1
    return (
        {name: (float(ord(words[-1])),) for name, words in tokens.items()}
        if alike and "".join(letters) == "abcdefgh"[: len(letters)]
        else {}
    )


def _words(classes: Sequence[str]) -> dict[str, Key]:
    """Class -> its level, where all are words of one scale, of different levels; else {}.

    A word that several classes have beside theirs (`DR` in `mild DR`) says nothing, and so does
    what there is none of (`no finding`).
    """
    every = (_levels(classes, scale) for scale in _SCALES)
    return next((keys for keys in every if len(set(keys.values())) == len(classes)), {})


def _of_a_scale(classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the classes that are words of one scale, from least to most, and the others.

    ([], []) where less than half are, or two are of one level.
    """
    best = max((_levels(classes, scale) for scale in _SCALES), key=len)
    if 2 * len(best) < len(classes) or len(set(best.values())) < max(len(best), 2):
        return [], []
    return sorted(best, key=best.__getitem__), [name for name in classes if name not in best]


def _levels(classes: Sequence[str], scale: Sequence[str]) -> dict[str, Key]:
    """Class -> its level on a scale, of those that are a word of it."""
    shared = Counter(word for name in classes for word in set(_tokens(name)))
    levels = {
        tuple(phrase.split()): level
        for level, phrases in enumerate(scale)
        for phrase in _phrases(phrases)
    }
    known = {word for phrase in levels for word in phrase}
    keys: dict[str, Key] = {}
    for name in classes:
        words = tuple(
            word
            for word in _tokens(name)
            if word in known or (shared[word] == 1 and not word.isdigit())
        )
        if _says_nothing(words) and not known & set(words[1:]):
            words = words[:1]
        if words in levels:
            keys[name] = (float(levels[words]),)
    return keys


def _phrases(level: str) -> list[str]:
    """`very mild|minimal` -> its two phrases; of the words for nothing each is one."""
    return [
        word
        for phrase in level.split("|")
        for word in (phrase.split() if phrase == _NONE else [phrase])
    ]


def _tokens(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", _split_camel(name))


def _split_camel(name: str) -> str:
    """In small letters; `VeryMildDemented` -> `very mild demented`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", visible(name)).casefold()
