"""The drawn stand-ins beside dermoscopy: frozen, plausible in their numbers, and not to be read
from colour or size. See also test_phantom."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
from fakes.phantom_checks import FROZEN, auc_of_colour_and_size, pixel_hash

from medbench.data.task_data import open_task
from medbench.schema import PARTS, Grid, Split, registry
from medbench.stats import splits
from medbench.tasks.phantoms import chest_xray, fundus, histology


@dataclass(frozen=True, eq=False)
class Phantom:
    """supervised: what ImageNet features reach with all labels (tf_efficientnet_lite0, 64 px,
    linear probe, test part): AUC."""

    name: str
    module: ModuleType
    make: Callable[[], dict[str, Split]]
    draw: Callable[[int], np.ndarray]
    supervised: float

    def frozen(self, what: str) -> str:
        return str(getattr(self.module, f"{self.name.upper()}_{what}"))


PHANTOMS = (
    Phantom("chest", chest_xray, chest_xray.chest, chest_xray.draw_chest, 0.75),
    Phantom("retina", fundus, fundus.retina, fundus.draw_retina, 0.89),
    Phantom("lymph", histology, histology.lymph, histology.draw_lymph, 0.90),
)


@pytest.fixture(scope="module", params=PHANTOMS, ids=lambda phantom: phantom.name)
def phantom(request: pytest.FixtureRequest) -> Phantom:
    return request.param


def seeds_of(parts: dict[str, Split]) -> list[int]:
    """Every 19th image."""
    return [image.seed for part in parts.values() for image in part.images][::19]


def test_pixels_and_split_are_frozen(phantom):
    parts = phantom.make()
    now = pixel_hash(phantom.draw, seeds_of(parts))
    assert now == phantom.frozen("PIXELS"), FROZEN.format(
        what="drawings", name=phantom.name, now=now
    )
    now = splits.ids_hash(parts["test"].ids)
    assert now == phantom.frozen("TEST"), FROZEN.format(
        what="test part", name=phantom.name, now=now
    )


def test_a_fresh_process_draws_the_same_pixels_and_loads_nothing_heavy(phantom):
    seeds = seeds_of(phantom.make())[::6]
    code = (  # in another order too: a drawing must not depend on what was drawn before it
        f"import hashlib, sys; from {phantom.module.__name__} import draw_{phantom.name} as draw; drawn = [draw(s).tobytes() for s in {seeds[::-1]}]; "
        "print(hashlib.sha256(b''.join(drawn[::-1])).hexdigest(), sorted({'torch', 'sklearn', 'scipy', 'PIL'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == f"{pixel_hash(phantom.draw, seeds)} []"


def test_groups_have_several_images_and_keep_their_facts(phantom):
    parts = phantom.make()
    whole = np.concatenate([part.groups for part in parts.values()])
    sizes = np.unique(whole, return_counts=True)[1]
    assert 1000 <= len(whole) <= 2000
    assert (sizes > 1).mean() > 0.5
    size = np.array([len(parts[name]) for name in PARTS])
    np.testing.assert_allclose(size / size.sum(), phantom.module.SHARES, atol=0.03)
    for part in parts.values():
        for column in {"age", "sex", "camera", "scanner"} & set(part.meta):
            assert len(set(zip(part.groups, part.meta[column], strict=True))) == len(
                set(part.groups)
            ), column


def test_proportions_follow_the_real_set():
    chest = chest_xray.chest()
    stated = np.concatenate([chest[name].labels for name in ("train", "val")])
    np.testing.assert_allclose((stated == 1).mean(0), chest_xray.STATED, atol=0.05)
    np.testing.assert_allclose(np.isnan(stated).mean(0), chest_xray.OPEN, atol=0.03)
    assert not np.isnan(chest["test"].labels).any()
    images = np.concatenate([part.meta["view"] for part in chest.values()])
    # CheXpert's train.csv
    assert (images == "Lateral").mean() == pytest.approx(32_387 / 223_414, abs=0.03)
    patients = np.unique(
        np.concatenate([part.groups for part in chest.values()]), return_counts=True
    )[1]
    assert (patients > 1).mean() == pytest.approx(41_959 / 64_540, abs=0.05)
    grades = np.concatenate([part.labels for part in fundus.retina().values()])
    np.testing.assert_allclose(
        np.bincount(grades) / len(grades), np.array(fundus.GRADES) / 3_662, atol=0.03
    )
    patches = np.concatenate([part.labels for part in histology.lymph().values()])
    assert patches.mean() == pytest.approx(0.5, abs=0.05)


def test_policies_for_open_findings_share_images_and_split():
    tasks = registry.tasks()
    ignored, ones = tasks["chexpert"].phantom(), registry.task("chexpert:ones").phantom()
    assert not np.isnan(ones["train"].labels).any()
    for name in PARTS:
        assert ignored[name].ids.tolist() == ones[name].ids.tolist()
        known = ~np.isnan(ignored[name].labels)
        np.testing.assert_array_equal(ignored[name].labels[known], ones[name].labels[known])
        assert (ones[name].labels[~known] == 1).all()
    assert (
        tasks["retina"].phantom()["test"].ids.tolist()
        == tasks["eyepacs"].phantom()["test"].ids.tolist()
    )
    for name, classes in (("chest", chest_xray.FINDINGS), ("chexpert", chest_xray.FINDINGS)):
        assert tasks[name].classes == classes


def test_meta_is_independent_of_the_labels(phantom):
    """Within four standard errors, a group counting once.

    Projection goes with view, and both with nothing else.
    """
    parts = phantom.make()
    labels = np.concatenate([part.labels for part in parts.values()]).astype(float)
    groups = np.concatenate([part.groups for part in parts.values()])
    outcome = (
        labels
        if labels.ndim > 1
        else np.stack([labels == c for c in range(int(labels.max()) + 1)], 1).astype(float)
    )
    names, member = np.unique(groups, return_inverse=True)
    known = ~np.isnan(outcome)
    per_group = np.stack(
        [np.bincount(member, np.where(known, outcome, 0)[:, c]) for c in range(outcome.shape[1])], 1
    )
    counted = np.stack(
        [np.bincount(member, known[:, c].astype(float)) for c in range(outcome.shape[1])], 1
    )
    rate = per_group / np.maximum(counted, 1)
    for column in {"age", "sex", "camera", "scanner"} & set(parts["train"].meta):
        values = np.concatenate([part.meta[column] for part in parts.values()])
        first = values[np.unique(groups, return_index=True)[1]]
        sides = (
            [first >= np.median(first)]
            if first.dtype.kind == "f"
            else [first == value for value in np.unique(first)]
        )
        for side in sides:
            gap = rate[side].mean(0) - rate[~side].mean(0)
            error = rate.std(0) * np.sqrt(1 / side.sum() + 1 / (~side).sum())
            assert (np.abs(gap) < 4 * error).all(), (column, gap, error)
    assert len(names) == len(first)


def test_a_positive_patch_holds_tumour_in_its_centre_and_a_negative_one_does_not():
    """PCam's rule, on the masks that the drawings use."""
    from medbench.tasks.phantoms.drawing import SIZE, Canvas

    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    canvas = Canvas(
        (columns - SIZE / 2) / 16,
        (rows - SIZE / 2) / 16,
        complex(16, 0),
        complex(SIZE / 2, SIZE / 2),
    )
    central = np.maximum(np.abs(canvas.x), np.abs(canvas.y)) * 16 < histology.CENTRE
    around = []
    for seed in range(60):
        rng = np.random.Generator(np.random.PCG64([seed]))
        positive = histology._tumour(canvas, rng, positive=True, rim=False)
        assert positive[central].sum() > 20
        rim = histology._tumour(canvas, rng, positive=False, rim=True)
        assert rim[central].sum() == 0
        around.append(rim.sum())
        assert histology._tumour(canvas, rng, positive=False, rim=False).sum() == 0
    assert np.mean(np.array(around) > 0) > 0.8


