"""What a reader of a board must know beside its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medbench.images.cropping import crop_in
from medbench.report.leaderboard.board import Leaderboard, picked
from medbench.report.leaderboard.class_groups import class_group_notes
from medbench.report.leaderboard.families import to_supervised
from medbench.report.leaderboard.pretraining_notes import pretraining_notes
from medbench.report.leaderboard.rare_classes import class_notes
from medbench.schema import Note, Row, UserError, counted, placeless, registry
from medbench.schema.methods import QUICK_VIEWS, stated_views
from medbench.schema.methods import is_quick as saw_few_views
from medbench.stats.drawn_shares import Held, share_notes
from medbench.stats.metrics import METRICS


def notes(board: Leaderboard, metric: str | None = None) -> list[Note]:
    """List what a reader of this board must know.

    metric: the only one that is shown; None: all are.
    """
    rows = [row for line in board.own.lines for row in line.rows]
    return [
        *picked(board),
        *drawn(board),
        *board.about["marks"],
        *external(board),
        *encoder_marks(board),
        *class_notes(board, metric),
        *to_supervised(board, board.shown(metric)),
        *_class_groups(board),
        *_setting(board, rows),
        *_shares(board, rows),
        *_chance(board.own, rows, metric),
        *pretraining_notes(board.own, board.shown(metric)),
        *_weights(rows),
        *_pairs(rows),
        *have_seen(board),
        *quick(board),
        *_lacking(board, rows),
        *judged(board),
    ]


def external(board: Leaderboard) -> list[Note]:
    """Say what cannot be known of somebody else's predictions.

    [] where there are none.
    """
    names = dict.fromkeys(line.cell.method for line in board.lines if line.cell.external)
    unknown = (
        "medbench cannot know how many labels it was trained on, whether it has seen these images, or how it was selected. "
        "It is listed at a label budget for comparison only"
    )
    return [Note("external", f"{name}: predictions made elsewhere. {unknown}.") for name in names]


def judged(board: Leaderboard) -> list[Note]:
    """Say how many lines were scored on these images: the best of many looks better than it is.

    [] before the first.
    """
    if not board.judged:
        return []
    shown = sum(bool(line.rows) for line in board.lines)
    gone = (
        f", {board.judged - shown} of which are not in this table" if board.judged > shown else ""
    )
    lines = counted(board.judged, "line", ("has", "have"))
    return [
        Note(
            "judged",
            f"{lines} been scored on these images so far, replaced and deleted ones included{gone}.",
        )
    ]


def _class_groups(board: Leaderboard) -> list[Note]:
    """Where the groups of each class, which intervals rest on, were not counted."""
    done = [line for line in board.lines if line.rows]
    return class_group_notes(done[0].class_groups, board.about["groups"] or "image") if done else []


def drawn(board: Leaderboard) -> list[Note]:
    """Say that the images are a phantom's; [] of real ones."""
    text = f"drawn images. These numbers show that the machinery works and say nothing about {board.task}."
    return [Note("phantom", text)] if board.data == "phantom" else []


def encoder_marks(board: Leaderboard) -> list[Note]:
    """Collect marks on the encoder of a line, not on the data.

    Rows carry them, as other encoders come into a folder later.
    """
    every = (
        mark
        for line in board.lines
        for row in line.rows
        for mark in row.provenance.get("marks", ())
    )
    return list(
        dict.fromkeys(
            mark for mark in every if mark.kind in ("telling", "encoder", "examined", "unlabelled")
        )
    )


def have_seen(board: Leaderboard) -> list[Note]:
    """Return a note for each method whose weights were trained on the data that is scored."""
    home = next((line.cell.data for line in board.lines), board.data)
    scored = board.shift.get("data", home)
    methods = {
        row.cell.method
        for line in board.lines
        for row in line.rows
        if scored in row.provenance["trained_on"]
    }
    of = f"were trained on {scored}, possibly on its {board.target} images."
    return [Note("seen", f"the weights of {method} {of}") for method in sorted(methods)]


def judged_unit(board: Leaderboard) -> str:
    """Return what is labelled, drawn and scored: "image" or "case"."""
    return str(board.about.get("by", "image"))


