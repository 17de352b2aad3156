"""The ordinal claims of the three papers, tested on results: held, not held, not decidable, or not
tested and what it needs.

    python benchmarks/claims.py runs/truong2021
    python benchmarks/claims.py results/* --out results/claims.md
    python benchmarks/claims.py runs/nielsen2023 --figures figures        # label curves with the literature's values as lines

`claims.toml` holds the claims. Each is tested on every task of a folder that has the lines it
speaks of, also where task, encoder or protocol are not the paper's: what differs stands beside the
verdict. Drawn images (phantoms) test nothing.

Differences are paired over test groups and seeds, as the leaderboard's, and Holm-corrected over the
comparisons of one claim on one task (5 %).
- better, robust: held where every comparison is shown to be above 0; not held where one is shown to
  be below, or to lie within the margin.
- reaches, literature: held where every comparison is shown to be above minus the margin
  (non-inferior); not held where one is shown to be below.
- Else not decidable. A verdict is about these images and, with one pretraining seed, about these
  weights.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from medbench import Store, stats
from medbench.report import leaderboard
from medbench.report.leaderboard import Leaderboard, LeaderboardEntry
from medbench.schema import UserError
from medbench.stats.metrics import METRICS
from medbench.stats.number_format import estimate_text, format_p

if TYPE_CHECKING:
    from medbench.report.figures.style import Drawing

CLAIMS = Path(__file__).with_suffix(".toml")
ALPHA = 0.05
Word = Literal["held", "not held", "not decidable", "not tested"]
Patterns = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Claim:
    """One table of `claims.toml`, which says what each field means."""

    name: str
    says: str
    kind: Literal["better", "reaches", "literature", "robust"]
    first: Patterns
    paper: Patterns
    margin: float
    second: Patterns = field(default_factory=dict)
    same: tuple[str, ...] = ()
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    at_most: float = float("inf")
    share: float = 1.0
    metric: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    printed: tuple[str, ...] = ()

    def covers(self, task: str, line: LeaderboardEntry) -> bool:
        """Whether the claim speaks of that budget of the task."""
        asked = self.labels.get(task, self.labels.get("*"))
        return line.cell.labels in asked if asked is not None else line.n_labels <= self.at_most


@dataclass(frozen=True, eq=False)
class Comparison:
    """One difference: towards the claim is above 0. groups: in the scored set."""

    what: str
    difference: stats.Estimate
    groups: int
    lines: tuple[LeaderboardEntry, ...]


@dataclass(frozen=True)
class Verdict:
    """What a claim came to on one task of one folder.

    why: the comparison that decides, or what is lacking. unlike: what is not the paper's.
    """

    claim: Claim
    where: str
    word: Word
    why: str
    unlike: str = ""
    compared: int = 0


def claims(file: Path = CLAIMS) -> list[Claim]:
    """Raises TypeError for a field that is none."""
    with file.open("rb") as stream:
        return [Claim(**table) for table in tomllib.load(stream)["claim"]]


def evaluated(every: Sequence[Claim], store: Store) -> list[Verdict]:
    """Each claim on each task of a folder that can test it, one `not tested` where none can."""
    boards = leaderboard.leaderboards(store)
    found = []
    for claim in every:
        tried = [_on(claim, board, boards) for board in leaderboard.at_home(boards)]
        tested = [verdict for verdict in tried if verdict.word != "not tested"]
        found += tested or [
            Verdict(
                claim, "", "not tested", "; ".join(dict.fromkeys(verdict.why for verdict in tried))
            )
        ]
    return found


def _on(claim: Claim, board: Leaderboard, boards: Sequence[Leaderboard]) -> Verdict:
    metric = board.shown(claim.metric or None)
    where = f"{board.task} ({board.data}), {metric}"
    lacking = _lacking(claim, board, metric)
    if lacking:
        return Verdict(claim, where, "not tested", lacking)
    compared = list(_COMPARED[claim.kind](claim, board, metric, boards))
    if not compared:
        return Verdict(claim, where, "not tested", _unpaired(claim, board))
    word, why = (_ordered if claim.kind in ("better", "robust") else _not_inferior)(
        claim, board, compared
    )
    return Verdict(claim, where, word, why, _unlike(claim, board, compared), len(compared))


def _lacking(claim: Claim, board: Leaderboard, metric: str) -> str:
    """What a board has not that the claim speaks of, "" for nothing."""
    if board.data == "phantom":
        return "real images"
    if claim.values and board.task not in claim.values:
        return f"the task {_either(list(claim.values))}"
    for asked in (claim.first, claim.second):
        if asked and not any(_is(line, asked) and metric in line.plain for line in board.lines):
            return f"finished lines with {_said(asked)}"
    return ""


def _unpaired(claim: Claim, board: Leaderboard) -> str:
    budgets = claim.labels.get(board.task, claim.labels.get("*"))
    if budgets is not None and not budgets:
        return f"another task than {board.task}, of which the claim says nothing"
    if claim.kind == "robust":
        return "both on one shifted set (--shift, --corruptions)"
    labels = (
        _either(budgets)
        if budgets
        else f"at most {claim.at_most:g} labels"
        if np.isfinite(claim.at_most)
        else "equal labels"
    )
    few = {
        "reaches": f"at most {claim.share:.0%} of the labels beside all",
        "literature": labels,
    }.get(claim.kind, labels)
    return f"{few}{', both with the same ' + ', '.join(claim.same) if claim.same else ''}"


def _better(
    claim: Claim, board: Leaderboard, metric: str, boards: Sequence[Leaderboard]
) -> Iterator[Comparison]:
    for first, second in _pairs(claim, board, metric):
        if first.cell.labels == second.cell.labels and claim.covers(board.task, first):
            yield _difference(board, first, second, metric)


def _reaches(
    claim: Claim, board: Leaderboard, metric: str, boards: Sequence[Leaderboard]
) -> Iterator[Comparison]:
    """Each line of the claim's with the most labels that are few, against those with all labels."""
    few: dict[tuple[str, str], tuple[LeaderboardEntry, LeaderboardEntry]] = {}
    for first, second in _pairs(claim, board, metric):
        # whole groups may be a few more
        if second.cell.labels == "100%" and first.n_labels <= claim.share * second.n_labels * 1.05:
            key = first.name, second.name
            if key not in few or few[key][0].n_labels < first.n_labels:
                few[key] = first, second
    for first, second in few.values():
        yield _difference(board, first, second, metric)


