"""check over rows alone.

Every status, the tolerance, reports that cannot be broken out of, and what is refused.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.results import fill, make
from trees import planted

from medbench import Store
from medbench.report import check
from medbench.report.check.tolerance import decision_step
from medbench.schema import Cell, Kind, Row, UserError, with_checksum
from medbench.stats import metrics
from medbench.stats.changed_labels import label_marks

Medbench = Callable[..., int]


def row(seed: int = 0, auc: float | None = 0.8, **more: Any) -> Row:
    """A row of 100 images, 10 of the rarest of 3 classes."""
    cell = Cell(
        "derm",
        "phantom",
        more.pop("method", "random"),
        "none",
        "net",
        more.pop("readout", "pool"),
        64,
        0,
        "linear",
        "10%",
        seed,
    )
    metrics = {
        "accuracy": {"value": 0.7, "low": 0.6, "high": 0.8},
        "auc": {
            "value": auc,
            "low": None if auc is None else auc - 0.05,
            "high": None if auc is None else auc + 0.05,
        },
        "ece": {"value": 0.1, "low": 0.05, "high": 0.2},
    }
    part = {
        "images": 100,
        "classes": [10, 30, 60],
        "ids": "a",
        "content": "b",
        "labels": "c",
        "groups": "d",
    }
    sketched = [1.0, *[0.5] * 8]
    provenance = {
        "data_sha256": "x",
        "parts": {"train": part, "test": part, "all": part, "blur": {"ids": "a", "content": "b"}},
        "identity": {
            "code": [1] * 7,
            "task": "t",
            "method": [1, "m"],
            "encoder": {"readout": "pool", "mean": [0.5]},
            "protocol": [2, "p"],
        },
        "weights": "w",
        "weights_sha256": "w1",
        "pretraining": [],
        "subset_sha256": "s",
        "subset_classes": {"a": 3, "b": 7},
        "precision": "fp32",
        "trained_on": [],
        "target": "t",
        "features": [
            {
                "device": "cpu",
                "device_kind": "cpu",
                "checks": {
                    "weights": "l",
                    "pixels": sketched,
                    "input": sketched,
                    "features": sketched,
                },
            }
        ],
        "scores": {"probabilities": sketched, "decisions": "d"},
        "device": "cpu (x86_64, 1 threads)",
        "device_kind": "cpu",
        "vector_units": "AVX2",
        "versions": {"torch": "2.15.0"},
        "commit": "abc",
    }
    provenance = json.loads(json.dumps(provenance))  # the parts share what they hold
    for path, value in more.pop("provenance", {}).items():
        place: Any = provenance
        *inner, last = path.split(".")
        for name in inner:
            place = place[int(name) if isinstance(place, list) else name]
        place[last] = value
    made = Row(
        cell,
        more.pop("fingerprint", f"f{seed}"),
        metrics,
        10,
        10,
        {},
        {"seconds": more.pop("seconds", 1.0)},
        provenance,
    )
    assert not more
    return made


def given(*rows: Row, failures: dict[Cell, str] | None = None) -> check.Given:
    return check.Given(
        Path("results/smoke/rows.jsonl"),
        {r.cell: r for r in rows},
        {r.cell: i for i, r in enumerate(rows, 1)},
        failures or {},
    )


def compared(
    then: Row, now: Row, repeatability: check.Repeatability = check.Repeatability()
) -> check.CellFinding:
    (finding,) = check.compare_rows(given(then), given(now), repeatability).findings
    return finding


def with_auc(row: Row, value: float, **bounds: float) -> Row:
    return replace(
        row, metrics={**row.metrics, "auc": {**row.metrics["auc"], "value": value, **bounds}}
    )


def test_every_status_and_their_order() -> None:
    same, worse, better, gone, other = (row(seed) for seed in range(5))
    now = given(
        same, with_auc(worse, 0.7), with_auc(better, 0.9), replace(other, n_labels=11), row(9)
    )
    comparison = check.compare_rows(
        given(same, worse, better, gone, other), now, check.Repeatability()
    )
    assert [finding.status for finding in comparison.findings] == list(check.STATUSES)
    assert comparison.red
    assert [comparison.fails(finding) for finding in comparison.findings] == [True] * 5 + [False]


def test_new_cells_fail_unless_they_are_allowed_and_an_edited_line_is_told_by_its_number(
    tmp_path: Path,
) -> None:
    """A reference that lost rows guards half of what it did."""
    new = (given(row(1)), given(row(1), row(9)), check.Repeatability())
    assert check.compare_rows(*new).red
    comparison = check.compare_rows(*new, allow_new=True)
    assert not comparison.red
    said = "1 cell is new: without a reference nothing guards it"
    assert any(f"warning: {said}" in str(part) for part in check.check_terminal(comparison))
    assert check.github(comparison)[0].startswith(f"::warning title=medbench check%3A new::{said}")
    same = check.compare_rows(given(row(1)), given(row(1)), check.Repeatability())
    assert check.github(same) == [] and len(check.check_terminal(same)) == 1
    lines = (
        (Path(__file__).parents[1] / "results/smoke/rows.jsonl")
        .read_text()
        .splitlines(keepends=True)
    )
    edited = lines[1].replace('"value": 0.', '"value": 0.9', 1)
    (tmp_path / "rows.jsonl").write_text(lines[0] + edited)
    with pytest.raises(UserError, match=r"line 2, was changed after medbench wrote it") as told:
        check.read_reference(tmp_path / "rows.jsonl", "medbench check s.py --update")
    assert "git restore" in str(told.value) and "--update" in str(told.value)


def test_cells_that_say_the_same_are_one_line_of_the_table() -> None:
    comparison = check.compare_rows(
        given(*map(row, range(30))), given(row(0), with_auc(row(1), 0.1)), check.Repeatability()
    )
    assert comparison.counts["missing"] == 28
    table, *rest = check.check_terminal(comparison)
    cells = list(table.columns[1].cells)  # type: ignore[union-attr]
    assert len(cells) == 2 and str(cells[1]).endswith("seed 2 and 27 more")
    assert not any("more; --json" in str(part) for part in rest), "nothing is left out"


def test_the_tolerance_is_the_measured_spread_doubled_and_one_decision() -> None:
    """An image of the rarest class (10) passes one of the other 90: 1 / (3 classes x 900)."""
    measured = check.Repeatability({"derm phantom random linear": {"auc": 0.01}})
    edge = 2 * 0.01 + 1 / 2700
    assert measured.tolerance(row(), "auc") == pytest.approx(edge)
    assert compared(row(), with_auc(row(), 0.8 - edge + 1e-9), measured).status == "same"
    assert compared(row(), with_auc(row(), 0.8 - edge - 1e-9), measured).status == "worse"
    assert compared(row(), with_auc(row(), 0.8 + edge + 1e-9), measured).status == "better", (
        "too good is a finding too"
    )
    assert measured.of(row(method="new"), "auc") == 0.01, "a new method has its protocol's"
    assert check.Repeatability().tolerance(row(), "accuracy") == 1 / 100
    assert check.Repeatability().tolerance(row(), "accuracy", "low") == 2 / 100, (
        "a resample holds an image twice"
    )
    assert decision_step(row(), "balanced_accuracy") == 1 / 30


def test_a_label_that_few_images_lack_may_move_the_auc_by_one_of_them() -> None:
    """98 of 100 images have the first label.

    A pair of an image with it and one without is 1 / 196 of its AUC, a hundredth of the two more.
    """
    common = row(provenance={"parts.test": {"images": 100, "classes": [98, 50]}})
    assert decision_step(common, "auc") == pytest.approx(max(1 / 196, 0.01 / 2) / 2)
    assert decision_step(common, "auc") >= 1 / 196 / 2


def scored(kind: str, *, skewed: bool) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Labels, probabilities of 100 images, and images of each class.

    skewed: nearly all are decided to be of the largest class, or of none.
    """
    rng = np.random.default_rng(0)
    if kind == "multilabel":
        labels = np.stack(
            [rng.permutation(np.repeat([1.0, 0.0], [n, 100 - n])) for n in (10, 30, 45)], axis=1
        )
        p = 0.55 * rng.random((100, 3)) + (0.1 if skewed else 0.35) * labels
        return labels, p, [10, 30, 45]
    counts = [40, 60] if kind == "binary" else [10, 30, 60]
    labels = np.repeat(np.arange(len(counts)), counts)
    pull = np.eye(len(counts))[-1] if skewed else np.eye(len(counts))[labels]
    return labels, rng.dirichlet(np.ones(len(counts)), 100) * 0.6 + 0.4 * pull, counts


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("kind", ["multiclass", "ordinal", "binary", "multilabel"])
def test_one_decision_never_moves_a_metric_by_more_than_its_step(kind: Kind, skewed: bool) -> None:
    """Each image in turn is decided otherwise, two probabilities exchanged by a hair.

    What rounding can do at a tie.
    """
    labels, p, counts = scored(kind, skewed=skewed)
    stepping = row(provenance={"parts.test": {"images": 100, "classes": counts}})
    one_of_many = kind == "multilabel"
    worst = dict.fromkeys(metrics.metric_names(kind), 0.0)
    for i, label in product(range(100), range(3 if one_of_many else 1)):
        tied, sides = p.copy(), []
        first, second = np.argsort(-p[i])[:2]
        tied[i, label if one_of_many else [first, second]] = (
            0.5 if one_of_many else (p[i, first] + p[i, second]) / 2
        )
        for sign in (1e-9, -1e-9):
            moved = tied.copy()
            moved[i, label if one_of_many else first] += sign
            decided = (moved > 0.5).astype(np.int64) if one_of_many else moved.argmax(1)
            sides.append(metrics.score(labels, moved.clip(0, 1), decided, kind).values)
        worst = {name: max(worst[name], abs(sides[0][name] - sides[1][name])) for name in worst}
    for name, moved_by in worst.items():
        assert moved_by <= decision_step(stepping, name) * 1.02, (
            f"{name}: what is neglected is small"
        )
        if name not in ("auc", "ece") and not skewed:
            assert moved_by >= decision_step(stepping, name) / 5, f"{name}: the bound is not idle"


