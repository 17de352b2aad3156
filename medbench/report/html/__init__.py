"""Results folders -> one HTML page that needs nothing else.

No network, no script but its own, no place on a machine, no patient.

Never imports torch. Whatever a person named (a folder, a class, a method) is text on the page,
never markup: see `elements`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from importlib import resources

from medbench.report.html import (
    clinical_sections,
    curves_and_shift,
    leaderboard,
    provenance,
    summary,
)
from medbench.report.html.elements import Html, tag
from medbench.report.leaderboard import (
    Leaderboard,
    at_home,
    known_metric,
    leaderboards,
    precompute,
    standing,
)
from medbench.report.leaderboard import only as picks
from medbench.run.store import Store
from medbench.schema import ProgressCallback, UserError, counted
from medbench.system import fork_pool
from medbench.system.progress_listener import calling


def build_page(
    stores: Sequence[Store],
    *,
    metric: str | None = None,
    margin: float = 0.01,
    images: bool = False,
    data: str | None = None,
    only: Sequence[str] = (),
    progress: ProgressCallback | None = None,
    processes: int = 1,
) -> str:
    """Build the page as text.

    A part whose inputs are missing is left out. The same results give the same bytes. metric: None:
    each task's primary one. margin: what is too small to matter, in the metric's own unit. images:
    show mistakes; data: where the images are, as in `run`. only: as `table.only` takes it.
    processes: how many work on it at once (`fork_pool.each`). Raises UserError for a metric that is
    not there, where nothing was planned, for images that are not there or not those that were
    scored; and as `table.only`. progress(stage, done, total): called while it works.
    """
    with calling(progress):
        return _built(stores, metric, margin, images, data, only, processes)


def _built(
    stores: Sequence[Store],
    metric: str | None,
    margin: float,
    images: bool,
    data: str | None,
    only: Sequence[str],
    processes: int,
) -> str:
    found = leaderboards(*stores)
    if not found:
        raise UserError("Nothing was planned in these folders.", then="medbench run --out FOLDER")
    if only:
        found = picks(found, only)
    known_metric(found, metric)
    shown, home = standing(found), at_home(found)
    # of somebody else's predictions neither labels nor cost are known
    own = [board.own for board in home if board.own.lines]
    processes = fork_pool.possible(processes)
    precompute(found, metric, processes=processes)
    parts: list[Callable[[], Html | None]] = [
        lambda: summary.answer(shown, metric, margin),
        lambda: provenance.study(shown),
        lambda: leaderboard.leaderboard_section(shown, metric),
        lambda: curves_and_shift.curves_section(own, metric),
        lambda: curves_and_shift.advice_section(own, metric),
        lambda: summary.over_tasks(home, metric),
        lambda: summary.verdicts_section(shown, metric, margin),
        lambda: clinical_sections.parts(home, metric),
        lambda: curves_and_shift.sites_section(found, metric),
        lambda: curves_and_shift.robustness_section(found, metric),
        lambda: clinical_sections.calibration_section(home, metric),
        lambda: _pictures(home, metric, data) if images else None,
        lambda: provenance.audits(home),
        lambda: provenance.costs_section(own),
        lambda: provenance.provenance_section(shown, stores),
        lambda: provenance.methods_section(shown),
    ]
    written = fork_pool.each(lambda part: part(), parts, processes, "the page's parts")
    return _page(shown, [part for part in written if part is not None])


def _pictures(found: Sequence[Leaderboard], metric: str | None, data: str | None) -> Html | None:
    from medbench.report.html import mistakes  # a page without images needs no decoder

    return mistakes.mistakes_section(mistakes.galleries(found, metric, data))


def _page(found: Sequence[Leaderboard], parts: Sequence[Html]) -> str:
    style, script = (
        resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
        for name in ("page.css", "page.js")
    )
    policy = "; ".join(
        [
            "default-src 'none'",
            f"style-src {_digest(style)}",
            f"script-src {_digest(script)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    tasks = list(dict.fromkeys(board.task for board in found))
    shown = ", ".join(tasks) if len(tasks) <= 4 else f"{len(tasks)} tasks"
    methods = {line.cell.method for board in found for line in board.lines}
    rows = sum(len(line.rows) for board in found for line in board.lines)
    about = f"{counted(rows, 'result')} of {counted(len(methods), 'method')} on {counted(len(tasks), 'task')}"
    if found[0].selection:
        about += f". A selection: {found[0].selection}"
    links = [
        tag("a", Html(title), href=f"#{key}")
        for part in parts
        for key, title in re.findall(r'<h2 id="(\w+)-title">(.*?)</h2>', part)
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=Html(policy)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"medbench: {shown}"),
        tag("link", rel="icon", href="data:,"),
        Html(f"<style>{style}</style>"),
    )
    body = tag(
        "body",
        tag("a", "To the leaderboard", href="#leaderboard", class_="skip"),
        tag("header", tag("h1", shown), tag("p", about), tag("nav", links, aria_label="Contents")),
        tag("main", parts),
        tag("footer", "Made by medbench. This page loads nothing and sends nothing."),
        Html(f"<script>{script}</script>"),
    )
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


__all__ = ["build_page"]