def _literature(
    claim: Claim, board: Leaderboard, metric: str, boards: Sequence[Leaderboard]
) -> Iterator[Comparison]:
    sign, value = METRICS[metric].sign, claim.values[board.task]
    for line in board.lines:
        if _is(line, claim.first) and metric in line.plain and claim.covers(board.task, line):
            mean = stats.linear_contrast([(1.0, line.sample(metric))])
            over = stats.Estimate(sign * (mean.value - value), mean.parts)
            yield Comparison(
                f"{line.cell.labels}: {_name(board, line)} against {value:g}",
                over,
                line.groups,
                (line,),
            )


def _robust(
    claim: Claim, board: Leaderboard, metric: str, boards: Sequence[Leaderboard]
) -> Iterator[Comparison]:
    """On every other data set, and on the mean of all corruptions (of the only one)."""
    drops = [
        gap
        for gap in leaderboard.measured(boards, metric)
        if (gap.board.task, gap.board.data) == (board.task, board.data) and gap.drop
    ]
    whole = [gap for gap in drops if gap.kind == "data" or gap.spread == leaderboard.ALL]
    kept = whole or [gap for gap in drops if gap.spread == leaderboard.MEAN] or drops
    for a, b in product(kept, kept):
        alike = (
            a.name == b.name
            and _same(claim, a.home, b.home)
            and a.home.cell.labels == b.home.cell.labels
        )
        if alike and _is(a.home, claim.first) and _is(b.home, claim.second):
            what = f"{a.home.cell.labels}, {a.name}: {_name(board, a.home)} loses less than {_name(board, b.home)}"
            yield Comparison(
                what, leaderboard.drop_difference(b, a), a.home.groups, (a.home, b.home)
            )


_COMPARED = {"better": _better, "reaches": _reaches, "literature": _literature, "robust": _robust}


def _pairs(
    claim: Claim, board: Leaderboard, metric: str
) -> Iterator[tuple[LeaderboardEntry, LeaderboardEntry]]:
    """Finished lines of the claim's two sides that share what they must."""
    known = [line for line in board.lines if metric in line.plain]
    firsts, seconds = (
        [line for line in known if _is(line, asked)] for asked in (claim.first, claim.second)
    )
    yield from ((a, b) for a, b in product(firsts, seconds) if a is not b and _same(claim, a, b))