def test_eyes_are_mirrored_and_the_disc_lies_on_the_nose_side():
    parts = fundus.retina()
    part = parts["test"]
    for image, side in list(zip(part.images, part.meta["eye"], strict=True))[:24]:
        pixels = image.draw(image.seed).astype(float)
        if part.labels[part.ids.tolist().index(f"phantom{image.seed // 2:04d}_{side}")]:
            continue  # exudates and scars are as bright as the disc
        blue = pixels[20:44, :, 2]
        bright = np.unravel_index(blue.argmax(), blue.shape)[1]
        assert (bright > 32) == (side == "right"), image.seed


def test_colour_and_size_do_not_give_the_class_away(phantom):
    """On every third image of train, and on the test part.

    The drawings are images, none blank, no two equal.
    """
    parts = phantom.make()
    pixels, labels = {}, {}
    for name in ("train", "test"):
        index = np.arange(0, len(parts[name]), 3 if name == "train" else 1)
        pixels[name] = np.stack([phantom.draw(parts[name].images[i].seed) for i in index])
        labels[name] = parts[name].labels[index]
    whole = np.concatenate(list(pixels.values()))
    assert whole.shape[1:] == (64, 64, 3)
    assert whole.dtype == np.uint8
    assert len({image.tobytes() for image in whole}) == len(whole)
    assert whole.reshape(len(whole), -1).std(1).min() > 3
    assert phantom.supervised - auc_of_colour_and_size(pixels, labels) > 0.1


@pytest.mark.parametrize(
    ("name", "word"),
    [("chest", "patient"), ("retina", "patient"), ("lymph", "slide"), ("lymph-kaggle", "slide")],
)
def test_a_phantom_knows_its_groups_and_bears_no_mark_of_the_real_images(name, word, tmp_path):
    task = registry.task(name)
    data = open_task(task, Grid(tasks=(name,), data="phantom"), tmp_path, [])
    assert data.task.groups == word
    assert data.marks == ()
    assert task.marks
