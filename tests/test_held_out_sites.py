"""Other sites, later years.

Each site in turn is the test part, or what was taken from a day on; no group is torn, and what is
missing is refused.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats as scipy_stats

from medbench import Grid
from medbench.data.other_divisions import divided
from medbench.data.task_data import open_task
from medbench.report import html, leaderboard
from medbench.run.execution import run
from medbench.run.planning import plan
from medbench.schema import Note, UserError, registry

# share of the sick, and the tint of its pictures
SITES = {"Aachen": (0.9, 60), "Bonn": (0.5, 0), "Celle": (0.1, -60)}


def clinic(place: Path, n: int = 60, **change: dict[int, str]) -> str:
    """A task of `n` pictures a site, a patient each.

    A sign in green that a site's tint in red outshines. change: column -> row -> its value.
    """
    rng = np.random.default_rng(0)
    place.mkdir()
    rows = []
    for s, (site, (share, tint)) in enumerate(SITES.items()):
        for i in range(n):
            row, sick = s * n + i, i < share * n
            noise = rng.integers(0, 255, (8, 8, 3)) // 2 + 60
            Image.fromarray(
                (noise + np.array([tint, 4 * sick, 0])).clip(0, 255).astype(np.uint8)
            ).save(place / f"{row}.png")
            values = {
                "group": f"p{row}",
                "site": site,
                "study_date": f"2023-{1 + i % 12:02}-15",
                "split": "test" if i % 3 == 0 else "train",
            }
            values |= {name: of[row] for name, of in change.items() if row in of}
            rows.append({"path": f"{row}.png", "label": "sick" if sick else "healthy", **values})
    with (place / "t.csv").open("w", newline="") as stream:
        out = csv.DictWriter(stream, list(rows[0]))
        out.writeheader()
        out.writerows(rows)
    return f"folder:{place / 't.csv'}"


def grid_of(task: str, encoder: str = "", **fields: object) -> Grid:
    made = {
        "labels": ("all",),
        "encoders": (encoder,) if encoder else Grid.encoders,
        "audit": False,
        **fields,
    }
    return Grid(tasks=(task,), **made)  # type: ignore[arg-type]


def test_a_tint_of_sites_shows_where_each_is_held_out_and_not_in_the_ordinary_split(
    tmp_path: Path, mine: str
) -> None:
    task = clinic(tmp_path / "clinic", 100)
    ordinary = run(grid_of(task, mine), tmp_path / "ordinary")
    held_out = run(grid_of(task, mine, hold_out_by="site"), tmp_path / "sites")
    (row,) = ordinary.rows().values()
    found = leaderboard.leaderboards(held_out)
    assert [board.task for board in found] == [f"folder:t.csv:site={site}" for site in SITES]
    alone = {
        board.about["held_out"]["value"]: board.lines[0].plain["auc"].mean() for board in found
    }
    (line,) = leaderboard.over_sites(found)
    assert line.scores == pytest.approx(alone) and line.mean is not None
    values = list(alone.values())
    assert line.mean.value == pytest.approx(np.mean(values))
    assert line.interval() == pytest.approx(
        np.clip(scipy_stats.t.interval(0.95, 2, np.mean(values), scipy_stats.sem(values)), 0, 1)
    ), "Student's, over sites"
    assert row.metrics["auc"]["value"] > line.mean.value + 0.05, (
        "the tint told how many are sick at its site"
    )
    assert line.worst == min(alone, key=lambda site: alone[site])
    (record,) = leaderboard.site_records(found).to_dict("records")
    assert (record["sites"], record["worst"], record["task"], record["column"]) == (
        3,
        line.worst,
        "folder:t.csv",
        "site",
    )
    leaderboard.write(held_out, found)
    text = (held_out.folder / "leaderboard.md").read_text()
    assert (
        "each site held out" in text and line.worst in (held_out.folder / "sites.csv").read_text()
    )
    assert "Each site held out" in html.build_page([held_out])
    assert not (ordinary.folder / "sites.csv").exists()


def test_patients_on_both_sides_leave_the_test_part_and_are_counted(tmp_path: Path) -> None:
    """Rows 0 and 1 are a patient of row 60's and 61's.

    Row 2 shares one with row 3, of its own site, and with row 62.
    """
    shared = {0: "q1", 60: "q1", 1: "q2", 61: "q2", 2: "q3", 3: "q3", 62: "q3"}
    task = clinic(tmp_path / "clinic", group=shared)
    planned = plan(grid_of(task, hold_out_by="Site", methods=("supervised",)))
    first = planned.tasks[0]
    assert first.task.name == "folder:t.csv:site=Aachen" and [
        len(part) for part in first.parts.values()
    ] == [120, 56]
    for data in planned.tasks:
        assert not np.intersect1d(data.parts["train"].groups, data.parts["test"].groups).size
        assert set(data.parts["test"].meta["site"]) == {data.task.name.partition("=")[2]}
        assert data.task.name.partition("=")[2] not in data.parts["train"].meta["site"]
    assert any(
        "3 groups have images on both sides; the 4 of these in the test part are left out"
        in mark.text
        for mark in first.marks
    )
    said = "test part: site Aachen, 56 images; all others, 120, are trained on"
    assert [mark.text for mark in first.marks if mark.kind == "split"] == [said], (
        "what the table's own split was is no longer so"
    )


def test_what_was_taken_from_a_day_on_is_the_test_part(tmp_path: Path) -> None:
    """Of each month five pictures a site.

    A patient seen before and after is trained on as before, and not tested.
    """
    task = clinic(
        tmp_path / "clinic",
        group={0: "q", 11: "q"},
        study_date={5: "20230930", 6: "2023-10-01T08:00:00", 7: "2023-10-01 08:00"},
    )
    (data,) = plan(grid_of(task, split_by_date="2023-10-01", methods=("supervised",))).tasks
    days = [str(day)[:10] for day in data.parts["test"].meta["study_date"]]
    assert min(days) == "2023-10-01" and len(days) == 3 * 15 + 2 - 1
    assert (
        max(str(day).replace("-", "")[:8] for day in data.parts["train"].meta["study_date"])
        < "20231001"
    )
    assert any(
        "1 group has images on both sides; the 1 of these" in mark.text for mark in data.marks
    )


@pytest.mark.parametrize(
    ("fields", "change", "words"),
    [
        ({"hold_out_by": "sight"}, {}, r"no column 'sight' to hold out by. Allowed: site, study_date. Did you mean 'site'\?"),
        ({"hold_out_by": "site"}, {"site": {4: "", 5: "unknown"}}, r"2 of 180 images of 'folder:t.csv' have no site: 4.png, 5.png"),
        ({"hold_out_by": "site"}, {"site": dict.fromkeys(range(9), "Dorf")}, r"site Dorf as the test part, 'folder:t.csv' has 9 images to test on"),
        ({"hold_out_by": "site"}, {"site": dict.fromkeys(range(180), "Aachen")}, r"All images of .* have the site 'Aachen'"),
        ({"split_by_date": "2023-10-01"}, {"study_date": {4: ""}}, r"1 of 180 images .* have no study_date: 4.png"),
        ({"split_by_date": "2023-10-01"}, {"study_date": {4: "01/02/2023"}}, r"'01/02/2023' in column study_date \(image 4.png\) is not an unambiguous date"),
        ({"split_by_date": "2025-01-01"}, {}, r"0 images to test on: fewer than 20"),
        ({"split_by_date": "tomorrow"}, {}, r"'tomorrow' is not a day. Allowed: 2024-01-31"),
        ({"split_by_date": "2023-10-01", "hold_out_by": "site"}, {}, r"each say which images are the test part"),
        ({"hold_out_by": "site", "target": "val"}, {}, r"--hold-out-by leaves no val part"),
    ],
)  # fmt: skip
def test_what_cannot_be_divided_is_refused(
    fields: dict[str, str], change: dict[str, dict[int, str]], words: str, tmp_path: Path
) -> None:
    task = clinic(tmp_path / "clinic", **change)
    with pytest.raises(UserError, match=words):
        plan(grid_of(task, **fields))


def test_a_task_without_dates_or_columns_says_so(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="'derm' has no columns of dates, and one is needed"):
        plan(Grid(data="phantom", split_by_date="2024-01-01"))
    with pytest.raises(
        UserError,
        match=f"'folder:mine' has no column 'site' to hold out by.*Next: medbench data show folder:{folder}$",
    ):
        plan(grid_of(f"folder:{folder}", hold_out_by="site"))


def test_drawn_images_of_a_task_divided_otherwise_name_a_command_that_knows_it(
    tmp_path: Path,
) -> None:
    grid = Grid(data="phantom", hold_out_by="sex")
    notes: list[Note] = []
    (task, said), *_ = divided(registry.task("derm"), grid, tmp_path)
    open_task(task, grid, tmp_path, notes, said)
    assert task.name.startswith("derm:sex=")
    assert [note.text.endswith(": medbench data list derm") for note in notes] == [True]


def test_sites_are_held_out_by_case_too(tmp_path: Path, mine: str) -> None:
    """Two pictures a patient are a case.

    One of them at another site leaves the test part there, and what is left is a case.
    """
    pairs = {row: f"p{row // 2}" for row in range(180)}
    task = clinic(
        tmp_path / "clinic", group={**pairs, 1: "p40"}, split=dict.fromkeys(range(180), "train")
    )
    grid = replace(
        grid_of(task, mine, hold_out_by="site"), by="case", protocols=("linear", "case-mean")
    )
    planned = plan(grid)
    names = [data.task.name for data in planned.tasks]
    assert names == [f"folder:t.csv:site={site}:by-case" for site in SITES]
    about = planned.file.tasks[f"{names[0]}|t.csv|test"]
    assert about["by"] == "case" and about["held_out"] == {
        "by": "site",
        "value": "Aachen",
        "of": "folder:t.csv",
    }