def test_undefined_is_compared_too() -> None:
    assert compared(row(auc=None), row(auc=None)).status == "same"
    assert compared(row(), row(auc=None)).status == "worse"
    assert compared(row(auc=None), row()).status == "better"


@pytest.mark.parametrize(
    ("changes", "status", "part"),
    [
        ({"parts.all.content": "other", "parts.test.content": "other"}, "not comparable", "data"),
        ({"parts.all.labels": "other"}, "not comparable", "data"),
        ({"identity.task": "other"}, "not comparable", "data"),
        ({"parts.blur": {"ids": "a", "content": "other"}}, "not comparable", "data"),
        ({"parts.test.ids": "other", "parts.train.ids": "other"}, "not comparable", "split"),
        ({"parts.train.groups": "other"}, "not comparable", "split"),
        ({"subset_sha256": "other"}, "not comparable", "split"),
        ({"subset_classes": {"a": 2, "b": 8}}, "not comparable", "split"),
        ({"weights_sha256": "w2"}, "worse", "weights"),
        ({"features.0.checks.weights": "other"}, "worse", "weights"),
        ({"identity.encoder.mean": [0.4]}, "worse", "preprocessing"),
        ({"features.0.checks.input": [1.1, *[0.4] * 8]}, "worse", "preprocessing"),
        ({"identity.encoder.readout": "cls"}, "worse", "readout"),
        ({"features.0.checks.features": [1.1, *[0.4] * 8]}, "worse", "readout"),
        ({"identity.protocol": [3, "p"]}, "worse", "probe"),
        ({"scores.probabilities": [1.0, *[0.4] * 8]}, "worse", "probe"),
        ({}, "worse", "metrics"),
        (
            {"versions": {"torch": "2.16.0"}, "scores.probabilities": [1.0, *[0.4] * 8]},
            "worse",
            "library or probe",
        ),
        (
            {"vector_units": "AVX512", "features.0.checks.features": [1.1, *[0.4] * 8]},
            "worse",
            "device or readout",
        ),
        ({"device": "NVIDIA H100", "device_kind": "cuda"}, "not comparable", "device"),
        ({"device": "cpu of another maker"}, "worse", "metrics"),
        ({"precision": "bf16"}, "not comparable", "device"),
    ],
)
def test_the_part_that_moved(changes: dict[str, Any], status: str, part: str) -> None:
    finding = compared(row(), with_auc(row(provenance=changes), 0.7))
    assert finding.explanation is not None
    assert (finding.status, finding.explanation.part) == (status, part), finding.explanation


