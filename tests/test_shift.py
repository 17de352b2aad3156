"""What is lost elsewhere.

Drops with their intervals, paired or of two test sets, and who drops least. From made-up rows.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medbench import Store, stats
from medbench.report import compare, figures, leaderboard, methods_text
from medbench.report.leaderboard import robustness
from medbench.schema import Cell, PlanFile, PlannedCell, Row, fingerprint

RNG = np.random.default_rng(0)
# of each test set: the same for every method
NOISE = {"home": RNG.normal(0, 0.02, 1000), "away": RNG.normal(0, 0.03, 1000)}
ABOUT: dict[str, Any] = {
    "identity": "data 1",
    "title": "T",
    "kind": "multiclass",
    "classes": ["a", "b", "c"],
    "metric": "auc",
    "groups": "lesion",
}
DAMAGED = {"kind": "corruption", "corruption": "blur", "level": 1, "of": "test"}
ABOUTS = {
    "test": ABOUT | {"marks": ["of the test part"], "parts": {"train": [70, 60], "test": [30, 25]}},
    "isic": ABOUT
    | {
        "marks": ["SHIFT: there"],
        "parts": {"isic": [90, 80]},
        "groups": "patient",
        "shift": {"kind": "data", "data": "I", "of": "test"},
    },
    "corrupted-blur-1": ABOUT
    | {"marks": [], "parts": {"corrupted-blur-1": [30, 25]}, "shift": DAMAGED},
    "corrupted-blur-3": ABOUT
    | {"marks": [], "parts": {"corrupted-blur-3": [30, 25]}, "shift": DAMAGED | {"level": 3}},
    "corrupted-jpeg-1": ABOUT
    | {
        "marks": [],
        "parts": {"corrupted-jpeg-1": [30, 25]},
        "shift": DAMAGED | {"corruption": "jpeg"},
    },
}


def made(
    method: str, target: str, seed: int, auc: float, *, labels: str = "10%", own: float = 0.0
) -> tuple[Row, np.ndarray, PlannedCell]:
    """A row with that AUC; `own`.

    The sd of what its resamples do apart from their test set's noise.
    """
    cell = Cell("t", "T", method, "imagenet", "net", "pool", 64, 0, "linear", labels, seed, target)
    provenance = {
        "weights": f"{method} weights",
        "trained_on": [],
        "precision": "fp32",
        "target": "home",
    }
    provenance |= {} if target == "test" else {"fit": f"setting of {method}"}
    setting = f"setting of {method}" if target == "test" else f"setting of {method} on {target}"
    row = Row(
        cell,
        fingerprint(str(cell), target),
        {"auc": {"value": auc, "low": None, "high": None, "classes": 3}},
        7,
        7,
        {},
        {"seconds": 1.0},
        provenance,
    )
    noise = NOISE["away" if target == "isic" else "home"]
    resamples = auc + noise + (RNG.normal(0, own, 1000) if own else 0)
    return (
        row,
        resamples[None].astype(np.float32),
        PlannedCell(cell, row.fingerprint, 7, setting, "away" if target == "isic" else "home"),
    )


Scores = dict[tuple[str, str], tuple[float, ...]]


@pytest.fixture
def fill(tmp_path: Path) -> Callable[..., Store]:
    def fill(scores: Scores, lacking: tuple[str, str] | None = None, own: float = 0.0) -> Store:
        store = Store(tmp_path / "out")
        store.create()
        rows = [
            made(*key, seed, auc, own=own)
            for key, values in scores.items()
            for seed, auc in enumerate(values)
        ]
        store.add_plan(
            PlanFile(
                tuple(p for *_, p in rows), {f"t|T|{name}": about for name, about in ABOUTS.items()}
            )
        )
        for row, resamples, _ in rows:
            if lacking != (row.cell.method, row.cell.target):
                store.add(row, {"metrics": np.array(["auc"]), "resamples": resamples})
        return store

    return fill


SCORES: Scores = {
    ("good", "test"): (0.80, 0.81, 0.82),
    ("bad", "test"): (0.80, 0.80, 0.80),
    ("good", "isic"): (0.75, 0.76, 0.77),
    ("bad", "isic"): (0.60, 0.60, 0.60),
    ("good", "corrupted-blur-1"): (0.79, 0.80, 0.81),
    ("bad", "corrupted-blur-1"): (0.78, 0.78, 0.78),
    ("good", "corrupted-blur-3"): (0.77, 0.78, 0.79),
    ("bad", "corrupted-blur-3"): (0.72, 0.72, 0.72),
    ("good", "corrupted-jpeg-1"): (0.81, 0.82, 0.83),
    ("bad", "corrupted-jpeg-1"): (0.79, 0.79, 0.79),
}


def sample(values: np.ndarray, noise: np.ndarray, groups: int) -> stats.Sample:
    return stats.Sample(values, values[:, None] + noise, groups)


def test_two_test_sets_add_their_chance_and_share_their_seeds() -> None:
    """By hand: the variance of each mean over its groups, and what the seeds' differences leave
    beyond it."""
    a, b = np.array([0.80, 0.82, 0.84]), np.array([0.70, 0.72, 0.77])
    noise = RNG.normal(0, 0.02, (3, 1000)), RNG.normal(0, 0.05, (3, 1000))
    one, two = sample(a, noise[0], 50), sample(b, noise[1], 20)
    found = stats.across([[(1.0, one)], [(-1.0, two)]])
    assert found.value == pytest.approx(a.mean() - b.mean())
    (home, df_home), (away, df_away), *_ = found.parts
    assert (df_home, df_away) == (49, 19)
    assert home == pytest.approx(50 / 49 * noise[0].mean(0).var(ddof=1))
    assert away == pytest.approx(20 / 19 * noise[1].mean(0).var(ddof=1))
    own = sum(
        g / (g - 1) * (n.var(1, ddof=1).mean() - n.mean(0).var(ddof=1)) * 1.5
        for g, n in ((50, noise[0]), (20, noise[1]))
    )
    beyond = max((a - b).var(ddof=1) - own, 0)
    assert sum(variance for variance, _ in found.parts[2:]) == pytest.approx(beyond / 3)


def test_seeds_that_move_alike_cost_nothing() -> None:
    values = np.array([0.7, 0.8, 0.9])
    same = sample(values, NOISE["home"], 50), sample(values - 0.1, NOISE["away"], 50)
    assert len(stats.across([[(1.0, same[0])], [(-1.0, same[1])]]).parts) == 2
    opposite = sample(1.5 - values, NOISE["away"], 50)
    assert len(stats.across([[(1.0, same[0])], [(-1.0, opposite)]]).parts) == 3


def test_the_interval_of_two_sets_holds_the_truth_as_often_as_it_says() -> None:
    """Accuracy on two sets of 60 and 40 groups, drop 0.2, drawn 400 times; 95 % of 400 is 380, sd
    4.4."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        sets = []
        for n, p, sign in ((60, 0.8, 1.0), (40, 0.6, -1.0)):
            right = (rng.random(n) < p).astype(float)
            resamples = right[rng.integers(n, size=(300, n))].mean(1)
            sets.append([(sign, stats.Sample(np.array([right.mean()]), resamples[None], n))])
        low, high = stats.across(sets).interval()
        held += low <= 0.2 <= high
    assert 364 <= held <= 396


