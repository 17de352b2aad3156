"""Figures: what is drawn is what the tables say, in sizes, formats and styles of a paper.

What cannot be drawn is refused in one line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fakes.results import study
from PIL import Image

from medbench import UserError
from medbench.report import figures, leaderboard
from medbench.report.figures import (
    calibration_confusion,
    cost_scatter,
    differences,
    label_curves,
    line_names,
    line_selection,
    rank_diagram,
    style,
    task_heatmap,
)
from medbench.report.figures.attention_map import attention_picture
from medbench.stats import Summary


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> list[leaderboard.Leaderboard]:
    return leaderboard.leaderboards(study(tmp_path_factory.mktemp("one")))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[leaderboard.Leaderboard]:
    return leaderboard.leaderboards(study(tmp_path_factory.mktemp("many"), tasks=3))


def axes_of(drawing: style.Drawing) -> list:
    return [ax for ax in drawing.figure.axes if ax.has_data()]


def test_every_kind_in_every_format(many: list[leaderboard.Leaderboard], tmp_path: Path) -> None:
    each = {"confusion": 1, "forest": 2}  # a figure for each of so many tasks
    others = [kind for kind in figures.KINDS if kind not in ("attention", "shift", *each)]
    files = figures.draw_figures(many, others, tmp_path, figures.FORMATS)
    for kind, tasks in each.items():
        files += figures.draw_figures(many[:tasks], [kind], tmp_path, figures.FORMATS)
    assert set(others) == {"curves", "heatmap", "cd", "cost", "reliability"}
    stems = {
        *others,
        *(f"{kind}-task{i}-T-test" for kind, tasks in each.items() for i in range(tasks)),
    }
    assert {file.name for file in files} == {
        f"{stem}.{form}" for stem in stems for form in figures.FORMATS
    }
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    assert all(file.read_bytes().startswith(starts[file.suffix[1:]]) for file in files)
    for file in (file for file in files if file.suffix == ".png"):
        assert round(Image.open(file).width / 300, 2) in style.WIDTHS.values(), file
    svg = (tmp_path / "curves.svg").read_text()
    assert "sim$clr" in svg, "text stays text, and dollars are not mathematics"


def test_attention_is_drawn_from_the_rows_of_a_fusion(
    one: list[leaderboard.Leaderboard], tmp_path: Path
) -> None:
    """The mean over draws, with the members' names; other lines have no map."""
    (board,) = one
    first = next(line for line in board.lines if line.complete)
    maps = [
        {"attention": (np.eye(2) * i / 8 + 0.5 * (1 - i / 8)).tolist()}
        for i in range(len(first.rows))
    ]
    rows = [
        replace(row, provenance={"protocol": m, "members": ["ours", "theirs"]})
        for row, m in zip(first.rows, maps, strict=True)
    ]
    fused = replace(board, lines=[replace(first, rows=rows)])
    (file,) = figures.draw_figures([fused], ["attention"], tmp_path, ["svg"])
    text = file.read_text()
    middle = np.mean([m["attention"] for m in maps], axis=0)[0, 0]
    assert (
        file.name.startswith("attention-")
        and "ours" in text
        and "theirs" in text
        and f">{middle:.2f}<" in text
    )


def test_the_picture_shows_every_map_on_one_scale(tmp_path: Path) -> None:
    even, dark = np.full((3, 3), 1 / 3), np.diag([1, 1, 0.3])
    attention_picture({"even": even, "dark": dark}, ["simclr", "swav", "dino"]).savefig(
        tmp_path / "maps.svg"
    )
    attention_picture({"even": even}, ["simclr", "swav", "dino"]).savefig(tmp_path / "even.png")
    drawn = (tmp_path / "maps.svg").read_text()
    assert all(
        f"<!-- {word} -->" in drawn
        for word in ("even", "dark", "simclr", "swav", "dino", "0.33", "1.00", "0.00", "0.30")
    )
    pixels = np.asarray(Image.open(tmp_path / "even.png").convert("RGB"))
    assert (pixels.max(2) - pixels.min(2)).max() <= 1  # grey, so print loses nothing