def test_pretraining_and_pixels_and_old_rows_are_judged_by_what_they_tell() -> None:
    trained = {"pretraining": [{"method": "simclr"}], "features.0.checks.weights": "other"}
    moved = {"features.0.checks.features": [1.1, *[0.4] * 8]}
    then = row(provenance={"pretraining": [{"method": "simclr"}]})
    finding = compared(then, with_auc(row(provenance={**trained, **moved}), 0.7))
    assert finding.explanation and finding.explanation.parts == ("weights",), (
        "its last bits alone are not evidence, its features are"
    )
    measured = check.Repeatability({"derm phantom random linear": {"features": 0.2}})
    assert compared(then, row(provenance={**trained, **moved}), measured).status == "same"
    pixels = row(provenance={"features": []})
    finding = compared(
        pixels,
        with_auc(row(provenance={"features": [], "scores.probabilities": [1.0, *[0.4] * 8]}), 0.7),
    )
    assert finding.explanation and finding.explanation.parts == (
        "weights",
        "preprocessing",
        "probe",
    )
    old = {
        name: value
        for name, value in row().provenance.items()
        if name not in ("parts", "identity", "scores", "features", "vector_units")
    }
    finding = compared(replace(row(), provenance=old), with_auc(row(), 0.5))
    assert finding.status == "worse"
    assert finding.explanation and "older than the sketches" in finding.explanation.text
    assert compared(replace(row(), provenance=old), row()).status == "same"


def test_a_fine_tuning_that_tried_other_rates_says_so() -> None:
    """Rows that train on pixels keep no features, but what they chose from."""
    then, now = (
        replace(
            row(provenance={"features": [], "scores.probabilities": [1.0, *[x] * 8]}), chosen={}
        )
        for x in (0.5, 0.9)
    )
    tried = {"0.0001": -0.5, "0.001": -0.7}
    then, now = (
        replace(then, chosen={"searched": tried}),
        with_auc(replace(now, chosen={"searched": tried}), 0.7),
    )
    finding = compared(then, now)
    assert (
        finding.explanation is not None
        and finding.explanation.part == "weights or preprocessing or probe"
    )
    finding = compared(then, replace(now, chosen={"searched": {"1e-05": -0.9, "0.01": -0.8}}))
    assert finding.explanation is not None and finding.explanation.part == "probe"
    assert (
        finding.explanation.text
        == "all hashes are equal; it tried the rates 1e-05, 0.01, and 0.0001, 0.001 then"
    )


def test_a_cell_that_was_replaced_or_failed_says_so() -> None:
    comparison = check.compare_rows(given(row()), given(row(readout="cls")), check.Repeatability())
    (finding,) = comparison.findings
    assert (finding.status, finding.replaced_by) == ("not comparable", row(readout="cls").cell)
    assert finding.explanation == check.Explanation(("readout",), "readout is cls, was pool")
    assert finding.shown and (finding.shown.then, finding.shown.now) == (0.8, 0.8)
    two = check.compare_rows(
        given(row()), given(row(readout="cls"), row(readout="mean")), check.Repeatability()
    )
    assert [finding.status for finding in two.findings] == ["missing", "new", "new"], (
        "which of the two took its place cannot be told"
    )
    comparison = check.compare_rows(
        given(row()), given(failures={row().cell: "it failed: no"}), check.Repeatability()
    )
    assert comparison.findings[0].reason == "it failed: no"


def test_the_same_numbers_under_another_identity_are_not_the_same_cell() -> None:
    finding = compared(row(), row(fingerprint="g", provenance={"identity.protocol": [3, "p"]}))
    assert finding.status == "not comparable"
    assert "identity is another: protocol version 2 -> 3" in finding.reason


def test_measure_is_the_range_over_runs() -> None:
    runs = [
        given(
            *(with_auc(row(s, seconds=1 + shift), 0.8 + shift * (1 + s), low=0.75) for s in (0, 1))
        )
        for shift in (0.0, 0.001, -0.002)
    ]
    found = check.measure(runs)
    assert found.spread["derm phantom random linear"]["auc"] == pytest.approx(0.006), (
        "the widest cell: (0.001 + 0.002) x 2"
    )
    assert found.spread["derm phantom random linear"]["auc low"] == 0
    assert found.spread["derm phantom random linear"]["features"] == 0
    assert len(found.environments) == 3
    with pytest.raises(UserError, match="a spread is of one study and one version of medbench"):
        check.measure([given(row()), given(row(fingerprint="other"))])
    with pytest.raises(
        UserError, match=r"several versions .* by abc; .* by def.* Next: install one"
    ):
        check.measure([given(row()), given(row(provenance={"commit": "def"}))])
    with pytest.raises(UserError, match="needs the rows of two runs"):
        check.measure([given(row())])


def test_runs_of_other_cells_have_no_spread() -> None:
    with pytest.raises(UserError, match=r"holds other cells than .*Next: run the same study"):
        check.measure([given(row(0), row(1)), given(row(0, seconds=2.0))])


def test_cells_that_moved_stand_before_those_that_did_not() -> None:
    data = {"parts": {"all": {"images": 9, "content": "x", "labels": "y", "ids": "z"}}}
    now = {"parts": {"all": {**data["parts"]["all"], "content": "w"}}}
    then = [replace(row(s), provenance={**row(s).provenance, **data}) for s in range(2)]
    new = [replace(row(s), provenance={**row(s).provenance, **now}) for s in range(2)]
    comparison = check.compare_rows(
        given(*then), given(new[0], with_auc(new[1], 0.7)), check.Repeatability()
    )
    assert [f.cell.seed for f in comparison.findings] == [1, 0]
    (step,) = check.next_steps(comparison, "medbench", None)
    assert "undo the change of data (git status and git diff --stat" in step


def test_a_copy_of_a_run_is_no_second_run() -> None:
    first, second = (
        given(*(row(s, seconds=1.0 + s + run) for s in range(4))) for run in (0.0, 0.25)
    )
    assert len(check.measure([first, second]).environments) == 2
    copy = replace(first, file=Path("elsewhere/rows.jsonl"))
    with pytest.raises(
        UserError,
        match=r"elsewhere/rows\.jsonl is a copy of results/smoke/rows\.jsonl: 4 of 4 rows took the same times",
    ):
        check.measure([first, second, copy])
    mixed = given(*(row(s, seconds=1.0 + s + (0.25 if s == 3 else 0)) for s in range(4)))
    with pytest.raises(UserError, match="3 of 4 rows"):
        check.measure([first, mixed])
    elsewhere = given(
        *(row(s, seconds=1.0 + s, provenance={"device": "cpu of another maker"}) for s in range(4))
    )
    assert len(check.measure([first, elsewhere]).environments) == 2, (
        "another machine is another run"
    )


