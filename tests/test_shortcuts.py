"""Shortcuts: by hand on a few images, against chance over many seeds, on a planted tint, and on the
command line."""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes.features import drawn
from PIL import Image

from medbench.audit.features import (
    chosen_columns,
    cramers_v,
    nearest,
    read_column,
    robustness,
    robustness_index,
    survey,
)
from medbench.schema import Note, Split, UserError


def test_nearest_leaves_out_the_own_group_and_breaks_ties_by_number() -> None:
    features = np.array([[1.0, 0.0], [2.0, 0.0], [1.0, 0.1], [0.0, 1.0], [3.0, 0.3]])
    groups = np.array(["a", "a", "b", "c", "d"])
    # Lengths do not count: 2 and 4 point the same way, and 2 has the smaller number.
    assert nearest(features, groups, 2).tolist() == [[2, 4], [2, 4], [4, 0], [2, 4], [2, 0]]
    assert nearest(features, groups, 9)[0].tolist() == [2, 4, 3, -1, -1, -1, -1, -1, -1]


def test_index_by_hand() -> None:
    """Four patients of one image each; every image has the other three as neighbours.

    Classes 0 0 1 1, columns x y x y. Each image has one neighbour SO (same class, other value), one
    OS and one with neither: index 4 / 8. Expected, for image 0: of the class 0 left in other groups
    is y alone, share of x = 0, so its one neighbour of the class counts 1 as SO; of class 1 one
    half is x: its two neighbours of the other class count 1/2 each as OS. So 4 * 1 / (4 * 1 + 4 *
    1) = 1/2.
    """
    neighbours = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    index = robustness(
        neighbours, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array(list("abcd"))
    )
    assert (index.k, index.value, index.expected, index.difference) == (3, 0.5, 0.5, 0.0)
    only_class = robustness(
        np.array([[1], [0], [3], [2]]),
        np.array([0, 0, 1, 1]),
        np.array([0, 1, 0, 1]),
        np.array(list("abcd")),
    )
    assert only_class.value == 1
    only_column = robustness(
        np.array([[2], [3], [0], [1]]),
        np.array([0, 0, 1, 1]),
        np.array([0, 1, 0, 1]),
        np.array(list("abcd")),
    )
    assert only_column.value == 0
    # Neither SO nor OS: nothing to say.
    neither = robustness(
        np.array([[3], [2], [1], [0]]),
        np.array([0, 0, 1, 1]),
        np.array([0, 1, 0, 1]),
        np.array(list("abcd")),
    )
    assert np.isnan(neither.value)
    assert np.isnan(neither.low)


def test_intervals_by_hand() -> None:
    """Patients a, b, c of one image each, classes 0 0 1, columns x y x.

    a and b are each other's neighbours, SO twice; a and c are, OS twice.

    Index 2 / 4. Each SO adds (1 - 1/2) / 4 = 1/8 to first order, each OS -1/8: together a and b
    +1/4, a and c -1/4; alone a 0, b 1/4, c -1/4: variance 2/16, times 3/2 for three groups, on 2
    degrees of freedom. Expected: of the class 0 without a all are y, so b counts 1 as SO for a;
    without b all are x, so a counts 1 for b. Of the class 1 (c) all are x: OS for a. For c, of
    class 0 one half is x: a counts 1/2 as OS. So 2 / 3.5, to which each SO adds (1 - 4/7) / 3.5, a
    to c -4/7 / 3.5, c to a half of it. What a and b add to the difference: 1/4 - 2 * 6/49 = 1/196;
    a and c: the same with the other sign, as all add up to 0. Alone: a 0, b 1/196, c -1/196, so as
    much in all as the pairs of groups: their share alone is left.
    """
    index = robustness(
        np.array([[1, 2], [0, -1], [0, -1]]),
        np.array([0, 0, 1]),
        np.array([0, 1, 0]),
        np.array(list("abc")),
    )
    t = 4.302652729749464  # scipy.stats.t.ppf(0.975, 2)
    assert index.value == 0.5
    assert (index.low, index.high) == pytest.approx(
        (max(0, 0.5 - t * (3 / 16) ** 0.5), min(1, 0.5 + t * (3 / 16) ** 0.5))
    )
    assert index.expected == pytest.approx(4 / 7)
    half = t * (3 / 2 * 2 / 196**2) ** 0.5
    assert (index.difference_low, index.difference_high) == pytest.approx(
        (0.5 - 4 / 7 - half, 0.5 - 4 / 7 + half)
    )