def test_widths_are_those_of_a_paper(one: list[leaderboard.Leaderboard], tmp_path: Path) -> None:
    for width, inches in style.WIDTHS.items():
        for file in figures.draw_figures(
            one, ["curves", "heatmap", "confusion"], tmp_path / width, ["png"], width=width
        ):
            assert Image.open(file).width == pytest.approx(inches * 300, abs=1)


def test_the_same_numbers_give_the_same_bytes(
    one: list[leaderboard.Leaderboard], tmp_path: Path
) -> None:
    first, second = (
        figures.draw_figures(one, ["curves"], tmp_path / name, figures.FORMATS) for name in "ab"
    )
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


@pytest.mark.slow
def test_several_processes_draw_the_same(
    many: list[leaderboard.Leaderboard], tmp_path: Path
) -> None:
    said: list[list[str]] = [[], []]
    alone, shared = (
        figures.draw_figures(many, [], tmp_path / str(n), ["svg"], processes=n, say=words.append)
        for n, words in zip((1, 3), said, strict=True)
    )
    assert [file.name for file in alone] == [file.name for file in shared] and said[0] == said[1]
    assert [file.read_bytes() for file in alone] == [file.read_bytes() for file in shared]
    with pytest.raises(UserError, match=r"three methods, finished on two tasks"):
        figures.draw_figures(many[:1], ["curves", "cd"], tmp_path / "some", processes=2)


def test_curves_show_the_tables_numbers(one: list[leaderboard.Leaderboard]) -> None:
    with style.paper():
        (drawing,) = label_curves.curves(one, None, "")
    (ax,) = axes_of(drawing)
    drawn = [line for line in ax.lines if line.get_marker() in style.MARKERS]
    for line, name in zip(drawn, line_names.short_names(one), strict=True):
        summaries = [entry.summary("auc") for entry in one[0].lines if entry.name == name]
        assert line.get_ydata() == pytest.approx([s.mean for s in summaries])
        assert line.get_xdata() == pytest.approx([10, 100])
    across = next(line for line in ax.lines if line not in drawn)
    assert across.get_ydata()[0] == one[0].at("100%")[1].summary("auc").mean, (
        "supervised with all labels"
    )
    assert {"supervised", "supervised, all labels"} < {
        text.get_text() for text in ax.texts
    } and not drawing.figure.legends


def test_of_more_than_four_lines_the_best_and_the_baseline_have_colour(tmp_path: Path) -> None:
    """The others are grey without intervals.

    Every line is named at its end, no two names on one another.
    """
    boards = leaderboard.leaderboards(
        study(tmp_path, methods=("supervised", *(f"m{i}" for i in range(7))))
    )
    with style.paper():
        (drawing,) = label_curves.curves(boards, None, "")
    (ax,) = axes_of(drawing)
    best = max(boards[0].at("100%"), key=lambda line: line.plain["auc"].mean()).cell.method
    drawn = {(line.get_color(), line.get_marker()) for line in ax.lines}
    bright = {
        name
        for name, look in line_names.line_looks(boards).items()
        if (look.colour, look.marker) in drawn
    }
    assert {name.split()[0] for name in bright} == {"supervised", best}
    said = [text for text in ax.texts if text.get_text() and "labels" in text.get_text()]
    names = [text for text in ax.texts if text.get_text() and text not in said]
    assert [text.get_text().partition(" (")[0] for text in said] == [
        "supervised, all labels",
        "10 % or less of the labels",
    ]
    assert {text.get_text() for text in names} == {"supervised", *(f"m{i}" for i in range(7))}
    figure = drawing.figure
    figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in names), key=lambda box: box.y0)
    assert all(a.y1 <= b.y1 and b.y0 - a.y0 > 0.9 * a.height for a, b in pairwise(boxes))


