"""What is said of classes above a table.

It says which have too few groups, which one the best line finds least of, and whose decisions hang
little on the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medbench.report.leaderboard.board import Leaderboard
from medbench.report.leaderboard.class_scores import ClassScores
from medbench.report.leaderboard.degenerate import Degenerate
from medbench.report.leaderboard.entry import LeaderboardEntry
from medbench.schema import Note
from medbench.stats import few_groups, number_format
from medbench.stats.few_groups import FEW, NAMED

MANY = 100  # lines: of more, tables say nothing of each one's classes
# kinds of the notes that stand above a table
ABOVE = frozenset({"rare", "worst class", "degenerate"})


def class_notes(board: Leaderboard, metric: str | None = None) -> list[Note]:
    """Write what stands above every table of a board.

    Its rare classes, and of its best line at the most labels which class it finds least of, and
    lines whose decisions hang little on the image.
    """
    return [
        *_rare(board),
        *_least_found(board, board.shown(metric)),
        *_degenerate(board, board.shown(metric)),
    ]


def rare_classes(board: Leaderboard) -> dict[str, dict[str, int]]:
    """Return class -> {part: its groups there} where it has fewer than `FEW`.

    In training or among the scored images. Of a plan that is older than these counts: its images,
    of which there are no fewer. A class without any is another note's (`absent`).
    """
    return few_groups.rare(board.about["classes"], _counts(board))


def _counts(board: Leaderboard) -> Mapping[str, Sequence[int]]:
    """Part -> groups of each class.

    The parts are the training part, where its classes are these, and of the scored set.
    """
    asked = ("train", board.target)
    given: Mapping[str, Sequence[int]] = board.about.get("class_groups") or {}
    if not given:
        parts: Mapping[str, object] = next(
            (row.provenance.get("parts", {}) for line in board.lines for row in line.rows), {}
        )
        given = {
            part: about["classes"]
            for part, about in parts.items()
            if isinstance(about, Mapping) and "classes" in about
        }
    return {
        part: given[part]
        for part in asked
        if len(given.get(part, ())) == len(board.about["classes"])
    }


def _rare(board: Leaderboard) -> list[Note]:
    of = f"{board.about['groups'] or 'image'}s" if "class_groups" in board.about else "images"
    return few_groups.rare_notes(rare_classes(board), of)


def _least_found(board: Leaderboard, metric: str) -> list[Note]:
    """Say what the best line at the most labels finds least of.

    [] where none is there, or where predictions were not shared.
    """
    done = [
        line
        for line in board.lines
        if metric in line.plain and not np.isnan(line.plain[metric]).any()
    ]
    if not done:
        return []
    best = max(
        (line for line in done if line.cell.labels == done[-1].cell.labels),
        key=lambda line: line.merit(metric),
    )
    scores = best.class_scores
    return (
        [Note("worst class", _found_text(board, best, scores) + _enough_text(board, scores))]
        if scores
        else []
    )


def _degenerate(board: Leaderboard, metric: str) -> list[Note]:
    """Name lines whose decisions are nearly all of one class, or none of a frequent one.

    See `degenerate`. Of a board of more than `MANY` lines, whose scores take long to read, the best
    line of each budget is looked at.
    """
    asked = [line for line in board.lines if line.complete and metric in line.plain]
    if few := len(board.lines) > MANY:
        known = [line for line in asked if not np.isnan(line.plain[metric]).any()]
        asked = [max((line for line in known if line.cell.labels == of), key=lambda line: line.merit(metric))
                 for of in dict.fromkeys(line.cell.labels for line in known)]  # fmt: skip
    each = [
        f"{board.called(line)} at {line.cell.labels} {_wrong(line.degenerate, board)}"
        for line in asked
        if line.degenerate
    ]
    if not each:
        return []
    more = f"; and {len(each) - NAMED} more lines" if len(each) > NAMED else ""
    looked = " Only the best line of each budget was examined." if few else ""
    ends = (
        "Such decisions say little about an image, whatever their accuracy; AUC does not use them."
    )
    return [Note("degenerate", f"{'; '.join(each[:NAMED])}{more}. {ends}{looked}")]


def _wrong(found: Degenerate, board: Leaderboard) -> str:
    """`decides nv for 100 % of the images (67 % are), never mel`."""
    names = board.about["classes"]
    said = []
    if found.answer is not None:
        said.append(
            f"decides {names[found.answer]} for {found.decided:.1%} of the images ({found.share:.1%} are)"
        )
    if found.never:
        said.append(f"never decides {_listed([str(names[c]) for c in found.never])}")
    said += [
        f"says {word} of nearly every image for {_listed(alike)}"
        for value, word in ((0, "no"), (1, "yes"))
        if (alike := [str(names[c]) for c, of in found.labels if of == value])
    ]
    return ", ".join(said)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (
        f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    )


def _found_text(board: Leaderboard, line: LeaderboardEntry, scores: ClassScores) -> str:
    """`supervised linear at 100%, the best, finds 38 of 100 moderate, 0 of 3 proliferative.`.

    The class found least of, then those that are rare here.
    """
    names, rare, worst = board.about["classes"], rare_classes(board), scores.worst(_enough(board))
    told = [
        worst,
        *(
            c
            for c in np.flatnonzero(scores.images > 0).tolist()
            if c != worst and str(names[c]) in rare
        ),
    ][:NAMED]
    said = ", ".join(f"{scores.found[c]:.3g} of {scores.images[c]} {names[c]}" for c in told)
    images, groups = board.about["parts"][board.target]
    counted = ", counted in images" if images != groups else ""  # classes are rare by their groups
    draws = f", on average over {len(line.rows)} draws" if len(line.rows) > 1 else ""
    several = sum(other.cell.labels == line.cell.labels for other in board.lines) > 1
    best = ", the best," if several else ""
    return f"{line.cell.method} {line.cell.protocol} at {line.cell.labels}{best} finds {said}{counted}{draws}."


def _enough_text(board: Leaderboard, scores: ClassScores) -> str:
    """Write the mean AUC over the classes that are not rare here, beside the one over all.

    "" where all are alike.
    """
    kept = common_classes(board)
    if not kept:
        return ""
    whole, enough = (
        number_format.number_text(mean_auc(scores, of)) for of in (range(len(scores.auc)), kept)
    )
    return f" Its AUC over the {len(kept)} classes that are not rare: {enough}; over all {len(scores.auc)}: {whole}."


def common_classes(board: Leaderboard) -> list[int]:
    """Return the classes that have enough groups among the scored images for an AUC.

    [] where all have, fewer than two do, or a task is binary.
    """
    kept = _enough(board)
    return (
        kept
        if 1 < len(kept) < len(board.about["classes"]) and board.about["kind"] != "binary"
        else []
    )


def _enough(board: Leaderboard) -> list[int]:
    """Return the classes that are not rare among the scored images."""
    few = {
        name
        for name, counts in rare_classes(board).items()
        if 0 < counts.get(board.target, FEW) < FEW
    }
    return [c for c, name in enumerate(board.about["classes"]) if str(name) not in few]


def mean_auc(scores: ClassScores, classes: Sequence[int]) -> float:
    """Return the mean AUC over those of `classes` that have one; NaN where none has."""
    of = scores.auc[list(classes)]
    return float(np.nanmean(of)) if not np.isnan(of).all() else float("nan")


def class_columns(board: Leaderboard) -> dict[str, dict[LeaderboardEntry, tuple[float, str]]]:
    """Return what tables of all metrics say of each line's classes.

    Heading -> line -> (number, the class that it is of, "" of several). The worst class is one that
    is not rare here, where there is one. {} of a board of more than `MANY` lines, whose scores take
    long to read, and where no predictions were shared.
    """
    if len(board.lines) > MANY:
        return {}
    scores = {line: of for line in board.lines if line.complete and (of := line.class_scores)}
    if not scores:
        return {}
    names, kept, enough = board.about["classes"], common_classes(board), _enough(board)
    least = {line: one.worst(enough) for line, one in scores.items()}
    found = {
        "worst recall": {line: (scores[line].recall(c), str(names[c])) for line, c in least.items()}
    }
    if kept:
        found[f"AUC of the {len(kept)} classes not rare"] = {
            line: (mean_auc(one, kept), "") for line, one in scores.items()
        }
    return found