def test_cramers_v_by_hand() -> None:
    assert cramers_v(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]), 4) == pytest.approx(1)
    assert cramers_v(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 4) == 0
    assert np.isnan(cramers_v(np.zeros(4, int), np.array([0, 1, 0, 1]), 4))
    # 100 images, 2 x 2 table 40 10 / 10 40: chi2 / n = 0.36, less 1/99, over min(2 - 1/99, ...) -
    # 1.
    a, b = np.repeat([0, 0, 1, 1], [40, 10, 10, 40]), np.repeat([0, 1, 0, 1], [40, 10, 10, 40])
    assert cramers_v(a, b, 100) == pytest.approx(((0.36 - 1 / 99) / (1 - 1 / 99)) ** 0.5)
    assert cramers_v(a, b, 10) < cramers_v(a, b, 100)  # ten patients are no hundred


def test_columns_are_cut_named_and_counted() -> None:
    groups = np.arange(40).astype(str)
    weights = read_column("weight", np.append(np.arange(39.0), np.nan), groups)
    assert weights.missing == 1
    assert weights.codes[-1] == -1
    assert weights.values == ("0 to 9", "10 to 19", "20 to 28", "29 to 38")
    assert np.bincount(weights.codes[:-1]).tolist() == [10, 10, 9, 10]
    ages = read_column("age", np.append(np.arange(39.0), np.nan), groups)
    assert (ages.values, ages.notes) == (("< 20", "20-39"), (Note("column", "bands: 20 years"),)), (
        "as `clinical` has them"
    )
    site = read_column(
        "site", np.array(["a"] * 20 + ["b"] * 15 + ["c"] * 2 + ["unknown", "UNK", "null"]), groups
    )
    assert site.values == ("a", "b")
    assert site.missing == 3
    assert site.notes == (Note("column", "'c' left out: 2 groups"),)
    assert read_column("few", np.array([1, 2] * 20), groups).values == ("1", "2")
    # Twenty images of one patient are one patient.
    assert read_column(
        "site", np.array(["a"] * 20 + ["b"] * 20), np.array(["p"] * 20 + list(groups[:20]))
    ).values == ("b",)


def difference(strength: float, seed: int, skew: float = 0.5) -> tuple[float, float, float]:
    features, classes, codes, groups = drawn(strength, seed, skew=skew)
    index = robustness(nearest(features, groups), classes, codes, groups)
    return index.difference, index.difference_low, index.difference_high


def test_without_a_shortcut_the_interval_holds_zero() -> None:
    """Over 60 seeds, with scanners in equal and in unequal numbers.

    About 95 % of the intervals hold 0, and the difference has no bias.
    """
    found = np.array([difference(0.0, seed, skew) for seed in range(30) for skew in (0.5, 0.2)])
    held = ((found[:, 1] <= 0) & (found[:, 2] >= 0)).mean()
    assert held >= 0.9
    assert abs(found[:, 0].mean()) < 0.01


def test_the_index_falls_as_a_shortcut_grows() -> None:
    for seed in range(5):
        values = [difference(strength, seed) for strength in (0.0, 0.5, 1.0, 2.0)]
        assert all(a[0] > b[0] for a, b in itertools.pairwise(values)), seed
        assert values[-1][2] < 0


def split_of(n: int, meta: dict[str, np.ndarray], labels: np.ndarray) -> Split:
    ids = np.arange(n).astype(str)
    return Split([Path(f"{i}.png") for i in ids], ids, labels, ids, ids, meta)


def test_a_survey_reads_a_scanner_and_says_what_is_constant_confounded_or_missing() -> None:
    features, classes, codes, groups = drawn(2.0, 0)
    rng = np.random.default_rng(1)
    meta = {
        "scanner": np.array(["A", "B"])[codes],
        "noise": np.array(["x", "y"])[rng.integers(0, 2, len(codes))],
        "same": np.full(len(codes), "one"),
        "answer": np.where(rng.random(len(codes)) < 0.9, classes, 1 - classes).astype(float),
        "none": np.full(len(codes), ""),
    }
    split = Split(
        [Path("x.png")] * len(codes),
        np.arange(len(codes)).astype(str),
        classes,
        groups,
        groups,
        meta,
    )
    found = {
        f.column: f
        for f in survey(features.astype(np.float32), split, "binary", ("no", "yes"), list(meta))
    }
    scanner = found["scanner"]
    assert scanner.column_auc is not None
    assert scanner.column_auc.low > 0.9
    assert scanner.verdict == "follows the column"
    assert scanner.class_auc is not None
    assert 0.8 < scanner.class_auc.value < 1
    noise = found["noise"]
    assert noise.column_auc is not None
    assert noise.column_auc.low < 0.5 < noise.column_auc.high
    assert noise.verdict == "no shortcut shown"
    assert found["same"].notes == (Note("column", "constant"),)
    assert found["same"].index is None
    assert found["none"].missing == len(codes)
    assert found["none"].column_auc is None
    assert found["answer"].cramers_v > 0.6
    assert found["answer"].notes[-1].kind == "confounded"
    # it goes with the class, and features know of it nothing else
    assert found["answer"].verdict == "no shortcut shown"