def test_a_forest_shows_the_paired_differences_to_the_baseline(
    one: list[leaderboard.Leaderboard],
) -> None:
    """At each budget, best first.

    Filled where the family against the baseline leaves the difference.
    """
    with style.paper():
        (drawing,) = differences.forest(one, None, "")
    board, axes = one[0], axes_of(drawing)
    assert [ax.get_title(loc="left") for ax in axes] == ["10% labels", "100% labels"]
    rows = [label.get_text() for label in axes[0].get_yticklabels()]
    family, filled = leaderboard.Family("baseline", "supervised"), []
    for ax, budget in zip(axes, ("10%", "100%"), strict=True):
        judged = {
            pair.first.cell.method: pair.verdict
            for pair in leaderboard.comparisons(board, "auc", family, budgets=[budget])
        }
        marks = {
            rows[int(line.get_ydata()[0])]: line for line in ax.lines if line.get_marker() == "o"
        }
        assert set(marks) == {"random", r"sim\$clr"}
        for name, mark in marks.items():
            verdict = judged[name.replace("\\", "")]
            assert mark.get_xdata()[0] == verdict.difference.value
            ends = verdict.difference.interval()
            assert any(
                tuple(line.get_xdata()) == pytest.approx(ends)
                for line in ax.lines
                if len(line.get_xdata()) == 2
            )
            filled.append(mark.get_markerfacecolor() != "white")
            assert filled[-1] == (verdict.p <= 0.05)
    assert any(filled)
    assert len(set(rows)) == 2 and rows[0] == r"sim\$clr", "the best is above"


@pytest.mark.parametrize(
    ("places", "apart"),
    [
        ([0.0, 10.0], [0.0, 10.0]),
        ([5.0, 5.0], [4.5, 5.5]),
        ([2.0, 0.0, 0.5], [2.0, -0.25, 0.75]),
        ([0.0, 0.1, 0.9, 1.0], [-1.0, 0.0, 1.0, 2.0]),
    ],
)
def test_names_are_moved_apart_as_little_as_they_can(
    places: list[float], apart: list[float]
) -> None:
    assert style.spread(places, 1.0) == pytest.approx(apart)
    inside = style.spread(places, 1.0, low=0.25)
    assert min(inside) >= 0.25 and np.diff(sorted(inside)).min() >= 1 - 1e-9


@pytest.mark.parametrize("band", [True, False])
def test_what_is_undefined_is_not_drawn(band: bool) -> None:
    """A mean that is undefined breaks the line.

    A mean without an interval stands alone, between two that have one.
    """
    from matplotlib.figure import Figure

    class Line:
        def __init__(self, mean: float, low: float, high: float):
            self.numbers = Summary(mean, None, low, high)

        def summary(self, metric: str) -> Summary:
            return self.numbers

    nan = float("nan")
    lines = [
        Line(0.5, 0.4, 0.7),
        Line(0.6, nan, nan),
        Line(0.7, 0.6, 0.8),
        Line(nan, nan, nan),
        Line(0.9, 0.85, 0.95),
    ]
    ax = Figure().subplots()
    handle = label_curves.drawn(
        ax, np.arange(5.0), lines, "auc", style.looks(["a"])["a"], "band" if band else "bars"
    )  # type: ignore[arg-type]
    curves = [line for line in ax.lines if line.get_marker() in style.MARKERS]
    assert [line.get_xdata().tolist() for line in curves] == [[0, 1, 2], [4]] and handle is curves[
        0
    ]
    assert curves[0].get_ydata().tolist() == [0.5, 0.6, 0.7]
    ends = [
        segment for each in ax.collections for segment in (each.get_segments() if not band else [])
    ]
    assert band or sorted(np.round(end[:, 1], 3).tolist() for end in ends if len(end)) == [
        [0.4, 0.7],
        [0.6, 0.8],
        [0.85, 0.95],
    ]
    if band:
        reached = np.concatenate(
            [path.vertices for each in ax.collections for path in each.get_paths()]
        )
        assert not (reached[:, 0] == 1).any()