def _difference(
    board: Leaderboard, first: LeaderboardEntry, second: LeaderboardEntry, metric: str
) -> Comparison:
    difference = stats.paired_difference(first.sample(metric), second.sample(metric))
    towards = stats.Estimate(METRICS[metric].sign * difference.value, difference.parts)
    budgets = dict.fromkeys([first.cell.labels, second.cell.labels])
    what = f"{' against '.join(budgets)}: {_name(board, first)} over {_name(board, second)}"
    return Comparison(what, towards, first.groups, (first, second))


def _ordered(claim: Claim, board: Leaderboard, compared: Sequence[Comparison]) -> tuple[Word, str]:
    """Of "better": the word, and the comparisons in numbers with the one that decides."""
    judged = stats.verdicts([one.difference for one in compared], compared[0].groups, claim.margin)
    words = [verdict.word for verdict in judged]
    counts = ", ".join(
        f"{words.count(word)} {word}"
        for word in ("better", "worse", "practically equal", "not decidable")
        if word in words
    )
    word: Word = (
        "held"
        if set(words) == {"better"}
        else "not decidable"
        if not {"worse", "practically equal"} & set(words)
        else "not held"
    )
    deciding = {
        "held": ("better",),
        "not held": ("worse", "practically equal"),
        "not decidable": ("not decidable",),
    }[word]
    least = min(
        (i for i, each in enumerate(words) if each in deciding), key=lambda i: _value(compared[i])
    )
    group = board.about["groups"] or "image"
    needs = f"; {judged[least].need(group)}" if word == "not decidable" else ""
    p = judged[least].p_equal if words[least] == "practically equal" else judged[least].p
    return word, f"{counts} of {len(words)}; {_numbers(compared[least], p)}{needs}"


def _not_inferior(
    claim: Claim, board: Leaderboard, compared: Sequence[Comparison]
) -> tuple[Word, str]:
    """Of "not worse by more than the margin"."""
    above = stats.holm([one.difference.tail(-claim.margin, above=True) for one in compared])
    below = stats.holm([one.difference.tail(-claim.margin, above=False) for one in compared])
    shown = [p <= ALPHA for p in above]
    missed = [p <= ALPHA for p in below]
    word: Word = "held" if all(shown) else "not held" if any(missed) else "not decidable"
    deciding = [
        i
        for i in range(len(compared))
        if word == "held" or (missed[i] if word == "not held" else not shown[i])
    ]
    least = min(deciding, key=lambda i: _value(compared[i]))
    p = (below if word == "not held" else above)[least]
    return (
        word,
        f"{sum(shown)} not worse by {claim.margin:g} of {len(compared)}; {_numbers(compared[least], p)}",
    )


def _unlike(claim: Claim, board: Leaderboard, compared: Sequence[Comparison]) -> str:
    """In what the compared lines are not the paper's.

    Reduced data, and pretrainings that show the machinery alone.
    """
    lines = list(dict.fromkeys(line for one in compared for line in one.lines))
    found = []
    for name, asked in claim.paper.items():
        values = dict.fromkeys(str(getattr(line.cell, name)) for line in lines)
        others = [
            value
            for value in values
            if value != "none" and not any(fnmatchcase(value, pattern) for pattern in asked)
        ]
        found += [f"{name} {', '.join(others)}"] if others else []
    rows = [row for line in lines for row in line.rows]
    found += (
        ["quick pretraining"]
        if any(row.provenance.get("budget") == "quick" for row in rows)
        else []
    )
    found += (
        ["reduced data"] if any(mark.kind == "partial" for mark in board.about["marks"]) else []
    )
    return ", ".join(found)


def _value(one: Comparison) -> float:
    return float(np.nan_to_num(one.difference.value, nan=-np.inf))


def _numbers(one: Comparison, p: float) -> str:
    return f"{one.what} {estimate_text(one.difference.value, *one.difference.interval(), '+.3f')}, p {format_p(p)}"


def _is(line: LeaderboardEntry, asked: Patterns) -> bool:
    return all(
        any(fnmatchcase(str(getattr(line.cell, name)), pattern) for pattern in patterns)
        for name, patterns in asked.items()
    )


