"""The paragraph of a paper that says what was done.

From plan and rows alone, with BibTeX of what was used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from medbench.images.cropping import crop_in
from medbench.report.leaderboard import (
    Leaderboard,
    at_home,
    class_notes,
    escape_tex,
    weights_in_words,
)
from medbench.schema import ALL, Row, Task, counted, registry
from medbench.stats import intervals
from medbench.stats.metrics import METRICS

#: Of a fusion's head: which reading of its paper.
_TOKENS = {
    "source": "attention over one token a source",
    "scalar": "attention over every value as a token",
    "none": "no attention",
}
_CORRECTED = (
    "Westfall and Young 1993, Resampling-Based Multiple Testing: Examples and Methods for p-Value Adjustment, Wiley, New York",
    "Smyth 2004, Linear models and empirical Bayes methods for assessing differential expression in microarray experiments, Statistical Applications "
    "in Genetics and Molecular Biology 3(1):3, doi:10.2202/1544-6115.1027",
)


class MethodsText(NamedTuple):
    r"""LaTeX: a paragraph with \cite commands, and the BibTeX entries that they name."""

    paragraph: str
    bibtex: str

    def __str__(self) -> str:
        return f"{self.paragraph}\n\n{self.bibtex}\n"


def methods_text(boards: Sequence[Leaderboard]) -> MethodsText:
    """Write the paragraph of a paper that says what was done, and only what rows and plan hold.

    With the BibTeX entries that it cites.
    """
    others = _unique(
        line.cell.method for board in boards for line in board.lines if line.cell.external
    )
    everywhere = [board.own for board in boards]
    boards = at_home(everywhere)
    rows = [row for board in boards for line in board.lines for row in line.rows]
    cited = _Cited()
    said = [
        _data(boards, cited),
        *_encoders(rows, cited),
        *_judged(boards, rows, cited),
        _uncertainty(boards, cited),
    ]
    said += [*_classes(boards), *_elsewhere(everywhere, cited), *_software(rows)]
    if others:
        said.append(
            f"Predictions of {_and(map(escape_tex, others))}, made elsewhere, were scored on the same images."
        )
    for selection in {board.selection for board in everywhere} - {None}:
        said.append(
            f"Shown are {escape_tex(str(selection))}; comparisons are corrected for these alone."
        )
    failed = sum(len(line.planned) - len(line.rows) for board in boards for line in board.lines)
    if failed:
        said.append(f"{failed} of {failed + len(rows)} planned runs have no result.")
    return MethodsText(" ".join(said), "\n".join(cited.bibtex()))


class _Cited:
    """Citations in the order of use; each part between semicolons is one entry."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}  # text -> key

    def cite(self, text: str) -> str:
        keys = []
        for part in filter(None, (part.strip() for part in text.split(";"))):
            if part not in self.entries:
                word, year = re.search(r"[A-Za-z]+", part), re.search(r"\b(19|20)\d\d\b", part)
                key = (word[0].lower() if word else "source") + (year[0] if year else "")
                taken = sum(re.sub("[a-z]$", "", other) == key for other in self.entries.values())
                self.entries[part] = key + (
                    "" if not taken else "abcdefghijklmnopqrstuvwxyz"[taken]
                )
            keys.append(self.entries[part])
        return f"~\\cite{{{','.join(keys)}}}" if keys else ""

    def bibtex(self) -> list[str]:
        lines = []
        for text, key in self.entries.items():
            fields = {"note": escape_tex(text)}
            for name, pattern in (
                ("year", r"\b((?:19|20)\d\d)\b"),
                ("doi", r"doi:(\S+?)(?=[,;]|$)"),
                ("eprint", r"arXiv:([\d.]+\d)"),
            ):
                found = re.search(pattern, text)
                if found:
                    fields[name] = found[1]
            if "eprint" in fields:
                fields["archiveprefix"] = "arXiv"
            lines += [
                f"@misc{{{key},",
                *(f"  {name} = {{{value}}}," for name, value in fields.items()),
                "}",
            ]
        return lines


def _data(boards: Sequence[Leaderboard], cited: _Cited) -> str:
    each = []
    for board in boards:
        entry = _task(board.task)
        parts = ", ".join(
            f"{images:,} {name}"
            + (f" ({groups:,} {board.about['groups']}s)" if board.about["groups"] else "")
            for name, (images, groups) in board.about["parts"].items()
        )
        where = "drawn stand-in images" if board.data == "phantom" else board.data
        citation = cited.cite(entry.citation) if entry and board.data != "phantom" else ""
        each.append(
            f"{escape_tex(board.about['title'])} ({escape_tex(where)}{citation}; images: {escape_tex(parts)})"
        )
    return f"We compared encoders on {counted(len(boards), 'task')}: {'; '.join(each)}."


def _task(name: str) -> Task | None:
    """Return the task as it is registered; None for a folder of the user's, or one that was."""
    head = name.partition(":")[0]
    known = registry.tasks().get(name) or registry.tasks().get(head)
    return known or (
        registry.task(name) if head in registry.families() and head != "folder" else None
    )