def test_heat_map_shows_the_tables_numbers(many: list[leaderboard.Leaderboard]) -> None:
    with style.paper():
        (drawing,) = task_heatmap.heatmap(many, None, "")
    texts = [text.get_text() for text in drawing.figure.axes[0].texts]
    scores = np.array(
        [[board.at("100%")[m].summary("auc").mean for board in many] for m in range(3)]
    )
    places = np.argsort(np.argsort(-scores, axis=0), axis=0).mean(1)
    best_first = scores[np.argsort(places, kind="stable")]
    assert [text.rstrip("*=") for text in texts] == [f"{v:.3f}" for v in best_first.ravel()]
    assert sum(text.endswith("*") for text in texts) == 3


@pytest.mark.parametrize("width", ["", "column", "page"])
def test_heat_map_has_room_for_long_names(tmp_path: Path, width: str) -> None:
    boards = leaderboard.leaderboards(
        study(tmp_path, methods=("given", "supervised tf_efficientnet_lite0 112 linear"))
    )
    with style.paper():
        (drawing,) = task_heatmap.heatmap(boards, None, width)
        drawing.figure.draw_without_rendering()
    ax, inside = drawing.figure.axes[0], drawing.figure.bbox
    cell = ax.bbox.width / len(ax.get_xticks())
    assert all(text.get_window_extent().width < cell for text in ax.texts)
    for text in (*ax.get_yticklabels(), drawing.figure._suptitle):
        assert (
            inside.x0 <= text.get_window_extent().x0 and text.get_window_extent().x1 <= inside.x1
        ), text.get_text()


def test_a_long_title_takes_no_room_from_the_panels(one: list[leaderboard.Leaderboard]) -> None:
    long = [
        replace(one[0], data="images of a study with a long name.csv", target="test of all " * 5)
    ]
    with style.paper():
        for draw in (calibration_confusion.reliability, label_curves.curves, cost_scatter.cost):
            for width in ("column", "page"):
                shares = []
                for boards in (one, long):
                    (drawing,) = draw(boards, None, width)
                    drawing.figure.draw_without_rendering()
                    area = sum(ax.bbox.width * ax.bbox.height for ax in axes_of(drawing))
                    shares.append(area / (drawing.figure.bbox.width * drawing.figure.bbox.height))
                titles = [drawing.figure._suptitle, *(ax._left_title for ax in axes_of(drawing))]
                ends = [text.get_window_extent().x1 for text in titles if text and text.get_text()]
                assert ends and max(ends) <= drawing.figure.bbox.x1
                assert shares[1] > 0.6 * shares[0] > 0.1, (draw.__name__, shares)


def test_heat_map_explains_its_signs(
    one: list[leaderboard.Leaderboard],
) -> None:
    with style.paper():
        (drawing,) = task_heatmap.heatmap(one, None, "page")
    texts = [text.get_text() for text in drawing.figure.axes[0].texts]
    title = drawing.figure._suptitle.get_text()
    assert all((sign in title) == any(text.endswith(sign) for text in texts) for sign in "*=")


def test_the_leader_is_solid_and_no_line_is_dotted(one: list[leaderboard.Leaderboard]) -> None:
    assert ":" not in style.STROKES
    with style.paper():
        (drawing,) = label_curves.curves(one, None, "")
    leader = line_selection.best_first({one[0]: one[0].shown(None)})[0]
    color = style.looks(list(line_names.short_names(one)))[leader].colour
    lines = [line for line in drawing.figure.axes[0].lines if line.get_color() == color]
    assert lines and all(line.get_linestyle() == "-" for line in lines)