def _same(claim: Claim, a: LeaderboardEntry, b: LeaderboardEntry) -> bool:
    return all(getattr(a.cell, name) == getattr(b.cell, name) for name in claim.same)


def _name(board: Leaderboard, line: LeaderboardEntry) -> str:
    return " ".join(str(getattr(line.cell, axis)) for axis in board.axes)


def _said(asked: Patterns) -> str:
    return ", ".join(f"{name} {_either(patterns)}" for name, patterns in asked.items())


def _either(names: Sequence[str]) -> str:
    return " or ".join(names)


def markdown(found: Mapping[str, Sequence[Verdict]]) -> str:
    """One table a claim, a line a folder and task. found: by folder."""
    made = [
        "# The papers' claims on these results",
        "",
        "Made by `python benchmarks/claims.py`; its header says what the words mean.",
        "",
    ]
    every = list(
        dict.fromkeys(verdict.claim.name for verdicts in found.values() for verdict in verdicts)
    )
    for name in every:
        those = [
            (folder, verdict)
            for folder, verdicts in found.items()
            for verdict in verdicts
            if verdict.claim.name == name
        ]
        claim = those[0][1].claim
        made += [
            f"## {claim.name}",
            "",
            f"{claim.says} Margin {claim.margin:g}.",
            "",
            "| folder | task | verdict | by | not the paper's |",
        ]
        made += ["| --- | --- | --- | --- | --- |"]
        lacking: dict[str, list[str]] = {}
        for folder, verdict in those:
            if verdict.word == "not tested":
                lacking.setdefault(verdict.why, []).append(folder)
            else:
                made += [
                    f"| {folder} | {verdict.where} | {verdict.word} | {verdict.why} | {verdict.unlike or '–'} |"
                ]
        made += [
            f"| {', '.join(folders)} | – | not tested | needs {why} | – |"
            for why, folders in lacking.items()
        ]
        made += [""]
    return "\n".join(made)


def draw(every: Sequence[Claim], store: Store, folder: Path) -> list[Path]:
    """Label curves of the tasks with a literature value, that value as a line across."""
    from medbench.report.figures import paper
    from medbench.report.figures.style import save_figures

    files = []
    with paper():
        for board in leaderboard.at_home(leaderboard.leaderboards(store)):
            for claim in (claim for claim in every if board.task in claim.values):
                files += save_figures(
                    [curves_with(claim, board)], folder / board.task, ("pdf", "png")
                )
    return files


def curves_with(claim: Claim, board: Leaderboard) -> Drawing:
    """The label curves of one task, with the claim's published value.

    Raises UserError where there are no two budgets.
    """
    from medbench.report.figures.label_curves import curves

    (drawing,) = curves([board], claim.metric, "page")
    ax, value = drawing.figure.axes[0], claim.values[board.task]
    ax.axhline(value, color="black", linewidth=0.8, linestyle="--", zorder=1)
    ax.annotate(
        f"literature {value:g}",
        (0.01, value),
        xycoords=("axes fraction", "data"),
        va="bottom",
        size=7,
    )
    return drawing


def main() -> None:
    parser = argparse.ArgumentParser(
        description="The papers' ordinal claims, tested on results folders."
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, help="Write the verdicts as Markdown to this file.")
    parser.add_argument(
        "--figures",
        type=Path,
        help="Draw label curves with the literature's values into this folder.",
    )
    args = parser.parse_args()
    every, found = claims(), {}
    folders = [folder for folder in sorted(args.folders) if (folder / "plan.json").is_file()]
    without = [
        folder for folder in sorted(args.folders) if folder.is_dir() and folder not in folders
    ]
    if not folders:
        parser.error(
            f"{args.folders[0]} is no results folder, it has no plan.json: medbench run, or medbench merge"
        )
    try:
        for folder in folders:
            found[folder.name] = evaluated(every, Store(folder))
            drawn = draw(every, Store(folder), args.figures) if args.figures else []
            print("".join(f"{file}\n" for file in drawn), end="")
    except UserError as error:
        parser.error(str(error))
    for folder in without:
        found[folder.name] = [
            Verdict(claim, "", "not tested", "a plan.json: these are rows to compare with alone")
            for claim in every
        ]
    text = markdown(found)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
