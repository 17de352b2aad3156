"""Classes of which too few groups are there to say anything, and what the best line finds of the class that it finds least of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medbench.report.leaderboard.lines import Leaderboard, LeaderboardEntry
from medbench.run.store import NoPredictions
from medbench.schema import Note
from medbench.stats import metrics, number_format

FEW = 10  # groups of a class: of ten, nine found have the exact 95 % interval .55 to .998
NAMED = 6  # classes in a sentence
ABOVE = frozenset({"rare", "worst class"})  # kinds of the notes that stand above a table


def class_notes(board: Leaderboard, metric: str | None = None) -> list[Note]:
    """What stands above every table of a board: its rare classes, and of its best line at the most labels which class it finds least of."""
    return [*_rare(board), *_least_found(board, board.shown(metric))]


def rare_classes(board: Leaderboard) -> dict[str, dict[str, int]]:
    """Class -> {part: its groups there} where it has fewer than `FEW` in training or among the scored images. Of a plan that is older
    than these counts: its images, of which there are no fewer. A class without any is another note's (`absent`)."""
    counts = _counts(board)
    found: dict[str, dict[str, int]] = {}
    for c, name in enumerate(board.about["classes"]):
        here = {part: int(of[c]) for part, of in counts.items()}
        if any(0 < n < FEW for n in here.values()):
            found[str(name)] = here
    return found


def _counts(board: Leaderboard) -> Mapping[str, Sequence[int]]:
    """Part -> groups of each class: of the training part, where its classes are these, and of the scored set."""
    asked = ("train", board.target)
    given: Mapping[str, Sequence[int]] = board.about.get("class_groups") or {}
    if not given:
        parts: Mapping[str, object] = next((row.provenance.get("parts", {}) for line in board.lines for row in line.rows), {})
        given = {part: about["classes"] for part, about in parts.items() if isinstance(about, Mapping) and "classes" in about}
    return {part: given[part] for part in asked if len(given.get(part, ())) == len(board.about["classes"])}


def _rare(board: Leaderboard) -> list[Note]:
    found = rare_classes(board)
    if not found:
        return []
    of = f"{board.about['groups'] or 'image'}s" if "class_groups" in board.about else "images"
    each = [f"{name} ({', '.join(f'{part} {n}' for part, n in counts.items())})" for name, counts in found.items()]
    more = f" and {len(each) - NAMED} more" if len(each) > NAMED else ""
    said = f"fewer than {FEW} {of} of {', '.join(each[:NAMED])}{more}"
    return [Note("rare", f"{said}: what is said of them, and each mean over classes, hangs on single {of}.")]


def _least_found(board: Leaderboard, metric: str) -> list[Note]:
    """Of the best line at the most labels; [] where none is there, or where predictions were not shared."""
    done = [line for line in board.lines if metric in line.plain and not np.isnan(line.plain[metric]).any()]
    if not done:
        return []
    best = max((line for line in done if line.cell.labels == done[-1].cell.labels), key=lambda line: line.merit(metric))
    try:
        target = best.stores[0].target(str(best.rows[0].provenance["target"]))
        scores = [store.scores(row) for store, row in zip(best.stores, best.rows, strict=True)]
    except NoPredictions:
        return []
    labels = target["labels"]
    truth = labels == 1 if labels.ndim == 2 else labels[:, None] == np.arange(len(board.about["classes"]))
    hits = np.mean([(truth & _decided(of["decisions"], truth.shape[1])).sum(0) for of in scores], axis=0)
    said = _found_text(board, best, hits, truth.sum(0)) + _enough_text(board, labels, [of["probabilities"] for of in scores])
    return [Note("worst class", said)]


def _decided(decisions: np.ndarray, classes: int) -> np.ndarray:
    """(M, C) bool: for which classes an image was decided."""
    of_class: np.ndarray = decisions == 1 if decisions.ndim == 2 else decisions[:, None] == np.arange(classes)
    return of_class


def _found_text(board: Leaderboard, line: LeaderboardEntry, hits: np.ndarray, of: np.ndarray) -> str:
    """`supervised linear at 100% finds 38 of 100 moderate, 0 of 3 proliferative.`: the class found least of, then those that are rare here."""
    there = np.flatnonzero(of > 0)
    names, rare = board.about["classes"], rare_classes(board)
    worst = int(there[np.argmin(hits[there] / of[there])])
    told = [worst, *(int(c) for c in there if c != worst and str(names[c]) in rare)][:NAMED]
    said = ", ".join(f"{hits[c]:.3g} of {of[c]} {names[c]}" for c in told)
    draws = f", on average over {len(line.rows)} draws" if len(line.rows) > 1 else ""
    return f"{line.cell.method} {line.cell.protocol} at {line.cell.labels}, the best, finds {said}{draws}."


def _enough_text(board: Leaderboard, labels: np.ndarray, probabilities: Sequence[np.ndarray]) -> str:
    """The mean AUC over the classes that are not rare here, beside the one over all; "" where all are alike."""
    few = {name for name, counts in rare_classes(board).items() if 0 < counts.get(board.target, FEW) < FEW}
    kept = [c for c, name in enumerate(board.about["classes"]) if str(name) not in few]
    if not few or len(kept) < 2 or board.about["kind"] == "binary":
        return ""
    of_class = np.array([[_auc(labels, p, c) for c in range(p.shape[1])] for p in probabilities])
    whole, enough = (number_format.number_text(float(np.nanmean(of))) for of in (of_class, of_class[:, kept]))
    return f" Its AUC over the {len(kept)} classes that are not rare: {enough}; over all {of_class.shape[1]}: {whole}."


def _auc(labels: np.ndarray, probabilities: np.ndarray, c: int) -> float:
    """Of one class against the rest; NaN where one of the two is missing."""
    known = np.flatnonzero(~np.isnan(labels[:, c])) if labels.ndim == 2 else np.arange(len(labels))
    positive = labels[known, c] == 1 if labels.ndim == 2 else labels == c
    return float(metrics.auc(positive, probabilities[known, c].astype(float), np.ones((len(known), 1), np.uint8))[0])