def test_a_logarithmic_axis_only_over_a_factor_of_two(one: list[leaderboard.Leaderboard]) -> None:
    (board,) = one
    for factor, scale in ((1.5, "linear"), (4, "log")):
        lines = [
            replace(
                line,
                rows=[
                    replace(row, cost={"seconds": 10.0 * (factor if i % 2 else 1)})
                    for row in line.rows
                ],
            )
            for i, line in enumerate(board.lines)
        ]
        with style.paper():
            (drawing,) = cost_scatter.cost([replace(board, lines=lines)], None, "")
        assert drawing.figure.axes[0].get_xscale() == scale


def test_reliability_counts_by_hand(one: list[leaderboard.Leaderboard]) -> None:
    line = one[0].at("100%")[2]
    scores, target = line.stores[0].scores(line.rows[0]), line.stores[0].target("target0")
    confidence = scores["probabilities"].max(1)
    right = scores["probabilities"].argmax(1) == target["labels"]
    in_last = confidence > 14 / 15
    assert in_last.sum() >= 10, "or the bin would not be drawn"
    with style.paper():
        (drawing,) = calibration_confusion.reliability(one, None, "")
    curve = drawing.figure.axes[0].lines[-1]
    assert (curve.get_xdata()[-1], curve.get_ydata()[-1]) == pytest.approx(
        (confidence[in_last].mean(), right[in_last].mean())
    )


def test_confusion_is_the_share_of_each_label(one: list[leaderboard.Leaderboard]) -> None:
    line = one[0].at("100%")[0]
    scores, target = line.stores[0].scores(line.rows[0]), line.stores[0].target("target0")
    with style.paper():
        (drawing,) = calibration_confusion.confusion(one, None, "")
    texts = [text.get_text() for text in drawing.figure.axes[0].texts]
    rows = [drawn.get_text() for drawn in drawing.figure.axes[0].get_yticklabels()]
    for label in (0, 1):
        of = scores["decisions"][target["labels"] == label]
        scale = 1 if len(of) < 100 else 100 / len(of)  # of few images counts
        assert texts[2 * label : 2 * label + 2] == [
            f"{scale * (of == decision).sum():.0f}" for decision in (0, 1)
        ]
        assert (f"(n = {len(of)})" in rows[label]) == (len(of) < 100)


def test_looks_differ_in_grey_and_in_colour() -> None:
    found = style.looks([str(i) for i in range(7)])
    assert (
        len({look.colour for look in found.values()})
        == len({look.marker for look in found.values()})
        == 7
    )
    neighbours = list(found.values())
    assert all(a.stroke != b.stroke for a, b in pairwise(neighbours))
    many = list(style.looks([str(i) for i in range(315)]).values())
    assert len(set(many)) == 315