def quick(board: Leaderboard) -> list[Note]:
    """Say that weights of a quick pretraining show the machinery alone; [] where there are none."""
    budgets = {
        (row.cell.method, str(row.provenance["budget"]))
        for line in board.lines
        for row in line.rows
        if saw_few_views(row.provenance["budget"])
    }
    if not budgets:
        return []
    views = sorted({stated_views(budget) or QUICK_VIEWS for _, budget in budgets})
    paper = " or paper" if all(_has_paper(method) for method, _ in budgets) else ""
    text = (
        f"Quick pretraining ({' and '.join(f'{n:,}' for n in views)} views) shows that the machinery works, not what a method can do. "
        f"Use --pretrain standard{paper}."
    )
    return [Note("quick", text)]


def _has_paper(name: str) -> bool:
    """Return whether a method of that name has a paper's pretraining; one that is gone has not."""
    try:
        return registry.has_paper(registry.method(name))
    except UserError:
        return False


def is_quick(board: Leaderboard) -> bool:
    """Return whether any of its weights is of a quick pretraining."""
    return any(saw_few_views(row.provenance["budget"]) for line in board.lines for row in line.rows)


def _setting(board: Leaderboard, rows: Sequence[Row]) -> list[Note]:
    """Networks, precisions, protocols and the scored set."""
    examples, groups = board.about["parts"][board.target]
    group = board.about["groups"] or "image"
    found = []
    if rows:
        networks = {
            ", ".join(
                filter(
                    None,
                    (
                        row.cell.encoder + (f" at {row.cell.size} px" if row.cell.size else ""),
                        crop_in(row.provenance).name,
                        str(row.provenance["precision"]),
                    ),
                )
            )
            for row in rows
        }
        judged = dict.fromkeys(row.cell.protocol for row in rows)
        found.append(f"Setting: {'; '.join(sorted(networks))}; judged by {', '.join(judged)}.")
    of = f" of {groups} {group}s"
    if board.about["groups"] is None:  # an image is its own, but for copies
        of = f" ({groups} different ones)" if groups != examples else ""
    found.append(
        f"Scored on {examples} {board.target} {judged_unit(board)}s{of}; 95 % intervals over {group}s (1,000 resamples) and seeds."
    )
    return [Note("setting", text) for text in found]


def _shares(board: Leaderboard, rows: Sequence[Row]) -> list[Note]:
    """Say what the percentages hold of each class beside their share of the images.

    Each draw counts once, whatever was trained on it.
    """
    pools = [
        pool
        for row in rows
        if isinstance(pool := row.provenance.get("parts", {}).get("train"), Mapping)
    ]
    drawn: dict[str, dict[str, Held]] = {}
    for row in rows:
        if "subset_classes" in row.provenance:
            counts = Held(row.n_labels, np.array(list(row.provenance["subset_classes"].values())))
            drawn.setdefault(row.cell.labels, {})[row.provenance["subset_sha256"]] = counts
    if not pools or not drawn:  # rows of elsewhere
        return []
    pool, classes = (
        Held(pools[0]["images"], np.array(pools[0]["classes"])),
        list(rows[0].provenance["subset_classes"]),
    )
    of_budgets = {labels: draws.values() for labels, draws in drawn.items()}
    return share_notes(
        of_budgets,
        pool,
        classes,
        several=board.about["kind"] == "multilabel",
        of=judged_unit(board),
    )


def _chance(board: Leaderboard, rows: Sequence[Row], metric: str | None) -> list[Note]:
    """Say what chance does to a metric, and which variance the intervals do not contain."""
    grows = [
        known for name, known in METRICS.items() if metric in (None, name) and known.grows_by_chance
    ]
    found = [
        f"{known.title} is above 0 by chance alone, more so on few images. Its interval corrects for that; compare its value only within this table."
        for known in grows
        if any(known.name in row.metrics for row in rows)
    ]
    if once := dict.fromkeys(line.cell.method for line in board.lines if line.drawn_once):
        found.append(
            f"One pretraining or initialisation of {', '.join(once)}: the intervals do not contain its variance "
            "and hold for these weights, not for the method."
        )
    return [Note("chance", text) for text in [*found, *_one_pool(board)]]