def test_a_changed_preprocessing_is_named_before_the_weights_that_state_it() -> None:
    """A function of a user's states its mean and std in the file whose code is part of the weights'
    hash."""
    stated = {"weights_sha256": "w2", "identity.encoder.mean": [0.4]}
    found = compared(row(), with_auc(row(provenance=stated), 0.7)).explanation
    assert found is not None
    assert found.part == "preprocessing"
    assert found.text == "the encoder's mean [0.5] -> [0.4]"
    assert found.also == ("another file or code that gives the same weights: w",)
    found = compared(
        row(), with_auc(row(provenance={**stated, "features.0.checks.weights": "other"}), 0.7)
    ).explanation
    assert found is not None
    assert found.part == "preprocessing or weights"
    assert found.text == "the encoder's mean [0.5] -> [0.4]; another file or recipe: w, was w"


def test_weights_that_moved_within_rounding_are_told_as_that() -> None:
    def moved(weights: float, features: float) -> str:
        numbers = [1.0, *[0.5] * 8]
        checks = {
            "features.0.checks.weights": "other",
            "features.0.checks.tensors": [numbers[0], *[value + weights for value in numbers[1:]]],
            "features.0.checks.features": [
                numbers[0],
                *[value + features for value in numbers[1:]],
            ],
        }
        finding = compared(
            row(provenance={"features.0.checks.tensors": numbers}),
            row(fingerprint="g", provenance={"weights_sha256": "w2", **checks}),
        )
        assert finding.status == "not comparable"
        return finding.reason

    assert "moved within rounding (by 1.0e-06 of their size, the features no more): w" in moved(
        1e-6, 1e-6
    )
    assert "other weights, by 1.0e-06 of their size: w" in moved(1e-6, 1e-2), (
        "one weight can turn a network"
    )
    assert "other weights, by 1.0e-02 of their size: w" in moved(1e-2, 0.0)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_it_is_told_how_many_labels_changed(kind: str) -> None:
    rng = np.random.default_rng(0)
    labels = (
        rng.integers(5, size=2000)
        if kind == "multiclass"
        else rng.integers(2, size=(2000, 3)).astype(float)
    )
    ids = [f"image{i}" for i in range(2000)]

    def told(n: int) -> str:
        other = labels.copy()
        for i in rng.permutation(2000)[:n]:
            other[i] = (other[i] + 1) % (5 if kind == "multiclass" else 2)
        marks = [label_marks(ids, values.tolist()) for values in (labels, other)]
        then = row(provenance={"parts.all.label_marks": marks[0], "parts.all.images": 2000})
        finding = compared(
            then,
            row(
                provenance={
                    "parts.all.label_marks": marks[1],
                    "parts.all.labels": "e",
                    "parts.all.images": 2000,
                }
            ),
        )
        assert finding.explanation is not None
        return finding.explanation.text

    assert told(0) == "the task's labels changed", "two changes can leave the same marks"
    assert told(1) == "the task's labels changed (at least 1 of 2000 labels)"
    for n in (5, 40, 150):
        found = int(re.findall(r"about (\d+) of 2000", told(n))[0])
        assert abs(found - n) < 3 * (n / 3) ** 0.5 + 1, (n, found)
    shuffled = rng.permutation(2000)
    assert label_marks(ids, labels.tolist()) == label_marks(
        [ids[i] for i in shuffled], labels[shuffled].tolist()
    )


def test_no_more_labels_changed_than_there_are() -> None:
    then, now = (
        {"parts.all.label_marks": mark * 128, "parts.all.images": 9} for mark in ("00", "01")
    )
    finding = compared(row(provenance=then), row(provenance={**now, "parts.all.labels": "e"}))
    assert finding.explanation is not None
    assert finding.explanation.text == "the task's labels changed (about 9 of 9 labels)"


def test_of_older_rows_the_classes_tell_how_many_labels_changed_at_least() -> None:
    finding = compared(
        row(), row(provenance={"parts.all.labels": "e", "parts.all.classes": [7, 32, 61]})
    )
    assert finding.explanation is not None
    assert finding.explanation.text == "the task's labels changed (at least 3 of 100 labels)"


@pytest.mark.parametrize(
    ("provenance", "said"),
    [
        ({"features": ["x"]}, "features is 'x'"),
        ({"features": [{"checks": 3}]}, "checks is 3"),
        ({"features": [{"checks": {"pixels": "x"}}]}, "checks pixels is 'x'"),
        (
            {"features": [None, {"checks": {"input": [1.0, 2.0]}}]},
            r"its sketch of input is \[1.0, 2.0\]",
        ),
        ({"scores": {"probabilities": ["a"] * 9}}, r"its sketch of probabilities is \['a'"),
    ],
)
def test_a_sketch_that_was_edited_is_one_line(
    provenance: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"line 2, is not a row of medbench \({said}"):
        check.read_rows(write(tmp_path / "rows.jsonl", row(), row(1, provenance=provenance)))
    with pytest.raises(UserError, match="do not all have sketches of the same scores"):
        check.measure([given(row()), given(row(provenance={"scores": {}}))])


def test_a_mark_of_the_byte_order_before_the_first_row_is_none(tmp_path: Path) -> None:
    """Editors of Windows put it there."""
    file = write(tmp_path / "rows.jsonl", row(), row(1))
    want = check.read_rows(file).rows
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert check.read_rows(file).rows == want


NASTY = "<b>&\"'\x1b[31m\r\n::error::]]>,:%0A\ud800"