def test_multilabel_tasks_get_a_finding_a_label_and_leave_uncertain_ones_out() -> None:
    features, classes, codes, groups = drawn(2.0, 3)
    labels = np.column_stack([classes, codes]).astype(float)
    labels[:30, 1] = np.nan
    split = Split(
        [Path("x.png")] * len(codes),
        np.arange(len(codes)).astype(str),
        labels,
        groups,
        groups,
        {"scanner": codes},
    )
    one, two = survey(
        features.astype(np.float32), split, "multilabel", ("ill", "scanned"), ["scanner"]
    )
    assert (one.label, one.images, two.label, two.images) == (
        "ill",
        len(codes),
        "scanned",
        len(codes) - 30,
    )
    assert one.column_auc == two.column_auc
    assert two.cramers_v > 0.95
    assert one.class_auc is not None
    assert two.class_auc is not None
    assert two.class_auc.value > one.class_auc.value


def test_the_same_answer_twice_and_in_another_order() -> None:
    features, classes, codes, groups = drawn(1.0, 4)
    order = np.random.default_rng(0).permutation(len(codes))
    a = robustness(nearest(features, groups), classes, codes, groups)
    b = robustness(
        nearest(features[order], groups[order]), classes[order], codes[order], groups[order]
    )
    assert a.value == pytest.approx(b.value)
    assert a.difference_low == pytest.approx(b.difference_low)