def test_one_set_is_the_contrast_it_was() -> None:
    terms = [
        (1.0, sample(np.array([0.8, 0.9]), NOISE["home"], 30)),
        (-1.0, sample(np.array([0.7, 0.75]), NOISE["away"], 30)),
    ]
    assert stats.across([terms]) == stats.linear_contrast(terms)
    with pytest.raises(ValueError, match="not the same resamples"):
        stats.across([[terms[0], (1.0, sample(np.array([0.8, 0.9]), NOISE["home"], 31))]])


def test_drops_by_hand(fill: Callable[..., Store]) -> None:
    frame = leaderboard.robustness_gaps(leaderboard.leaderboards(fill(SCORES)))
    assert list(frame.columns) == list(robustness.COLUMNS)
    at = {(line.shift, line.method): line for line in frame.itertuples(index=False)}
    assert list(dict.fromkeys(frame["shift"])) == [
        *(
            "isic",
            "corrupted-blur-1",
            "corrupted-blur-3",
            "corrupted-blur",
            "corrupted-jpeg-1",
            "corrupted",
        ),
    ]
    assert at["isic", "good"].drop == pytest.approx(0.05)
    assert at["isic", "bad"].drop == pytest.approx(0.20)
    assert at["corrupted-blur", "good"].drop == pytest.approx(np.mean([0.01, 0.03]))
    assert at["corrupted-blur", "good"].level == "mean"
    assert at["corrupted-blur-3", "bad"].level == 3
    assert at["corrupted", "bad"].drop == pytest.approx(np.mean([0.02, 0.08, 0.01]))
    assert at["corrupted-jpeg-1", "good"].drop == pytest.approx(-0.01), "a gain is a negative loss"
    assert at["corrupted-blur-1", "good"].high - at["corrupted-blur-1", "good"].low < 1e-6, (
        "the same images, the same noise: paired"
    )
    width = at["isic", "good"].high - at["isic", "good"].low
    expected = 2 * 1.99 * np.sqrt(NOISE["home"].var() + NOISE["away"].var())
    assert width == pytest.approx(expected, rel=0.05), "two sets: their variances add up"
    assert not at["isic", "good"].paired
    assert at["corrupted", "good"].paired
    assert at["isic", "good"].mark == "*"
    assert at["isic", "bad"].mark == "", (
        "the noise of both sets is shared by both methods: 0.15 apart at every resample"
    )
    assert at["isic", "bad"].to_least == pytest.approx(0.15)
    assert set(frame.status) == {"done"}