def test_reports_escape_what_is_in_them() -> None:
    bad = row(method=NASTY)
    comparison = check.compare_rows(
        given(bad, row(1)), given(with_auc(bad, 0.5), row(1)), check.Repeatability()
    )
    suite = ElementTree.fromstring(check.junit(comparison).encode("utf-8", "strict"))
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    (failure,) = suite.iter("failure")
    assert "auc 0.5000, was 0.8000 (-0.3000, tolerance 0.0004)" in str(failure.text)
    added = ElementTree.fromstring(
        check.junit(check.compare_rows(given(row()), given(row(), row(1)), check.Repeatability()))
    )
    assert (
        added.get("tests"),
        added.get("failures"),
        added.get("skipped"),
        len(list(added.iter("skipped"))),
    ) == ("2", "1", "0", 0)
    assert next(added.iter("failure")).get("message") == "new: the reference has no such cell"
    (line,) = check.github(comparison, "my,study.py", ["Next: look"])
    assert line.startswith(
        "::error file=my%2Cstudy.py,line=1,title=medbench check::FAILED: 2 cells"
    )
    assert "%0Aderm <b>&" in line and line.endswith("%0ANext: look")
    assert "\n" not in line and "\r" not in line
    assert json.loads(check.json_text(comparison))["counts"] == {"worse": 1, "same": 1}
    shown = "".join(
        part for part in check.check_terminal(comparison, explained=True) if isinstance(part, str)
    )
    assert "\x1b" not in shown
    many = check.compare_rows(
        given(*(row(s) for s in range(30))),
        given(*(with_auc(row(s), 0.5) for s in range(30))),
        check.Repeatability(),
    )
    (line,) = check.github(many)
    assert line.count("worse: ") == 10 and line.endswith("%0Aand 20 more")
    assert "30 cells" in check.explanations(many)[0]
    assert json.loads(
        check.json_text(
            check.compare_rows(given(row()), given(row(auc=None)), check.Repeatability())
        )
    )["red"]


def write(file: Path, *rows: Row) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(asdict(r)) + "\n" for r in rows))
    return file