def _encoders(rows: Sequence[Row], cited: _Cited) -> list[str]:
    found = []
    networks = _unique(
        escape_tex(row.cell.encoder)
        + (f" at {row.cell.size} pixels" if row.cell.size else "")
        + (f" ({crop_in(row.provenance).name})" if crop_in(row.provenance).side else "")
        for row in rows
    )
    if networks:
        found.append(f"Encoders: {_and(networks)}.")
    words = weights_in_words(rows)
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        by_method.setdefault(row.cell.method, []).append(row)
    for method, of in by_method.items():
        entry = registry.methods().get(method.partition(":")[0])
        weights = _and(
            escape_tex(text) for text in _unique(words[row.provenance["weights"]] for row in of)
        )
        seen = _unique(name for row in of for name in row.provenance["trained_on"])
        trained = f", trained on {escape_tex(', '.join(seen))}" if seen else ""
        head = (
            f" ({_TOKENS[entry.settings['tokens']]})"
            if entry and "tokens" in entry.settings
            else ""
        )
        found.append(
            f"{escape_tex(method)}{cited.cite(entry.citation) if entry else ''}{head}: weights {weights}{_pretrained(of)}{trained}."
        )
    return found


def _pretrained(rows: Sequence[Row]) -> str:
    """Say how much a method was trained on the task's images.

    "" for a fusion, whose members say it, and where nothing was learnt.
    """
    made = [
        one
        for row in rows
        for one in row.provenance.get("pretraining", [])
        if one["method"] == row.cell.method and one["views"]
    ]
    told = _unique(
        f"{one['views']:,.0f} views, batch {stage['batch']}, {stage['optimiser']} at {stage['lr']:g}"
        for one in made
        for stage in one["stages"][:1]
        if stage["objective"]
    )
    return f" ({escape_tex('; '.join(told))})" if told else ""


def _judged(boards: Sequence[Leaderboard], rows: Sequence[Row], cited: _Cited) -> list[str]:
    found = []
    for name in _unique(row.cell.protocol for row in rows):
        entry = registry.protocols().get(name)
        found.append(
            f"{escape_tex(name)}{cited.cite(entry.citation) if entry else ''}: {escape_tex(entry.title)}."
            if entry
            else f"Protocol: {escape_tex(name)}."
        )
    found.append(
        f"Label budgets: {_and(_drawn(boards))} of the training part; budgets are nested, groups are never torn, all methods see the same labelled "
        "images, and hyper-parameters are chosen inside the labelled subset."
    )
    return found


def _drawn(boards: Sequence[Leaderboard]) -> list[str]:
    """Each budget with how many draws of it there are: `10\\% (3 to 20 draws)`.

    All labels are no draw.
    """
    counts: dict[str, set[int]] = {}
    for line in (line for board in boards for line in board.lines):
        counts.setdefault(line.cell.labels, set()).add(
            len({planned.cell.seed for planned in line.planned})
        )
    told = []
    for budget, of in counts.items():
        many = str(min(of)) if len(of) == 1 else f"{min(of)} to {max(of)}"
        said = "" if budget == str(ALL) else " (one draw)" if of == {1} else f" ({many} draws)"
        told.append(escape_tex(budget) + said)
    return told


def _uncertainty(boards: Sequence[Leaderboard], cited: _Cited) -> str:
    by_groups, by_seeds, joined = (
        f"{words}{cited.cite(source)}" for words, source in intervals.RULE
    )
    corrected, steadied = map(cited.cite, _CORRECTED)
    metrics = _and(_unique(METRICS[board.about["metric"]].title for board in boards))
    groups = _and(_unique((board.about["groups"] or "image") + "s" for board in boards))
    return (
        f"The primary metric is {metrics}. Intervals (95\\,\\%) take test {groups} (bootstrap, 1,000 resamples of whole {groups}, "
        f"{by_groups}) and {by_seeds}, {joined}; differences between methods are paired on the same test images and draws, "
        f"variance estimates between draws are pooled across pairs{steadied}, and each method is tested against the best of its budget, "
        f"corrected by step-down max-T{corrected}."
    )


def _classes(boards: Sequence[Leaderboard]) -> list[str]:
    """Name each task's rare classes, and what the best line finds of the class it finds least."""
    found = []
    for board in boards:
        where = f"On {board.about['title']}, " if len(boards) > 1 else ""
        for note in class_notes(board):
            if note.kind == "rare":  # the others are results
                said = where + note.text
                found.append(escape_tex(said[:1].upper() + said[1:]))
    return found


def _elsewhere(boards: Sequence[Leaderboard], cited: _Cited) -> list[str]:
    """Write what the fitted models were scored on beside the tasks' own parts."""
    found = []
    for board in (board for board in boards if board.shift.get("kind") == "data"):
        images, groups = board.about["parts"][board.target]
        entry = _task(board.target)
        cite = cited.cite(entry.citation) if entry else ""
        word = board.about["groups"] or "image"
        found.append(
            f"Models of {escape_tex(board.task)} were also scored, unchanged, on {escape_tex(board.shift['data'])}{cite} ({images:,} images of "
            f"{groups:,} {word}s; classes {escape_tex(', '.join(board.about['classes']))}); losses there are of two independent test sets."
        )
    damaged = [board.shift for board in boards if board.shift.get("kind") == "corruption"]
    if damaged:
        levels = _and(str(level) for level in sorted({shift["level"] for shift in damaged}))
        kinds = _and(escape_tex(kind) for kind in _unique(shift["corruption"] for shift in damaged))
        cite = cited.cite("Di Salvo, Doerrich and Ledig 2024, MedMNIST-C, arXiv:2406.17536")
        found.append(
            f"They were also scored on damaged test images ({kinds}; levels {levels} of 5; kinds by modality{cite}); losses are paired."
        )
    return found


def _software(rows: Sequence[Row]) -> list[str]:
    named = [row.provenance["versions"] for row in rows if "versions" in row.provenance]
    versions = [
        f"{name} {_and(_unique(of[name] for of in named))}"
        for name in ("medbench", "torch")
        if named
    ]
    return [f"Software: {_and(versions)}."] if named else []


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
