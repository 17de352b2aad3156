from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from fakes.phantom_checks import FROZEN, auc_of_colour_and_size, pixel_hash

from medbench.schema import PARTS, Split
from medbench.stats import splits
from medbench.tasks.derm import DERM
from medbench.tasks.phantoms import dermoscopy

#: Supervised ImageNet features reach a macro AUC of 0.89 with all labels (tf_efficientnet_lite0, 64
#: px, logistic regression, test part).
SUPERVISED = 0.89


@pytest.fixture(scope="module")
def parts() -> dict[str, Split]:
    return dermoscopy.derm()


@pytest.fixture(scope="module")
def pixels(parts: dict[str, Split]) -> dict[str, np.ndarray]:
    """Of all drawings, which take seconds: what is asked of them goes with the slow tests, as a
    hash of some of them freezes all."""
    return {
        name: np.stack([image.draw(image.seed) for image in part.images])
        for name, part in parts.items()
    }


def sample() -> list[int]:
    """Seeds of the first view of each class's first ten lesions, in the order of the lesions'
    numbers."""
    kinds = np.concatenate([part.labels for part in dermoscopy.derm().values()])
    lesions = np.concatenate(
        [
            [image.seed // dermoscopy.VIEWS for image in part.images]
            for part in dermoscopy.derm().values()
        ]
    )
    first = [np.unique(lesions[kinds == c])[:10] for c in range(len(dermoscopy.CLASSES))]
    return [int(lesion) * dermoscopy.VIEWS for lesion in np.sort(np.concatenate(first))]


def test_pixels_are_frozen():
    now = pixel_hash(dermoscopy.draw_derm, sample())
    assert now == dermoscopy.DERM_PIXELS, FROZEN.format(what="drawings", name="derm", now=now)


def test_split_is_frozen(parts):
    now = splits.ids_hash(parts["test"].ids)
    assert now == dermoscopy.DERM_TEST, FROZEN.format(what="test part", name="derm", now=now)


def test_a_fresh_process_draws_the_same_pixels():
    seeds = sample()[::7]
    code = (  # in another order too: a drawing must not depend on what was drawn before it
        f"import hashlib; from medbench.tasks.phantoms.dermoscopy import draw_derm; drawn = [draw_derm(s).tobytes() for s in {seeds[::-1]}]; "
        "print(hashlib.sha256(b''.join(drawn[::-1])).hexdigest())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == pixel_hash(dermoscopy.draw_derm, seeds)


def test_listing_imports_nothing_heavy():
    code = "import sys; from medbench.tasks.phantoms import derm; derm(); print(sorted({'torch', 'sklearn', 'scipy', 'PIL'} & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_images_are_named_and_picklable(parts):
    assert DERM.classes == dermoscopy.CLASSES
    for part in parts.values():
        assert part.labels.dtype == np.int64
        assert {
            len(column)
            for column in (part.ids, part.labels, part.groups, part.bags, *part.meta.values())
        } == {len(part)}
        assert part.meta["age"].dtype == np.float64
    images = [image for part in parts.values() for image in part.images]
    ids = np.concatenate([part.ids for part in parts.values()])
    assert (
        len(set(ids))
        == len({image.key for image in images})
        == len({image.seed for image in images})
        == len(images)
    )
    assert all(
        image.key == f"derm-phantom-{dermoscopy.DERM_VERSION}:{image.seed}" for image in images
    )
    again = pickle.loads(pickle.dumps(images[0]))
    np.testing.assert_array_equal(again.draw(again.seed), images[0].draw(images[0].seed))


def test_lesions_are_whole_and_have_one_class(parts):
    owner: dict[str, tuple[str, int, float, str, str]] = {}
    for name, part in parts.items():
        np.testing.assert_array_equal(part.groups, part.bags)
        rows = zip(
            part.groups,
            part.labels,
            part.meta["age"],
            part.meta["sex"],
            part.meta["localization"],
            part.images,
            strict=True,
        )
        for group, label, age, sex, site, image in rows:
            facts = (name, int(label), float(age), str(sex), str(site))
            assert owner.setdefault(group, facts) == facts
            assert group == f"phantom_{image.seed // dermoscopy.VIEWS:04d}"


def test_proportions_follow_ham10000(parts):
    size = np.array([len(parts[name]) for name in PARTS])
    assert 1700 <= size.sum() <= 2100
    np.testing.assert_allclose(size / size.sum(), dermoscopy.SHARES, atol=0.02)
    labels = np.concatenate([part.labels for part in parts.values()])
    real = np.array([327, 514, 1099, 115, 1113, 6705, 142]) / 10_015  # HAM10000's images a class
    np.testing.assert_allclose(np.bincount(labels) / len(labels), real, atol=0.02)
    views = np.unique(np.concatenate([part.groups for part in parts.values()]), return_counts=True)[
        1
    ]
    assert views.max() == 4
    # HAM10000's lesions with two or more images
    assert (views > 1).mean() == pytest.approx(1956 / 7470, abs=0.02)
    for name, fewest in (("train", 10), ("val", 3), ("test", 5)):
        assert np.bincount(parts[name].labels, minlength=len(dermoscopy.CLASSES)).min() >= fewest


def test_meta_is_independent_of_the_class(parts):
    whole = {c: np.concatenate([p.meta[c] for p in parts.values()]) for c in ("age", "sex")}
    labels, lesions = (
        np.concatenate([getattr(p, f) for p in parts.values()]) for f in ("labels", "groups")
    )
    one = np.unique(lesions, return_index=True)[1]
    label, age, male = labels[one], whole["age"][one], (whole["sex"] == "male")[one]
    for c in range(len(dermoscopy.CLASSES)):
        n = (label == c).sum()
        assert abs(age[label == c].mean() - age.mean()) < 4 * age.std() / n**0.5
        assert abs(male[label == c].mean() - male.mean()) < 4 * 0.5 / n**0.5


@pytest.mark.slow
def test_drawings_are_images_and_no_two_are_equal(pixels):
    whole = np.concatenate(list(pixels.values()))
    assert whole.shape[1:] == (dermoscopy.SIZE, dermoscopy.SIZE, 3)
    assert whole.dtype == np.uint8
    assert len({image.tobytes() for image in whole}) == len(whole)
    assert whole.reshape(len(whole), -1).std(1).min() > 3  # of 255: none is blank


@pytest.mark.slow
def test_views_differ_but_show_one_lesion(parts, pixels):
    """Views of a lesion are closer to each other than to another lesion of the class, in what
    rotation, shift and white balance leave alone."""
    part, image = parts["train"], pixels["train"].astype(float)
    look = np.sort((image / image.mean((1, 2), keepdims=True)).reshape(len(image), -1, 3), axis=1)[
        :, ::64
    ].reshape(len(image), -1)
    same, other = [], []
    for group in np.unique(part.groups):
        mine = np.flatnonzero(part.groups == group)
        if len(mine) < 2:
            continue
        a, b = mine[:2]
        assert np.abs(image[a] - image[b]).mean() > 2
        strangers = np.flatnonzero((part.labels == part.labels[a]) & (part.groups != group))
        same.append(np.abs(look[a] - look[b]).mean())
        other.append(np.median(np.abs(look[a] - look[strangers]).mean(1)))
    assert np.mean(np.array(same) < np.array(other)) > 0.75


@pytest.mark.slow
def test_colour_and_size_do_not_give_the_class_away(parts, pixels):
    assert (
        auc_of_colour_and_size(pixels, {name: part.labels for name, part in parts.items()})
        < SUPERVISED - 0.15
    )