def test_the_command(
    medbench: Medbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = write(tmp_path / "ref" / "rows.jsonl", row(0), row(1))
    now = write(tmp_path / "now.jsonl", row(0), with_auc(row(1), 0.7))
    (tmp_path / "ref" / "repeatability.json").write_text(
        check.Repeatability({"derm phantom random linear": {"auc": 1e-4}}, [{}, {}]).text()
    )
    assert medbench("check", "--against", str(reference.parent), "--rows", str(reference)) == 0, (
        "a folder will do"
    )
    assert "passed: 2 cells against" in capsys.readouterr().out
    more = ("--explain", "--json", "out/all.json", "--junit", "out/junit.xml", "--github")
    assert medbench("check", "--against", str(reference), "--rows", str(now), *more) == 1
    printed = capsys.readouterr().out
    assert re.search(
        r"worse +│ derm random linear 10% seed 1 +│ auc +│ +0\.8000 │ 0\.7000 │ -0\.1000 │ +0\.0006",
        printed,
    ), printed
    assert "metrics: 1 cell, as" in printed
    flat = " ".join(printed.split())
    assert "Of 1 changed value, 0 in the 95 % interval" in flat
    assert (
        f"if intended: medbench check --rows {now} --against {reference} --update, then commit"
        in flat
    )
    assert "FAILED: 2 cells against" in printed and "spread over 2 environments" in printed
    assert "::error title=medbench check::FAILED" in printed
    assert json.loads((tmp_path / "out" / "all.json").read_text())["findings"][0]["explanation"][
        "parts"
    ] == ["metrics"]
    assert ElementTree.parse(tmp_path / "out" / "junit.xml").getroot().get("failures") == "1"
    assert medbench("check", "--against", str(reference), "--rows", str(now), "--update") == 0
    updated = capsys.readouterr().out
    assert "FAILED" not in updated and "│ auc" in updated, "what changed is shown"
    assert "holds 2 rows now: 1 changed, 1 unchanged." in updated
    assert medbench("check", "--against", str(reference), "--rows", str(now)) == 0
    new = tmp_path / "other" / "rows.jsonl"
    assert medbench("check", "--against", str(new), "--rows", str(now), "--update") == 0, (
        "the first reference"
    )
    assert medbench("check", "--against", str(new), "--rows", str(now)) == 0
    again = write(tmp_path / "again.jsonl", row(0, seconds=1.1), row(1, seconds=1.2))
    measured = ("check", "--against", str(new), "--measure", "--rows", str(now), "--rows")
    assert medbench(*measured, str(now)) == 2
    assert "A copy is not a second run." in capsys.readouterr().err
    assert medbench(*measured, str(again)) == 0
    kept = tmp_path / "other" / "repeatability.json"
    assert "auc low" in kept.read_text()
    kept.write_text(
        re.sub(
            r'("auc": [\d.e-]*)(\d)',
            lambda found: found[1] + str((int(found[2]) + 1) % 10),
            kept.read_text(),
            count=1,
        )
    )
    assert medbench("check", "--against", str(new), "--rows", str(now)) == 2
    assert (
        "its checksum is another" in (said := capsys.readouterr().err)
        and "measure again: medbench check --measure --rows A" in said
    )


def test_a_study_is_run_with_nothing_from_the_cache(
    medbench: Medbench,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Code that changed without its version would hide behind features that were kept."""
    (tmp_path / "mine.py").write_text(
        f"'''A study.'''\nfrom medbench import Grid\n"
        f"GRID = Grid(tasks=('folder:{folder}',), encoders=({planted.encoder(tmp_path)!r},), labels=('100',), protocols=('knn',), size=32)\n"
    )
    reference = str(tmp_path / "ref" / "rows.jsonl")
    assert medbench("check", "mine.py", "--against", reference, "--update") == 0
    assert (tmp_path / "ref" / "leaderboard.md").is_file()
    assert medbench("check", "mine.py", "--against", reference) == 0
    from medbench import images

    cache = images.cache_folder()
    # packs: the audit's alone, of the folder while it was planned
    assert not images.cache_entries(cache, "features")
    true = images.batches
    monkeypatch.setattr(
        images, "batches", lambda *a, **k: (batch.flip(0) for batch in true(*a, **k))
    )
    assert "medbench audit" not in capsys.readouterr().err, "which asks for nothing"
    assert medbench("check", "mine.py", "--against", reference, "--explain", "--out", "kept") == 1
    assert "preprocessing: 1 cell," in capsys.readouterr().out
    assert (tmp_path / "kept" / "rows.jsonl").is_file() and not (
        tmp_path / "kept" / "cache"
    ).exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["mine.py"],
            "check needs a reference. Next: medbench check mine.py --against reference/mine; with --update it is made",
        ),
        (
            ["--against", "ref.jsonl"],
            "check takes a study to run, or --rows, and one of them. Next: medbench check STUDY.py --against ref.jsonl",
        ),
        (
            ["mine.py", "--rows", "ref.jsonl", "--against", "ref.jsonl"],
            "check takes a study to run, or --rows, and one of them.",
        ),
        (
            ["mime.py"],
            "Did you mean 'mine.py'? Next: medbench check mine.py --against reference/STUDY",
        ),
        (
            ["--rows", "ref.jsonl", "--against", "no.jsonl"],
            "There is no reference no.jsonl: no 'no.jsonl' in .. Allowed: empty.jsonl, ",
        ),
        (["--rows", "no", "--against", "ref.jsonl"], "There are no rows in no."),
        (
            ["study.py", "--against", "no.jsonl"],
            "make a new reference there: medbench check study.py --against no.jsonl --update",
        ),
        (
            ["--rows", "ref.jsonl", "--against", "empty.jsonl"],
            "The reference empty.jsonl holds no row. Next: git restore empty.jsonl, or replace it: medbench check --rows ref.jsonl --against empty",
        ),
        (
            ["--rows", "ref.jsonl", "--rows", "ref.jsonl", "--against", "ref.jsonl"],
            "--rows was given 2 times; only --measure takes several.",
        ),
        (
            ["--rows", "ref.jsonl", "--against", "ref.jsonl", "--measure"],
            "A spread needs the rows of two runs at least.",
        ),
        (
            ["mine.py", "--against", "ref.jsonl", "--measure"],
            "--measure takes --rows alone, of two runs at least.",
        ),
        (
            ["--rows", "ref.jsonl", "--against", "text.jsonl"],
            "text.jsonl, line 1, is cut off. Next: git restore text.jsonl, or replace it: medbench check --rows ref.jsonl",
        ),
        (
            ["--rows", "ref.jsonl", "--against", "list.jsonl"],
            "list.jsonl, line 1, is not a row of medbench (",
        ),
        (
            ["--rows", "ref.jsonl", "--against", "number.jsonl"],
            "is not a row of medbench (auc value is 'high')",
        ),
        (
            ["--rows", "ref.jsonl", "--against", "bad/rows.jsonl"],
            "repeatability.json is not a repeatability of medbench. Next: git restore bad/repeatability.json",
        ),
        (
            ["mine.py", "--against", "bad", "--out", "bad"],
            "--out bad is the reference's own folder: its rows would be compared with themselves.",
        ),
        (
            ["--rows", "ref.jsonl", "--against", "ref.jsonl", "--out", "kept"],
            "--out does not apply to --rows. Next: leave --out out",
        ),
        (
            ["--rows", "ref.jsonl", "--against", "ref.jsonl", "--device", "cpu"],
            "--device does not apply to --rows.",
        ),
        (
            [
                "--rows",
                "ref.jsonl",
                "--rows",
                "ref.jsonl",
                "--against",
                "ref.jsonl",
                "--measure",
                "--github",
            ],
            "--github does not apply to --measure.",
        ),
        (
            ["--rows", "ref.jsonl", "--against", "ref.jsonl", "--json", "/dev/null/x"],
            "/dev/null/x cannot be written: /dev/null: Not a directory.",
        ),
        (
            ["12345678.py", "--against", "ref.jsonl"],
            "No study file '12345678.py'. Allowed: mine.py, study.py. Next: medbench check FILE.py --against ref.jsonl",
        ),
        (
            ["--rows", "empty.jsonl", "--against", "ref.jsonl", "--update"],
            "empty.jsonl holds no row: the reference stays as it was.",
        ),
    ],
)
def test_what_is_refused(
    arguments: list[str],
    line: str,
    medbench: Medbench,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "ref.jsonl", row())
    write(tmp_path / "bad" / "rows.jsonl", row())
    for name in ("mine.py", "study.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "bad" / "repeatability.json").write_text("[]")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "text.jsonl").write_text("hello\n")
    (tmp_path / "list.jsonl").write_text("[1]\n")
    broken = asdict(row())
    broken["metrics"]["auc"]["value"] = "high"
    (tmp_path / "number.jsonl").write_text(json.dumps(broken) + "\n")
    assert medbench("check", *arguments) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "Traceback" not in error
    assert line in error


def test_rows_are_checked_without_torch_and_without_a_cache(
    without_torch: Callable[..., str], tmp_path: Path
) -> None:
    reference = str(write(tmp_path / "rows.jsonl", row()))
    again = str(write(tmp_path / "again" / "rows.jsonl", row(seconds=2.0)))
    for more in ([], ["--measure", "--rows", again], ["--update"]):
        # as its cache a file: a command that asked for the folder would end here
        said = without_torch(
            "check", "--rows", reference, "--against", reference, *more, MEDBENCH_CACHE=reference
        )
        assert (
            "the spread of 2 runs"
            if "--measure" in more
            else "1 unchanged"
            if "--update" in more
            else "passed: 1 cell "
        ) in said


def test_a_name_with_an_exotic_line_break_does_not_tear_its_row(tmp_path: Path) -> None:
    """As `Store` writes rows: U+2028 and U+0085 stand in a JSON string as they are."""
    file = tmp_path / "rows.jsonl"
    odd = row(provenance={"subset_classes": {"a\u2028b": 3, "c\u0085d": 7}})
    file.write_text(
        json.dumps(odd.to_json(), ensure_ascii=False) + "\n" + json.dumps(row(1).to_json()) + "\n",
        encoding="utf-8",
    )
    assert list(check.read_rows(file).lines.values()) == [1, 2]


def test_cells_of_one_cause_are_one_line_however_far_their_numbers_lie_apart() -> None:
    """The cause is a value: it is not made of the sentence by leaving numbers out."""
    moved = [
        row(seed, provenance={"features.0.checks.features": [1.1, *[0.4 - seed / 100] * 8]})
        for seed in range(3)
    ]
    comparison = check.compare_rows(
        given(*map(row, range(3))),
        given(*(with_auc(one, 0.7) for one in moved)),
        check.Repeatability(),
    )
    found = [finding.explanation for finding in comparison.findings if finding.explanation]
    assert (
        len({one.text for one in found}) == len({one.apart for one in found}) == 3
        and len({one.cause for one in found}) == 1
    )
    (line,) = check.explanations(comparison)
    assert line.startswith("readout: 3 cells") and f"by {found[0].apart:.1e} of their size" in line


def lines_of(*rows: Row) -> list[str]:
    return [with_checksum(r.to_json()).decode() + "\n" for r in rows]


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (
            lambda a, b: f"<<<<<<< HEAD\n{a}=======\n{b}>>>>>>> other\n",
            "line 1, is a git conflict marker",
        ),
        (lambda a, b: a + b[:40], "line 2, is cut off"),
        (lambda a, b: a + "\n" + b, "line 2, is empty"),
        (lambda a, b: "", "holds no row"),
        (lambda a, b: a + b + a, "line 3, holds the same cell as line 1"),
        (lambda a, b: a + b.replace('"task": "derm", ', "", 1), "line 2, was changed after"),
        (lambda a, b: a + '{"cell": {}}\n', "line 2, is not a row of medbench (it lacks metrics)"),
        (
            lambda a, b: a + re.sub(r', "checksum": "\w+"', "", b),
            "line 2, has no checksum, which medbench wrote in other lines",
        ),
        (lambda a, b: a + "\xff", "cannot be read: it is no text in UTF-8"),
    ],
)
def test_a_damaged_reference_is_told_and_made_anew_by_the_command_that_is_told(
    damaged: Callable[[str, str], str],
    said: str,
    medbench: Medbench,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "now" / "rows.jsonl", row(0), row(1))
    (tmp_path / "ref").mkdir()
    (tmp_path / "ref" / "rows.jsonl").write_bytes(
        damaged(*lines_of(row(0), row(1))).encode("latin-1")
    )
    command = ["check", "--rows", "now", "--against", "ref"]
    reports = ["--json", "all.json", "--junit", "junit.xml", "--github"]
    assert medbench(*command, *reports) == 2
    printed, error = capsys.readouterr()
    assert said in error and len(error.splitlines()) == 1
    merging = "conflict" in error
    assert ("git checkout --ours" in error, "git restore" in error) == (merging, not merging)
    line = (re.findall(r"^line (\d)", said) or ["1"])[0]
    assert re.match(rf"::error file=\S*rows.jsonl,line={line},title=medbench check::", printed)
    whole = json.loads((tmp_path / "all.json").read_text())
    assert whole["red"] and said in whole["error"]
    case = ElementTree.parse(tmp_path / "junit.xml").getroot().find("testcase/error")
    assert case is not None and said in str(case.get("message"))
    (update,) = re.findall(r"medbench (check --rows now --against \S+ --update)", error)
    assert medbench(*update.split()) == 0
    told = capsys.readouterr()
    assert said in told.err and "It is replaced." in told.err
    assert medbench(*command) == 0


def test_a_row_with_a_strange_or_missing_field_is_told_in_words(tmp_path: Path) -> None:
    for name, change, said in (
        ("lacks", lambda r: r["cell"].pop("task"), "cell lacks task"),
        ("more", lambda r: r["cell"].update(colour=1), "cell has 'colour', which is no field"),
        ("whole", lambda r: r.update(extra=1), "it has 'extra', which is no field of a row"),
    ):
        record = asdict(row())
        change(record)
        file = tmp_path / name
        file.write_text(json.dumps(record) + "\n")
        with pytest.raises(UserError, match=rf"line 1, is not a row of medbench \({said}"):
            check.read_rows(file)


def test_where_a_reference_lies(
    medbench: Medbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path without .jsonl is a folder; a slip names what is there."""
    write(tmp_path / "now" / "rows.jsonl", row(0))
    check_ = ("check", "--rows", "now", "--against")
    for name in ("xray", "phantom"):
        assert medbench(*check_, f"reference/{name}", "--update") == 0
        assert (tmp_path / "reference" / name / "rows.jsonl").is_file()
    assert "is a new reference of 1 row. Commit its folder" in capsys.readouterr().out
    (tmp_path / "reference" / "xray" / "leaderboard.csv").write_text("task\n")
    for place, told in {
        "reference/xrya": "no 'xrya' in reference. Allowed: phantom, xray. Did you mean 'xray'?",
        "reference/xray/row.jsonl": "Did you mean 'rows.jsonl'?",
        "reference": "holds 2 references. Allowed: phantom, xray.",
        "reference/xray/leaderboard.csv": "reference/xray/rows.jsonl lies beside it. Next: medbench check STUDY.py --against reference/xray",
    }.items():
        assert medbench(*check_, place) == 2
        assert told in capsys.readouterr().err
    write(tmp_path / "reference" / "xray" / "b.jsonl", row(1))
    assert medbench(*check_, "reference/xray", "--update") == 2
    assert "also holds b.jsonl" in (said := capsys.readouterr().err)
    assert "--against reference/xray/rows" in said


def test_a_reference_of_another_study_is_told_before_anything_is_computed(
    medbench: Medbench, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        f"'A study.'\nfrom medbench import Grid\n"
        f"GRID = Grid(tasks=('folder:{folder}',), encoders=({planted.encoder(tmp_path)!r},), labels=('100',), protocols=('knn',), size=32)\n"
    )
    assert medbench("check", "mine.py", "--against", "ref/mine", "--update") == 0
    other = write(tmp_path / "ref" / "other" / "rows.jsonl", row())
    before = other.read_text()
    for more in ([], ["--update"]):
        assert medbench("check", "mine.py", "--against", "ref/other", "--out", "kept", *more) == 2
        said = capsys.readouterr().err
        assert "is of another study" in said and "Did you mean ref/mine?" in said
        assert not (tmp_path / "kept" / "rows.jsonl").exists() and other.read_text() == before
    rows = ("check", "--rows", "ref/mine/rows.jsonl", "--against", "ref/other")
    assert medbench(*rows) == 1 and medbench(*rows, "--update") == 2
    assert other.read_text() == before


def test_a_reference_of_another_study_is_one_sentence() -> None:
    other = replace(row(), cell=replace(row().cell, task="chest", size=48))
    comparison = check.compare_rows(given(row(), row(1)), given(other), check.Repeatability())
    assert comparison.unrelated and comparison.red
    first, *_ = check.check_terminal(comparison)
    assert "is of another study: none of its 2 cells" in str(first)
    assert "name the reference of this study" in check.next_steps(comparison, "medbench", None)[0]


def test_each_kind_of_red_says_what_to_do() -> None:
    cells = [row(seed) for seed in range(6)]
    torch = {"versions": {"torch": "2.16.0"}, "scores.probabilities": [1.0, *[0.4] * 8]}
    now = given(
        with_auc(row(0, provenance={"weights_sha256": "w2"}), 0.7),
        with_auc(row(1, provenance=torch), 0.7),
        row(2, readout="cls"),
        row(9),
        failures={cells[4].cell: "no memory"},
    )
    comparison = check.compare_rows(given(*cells), now, check.Repeatability())
    failed, around, replaced, changed, missing, new = check.next_steps(
        comparison, "medbench check s.py --against ref", "s.py"
    )
    assert failed.startswith("Next (1 cell missing): the table gives the reason")
    assert "--measure --rows A --rows B --against results/smoke/rows.jsonl" in around
    assert replaced.startswith("Next (1 cell not comparable): the study asks for another setting")
    assert "medbench check s.py --against ref --update, then commit results/smoke" in changed
    assert changed.endswith("undo the change of weights")
    assert "which drops them" in missing and "--allow-new" in new
    assert json.loads(check.json_text(comparison, [failed]))["next"] == [failed]


def test_a_table_shows_the_metric_itself_and_relates_it_to_its_interval() -> None:
    """The end of an interval moved by more tolerances than the value."""
    comparison = check.compare_rows(
        given(row()), given(with_auc(row(), 0.78, low=0.5)), check.Repeatability()
    )
    (finding,) = comparison.findings
    assert finding.changes[0].bound == "low" and finding.shown and finding.shown.name == "auc"
    text = " ".join(str(part) for part in check.check_terminal(comparison)[1:])
    assert "auc 0.8000 -> 0.7800, interval 0.7500 to 0.8500" in text
    assert "Of 1 changed value, 1 in the 95 %" in text
    ends = check.compare_rows(
        given(row()), given(with_auc(row(), 0.8, low=0.5)), check.Repeatability()
    )
    assert ends.red, "the end of an interval alone moved, which is in no interval"
    assert not any("changed value" in str(part) for part in check.check_terminal(ends))


def test_a_run_that_did_not_finish_is_no_reference(tmp_path: Path) -> None:
    """A cell that failed first and was made later has a row; one that was never made has none."""
    made = [make("a", "10%", seed, 0.8) for seed in range(2)]
    store = Store(tmp_path / "run")
    store.create()
    fill(store, made)
    (first, _), (second, _) = made
    (again,) = (one for one in store.plan().cells if one.cell == first.cell)
    store.fail(again, "no memory")
    assert check.read_rows(store.folder).failures == {}
    rows = store.folder / "rows.jsonl"
    rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[:1]))
    unfinished = check.read_rows(store.folder)
    assert unfinished.failures == {second.cell: "its run did not finish"}
    with pytest.raises(UserError, match=r"1 cell without a row .*did not finish.*stays as it was"):
        check.update(tmp_path / "ref" / "rows.jsonl", unfinished)


