"""Example images, only where a person asked for them.

The most confident mistakes of the best line of each task, with their licence beside them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medbench import images
from medbench.data.task_data import open_task
from medbench.report.html.clinical_sections import best_entries, titled
from medbench.report.html.elements import Html, tag
from medbench.report.html.elements import section as part
from medbench.report.leaderboard import Leaderboard, LeaderboardEntry
from medbench.schema import BY_CASE, Grid, Image, Note, Split, UserError, registry
from medbench.system.progress_listener import report_progress

SHOWN = 12
SIDE = 160  # pixels of a thumbnail's longer side


@dataclass(frozen=True)
class Mistake:
    """One image that was decided wrongly, as a data: URI, and what was said of it.

    id: what a page may call it. said: the decision; probability: of it, in [0, 1]. label: the right
    class.
    """

    uri: str
    id: str
    said: str
    probability: float
    label: str


@dataclass(frozen=True)
class Gallery:
    """Images of one line that were decided wrongly.

    title: which line on which task. licence: of the images.
    """

    title: str
    licence: str
    mistakes: Sequence[Mistake]


def galleries(
    boards: Sequence[Leaderboard],
    metric: str | None,
    data: str | None,
) -> list[Gallery]:
    """Make a gallery for each board of a task's own part that has a best line.

    data: as in `run`; for `folder:NAME` that folder itself. Raises UserError where a task's images
    are not there, or are not those that were scored.
    """
    return [_gallery(board, best, data) for board, best in best_entries(boards, metric)]


def mistakes_section(found: Sequence[Gallery]) -> Html | None:
    """Show the images with what was said of each; None where nobody made a mistake."""
    shown = []
    for gallery in found:
        cards = [
            tag(
                "figure",
                tag(
                    "img",
                    src=Html(m.uri),
                    alt=f"Image {m.id}, labelled {m.label}, taken for {m.said}",
                ),
                tag(
                    "figcaption",
                    tag("b", m.said),
                    f" {m.probability:.2f}, labelled ",
                    tag("b", m.label),
                    tag("small", m.id),
                ),
            )
            for m in gallery.mistakes
        ]
        if cards:
            licence = tag(
                "p",
                f"Licence of these images: {gallery.licence}. They travel with this page: pass it on only where that allows it.",
            )
            shown.append(
                tag("div", tag("h3", gallery.title), licence, tag("div", cards, class_="gallery"))
            )
    return part("mistakes", "The most confident mistakes", shown) if shown else None


def _gallery(board: Leaderboard, line: LeaderboardEntry, data: str | None) -> Gallery:
    row, store = line.rows[0], line.stores[0]
    split, licence = _images(board, data)
    scores, target = store.scores(row), store.target(str(row.provenance["target"]))
    place = {name: i for i, name in enumerate(split.ids.tolist())}
    classes, mistakes, seen = list(board.about["classes"]), [], set()
    for i, c, probability, label in _wrong(
        scores["probabilities"], scores["decisions"], target["labels"]
    ):
        group = str(target["groups"][i])
        if group in seen:
            continue  # one patient must not fill the page
        seen.add(group)
        several = target["labels"].ndim == 2
        said, truth = (
            (
                f"{'' if label == 0 else 'not '}{classes[c]}",
                f"{'not ' if label == 0 else ''}{classes[c]}",
            )
            if several
            else (classes[c], classes[label])
        )
        name = str(target["ids"][i])
        called = called_on_a_page(board.task, board.target, i, name)
        mistakes.append(
            Mistake(_thumbnail(split.images[place[name]]), called, said, probability, truth)
        )
        report_progress(f"example images of {board.task}", len(mistakes), SHOWN, "images")
        if len(mistakes) == SHOWN:
            break
    report_progress(f"example images of {board.task}", SHOWN, SHOWN, "images")
    return Gallery(f"{titled(board, line)}, first draw", licence, mistakes)


def called_on_a_page(task: str, target: str, place: int, name: str) -> str:
    """Name an image on a page.

    It is named by its place in the scored set (`place`, from 0) where it is of a user's own folder,
    whose files are often named after patients. A public data set's names are kept.
    """
    return f"image {place + 1} of {target}" if task.startswith("folder:") else name


def _wrong(
    probabilities: np.ndarray, decisions: np.ndarray, labels: np.ndarray
) -> list[tuple[int, int, float, int]]:
    """List wrong decisions, the most confident first.

    (image, class that was said or label that was missed, probability of the decision, true class or
    0/1).
    """
    if labels.ndim == 2:
        image, c = np.nonzero(~np.isnan(labels) & (decisions != labels))
        p = np.where(decisions[image, c] == 1, probabilities[image, c], 1 - probabilities[image, c])
        truth = labels[image, c].astype(int)
    else:
        image = np.flatnonzero(decisions != labels)
        c, truth = decisions[image].astype(int), labels[image].astype(int)
        p = probabilities[image, c]
    order = np.argsort(-p, kind="stable")
    return list(
        zip(
            image[order].tolist(),
            c[order].tolist(),
            p[order].astype(float).tolist(),
            truth[order].tolist(),
            strict=True,
        )
    )


def _images(board: Leaderboard, data: str | None) -> tuple[Split, str]:
    """Return the scored part with its images, and their licence. Raises UserError."""
    if "held_out" in board.about or ":from=" in board.task:
        raise UserError(
            f"--images does not show images of {board.task}, which a run divided.",
            then="medbench report without --images",
        )
    if BY_CASE in board.task:
        raise UserError(
            f"--images shows images one by one, and the scores of {board.task} are of cases.",
            then="medbench report without --images",
        )
    own = board.task.startswith("folder:")
    if own and (data is None or board.data == "phantom"):
        raise UserError(
            f"--images needs the images of {board.task}.",
            then="medbench report ... --images --data PATH, as in --task folder:PATH",
        )
    if own and data is not None:
        task, root = (
            registry.task(
                f"folder:{data}",
                order=board.about["classes"] if board.about["kind"] == "ordinal" else (),
            ),
            None,
        )
    else:
        task, root = registry.task(board.task), "phantom" if board.data == "phantom" else data
    grid = Grid(
        tasks=(board.task,), data=root, target=board.target, allow_leak=True, allow_partial=True
    )
    notes: list[Note] = []
    found = open_task(task, grid, images.cache_folder(), notes)
    if found.data != board.lines[0].cell.data:
        raise UserError(
            f"--images needs the images of {board.task} ({board.data}), which were not found.",
            then="medbench report ... --images --data FOLDER",
        )
    if found.identity != board.about["identity"]:
        raise UserError(
            f"The images of {board.task} that were found are not those that were scored.",
            then="name their folder with --data",
        )
    licence = (
        "drawn by medbench, free"
        if board.data == "phantom"
        else task.licence or ("your own folder's" if own else "as its source says")
    )
    return found.parts[board.target], licence


def _thumbnail(image: Image) -> str:
    """Make a small JPEG without metadata, as a data: URI."""
    small = images.picture(image).convert("RGB")
    small.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