@pytest.mark.slow
def test_of_many_lines_the_best_are_drawn_and_it_is_said(
    tmp_path: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The best with the most labels and the supervised baseline.

    The figure, its drawing and the command say so; heat maps' marks are the table's.
    """
    methods = ("supervised", *(f"m{i:02d}" for i in range(39)))
    store = study(tmp_path / "out", tasks=2, methods=methods)
    boards = leaderboard.leaderboards(store)
    places = {
        m: [
            sorted(board.at("100%"), key=lambda x: -x.plain["auc"][0]).index(board.at("100%")[i])
            for board in boards
        ]
        for i, m in enumerate(methods)
    }
    best = sorted(methods[1:], key=lambda m: sum(places[m]))
    with style.paper():
        for draw in (label_curves.curves, cost_scatter.cost, calibration_confusion.reliability):
            (drawing,) = draw(boards, None, "")
            named = [legend.get_title().get_text() for legend in drawing.figure.legends] or [
                drawing.figure.get_suptitle()
            ]
            assert (
                [drawing.said]
                == named
                == ["12 of 40 lines: the best with the most labels, and the supervised baseline"]
            )
            texts = (
                drawing.figure.legends[0].get_texts()
                if drawing.figure.legends
                else drawing.figure.axes[0].texts
            )
            shown = [text.get_text() for text in texts if "all labels" not in text.get_text()]
            assert set(shown) == {"supervised", *best[:11]}
        (drawing,) = task_heatmap.heatmap(boards, None, "")
        ax = drawing.figure.axes[0]
        assert "36 of 40 rows: the best by their mean place" in drawing.figure.get_suptitle()
        marks = {
            line.cell.method: mark.sign
            for line, mark in leaderboard.marks(boards[0], "auc").items()
            if line.cell.labels == "100%"
        }
        rows = [label.get_text() for label in ax.get_yticklabels()]
        assert [text.get_text()[5:] for text in ax.texts[::2]] == [marks[row] for row in rows]
        (drawing,) = rank_diagram.critical_difference(boards, None, "")
        assert "30 of 40 lines: the best mean ranks" in drawing.figure.axes[0].texts[-1].get_text()
        first, _ = calibration_confusion.confusion(boards, None, "")
        assert len(first.figure.axes) == 3 and first.said in first.figure.get_suptitle()
    assert figures.readable(boards[:1], "auc", 40) == boards[:1], "what fits is all shown"
    assert (
        medbench(
            "plot", str(store.folder), "--kind", "curves,cost", "--format", "svg", "--out", "here"
        )
        == 0
    )
    assert "curves, cost: 12 of 40 lines" in capsys.readouterr().err


def test_what_cannot_be_drawn_is_said(
    one: list[leaderboard.Leaderboard],
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UserError, match="three methods, finished on two tasks"):
        figures.draw_figures(one, ["cd"], tmp_path)
    names = {file.stem for file in figures.draw_figures(one, [], tmp_path / "all", ["png"])}
    assert "cd" not in names and "curves" in names, "without a name, all that can be drawn"
    with pytest.raises(UserError, match="Unknown metric"):
        figures.draw_figures(one, ["curves"], tmp_path, metric="aux")
    folder = str(one[0].lines[0].stores[0].folder)
    assert medbench("plot", folder, "--kind", "curve") == 2
    assert "Did you mean 'curves'" in capsys.readouterr().err
    assert medbench("plot", folder, "--format", "gif") == 2
    assert medbench("plot", folder, "--width", "poster") == 2
    assert (
        medbench("plot", folder, "--kind", "curves,cost", "--format", "svg", "--out", "here") == 0
    )
    assert sorted(file.name for file in (tmp_path / "here").iterdir()) == ["cost.svg", "curves.svg"]


def test_an_unfinished_run_is_drawn_as_far_as_it_goes(tmp_path: Path) -> None:
    store = study(tmp_path / "out")
    lines = (store.folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (store.folder / "rows.jsonl").write_text("".join(lines[:4]))
    files = figures.draw_figures(leaderboard.leaderboards(store), [], tmp_path / "figures", ["png"])
    assert {"curves", "heatmap", "cost"} <= {file.stem for file in files}
    (store.folder / "rows.jsonl").write_text("")
    with pytest.raises(UserError, match="Nothing can be drawn"):
        figures.draw_figures(leaderboard.leaderboards(store), [], tmp_path / "figures", ["png"])


def test_figures_do_without_torch(without_torch: Callable[..., str], tmp_path: Path) -> None:
    folder = study(tmp_path / "out").folder
    without_torch("plot", str(folder), "--kind", "curves", "--format", "png")
    assert (folder / "figures" / "curves.png").exists()


def test_rows_of_a_heat_map_share_a_place_where_they_are_equal() -> None:
    """Equal rows stood in the order of the board, and so did what was no worse anywhere."""
    gap = np.array([[0.0, 0.1], [0.0, 0.0], [np.nan, 0.2]])
    assert task_heatmap.best_rows(gap) == [1, 0, 2]