def test_no_two_cells_have_one_name() -> None:
    at = [replace(row(), cell=replace(row().cell, size=size)) for size in (48, 64)]
    comparison = check.compare_rows(given(*at), given(*at), check.Repeatability())
    suite = ElementTree.fromstring(check.junit(comparison))
    names = [case.get("name") for case in suite.iter("testcase")]
    assert names == [
        "derm random linear 10% seed 0 size 48",
        "derm random linear 10% seed 0 size 64",
    ]


def test_changed_images_are_told_by_part_and_number() -> None:
    ids, hashes = [str(i) for i in range(100)], ["a"] * 100
    marks = [label_marks(ids, of) for of in (hashes, ["b", *hashes[1:]])]
    then = row(provenance={"parts.all.image_marks": marks[0]})
    changed = {
        "parts.all.image_marks": marks[1],
        "parts.all.content": "c",
        "parts.test.content": "c",
    }
    finding = compared(then, row(provenance=changed))
    assert "the task's images changed in the test part (at least 1 of 100 images)" in finding.reason
    assert finding.shown and "auc 0.8000, was 0.8000" in check.junit(
        check.compare_rows(given(then), given(row(provenance=changed)), check.Repeatability())
    )


def test_one_environment_is_added_to_what_was_measured(
    medbench: Medbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reference's own rows are the other run; there may be no file yet."""
    write(tmp_path / "ref" / "rows.jsonl", row(0))
    add = ("check", "--measure", "--add", "--against", "ref", "--rows")
    for moved, runs in ((0.01, 2), (0.002, 3)):
        now = with_auc(row(0, seconds=2 + moved), 0.8 + moved)
        write(tmp_path / "b" / "rows.jsonl", now)
        assert medbench(*add, "b/rows.jsonl") == 0
        assert f"the spread of {runs} runs" in capsys.readouterr().out
        kept = check.Repeatability.beside(tmp_path / "ref" / "rows.jsonl")
        assert kept.of(row(), "auc") == pytest.approx(0.01)
    other = row(0, seconds=3.0, provenance={"commit": "installed 12ab"})
    write(tmp_path / "b" / "rows.jsonl", other)
    assert medbench(*add, "b/rows.jsonl") == 2
    assert "b/rows.jsonl by installed 12ab" in capsys.readouterr().err


def test_two_installed_packages_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medbench.system import environment

    package = tmp_path / "site-packages" / "medbench"
    (package / "system").mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(package / "system" / "environment.py"))
    hashes = []
    for code in ("x = 1", "x = 2", "x = 1"):
        (package / "system" / "environment.py").write_text(code)
        environment.machine.cache_clear()
        hashes.append(environment.machine("cpu")["commit"])
    environment.machine.cache_clear()
    assert hashes[0] == hashes[2] != hashes[1]
    assert re.fullmatch(r"installed [0-9a-f]{16}", hashes[0])


def test_an_out_that_no_rows_can_be_kept_in(
    medbench: Medbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "ref" / "rows.jsonl", row())
    for name in ("file", "s.py"):
        (tmp_path / name).write_text("")
    assert medbench("check", "s.py", "--against", "ref", "--out", "file") == 2
    assert "file is a file: name a folder." in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc takes no folder, even of root's")
def test_a_place_where_nothing_can_be_made_is_bad_input(
    medbench: Medbench, folder: Path, mine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.py").write_text(
        f"from medbench import Grid\nGRID = Grid(tasks=('folder:{folder}',), encoders=({mine!r},), labels=('100',), size=32)\n"
    )
    assert medbench("check", "s.py", "--against", "ref", "--update", "--out", "made") == 0
    for command in (["check", "s.py", "--against", "ref"], ["run", "s.py"]):
        capsys.readouterr()
        assert medbench(*command, "--out", "/proc/x") == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert re.search(r"^medbench: .*/proc/x.*: (No such file or directory|Perm\w+ \w+)", last)


def test_a_crash_is_not_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1 says that numbers differ."""
    from medbench import __main__, cli

    def broken() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "main", broken)
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 70
