"""Clinicians' numbers against scikit-learn and slow loops on made-up answers.

Thresholds by hand; the tables and what is refused.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from medbench import Store, UserError, stats
from medbench.report import clinical, leaderboard
from medbench.report.clinical import one_vs_rest, sheet_formats, tables
from medbench.report.clinical.recalibration import recalibration
from medbench.report.figures import calibration_confusion, style
from medbench.schema import Cell, Kind, PlanFile, PlannedCell, Row, fingerprint
from medbench.stats import metrics
from medbench.stats.temperature import SMALLEST

CLASSES = {
    "binary": ("no", "yes"),
    "multiclass": ("a", "b", "c"),
    "ordinal": ("0", "1", "2"),
    "multilabel": ("edema", "mass", "node"),
}
N, R = 300, 1000


def answered(
    labels: np.ndarray, kind: Kind, rng: np.random.Generator, noise: float = 0.6
) -> np.ndarray:
    """Probabilities (N, C) float32 that know something, too sure of it."""
    c = len(CLASSES[kind])
    if kind == "multilabel":
        return (
            1
            / (1 + np.exp(-8 * (np.nan_to_num(labels) - 0.5 + rng.normal(0, noise, labels.shape))))
        ).astype(np.float32)
    return softmax(8 * (np.eye(c)[labels] + rng.normal(0, noise, (len(labels), c))), axis=1).astype(
        np.float32
    )


def study(
    folder: Path,
    kind: Kind = "multiclass",
    seeds: int = 2,
    held: bool = True,
    old: bool = False,
    methods: tuple[str, ...] = ("mine",),
) -> Store:
    """300 images of 150 patients, two each, with age, sex, a site and a device of one value.

    A held-out part of 200.
    """
    rng, store = np.random.default_rng(4), Store(folder)
    store.create()
    c = len(CLASSES[kind])

    def drawn(n: int) -> np.ndarray:
        if kind != "multilabel":
            return np.repeat(rng.choice(c, n // 2, p=[0.6, 0.4] if c == 2 else [0.5, 0.3, 0.2]), 2)
        labels = np.repeat((rng.random((n // 2, c)) < [0.4, 0.3, 0.2]).astype(float), 2, 0)
        labels[rng.random((n, c)) < 0.05] = np.nan
        return labels

    labels, patients = drawn(N), np.repeat(np.arange(N // 2), 2)
    groups = np.array([f"patient {p}" for p in patients])
    meta = {
        "age": np.where(patients % 15 == 0, np.nan, 18 + patients % 70).astype(float),
        "sex": np.array(["male", "female", ""])[np.where(patients % 20 == 0, 2, patients % 2)],
        "site": np.array(["north", "south", "tiny"])[np.where(patients < 4, 2, patients % 2)],
        "device": np.full(N, "x"),
    }
    extra = {} if old else {"bags": groups, "meta": meta}
    store.add_target("target", np.arange(N).astype(str), labels, groups, **extra)  # type: ignore[arg-type]
    weights, planned = stats.group_weights(groups, R), []
    for method in methods:
        for budget, n, seed in [("10%", 20, s) for s in range(seeds)] + [("100%", 200, 0)]:
            p = answered(labels, kind, rng, 0.6 if method == "mine" else 2.0)
            decided = (p >= 0.5).astype(int) if kind == "multilabel" else p.argmax(1)
            resampled = metrics.score(labels, p, decided, kind, weights).values
            plain = {
                k: {"value": v, "low": None, "high": None}
                for k, v in metrics.score(labels, p, decided, kind).values.items()
            }
            plain["auc"]["classes"] = c
            cell = Cell(
                "xray", "T", method, "imagenet", "net", "pool", 64, 0, "linear", budget, seed
            )
            provenance = {"weights": "w", "trained_on": [], "precision": "fp32", "target": "target"}
            row = Row(cell, fingerprint(str(cell)), plain, n, n, {}, {"seconds": 1.0}, provenance)
            arrays = {
                "probabilities": p,
                "decisions": decided,
                "metrics": np.array(list(resampled)),
            }
            arrays["resamples"] = np.stack(list(resampled.values())).astype(np.float32)
            if held:
                own = drawn(200)
                arrays |= {
                    "held_out_index": np.arange(200),
                    "held_out_labels": own,
                    "held_out_probabilities": answered(own, kind, rng),
                }
            store.add(row, arrays)
            planned.append(PlannedCell(cell, row.fingerprint, n, "s", "target"))
    about = {
        "identity": "i",
        "kind": kind,
        "classes": list(CLASSES[kind]),
        "metric": "auc",
        "groups": "patient",
        "marks": [],
        "title": "X",
    }
    store.add_plan(
        PlanFile(
            tuple(planned),
            {"xray|T|test": {**about, "parts": {"train": [200, 100], "test": [N, N // 2]}}},
        )
    )
    return store


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return study(tmp_path_factory.mktemp("single"), seeds=1)


def line_of(store: Store, budget: str = "10%") -> leaderboard.LeaderboardEntry:
    (board,) = leaderboard.leaderboards(store)
    return board.at(budget)[0]


@pytest.mark.parametrize(
    ("scores", "positive", "wanted", "above", "least"),
    [
        # ten negatives 0..9, five positives 5..9: spec. 0.8 leaves two negatives above 7; sens. 0.8
        # asks for four of five positives
        ([*range(10), 5, 6, 7, 8, 9], [False] * 10 + [True] * 5, 0.8, 7.0, 6.0),
        # two positives cannot place 90 %
        ([*range(10), 20, 30], [False] * 10 + [True] * 2, 0.9, 8.0, np.nan),
        # nine negatives: one in ten lies beyond all of them
        ([*range(9), 20], [False] * 9 + [True], 0.9, np.nan, np.nan),
        # ties fall on the negative side, and with the positives
        ([1, 1, 1, 1, 2, 2, 2, 3], [False] * 4 + [True] * 4, 0.5, 1.0, 2.0),
    ],
)
def test_thresholds_by_hand(
    scores: list[float], positive: list[bool], wanted: float, above: float, least: float
) -> None:
    s, y = np.array(scores, float), np.array(positive)
    np.testing.assert_equal(one_vs_rest.above_for_specificity(y, s, wanted), above)
    np.testing.assert_equal(one_vs_rest.least_for_sensitivity(y, s, wanted), least)


def test_thresholds_are_the_best_that_scikit_learns_curve_allows() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        y, s = rng.random(80) < 0.4, np.round(rng.normal(size=80), 1)
        s[y] += 1
        fpr, tpr, _ = sk.roc_curve(y, s, drop_intermediate=False)
        t = one_vs_rest.above_for_specificity(y, s, 0.85)
        assert np.isclose((s > t)[y].mean(), tpr[1 - fpr >= 0.85 - 1e-12].max())
        t = one_vs_rest.least_for_sensitivity(y, s, 0.85)
        assert np.isclose((s < t)[~y].mean(), (1 - fpr)[tpr >= 0.85 - 1e-12].max())


def test_one_class_is_scikit_learns_with_and_without_weights() -> None:
    rng = np.random.default_rng(1)
    y, s = rng.random(90) < 0.3, np.round(rng.random(90), 1)  # ties
    decided, weights = s > 0.6, rng.integers(0, 4, (90, 30)).astype(np.uint8)
    found = one_vs_rest.agreement(y, decided, weights)
    found["auc"], found["ap"] = (
        metrics.auc(y, s, weights),
        one_vs_rest.average_precision(y, s, weights),
    )
    for r in range(30):
        w = weights[:, r]
        expected = {
            "recall": sk.recall_score(y, decided, sample_weight=w),
            "precision": sk.precision_score(y, decided, sample_weight=w),
            "specificity": sk.recall_score(y, decided, pos_label=False, sample_weight=w),
            "f1": sk.f1_score(y, decided, sample_weight=w),
            "prevalence": np.average(y, weights=w),
            "auc": sk.roc_auc_score(y, s, sample_weight=w),
            "ap": sk.average_precision_score(y, s, sample_weight=w),
        }
        for name, value in expected.items():
            assert found[name][r] == pytest.approx(value, abs=1e-9), name
    nobody = np.zeros((90, 1), np.uint8)
    assert (
        np.isnan(one_vs_rest.average_precision(y, s, nobody)).all()
        and np.isnan(one_vs_rest.agreement(y, decided, nobody)["recall"]).all()
    )


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_per_class_is_a_slow_loop_over_draws_and_resamples(kind: Kind, tmp_path: Path) -> None:
    store = study(tmp_path, kind)
    line = line_of(store)
    frame = clinical.per_class(line)
    assert list(frame.columns) == list(clinical.CLASS_COLUMNS)
    assert list(dict.fromkeys(frame["class"])) == list(
        CLASSES[kind][1:] if kind == "binary" else CLASSES[kind]
    )
    found = frame.set_index(["class", "metric"])
    target, c = store.target("target"), 1
    labels, groups = target["labels"], target["groups"]
    positive = labels == c if labels.ndim == 1 else labels[:, c] == 1
    known = np.ones(N, bool) if labels.ndim == 1 else ~np.isnan(labels[:, c])
    weights = stats.group_weights(groups)
    plain: dict[str, list[float]] = {}
    resamples: dict[str, list[list[float]]] = {}
    for row in line.rows:
        scores = store.scores(row)
        p = scores["probabilities"][:, c].astype(float)
        decided = scores["decisions"] == c if labels.ndim == 1 else scores["decisions"][:, c] == 1
        own = (
            scores["held_out_labels"] == c if labels.ndim == 1 else scores["held_out_labels"][:, c]
        )
        there = ~np.isnan(own.astype(float))
        t = one_vs_rest.above_for_specificity(
            own[there] == 1, scores["held_out_probabilities"][there, c].astype(float), 0.9
        )
        for name, decision in (
            ("recall", decided),
            ("sensitivity_at_specificity", p > t),
            ("auc", None),
        ):
            values = []
            for w in np.column_stack([np.ones(N), weights[:, :40]]).T:
                if decision is None:
                    values.append(
                        sk.roc_auc_score(positive[known], p[known], sample_weight=w[known])
                    )
                else:
                    values.append(
                        sk.recall_score(positive[known], decision[known], sample_weight=w[known])
                    )
            plain.setdefault(name, []).append(values[0])
            resamples.setdefault(name, []).append(values[1:])
    answers = clinical.read_predictions(line)
    few = clinical.per_class(replace(answers, weights=answers.weights[:, :41])).set_index(
        ["class", "metric"]
    )
    for name in plain:
        sides = [
            len(np.unique(groups[known][side])) for side in (~positive[known], positive[known])
        ]
        share = stats.reference("accuracy", sides[1:], sides[1])
        about = stats.reference("auc", sides, N // 2, binary=True) if name == "auc" else share
        s = stats.mean_over_seeds(
            stats.Sample(np.array(plain[name]), np.array(resamples[name]), N // 2, reference=about)
        )
        got = few.loc[(CLASSES[kind][c], name)]
        np.testing.assert_allclose(
            [got["mean"], got["sd"], got["low"], got["high"]],
            [s.mean, s.sd, max(s.low, 0), min(s.high, 1)],
            atol=1e-9,
        )
    assert (
        found.loc[(CLASSES[kind][c], "recall"), "n"] == positive[known].sum()
        and found.loc[(CLASSES[kind][c], "recall"), "of"] == known.sum()
    )
    if kind == "binary":
        s = line.summary("auc")
        got = found.loc[("yes", "auc")]
        np.testing.assert_allclose(
            [got["mean"], got["low"], got["high"]], [s.mean, s.low, s.high], atol=1e-6
        )


def test_all_found_is_no_proof_that_all_will_be(tmp_path: Path) -> None:
    """A class of four patients, all found and no other taken for it.

    Resamples say 1 and nothing else. Ends of scipy.stats.binomtest(4, 4).proportion_ci().
    """
    answers = clinical.read_predictions(line_of(study(tmp_path, "binary", seeds=1)))
    four = np.isin(answers.groups, np.unique(answers.groups)[:4])
    p = np.stack([1.0 - four, four], axis=1)
    perfect = replace(
        answers,
        labels=four.astype(int),
        draws=[replace(answers.draws[0], probabilities=p, decisions=four.astype(int))],
    )
    found = clinical.per_class(perfect).set_index("metric")
    for metric in ("recall", "precision"):
        assert found.loc[metric, ["mean", "low", "high"]].tolist() == pytest.approx(
            [1.0, 0.397635364383525, 1.0]
        )
    assert 0.9 < found.loc["specificity", "low"] < 1.0
    assert found.loc["auc", "low"] == pytest.approx(0.397635364383525), (
        "an AUC rests on the rarer class"
    )
    assert np.isnan(found.loc["f1", "low"])


def test_nothing_held_out_leaves_thresholds_and_temperature_undefined(tmp_path: Path) -> None:
    line = line_of(study(tmp_path, held=False))
    frame = clinical.per_class(line).set_index("metric")
    for metric in (
        "sensitivity_at_specificity",
        "achieved_specificity",
        "specificity_at_sensitivity",
        "achieved_sensitivity",
    ):
        assert frame.loc[metric, ["mean", "low", "high"]].isna().all(axis=None)
    assert frame.loc["auc", "mean"].notna().all()
    found = clinical.calibration(line).set_index(["state", "metric"])
    assert np.isnan(found.loc[("after", "temperature"), "mean"]) and np.isnan(
        found.loc[("after", "ece"), "mean"]
    )
    assert np.isfinite(found.loc[("before", "ece"), "mean"])


def test_labels_of_the_scored_set_move_no_threshold_and_no_temperature(tmp_path: Path) -> None:
    answers = clinical.read_predictions(line_of(study(tmp_path, "binary")))
    other = replace(answers, labels=1 - answers.labels)
    for draw, same in zip(answers.draws, other.draws, strict=True):
        assert clinical.fit_temperature(draw, "binary") == clinical.fit_temperature(same, "binary")
    one, two = (clinical.per_class(a).set_index("metric")["mean"] for a in (answers, other))
    assert two["achieved_sensitivity"] == pytest.approx(1 - one["specificity_at_sensitivity"]), (
        "the same threshold, the labels turned round"
    )


def test_a_case_is_the_mean_of_its_images(tmp_path: Path) -> None:
    line = line_of(study(tmp_path))
    answers = clinical.read_predictions(line)
    frame = clinical.cases(line).set_index("metric")
    assert (frame.loc["auc", "images"], frame.loc["auc", "cases"]) == (N, N // 2)
    aucs = []
    for draw in answers.draws:
        mean = draw.probabilities.reshape(-1, 2, 3).mean(1)
        aucs.append(
            sk.roc_auc_score(
                answers.labels[::2], mean / mean.sum(1, keepdims=True), multi_class="ovr"
            )
        )
    assert frame.loc["auc", "case"] == pytest.approx(np.mean(aucs), abs=1e-9)
    s = line.summary("auc")
    np.testing.assert_allclose(
        frame.loc["auc", ["image", "image_low", "image_high"]].astype(float),
        [s.mean, s.low, s.high],
        atol=1e-6,
    )
    assert frame.loc["auc", "gain"] == pytest.approx(
        frame.loc["auc", "case"] - frame.loc["auc", "image"]
    )
    assert frame.loc["auc", "gain"] > 0.02, "two views of a patient know more than one"
    by_case = clinical.per_class(line, unit="case").set_index(["class", "metric"])
    assert by_case.loc[("a", "recall"), "of"] == N // 2


def test_bands() -> None:
    ages = clinical.bands(
        "age_approx", np.array([0, 19, 20, 39.5, 40, 79, 80, 101, np.nan, np.nan])
    )
    assert ages is not None and ages.tolist() == [
        "< 20",
        "< 20",
        "20-39",
        "20-39",
        "40-59",
        "60-79",
        "80+",
        "80+",
        "unknown",
        "unknown",
    ]
    few = clinical.bands("fitzpatrick", np.array([1.0, 6, 2, 2, np.nan]))
    assert few is not None and few.tolist() == ["1", "6", "2", "2", "unknown"]
    quarters = clinical.bands("weight", np.arange(8) * 10.0)
    assert quarters is not None and dict.fromkeys(quarters.tolist()) == dict.fromkeys(
        ["0 to 10", "20 to 30", "40 to 50", "60 to 70"]
    )
    assert clinical.bands("percentage", np.arange(8) * 10.0) is not None and "20-39" not in str(
        clinical.bands("percentage", np.arange(8) * 10.0)
    )
    text = clinical.bands("sex", np.array(["m", "", "NaN", "f", "unk", "Unknown"]))
    assert text is not None and text.tolist() == [
        "m",
        "unknown",
        "unknown",
        "f",
        "unknown",
        "unknown",
    ]
    assert clinical.bands("device", np.array(["x", "x"])) is None
    assert clinical.bands("ward", np.arange(40).astype(str)) is None, "more than 20 words"
    assert clinical.bands("nothing", np.full(4, np.nan)) is None


def test_subgroups_against_a_slow_loop_and_what_is_too_small(tmp_path: Path) -> None:
    store = study(tmp_path, "binary")
    line = line_of(store)
    frame = clinical.subgroups(line, "auc")
    assert list(frame.columns) == list(clinical.SUBGROUP_COLUMNS)
    assert list(dict.fromkeys(frame["column"])) == ["age", "sex", "site"], (
        "a device of one value makes none"
    )
    found = frame.set_index(["column", "subgroup"])
    assert found.loc[("site", "tiny"), "note"].startswith("too small to say: 4 patients")
    assert np.isnan(found.loc[("site", "tiny"), "value"]) and np.isnan(
        found.loc[("site", "tiny"), "p"]
    )
    target = store.target("target")
    male = target["meta_sex"] == "male"
    got = found.loc[("sex", "male")]
    assert (got["images"], got["groups"]) == (male.sum(), len(set(target["groups"][male])))
    weights = stats.group_weights(target["groups"])
    parts = []
    for which in (male, ~male):
        plain, resamples = [], []
        for row in line.rows:
            p = store.scores(row)["probabilities"][:, 1].astype(float)
            plain.append(sk.roc_auc_score(target["labels"][which], p[which]))
            resamples.append(metrics.auc(target["labels"][which] == 1, p[which], weights[which]))
        sides = [len(set(target["groups"][which & (target["labels"] == c)])) for c in (0, 1)]
        parts.append(
            (
                np.array(plain),
                np.array(resamples),
                stats.reference("auc", sides, len(set(target["groups"][which])), binary=True),
            )
        )
    smaller = min(len(set(target["groups"][which])) for which in (male, ~male))
    gap = stats.paired_difference(
        *(stats.Sample(plain, of, smaller, reference=known) for plain, of, known in parts)
    )
    np.testing.assert_allclose(got["difference"], gap.value, atol=1e-9)
    np.testing.assert_allclose(
        [got["difference_low"], got["difference_high"]], gap.interval(), atol=1e-9
    )
    assert got["value"] == pytest.approx(parts[0][0].mean())
    raw = clinical.subgroups(line, "auc", by="sex").set_index("subgroup")["p"]
    assert (frame["p"].dropna() >= 0).all() and frame["p"].max() <= 1 and raw["male"] <= got["p"], (
        "corrected over fewer"
    )
    answers = clinical.read_predictions(line)
    two = replace(
        answers, meta={"sex": np.where(male, "male", "female"), "site": answers.meta["site"]}
    )
    alone = clinical.subgroups(two, "auc", by="sex").set_index("subgroup")["p"]
    assert alone["male"] == alone["female"] == pytest.approx(gap.p(), rel=1e-6), (
        "one comparison, seen from both sides"
    )
    both = clinical.subgroups(two, "auc").set_index(["column", "subgroup"])["p"]
    assert both["sex", "male"] == both["sex", "female"] >= alone["male"]
    worst = frame[frame["worst"]].set_index("column")["subgroup"]
    for column, part in frame.groupby("column"):
        assert worst[column] == part.loc[part["difference"].idxmin(), "subgroup"]


def test_the_worst_subgroup_of_a_metric_that_is_better_low_has_the_largest_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = line_of(study(tmp_path, "binary"))
    turned = replace(metrics.METRICS["accuracy"], higher_is_better=False)
    best = clinical.subgroups(line, "accuracy").query("worst").set_index("column")["difference"]
    monkeypatch.setitem(metrics.METRICS, "accuracy", turned)
    worst = clinical.subgroups(line, "accuracy").query("worst").set_index("column")["difference"]
    assert (best["age"] < 0 < worst["age"]) and (best["sex"] < 0 < worst["sex"])


def test_an_interval_that_is_undefined_has_a_reason(tmp_path: Path) -> None:
    """Nobody with an error: each score has an exact interval, but no resample shows what chance
    could have done to their difference."""
    answers = clinical.read_predictions(line_of(study(tmp_path)))
    faultless = replace(
        answers,
        draws=[replace(draw, probabilities=np.eye(3)[answers.labels]) for draw in answers.draws],
    )
    for given, undefined in ((answers, False), (faultless, True)):
        [sheet] = tables._subgroups(given, "auc", clinical.subgroups(given, "auc", by="sex"))
        assert any("[undefined]" in cell for row in sheet.body for cell in row) == undefined
        assert ("[undefined]: every resample gives the same number" in sheet.notes[0]) == undefined


def test_subgroups_of_several_classes_are_compared_on_the_same_classes(tmp_path: Path) -> None:
    answers = clinical.read_predictions(line_of(study(tmp_path)))
    # men without class c
    labels = np.where((answers.meta["sex"] == "male") & (answers.labels == 2), 0, answers.labels)
    frame = clinical.subgroups(replace(answers, labels=labels), "auc", by="sex").set_index(
        "subgroup"
    )
    assert frame.loc["male", "classes"] == 2
    male = answers.meta["sex"] == "male"
    expected = [
        np.mean([sk.roc_auc_score(labels[male] == c, d.probabilities[male, c]) for c in (0, 1)])
        for d in answers.draws
    ]
    assert frame.loc["male", "value"] == pytest.approx(np.mean(expected), abs=1e-9)
    for metric in ("accuracy", "balanced_accuracy", "f1", "kappa", "ece"):
        assert np.isfinite(
            clinical.subgroups(answers, metric, by="sex")["value"].astype(float)[:2]
        ).all()
    whole = (
        clinical.subgroups(answers, "balanced_accuracy", by="sex")
        .set_index("subgroup")
        .loc["male", "value"]
    )
    assert whole == pytest.approx(
        np.mean(
            [
                sk.balanced_accuracy_score(answers.labels[male], d.decisions[male])
                for d in answers.draws
            ]
        ),
        abs=1e-9,
    )
    whole = clinical.subgroups(answers, "f1", by="sex").set_index("subgroup").loc["male", "value"]
    assert whole == pytest.approx(
        np.mean(
            [
                sk.f1_score(answers.labels[male], d.decisions[male], average="macro")
                for d in answers.draws
            ]
        ),
        abs=1e-9,
    )


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_calibration_is_scikit_learns_and_the_temperature_is_the_best_on_what_was_held_out(
    kind: Kind, tmp_path: Path
) -> None:
    line = line_of(study(tmp_path, kind))
    answers = clinical.read_predictions(line)
    found = clinical.calibration(line).set_index(["state", "metric"])
    briers, losses, temperatures = [], [], []
    for draw in answers.draws:
        p, labels = draw.probabilities, answers.labels
        clipped = np.clip(p, SMALLEST, 1 - SMALLEST)
        if kind == "multilabel":
            known = ~np.isnan(labels)
            briers.append(sk.brier_score_loss(labels[known], p[known]))
            losses.append(sk.log_loss(labels[known], clipped[known]))
        else:
            briers.append(
                sk.brier_score_loss(labels, p[:, 1])
                if kind == "binary"
                else ((p - np.eye(3)[labels]) ** 2).sum(1).mean()
            )
            losses.append(-np.log(clipped[np.arange(N), labels]).mean())
            assert losses[-1] == pytest.approx(
                sk.log_loss(labels, p / p.sum(1, keepdims=True)), abs=1e-6
            )
        assert draw.held is not None and draw.held_labels is not None
        held, own = draw.held, draw.held_labels
        t = clinical.fit_temperature(draw, kind)
        temperatures.append(t)

        def loss(t: float, held: np.ndarray = held, own: np.ndarray = own) -> float:
            q = clinical.tempered(held, t, kind)
            if kind == "multilabel":
                return float(sk.log_loss(own[~np.isnan(own)], q[~np.isnan(own)]))
            return float(-np.log(q[np.arange(len(own)), own]).mean())

        assert loss(t) <= min(loss(t * 1.02), loss(t / 1.02))
        assert loss(1.0) > loss(t)
    assert found.loc[("before", "brier"), "mean"] == pytest.approx(np.mean(briers), abs=1e-9)
    assert found.loc[("before", "log_loss"), "mean"] == pytest.approx(np.mean(losses), abs=1e-9)
    assert found.loc[("after", "temperature"), "mean"] == pytest.approx(np.mean(temperatures))
    s = line.summary("ece")
    np.testing.assert_allclose(
        found.loc[("before", "ece"), ["mean", "low", "high"]].astype(float),
        [s.mean, s.low, s.high],
        atol=1e-6,
    )
    assert found.loc[("after", "log_loss"), "mean"] < found.loc[("before", "log_loss"), "mean"], (
        "the answers are too sure of themselves"
    )
    change = found.loc[("after", "brier"), "mean"] - found.loc[("before", "brier"), "mean"]
    assert found.loc[("change", "brier"), "mean"] == pytest.approx(change)
    assert found.loc[("change", "brier"), "low"] < change < found.loc[("change", "brier"), "high"]
    assert (
        ("before", "slope") in found.index
        if kind == "binary"
        else ("before", "slope") not in found.index
    )


@pytest.mark.parametrize("several", [False, True])
def test_the_ece_of_right_probabilities(several: bool) -> None:
    """Worlds in which the probabilities are right, scored by the leaderboard's own ECE.

    Their mean is what is stated.
    """
    rng = np.random.default_rng(0)
    p = rng.beta(2, 2, (120, 3)) if several else rng.dirichlet(np.ones(3), 120)
    found = []
    for _ in range(300):
        labels = (
            (rng.random(p.shape) < p).astype(float)
            if several
            else (p.cumsum(1) > rng.random((120, 1))).argmax(1)
        )
        decided = (p > 0.5).astype(int) if several else p.argmax(1)
        found.append(
            metrics.score(labels, p, decided, "multilabel" if several else "multiclass").values[
                "ece"
            ]
        )
    known = np.zeros_like(p) if several else np.zeros(120, int)
    assert clinical.ece_if_calibrated(known, p) == pytest.approx(np.mean(found), rel=0.06)
    assert np.mean(found) > 0.04


def test_parts_of_unequal_size_are_not_compared_by_ece(tmp_path: Path) -> None:
    line = line_of(study(tmp_path, "binary"))
    frame = clinical.subgroups(line, "ece", by="sex")
    assert (
        frame.loc[frame["note"] == "", "value"].notna().all()
        and frame[["difference", "p"]].isna().all(axis=None)
        and not frame["worst"].any()
    )
    gains = clinical.cases(line).set_index("metric")["gain"]
    assert np.isnan(gains["ece"]) and np.isfinite(gains["auc"])


def test_tempering_keeps_order_decisions_and_absent_classes() -> None:
    p = np.array([[0.7, 0.3, 0.0], [0.2, 0.8, 0.0], [1.0, 0.0, 0.0]])
    q = clinical.tempered(p, 2.0, "multiclass")
    assert (q[:, 2] == 0).all() and np.allclose(q.sum(1), 1) and (q.argmax(1) == p.argmax(1)).all()
    np.testing.assert_allclose(q[0, :2], np.sqrt([0.7, 0.3]) / np.sqrt([0.7, 0.3]).sum())
    np.testing.assert_allclose(clinical.tempered(p, 1.0, "multiclass"), p, atol=1e-6)
    r = clinical.tempered(np.array([[0.9, 0.2]]), 3.0, "multilabel")
    np.testing.assert_allclose(np.log(r / (1 - r)), np.log([[9, 0.25]]) / 3)


def test_the_recalibration_is_scikit_learns_on_every_resample_and_undefined_where_classes_part() -> (
    None
):
    rng = np.random.default_rng(2)
    z = rng.normal(0, 2, 150)
    y = rng.random(150) < 1 / (1 + np.exp(-0.5 * z + 0.7))
    weights = np.column_stack([np.ones(150), rng.integers(0, 3, (150, 60))])
    slope, intercept = recalibration(z, y, weights)
    for r in (0, 1, 59, 60):
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
            z[:, None], y, sample_weight=weights[:, r]
        )
        np.testing.assert_allclose(
            [slope[r], intercept[r]], [model.coef_[0, 0], model.intercept_[0]], atol=1e-4
        )
    slope, _ = recalibration(z, z > 0, weights)
    assert np.isnan(slope).all()
    assert np.isnan(recalibration(z, np.zeros(150, bool), weights)[0]).all()


def test_older_folders_have_neither_cases_nor_subgroups(tmp_path: Path) -> None:
    line = line_of(study(tmp_path, held=False, old=True))
    assert clinical.cases(line).empty and clinical.subgroups(line).empty
    with pytest.raises(UserError, match="no cases"):
        clinical.per_class(line, unit="case")
    with pytest.raises(UserError, match="No column 'sex' was saved"):
        clinical.subgroups(line, by="sex")


def test_the_tables_fit_a_terminal_and_every_format_says_the_same(
    tmp_path: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    store = study(tmp_path / "out", methods=("mine", "blunt"))
    assert (
        medbench("clinical", str(store.folder), "--labels", "10", "--out", str(tmp_path / "t.csv"))
        == 0
    )
    records = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text())))
    auc = next(r for r in records if r["class"] == "a" and r["metric"] == "auc")
    frame = clinical.per_class(line_of(store)).set_index(["class", "metric"])
    assert float(auc["mean"]) == pytest.approx(frame.loc[("a", "auc"), "mean"])
    assert auc["line"] == "xray (T), test: mine linear, 10% labels, 2 draws", (
        "the best line is taken and named"
    )
    assert {r["table"] for r in records} >= {
        "Each class, as decided",
        "A case beside an image",
        "AUC by age",
        "Calibration",
    }
    for form, needs in (("markdown", "| class | images |"), ("latex", "\\toprule")):
        assert (
            medbench(
                "clinical", str(store.folder), "--labels", "10", "--by", "sex", "--format", form
            )
            == 0
        )
        text = capsys.readouterr().out
        assert needs in text and f"{frame.loc[('a', 'auc'), 'mean']:.2f} [" in text
        assert "patient 1" not in text, "no patient's name"
        assert form != "latex" or not re.search(r"[ \[]-\d", text), "a minus, not a hyphen"
    (board,) = leaderboard.leaderboards(store)
    made = tables.sheets(
        board, line_of(store), metric="auc", by=None, specificity=0.9, sensitivity=0.9
    )
    from rich.console import Console

    console = Console(width=120, file=io.StringIO())
    for shown in sheet_formats.clinical_terminal("t", made):
        if not isinstance(shown, str):
            assert console.measure(shown).maximum <= 120, shown.title
    assert medbench("clinical", str(store.folder), "--by", "sex") == 0
    assert "100% labels, one draw" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--method", "mein"],
            "No line with method 'mein' is in these results. Allowed: mine. Did you mean 'mine'?",
        ),
        (
            ["--protocol", "svm"],
            "No line with protocol 'svm' is in these results. Allowed: linear.",
        ),
        (["--labels", "5"], "No line with labels '5%' is in these results. Allowed: 10%, 100%."),
        (["--labels", "many"], "Label budget 'many' is not understood."),
        (
            ["--by", "sexx"],
            "No column 'sexx' was saved with these results. Allowed: age, sex, site. Did you mean 'sex'?",
        ),
        (
            ["--by", "device"],
            "Column 'device' makes no subgroups: it has one value, or more than 20 in words. Allowed: age, sex, site.",
        ),
        (["--specificity", "1"], "A specificity lies between 0 and 1, both excluded; given 1."),
        (["--sensitivity", "90"], "A sensitivity lies between 0 and 1, both excluded; given 90."),
        (["--metric", "acc"], "Unknown metric 'acc'."),
        (["--format", "html"], "Unknown format 'html'. Allowed: terminal, markdown, csv, latex."),
        (["--on", "isic2019"], "Nothing was scored on 'isic2019' here. Allowed: test."),
        (
            ["--out", "/dev/null/x.md"],
            "/dev/null/x.md cannot be written: /dev/null: Not a directory.",
        ),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(
    arguments: list[str],
    message: str,
    single: Store,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert medbench("clinical", str(single.folder), *arguments) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"medbench: {message}") and "\n" not in said


def test_unfinished_and_lost_results_are_refused(
    tmp_path: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    store = study(tmp_path / "out")
    assert medbench("clinical", str(tmp_path)) == 2
    assert "is not a results folder" in capsys.readouterr().err
    (store.folder / "targets" / "target.npz").unlink()
    assert medbench("clinical", str(store.folder)) == 2
    assert (
        "holds no predictions of single images (it has no targets/target.npz)"
        in capsys.readouterr().err
    )
    for file in (store.folder / "scores").iterdir():
        file.unlink()
    assert medbench("clinical", str(store.folder)) == 2
    assert "No finished line" in capsys.readouterr().err
    with pytest.raises(UserError, match="not finished"):
        clinical.read_predictions(line_of(store))


def test_reliability_is_drawn_before_and_after_the_temperature(tmp_path: Path) -> None:
    store = study(tmp_path, "multiclass", seeds=1, methods=("mine", "blunt"))
    boards = leaderboard.leaderboards(store)
    with style.paper():
        (drawing,) = calibration_confusion.reliability(boards, None, "")
    before, after = drawing.figure.axes
    assert before.get_title(loc="left").endswith("as given") and after.get_title(
        loc="left"
    ).endswith("temperature scaled")
    assert len(before.lines) == len(after.lines) == 3, "the diagonal and two methods"
    answers = clinical.read_predictions(line_of(store, "100%"))
    p = clinical.tempered(
        answers.draws[0].probabilities,
        clinical.fit_temperature(answers.draws[0], "multiclass"),
        "multiclass",
    )
    top = p.max(1) > 14 / 15
    drawn = after.lines[1].get_xydata()[-1]
    assert drawn == pytest.approx(
        (p.max(1)[top].mean(), (p.argmax(1) == answers.labels)[top].mean())
    )
    with style.paper():
        (drawing,) = calibration_confusion.reliability(
            leaderboard.leaderboards(study(tmp_path / "old", held=False)), None, ""
        )
    assert len(drawing.figure.axes) == 1, "nothing was held out: as it was"