def test_two_studies_of_one_name_lose_what_each_has_at_home(tmp_path: Path) -> None:
    """Two tables called images.csv: the drops of the one were taken from the other's home."""
    stores = []
    for study, home in (("a", 0.9), ("b", 0.6)):
        store = Store(tmp_path / study)
        store.create()
        rows = [made("good", name, 0, auc) for name, auc in (("test", home), ("isic", 0.5))]
        planned = []
        for row, resamples, cell in rows:
            row = replace(row, fingerprint=fingerprint(row.fingerprint, study))
            store.add(row, {"metrics": np.array(["auc"]), "resamples": resamples})
            scored = f"{cell.target} {study}"
            planned.append(replace(cell, fingerprint=row.fingerprint, target=scored))
        plan = PlanFile(tuple(planned), {f"t|T|{one}": ABOUTS[one] for one in ("test", "isic")})
        store.add_plan(plan)
        stores.append(store)
    frame = leaderboard.robustness_gaps(leaderboard.leaderboards(*stores))
    assert frame["drop"].tolist() == pytest.approx([0.4, 0.1])


def test_what_cannot_be_told_from_the_least_says_so(fill: Callable[..., Store]) -> None:
    scores = {
        key: values if key[0] == "good" else SCORES["good", key[1]]
        for key, values in SCORES.items()
    }
    scores["bad", "isic"] = (0.745, 0.755, 0.765)
    frame = leaderboard.robustness_gaps(leaderboard.leaderboards(fill(scores, own=0.02)))
    bad = frame[(frame["shift"] == "isic") & (frame.method == "bad")].iloc[0]
    assert bad.mark == "="
    assert bad.p > 0.05


def test_calibration_that_gets_worse_is_a_loss(fill: Callable[..., Store]) -> None:
    store = fill(SCORES)
    boards = leaderboard.leaderboards(store)
    for board in boards:
        for line in board.lines:
            ece = {"value": 1 - float(line.plain["auc"][0]), "low": None, "high": None}
            rows = [replace(row, metrics={**row.metrics, "ece": ece}) for row in line.rows]
            object.__setattr__(line, "rows", rows)
            line.__dict__.pop("plain")
            line._resamples["ece"] = 1 - line.sample("auc").resamples
    frame = leaderboard.robustness_gaps(boards, "ece")
    bad = frame[(frame["shift"] == "isic") & (frame.method == "bad")].iloc[0]
    assert bad["drop"] == pytest.approx(0.20)
    assert bad.shifted > bad.in_domain


def test_missing_is_missing(fill: Callable[..., Store]) -> None:
    store = fill(SCORES, lacking=("bad", "corrupted-blur-3"))
    frame = leaderboard.robustness_gaps(leaderboard.leaderboards(store))
    missing = frame[frame.status == "missing"]
    assert set(zip(missing["shift"], missing.method, strict=True)) == {
        (name, "bad") for name in ("corrupted-blur-3", "corrupted-blur", "corrupted")
    }
    assert missing["drop"].isna().all()
    assert (frame[frame["shift"] == "corrupted-blur"].mark == "").all(), (
        "nothing drops least before all are there"
    )
    assert "| blur | 10% | bad | 0.800 | missing |" in leaderboard.shift_markdown(
        leaderboard.leaderboards(store)
    )


def test_scores_of_another_fit_are_not_compared(fill: Callable[..., Store], tmp_path: Path) -> None:
    """A newer setting at home, as after --precision bf16 without --shift."""
    store = fill(SCORES)
    row, resamples, planned = made("good", "test", 0, 0.9)
    changed = replace(planned, setting="a" * 64, fingerprint="another")
    store.add_plan(PlanFile((changed,), {"t|T|test": ABOUTS["test"]}))
    store.add(
        replace(row, fingerprint="a" * 64), {"metrics": np.array(["auc"]), "resamples": resamples}
    )
    frame = leaderboard.robustness_gaps(leaderboard.leaderboards(store))
    assert set(frame[frame.method == "good"].status) == {"missing"}
    assert set(frame[frame.method == "bad"].status) == {"done"}