def test_unknown_columns_and_tasks_without_metadata_are_refused() -> None:
    split = split_of(4, {"scanner": np.arange(4)}, np.array([0, 1, 0, 1]))
    with pytest.raises(
        UserError,
        match=r"has no metadata column 'scaner'\. Allowed: scanner\. Did you mean 'scanner'\?",
    ):
        chosen_columns(split, ["scaner"], "mine")
    with pytest.raises(UserError, match="'mine' has no metadata columns"):
        chosen_columns(split_of(4, {}, np.array([0, 1, 0, 1])), [], "mine")
    assert chosen_columns(split, [], "mine") == ["scanner"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["drem"], "Unknown task 'drem'"),
        (["derm", "--data", "phantom", "--columns", "sexx"], "no metadata column 'sexx'"),
        (["derm", "--on", "tset"], "Unknown part 'tset'"),
        (["derm", "--k", "0"], "--k 0 neighbours is out of range"),
        (["derm", "--methods", "supervized"], "Did you mean 'supervised'?"),
        (["derm", "--data", "phantom", "--methods", "dvme"], "fuses several encoders"),
        (["derm", "--json", "/dev/null/at/all.json"], "cannot be written"),
        (["derm", "--csv", "/"], "/ is a folder."),
        (["derm", "--device", "cudda"], "Device 'cudda' is not there"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert medbench("shortcuts", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def tinted(root: Path, strength: float, *, n_slides: int = 40, a_slide: int = 5) -> Path:
    """Drawn lymph node patches of which every second slide was scanned with less red, as a CSV
    folder with a `scanner` column."""
    from medbench.tasks.phantoms.histology import lymph

    root.mkdir()
    whole = lymph()["train"]
    slides = np.unique(whole.groups)[:n_slides].tolist()
    scanner = dict(zip(slides, np.random.default_rng(5).permutation(n_slides) % 2, strict=True))
    with (root / "images.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "group", "split", "scanner"])
        for slide in slides:
            for i in np.flatnonzero(whole.groups == slide)[:a_slide]:
                image = whole.images[i]
                pixels = image.draw(image.seed).astype(float)
                pixels[..., 0] *= 1 - strength * scanner[slide]
                Image.fromarray(pixels.astype(np.uint8)).save(root / f"{whole.ids[i]}.png")
                part = "test" if slides.index(slide) < n_slides // 8 else "train"
                writer.writerow(
                    [
                        f"{whole.ids[i]}.png",
                        f"class{whole.labels[i]}",
                        slide,
                        part,
                        "AB"[scanner[slide]],
                    ]
                )
    return root / "images.csv"


@pytest.mark.slow
def test_a_planted_tint_is_found_on_the_command_line(
    tmp_path: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The index falls as the tint grows.

    Without a tint it is what it is expected to be, whichever slides are called scanner B: over 40
    such calls.
    """
    found = []
    for strength in (0.0, 0.1, 0.3):
        table = tinted(tmp_path / f"tint{strength}", strength)
        out = tmp_path / f"{strength}.json"
        assert (
            medbench(
                "shortcuts",
                f"folder:{table}",
                "--size",
                "64",
                "--json",
                str(out),
                "--csv",
                str(out.with_suffix(".csv")),
            )
            == 0
        )
        (encoder,) = json.loads(out.read_text())["encoders"]
        (finding,) = encoder["findings"]
        found.append(finding)
        if not strength:
            features = np.load(
                next(Path(os.environ["MEDBENCH_CACHE"]).glob("features/*/features.npy"))
            )
    values = [finding["index"]["value"] for finding in found]
    assert values[0] > values[1] > values[2]
    assert found[0]["index"]["difference_low"] <= 0 <= found[0]["index"]["difference_high"]
    assert found[2]["verdict"] == "follows the column"
    assert found[2]["column_auc"]["value"] > 0.9 > found[0]["column_auc"]["value"]
    assert "not shown" in capsys.readouterr().out
    (line,) = csv.DictReader(out.with_suffix(".csv").open())
    assert float(line["index"]) == values[2]
    assert line["verdict"] == "follows the column"
    rows = list(csv.DictReader((tmp_path / "tint0.0" / "images.csv").open()))
    rows = sorted((row for row in rows if row["split"] == "train"), key=lambda row: row["path"])
    groups, classes = (np.array([row[name] for row in rows]) for name in ("group", "label"))
    neighbours = nearest(features[: len(rows)], groups)
    names, member = np.unique(groups, return_inverse=True)
    held = 0
    for seed in range(40):
        codes = (np.random.default_rng(seed).permutation(len(names)) % 2)[member]
        index = robustness(neighbours, classes, codes, groups)
        held += index.difference_low <= 0 <= index.difference_high
    assert held >= 36


def test_nearest_is_a_stable_sort_with_many_equals() -> None:
    rng = np.random.default_rng(0)
    distance = np.round(rng.normal(size=(50, 200)), 1)
    distance[:, ::7] = np.inf
    for k in (1, 20, 200):
        assert (
            robustness_index._first(distance, k)
            == np.argsort(distance, axis=1, kind="stable")[:, :k]
        ).all()


def test_given_features_on_the_command_line(
    tmp_path: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Features that know the scanner of a drawn slide and nothing else; table, CSV and JSON say the
    same."""
    from medbench.tasks.phantoms import lymph

    parts = lymph()
    ids = np.concatenate([part.ids for part in parts.values()])
    scanner = np.concatenate([part.meta["scanner"] for part in parts.values()])
    features = np.random.default_rng(0).normal(size=(len(ids), 8))
    features[:, 0] += 4.0 * (scanner == "B")
    np.savez(tmp_path / "mine.npz", ids=ids, features=features)
    files = ("--json", str(tmp_path / "a.json"), "--csv", str(tmp_path / "a.csv"))
    assert (
        medbench(
            "shortcuts",
            "lymph",
            "--data",
            "phantom",
            "--encoder",
            f"features:{tmp_path / 'mine.npz'}",
            *files,
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert "PHANTOM" in shown
    assert "yes" in shown
    assert "scanner: A, B" in shown
    (encoder,) = json.loads((tmp_path / "a.json").read_text())["encoders"]
    (finding,) = encoder["findings"]
    assert finding["verdict"] == "follows the column"
    assert finding["column_auc"]["low"] > 0.9
    assert finding["class_auc"]["low"] < 0.5
    (line,) = csv.DictReader((tmp_path / "a.csv").open())
    assert float(line["index"]) == finding["index"]["value"]
    assert float(line["index_difference_high"]) == finding["index"]["difference_high"]
