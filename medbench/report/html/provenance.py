"""What was run and on what, what it cost, with what it was made, and the words to cite it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medbench.data import audit_record
from medbench.report import methods_text
from medbench.report.figures.cost_scatter import seconds_of
from medbench.report.html.elements import Html, items, number_markup, section, table, tag
from medbench.report.leaderboard import Leaderboard, notes
from medbench.run.store import Store
from medbench.schema import Mark, Row, counted, placeless

#: Marks of the data that an audit would make, whoever made them.
MARKED = ("leak", "conflict", "look", "blank")
KINDS = {
    "binary": "two classes",
    "multiclass": "one of several classes",
    "ordinal": "ordered grades",
    "multilabel": "several labels an image",
}


def study(boards: Sequence[Leaderboard]) -> Html:
    """Show tasks and data, a row a scored set; then what a reader of each board must know."""
    rows = []
    for board in boards:
        about = board.about
        parts = ", ".join(
            f"{name} {images:,}" + (f" ({groups:,} {about['groups']}s)" if about["groups"] else "")
            for name, (images, groups) in about["parts"].items()
        )
        classes = list(about["classes"])
        shown = ", ".join(classes[:12]) + (
            f" and {len(classes) - 12} more" if len(classes) > 12 else ""
        )
        rows.append([board.title, about["title"], f"{KINDS[about['kind']]}: {shown}", parts])
    said = [
        tag(
            "details",
            tag("summary", f"Notes on {board.title}"),
            items(notes(board)),
            open=len(boards) == 1 and len(notes(board)) <= 20,
        )
        for board in boards
    ]
    failed = [line for board in boards for line in board.lines if not line.complete]
    lacking = (
        tag(
            "p",
            f"{len(failed)} of {counted(sum(len(board.lines) for board in boards), 'line')} {'is' if len(failed) == 1 else 'are'} not complete.",
            class_="mark",
        )
        if failed
        else None
    )
    return section(
        "study",
        "What was run, and on what",
        table(["task", "title", "classes", "images"], rows, "Tasks", names=4),
        lacking,
        said,
    )


def audits(boards: Sequence[Leaderboard]) -> Html | None:
    """Show what reading and auditing the data found; None where no audit was made."""
    found = {}
    for board in boards:
        if "audit" in board.about:
            said = audit_record.table_marks_of(board.about["audit"])
            marked = [m for m in board.about["marks"] if m.kind in MARKED and m not in said]
            found[board.title] = list(dict.fromkeys([*marked, *board.about["audit"]]))
    if not found:
        return None
    return section(
        "audit",
        "Audit of the data",
        [
            tag("div", tag("h3", title), _nothing(said), items(said))
            for title, said in found.items()
        ],
    )


def _nothing(said: Sequence[Mark]) -> Html | None:
    found = any(mark.kind != "remark" for mark in said)
    return None if found else tag("p", "Nothing was found.")


def costs_section(boards: Sequence[Leaderboard]) -> Html | None:
    """Return the seconds of each method's parts, mean over its rows, and the peak of memory."""
    grouped: dict[tuple[str, ...], list[Row]] = {}
    for board in boards:
        for line in board.lines:
            grouped.setdefault(
                (board.task, line.cell.method, line.cell.encoder, line.cell.protocol), []
            ).extend(line.rows)
    rows: list[list[Any]] = []
    for key, of in grouped.items():
        if of:
            parts = [
                sum(row.cost.get(part) or 0.0 for row in of) / len(of)
                for part in ("pretrain_seconds", "embed_seconds", "seconds")
            ]
            memory = max((row.cost.get("peak_memory_mb") or 0 for row in of), default=0)
            graphics = max((row.cost.get("peak_gpu_memory_mb") or 0 for row in of), default=0)
            rows.append(
                [
                    *key,
                    *(number_markup(part, ",.1f") for part in parts),
                    number_markup(memory, ",.0f"),
                    number_markup(graphics or float("nan"), ",.0f"),
                ]
            )
    if not rows or all(
        seconds_of(line) != seconds_of(line) for board in boards for line in board.lines
    ):
        return None
    header = [
        "task",
        "method",
        "encoder",
        "protocol",
        "pretraining, s",
        "embedding, s",
        "fitting, s",
        "memory, MB",
        "GPU memory, MB",
    ]
    intro = "Mean over rows, on the machine that made them. Pretraining and embedding are shared by the rows of a method; their seconds are counted once."
    made = tag(
        "details",
        tag("summary", f"{len(rows)} methods and protocols"),
        table(header, rows, "Cost", names=4),
        open=len(rows) <= 30,
    )
    return section("cost", "Cost", tag("p", intro, class_="small"), made)


def provenance_section(boards: Sequence[Leaderboard], stores: Sequence[Store]) -> Html:
    """Return the commands, versions, devices, commits, weights and data with their hashes."""
    rows = [row for board in boards for line in board.lines for row in line.rows]
    commands = list(dict.fromkeys(command for store in stores for command in store.plan().commands))
    said = items([tag("code", command) for command in commands], class_="code") or tag(
        "p", "These results are of a medbench that kept no command."
    )
    machines: dict[tuple[str, ...], int] = {}
    for row in rows:
        p = row.provenance
        versions = ", ".join(f"{name} {version}" for name, version in p.get("versions", {}).items())
        key = (
            str(p.get("device", "–")),
            versions or "–",
            str(p.get("commit") or "an installed package"),
        )
        machines[key] = machines.get(key, 0) + 1
    weights = list(
        dict.fromkeys(
            (
                row.cell.method,
                row.provenance["weights"],
                ", ".join(row.provenance["trained_on"]) or "–",
                str(row.provenance.get("weights_sha256", "–")),
            )
            for row in rows
        )
    )
    data = [(board.title, str(board.about.get("data_sha256", "–"))) for board in boards]
    return section(
        "provenance",
        "Provenance",
        tag("h3", "Commands"),
        said,
        table(
            ["device", "versions", "commit", "rows"],
            [(*key, f"{n:,}") for key, n in machines.items()],
            "Made with",
            names=3,
        ),
        table(["method", "weights", "trained on", "SHA-256"], weights, "Weights", names=4)
        if weights
        else None,
        table(["task", "SHA-256 of ids, labels, groups and images"], data, "Data", names=2),
    )


def methods_section(boards: Sequence[Leaderboard]) -> Html | None:
    """Show the paragraph of a paper and its BibTeX, to copy."""
    if not any(line.rows for board in boards for line in board.lines):
        return None
    words, bibtex = methods_text.methods_text(boards)
    intro = "LaTeX, for a paper's methods section. It states only what these results hold."
    return section(
        "methods",
        "Methods text",
        tag("p", intro),
        _to_copy("methods-text", words),
        tag("h3", "BibTeX"),
        _to_copy("bibtex", bibtex),
    )


def _to_copy(key: str, words: str) -> Html:
    return tag(
        "div",
        tag("pre", placeless(words), id=key, tabindex="0"),
        tag("button", "Copy", type="button", data_copy=key, hidden=True),
        class_="copy",
    )