def test_tables_sum_up_and_the_boards_of_damaged_images_stay_away(
    fill: Callable[..., Store], medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    store = fill(SCORES)
    assert medbench("table", str(store.folder)) == 0
    printed = capsys.readouterr().out
    assert "t (T), isic" in printed
    assert "t (T), what is lost elsewhere" in printed
    assert "all corruptions" in printed
    assert "t (T), corrupted-blur-1" not in printed
    assert medbench("shift", str(store.folder)) == 0
    printed = capsys.readouterr().out
    assert (
        "isic: other images; lesions at home and patients there are resampled apart, draws are paired."
        in printed
    )
    assert "means over levels 1, 3" in printed
    assert "jpeg 1" in printed
    assert "blur 3" not in printed
    assert medbench("shift", str(store.folder), "--each") == 0
    assert "blur 3" in capsys.readouterr().out
    text = (store.folder / "leaderboard.md").read_text()
    assert "| blur | 10% | good | 0.810 | 0.790 | +0.020 |" in text
    rows = list(csv.DictReader((store.folder / "shift.csv").open()))
    assert len(rows) == 12
    assert {row["level"] for row in rows} == {"", "1", "3", "mean"}
    assert medbench("shift", str(store.folder), "--format", "csv") == 0
    assert capsys.readouterr().out == (store.folder / "shift.csv").read_text()
    assert medbench("shift", str(store.folder), "--only", "method=good") == 0
    printed = capsys.readouterr().out
    assert "SELECTION: 1 of 2 lines (method good)" in printed and "bad" not in printed
    assert medbench("table", str(store.folder), "--rows", "method", "--cols", "task") == 0
    assert "corrupted" not in capsys.readouterr().out
    assert not any("corrupted" in line for line in compare.sentences([store], None, 0.01))


def test_results_without_shifts_say_how_to_get_them(
    fill: Callable[..., Store], medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    store = fill({key: values for key, values in SCORES.items() if key[1] == "test"})
    assert medbench("shift", str(store.folder)) == 2
    assert (
        "the task's own images alone. Next: medbench run --shift NAME or --corruptions all"
        in capsys.readouterr().err
    )
    assert medbench("shift", str(store.folder), "--format", "xml") == 2
    assert "Unknown format 'xml'" in capsys.readouterr().err
    assert medbench("table", str(store.folder)) == 0
    assert "elsewhere" not in capsys.readouterr().out
    assert not (store.folder / "shift.csv").exists()


def test_a_paper_says_what_else_was_scored(fill: Callable[..., Store]) -> None:
    store = fill(SCORES)
    boards = leaderboard.leaderboards(store)
    for board in boards:
        for line in board.lines:
            for row in line.rows:
                row.provenance["versions"] = {"medbench": "1", "torch": "2"}  # type: ignore[index]
    text = str(methods_text.methods_text(boards))
    assert "We compared encoders on 1 task" in text
    assert (
        "Models of t were also scored, unchanged, on I (90 images of 80 patients; classes a, b, c)"
        in text
    )
    assert "(blur and jpeg; levels 1 and 3 of 5; kinds by modality~\\cite{di2024})" in text
    assert "eprint = {2406.17536}" in text


def test_the_figure_has_a_panel_for_each_and_one_scale(
    fill: Callable[..., Store], tmp_path: Path
) -> None:
    boards = leaderboard.leaderboards(fill(SCORES))
    with figures.paper():
        (drawing,) = figures.KINDS["shift"](boards, None, "")
    axes = [ax for ax in drawing.figure.axes if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in axes] == ["isic", "blur", "jpeg"]
    assert len({ax.get_ylim() for ax in axes}) == 1
    blur = axes[1]
    assert [tick.get_text() for tick in blur.get_xticklabels()] == ["none", "1", "3"]
    good = blur.lines[0]
    assert good.get_ydata().tolist() == pytest.approx([0.81, 0.80, 0.78])
    assert (
        figures.draw_figures(boards, ["shift"], tmp_path / "figures", ["png"])[0].stat().st_size
        > 10_000
    )
    with pytest.raises(Exception, match="A figure of shifts needs one finished line"):
        figures.draw_figures(leaderboard.at_home(boards), ["shift"], tmp_path / "figures", ["png"])


def test_the_same_fits_scored_elsewhere_are_no_further_task(fill: Callable[..., Store]) -> None:
    found = leaderboard.standing(leaderboard.leaderboards(fill(SCORES)))
    assert [board.target for board in found] == ["test", "isic"]
    assert not any(note.kind == "rank test" for note in leaderboard.pivot(found).notes)
