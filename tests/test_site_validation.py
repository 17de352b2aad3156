"""A model on another site.

A worse model, a moved threshold and another prevalence are told apart, by simulation; and from
files, with the command.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_export import exported, results  # noqa: F401

from medbench import stats
from medbench.models.exported.labelled import labelled
from medbench.models.exported.seen_images import SeenImages, known, seen_images
from medbench.report.clinical import LinePredictions, evidence
from medbench.report.clinical.operating_points import operating_points
from medbench.report.clinical.predictions import Draw
from medbench.report.site_tables import sheets, verdict_sentences
from medbench.report.site_validation import against, of_answers
from medbench.schema import UserError

Command = Callable[..., int]


@dataclass(frozen=True, eq=False)
class Site:
    """Scores of two normal classes `apart`, moved by `shift` on the logit."""

    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def decisions(self) -> np.ndarray:
        return self.probabilities.argmax(1)

    @property
    def groups(self) -> np.ndarray:
        return np.arange(len(self.labels))


def site(
    n: int, seed: int = 1, prevalence: float = 0.4, apart: float = 2.2, shift: float = 0.0
) -> Site:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < prevalence).astype(int)
    p = 1 / (1 + np.exp(-(rng.normal(0, 1, n) + apart * (labels - 0.5)) * 2.2 - shift))
    return Site(labels, np.column_stack([1 - p, p]))


@pytest.fixture(scope="module")
def card() -> tuple[dict[str, Any], Mapping[str, Any]]:
    own, held = site(1500, seed=10), site(300, seed=11)
    points = operating_points(
        Draw(own.probabilities, own.decisions, held.probabilities, held.labels),
        ("no", "yes"),
        "binary",
    )
    weights = np.concatenate(
        [np.ones((1500, 1), np.uint8), stats.group_weights(own.groups)], axis=1
    )
    draws = [Draw(own.probabilities, own.decisions)]
    answers = LinePredictions(
        "binary", ("no", "yes"), "image", own.labels, own.groups, weights, None, {}, draws
    )
    return points, {"target": "test", **evidence(answers, points["points"])}


def test_each_planted_shift_is_told_from_the_others(
    card: tuple[dict[str, Any], Mapping[str, Any]],
) -> None:
    def at(**how: Any) -> tuple[str, list[str], list[str]]:
        found = of_answers(site(800, **how), "binary", ("no", "yes"), *card)
        return found.word, [one.word for one in found.points], verdict_sentences(found)

    word, points, said = at()
    assert (
        word == "as on the card"
        and "worse" not in points
        and "threshold moved" not in points
        and len(said) == 1
    )
    word, points, said = at(shift=-1.2)
    assert word == "as on the card" and set(points) == {"threshold moved"}
    assert (
        sum(
            "the threshold has moved: sensitivity is lost, specificity won. Right here would be"
            in one
            for one in said
        )
        == 2
    )
    word, points, said = at(prevalence=0.2)
    assert word == "as on the card" and "worse" not in points and "threshold moved" not in points
    (told,) = (one for one in said if "prevalence" in one)
    assert told.startswith("yes: prevalence 0.") and "sensitivity and specificity need not" in told
    word, points, said = at(apart=1.2)
    assert (
        word == "worse"
        and "worse" in points
        and "threshold moved" not in points
        and said[0].startswith("Verdict: worse. AUC")
    )
    few = of_answers(site(60, apart=2.0), "binary", ("no", "yes"), *card)
    assert few.word == "not decidable" and 0 < few.whole.more < 100
    assert "more cases would decide it" in verdict_sentences(few)[0]
    assert [sheet.title for sheet in sheets(few)] == [
        "How well it ranks",
        "At the shipped thresholds",
        "Calibration and prevalence",
    ]


@pytest.mark.slow
def test_the_threshold_that_is_right_there_is_within_its_interval(
    card: tuple[dict[str, Any], Mapping[str, Any]],
) -> None:
    held = 0
    for seed in range(20):
        found = of_answers(site(200, seed=seed + 50, shift=-1.2), "binary", ("no", "yes"), *card)
        (point,) = (one for one in found.points if one.point == "sensitivity-0.9")
        value, low, high = point.right
        assert value is not None and low is not None and high is not None and low <= value <= high
        truth = 1 / (1 + np.exp(-((1.1 - 1.2816) * 2.2 - 1.2)))  # nine of ten positives lie above
        held += low <= truth <= high
    assert held >= 16


@pytest.mark.slow
def test_false_alarms_are_rare_and_worse_models_are_found(
    card: tuple[dict[str, Any], Mapping[str, Any]],
) -> None:
    same = [
        of_answers(site(300, seed=s), "binary", ("no", "yes"), *card).word for s in range(100, 200)
    ]
    worse = [
        of_answers(site(300, seed=s, apart=1.2), "binary", ("no", "yes"), *card).word
        for s in range(100, 200)
    ]
    assert (
        same.count("worse") <= 8
        and worse.count("as on the card") <= 5
        and worse.count("worse") >= 80
    )


def test_the_number_of_cases_is_what_halves_need() -> None:
    found = against([0.80, 0.70, 0.90], [0.80, 0.795, 0.805], 0.05)
    # 0.05 / 1.43, less the card's
    assert found.word == "not decidable" and found.more == pytest.approx(
        (0.1 / 0.0346) ** 2 - 1, rel=0.1
    )
    assert "cannot settle it" in against([0.80, 0.7, 0.9], [0.80, 0.7, 0.9], 0.05).cases(100)
    assert (
        against([None, None, None], [0.8, 0.7, 0.9], 0.05).cases(9)
        == "too few cases for an interval"
    )


def test_the_command_reads_labels_and_names_what_it_cannot(
    folder: Path,
    results: Path,  # noqa: F811
    medbench: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        exported(medbench, folder, "--only", "method=supervised", "--only", "protocol=linear") == 0
    )
    images = sorted((folder / "test").rglob("*.png"))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    rows = [f"{file},{file.parent.name.upper()}" for file in images]
    Path("mine.csv").write_text("\n".join(["path,label", *rows, f"{folder / 'broken.png'},nv"]))
    capsys.readouterr()
    assert medbench("validate", "model", "mine.csv", "--device", "cpu") == 3
    said = capsys.readouterr()
    assert (
        "broken.png is left out" in said.err
        and said.out.startswith("Verdict: ")
        and "on 18 images of yours" in said.out
    )
    # the part that the card was written from
    assert "difference +0.000" in said.out.splitlines()[0] + said.out.splitlines()[1]
    assert medbench("validate", "model", "mine.csv", "--device", "cpu", "--out", "site.md") == 3
    assert "| own |" in Path("site.md").read_text()
    Path("mine.csv").write_text("\n".join(["path,label", f"{images[0]},mle"]))
    assert medbench("validate", "model", "mine.csv", "--device", "cpu") == 2
    assert (
        "line 2: label 'mle' is not a class of the model. Allowed: akiec, mel, nv. Did you mean 'mel'?"
        in capsys.readouterr().err
    )


def test_several_labels_have_a_column_each(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,A b,c,group\nx.png,1,0,p1\ny.png,,1,p1\n")
    found = labelled(tmp_path / "a.csv", ("a b", "c"), "multilabel")
    np.testing.assert_array_equal(found.labels, [[1, 0], [np.nan, 1]])
    assert found.grouped and found.groups.tolist() == ["p1", "p1"]
    (tmp_path / "a.csv").write_text("path,a b,c\nx.png,yes,0\n")
    with pytest.raises(UserError, match="line 2: 'a b' is 'yes'"):
        labelled(tmp_path / "a.csv", ("a b", "c"), "multilabel")


def test_images_of_the_run_are_noticed_and_no_single_one_is_told() -> None:
    rng = np.random.default_rng(0)
    run, new = (list(rng.integers(0, 255, (n, 8, 8, 3)).astype(np.uint8)) for n in (700, 2000))
    found = seen_images(run, len(run))
    found = SeenImages.of(found.arrays())
    assert all(found.bit(one)[1] for one in run) and 0.18 < found.share <= 0.25
    asked = [found.bit(one) for one in new]
    others = sum(is_set for _, is_set in asked)
    assert 0.15 * len(new) < others < 0.3 * len(new) and known(asked, found.share) == 0
    assert known(map(found.bit, run), found.share) == len(run), "some share a bit"
    for n in (100, 60):  # so many of a hundred
        given = [*run[:n], *new[: 100 - n]]
        assert abs(known(map(found.bit, given), found.share) - n) < 20
    assert known([], 0.25) == known([(i, i < 9) for i in range(30)], 0.25) == 0
    by_chance = next(bit for bit in asked if bit[1])
    assert known([*asked[:100], *[by_chance] * 60], found.share) == 0, "copies of one image"
    # another salt: two exports of one run cannot be compared
    assert (seen_images(run, len(run)).bits != found.bits).any()
    for name, value in (
        ("n", np.array([9])),
        ("bits", np.zeros(2)),
        ("salt", np.zeros(3, np.uint8)),
    ):
        with pytest.raises(ValueError, match=r"bits|seen images"):
            SeenImages.of({**found.arrays(), name: value})


def test_the_verdict_on_images_of_the_run_is_void(
    folder: Path,
    results: Path,  # noqa: F811
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    picked = ("--only", "method=supervised", "--only", "protocol=linear")
    rows = [f"{file},{file.parent.name}" for file in sorted((folder / "test").rglob("*.png"))]
    Path("run.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    for more, verdict in (
        ((), "Verdict: void. About 18 of these 18 images were in the run"),
        (("--no-seen",), "Verdict: "),
    ):
        assert exported(medbench, folder, *picked, *more, out=f"model{len(more)}") == 0
        card = Path(f"model{len(more)}/README.md").read_text()
        assert (
            ("`seen.safetensors` lets" in card)
            == (not more)
            == Path(f"model{len(more)}/seen.safetensors").exists()
        )
        capsys.readouterr()
        assert medbench("validate", f"model{len(more)}", "run.csv", "--device", "cpu") == 0
        said = capsys.readouterr().out
        assert said.startswith(verdict) and ("Had they been new: " in said) == (not more)
        assert medbench("validate", f"model{len(more)}", "run.csv", "--json", "v.json") == 0
        verdicts = {
            row["verdict"] for row in json.loads(Path("v.json").read_text()) if "verdict" in row
        }
        assert (verdicts - {""} == {"void"}) == (not more)