def _weights(rows: Sequence[Row]) -> list[Note]:
    """Where each method's weights come from; methods with the same weights in one note."""
    weights = weights_in_words(rows)
    alike: dict[str, list[str]] = {}
    for method, value, seen in sorted(
        {
            (row.cell.method, row.provenance["weights"], ", ".join(row.provenance["trained_on"]))
            for row in rows
        }
    ):
        alike.setdefault(
            f"weights {weights[value]}{f', trained on {seen}' if seen else ''}.", []
        ).append(method)
    return [Note("weights", f"{', '.join(methods)}: {said}") for said, methods in alike.items()]


def _pairs(rows: Sequence[Row]) -> list[Note]:
    """Say what share of a method's pairs were two images of one bag.

    The rest was trained as if there were no bags.
    """
    shares: dict[str, list[float]] = {}
    for made in (one for row in rows for one in row.provenance.get("pretraining", ())):
        if made.get("pairs_from_two_images") is not None:
            shares.setdefault(made["method"], []).append(100 * made["pairs_from_two_images"])
    found = []
    for method, percents in sorted(shares.items()):
        ends = dict.fromkeys(f"{end:.1f}" for end in (min(percents), max(percents)))
        others = ", the others are two views of one image" if min(percents) < 100 else ""
        found.append(
            Note(
                "pairs",
                f"{method}: {' to '.join(ends)} % of its pairs are two images of one bag{others}.",
            )
        )
    return found


def _lacking(board: Leaderboard, rows: Sequence[Row]) -> list[Note]:
    """Lines that failed, metrics that cannot be computed, and classes without an image.

    A table is published: a reason names files, and not where they lie (run.log does).
    """
    found = [
        Note(
            "failed",
            f"{line.cell.method} {line.cell.encoder} {line.cell.protocol} {line.cell.labels} {line.status}: {placeless(line.reasons[-1])}",
        )
        for line in board.lines
        if line.reasons
    ]
    why = "made before it, or by other code of it, and shared without the predictions that it needs"
    without = [name for line in board.lines for name in line.lacking]
    found += [
        Note(
            "remark",
            f"{name}: {(n := without.count(name))} of {counted(len(board.lines), 'line')} {'lacks' if n == 1 else 'lack'} it: {why}.",
        )
        for name in dict.fromkeys(without)
    ]
    classes = len(board.about["classes"])
    absent = {row.metrics["auc"].get("classes") for row in rows} - {None, classes}
    if absent and board.about["kind"] != "binary":
        least = min(n for n in absent if n is not None)
        found.append(
            Note(
                "absent",
                f"AUC is the mean over {least} of {classes} classes; the others have no image.",
            )
        )
    return found


def weights_in_words(rows: Sequence[Row]) -> dict[str, str]:
    """Return what a table says of weights: `weights` of a row's provenance -> words.

    For a fusion, the names of its members, where their weights stand beside it.
    """
    of: dict[str, set[str]] = {}
    for row in rows:
        of.setdefault(row.cell.method, set()).add(row.provenance["weights"])
    single = {next(iter(texts)): method for method, texts in of.items() if len(texts) == 1}
    parts = {row.provenance["weights"]: row.provenance["member_weights"] for row in rows}
    return {
        text: f"of {' + '.join(single[part] for part in each)}"
        if len(each) > 1 and all(part in single for part in each)
        else text
        for text, each in parts.items()
    }


def _one_pool(board: Leaderboard) -> list[str]:
    """Say which variance the intervals of large budgets do not contain.

    Draws of one pool share images, all of them at 100 %.
    """
    if "train" not in board.about["parts"]:  # a plan of elsewhere
        return []
    pool = board.about["parts"]["train"][0]
    asked = {line.cell.labels: line.planned[0].n_requested for line in board.lines}
    most = [labels for labels, n in asked.items() if pool / 2 < n < pool]
    said = [
        f"{', '.join(most)}: the draws share most of their images, so sd and interval understate the variance between labelled sets."
    ]
    whole = "100%: one labelled set; the intervals contain the chance of the test images, not that of the labels."
    alone = [
        labels
        for labels, n in asked.items()
        if n < pool
        and any(len({one.cell.seed for one in line.planned}) == 1 for line in board.at(labels))
    ]
    single = f"{', '.join(alone)}: one draw of labels; the intervals contain the chance of the test images, not that of the labels."
    return [
        *(said if most else []),
        *([single] if alone else []),
        *([whole] if "100%" in asked else []),
    ]
