"""The audit: planted copies, look-alikes, torn splits, contradicting labels, metadata that gives
the label away; and what a run makes of it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from scipy import ndimage

from medbench import images
from medbench.audit import dataset
from medbench.audit.dataset import (
    candidate_pairs,
    checks,
    detail,
    duplicates,
    hamming_search,
    label_errors,
    likeness,
    local_points,
    registration,
    saved_reports,
)
from medbench.data.asked_task import as_asked
from medbench.data.task_data import TaskData
from medbench.schema import Grid, Mark, Note, Split, UserError, registry


def drawn(n: int) -> list[Image.Image]:
    """n different lesions of the dermoscopy phantom, one picture each."""
    phantom = registry.task("derm").phantom
    assert phantom is not None
    split = phantom()["train"]
    _, first = np.unique(split.groups, return_index=True)
    return [Image.fromarray(split.images[i].draw(split.images[i].seed)) for i in sorted(first)[:n]]


def changed(source: Image.Image, how: str) -> Image.Image:
    w, h = source.size
    if how == "resized":
        return source.resize((w * 3 // 4, h * 3 // 4), Image.Resampling.BICUBIC)
    if how == "mirrored":
        return source.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if how == "cropped":
        return source.crop((w // 8, 0, w, h * 7 // 8))
    if how == "turned":
        return source.transpose(Image.Transpose.ROTATE_90)
    if how == "lit":
        return ImageEnhance.Contrast(ImageEnhance.Brightness(source).enhance(1.2)).enhance(0.75)
    if how == "labelled":
        copy = source.copy()
        ImageDraw.Draw(copy).rectangle(
            (w // 4, h // 4, w // 4 + w // 5, h // 4 + h // 10), fill=(255, 255, 255)
        )
        return copy
    stream = io.BytesIO()
    source.save(stream, "JPEG", quality=60)
    return Image.open(stream).convert("RGB")


HOWS = ("resized", "mirrored", "cropped", "recompressed")


@pytest.fixture(scope="module")
def lesions() -> list[Image.Image]:
    return drawn(100)


def saved(folder: Path, pictures: list[Image.Image]) -> Path:
    folder.mkdir(parents=True)
    for i, picture in enumerate(pictures):
        picture.save(folder / f"{i:03d}.png")
    return folder


SHORT = duplicates.Effort(random=24, patience=32, limit=150)


@pytest.mark.parametrize(
    ("share", "n_lesions"),
    [
        pytest.param(0.01, 100, marks=pytest.mark.slow),
        (0.05, 60),
        pytest.param(0.2, 50, marks=pytest.mark.slow),
    ],
)
def test_planted_copies_are_found_and_nothing_else(
    share: float,
    n_lesions: int,
    lesions: list[Image.Image],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = saved(tmp_path / "lesions", lesions[:n_lesions])
    n = round(share * n_lesions)
    for k in range(n):
        changed(lesions[7 + 4 * k], HOWS[k % 4]).save(folder / f"copy{k:02d}.png")
    subject = dataset.of_list(folder, images.cache_folder())
    assert subject.labels is None
    report = dataset.audit(subject, images.cache_folder(), effort=SHORT)
    found = {frozenset((pair["image"], pair["other"])) for pair in report.pairs}
    wanted = {frozenset((f"copy{k:02d}.png", f"{7 + 4 * k:03d}.png")) for k in range(n)}
    recall, precision = len(found & wanted) / len(wanted), len(found & wanted) / max(1, len(found))
    with capsys.disabled():
        print(
            f"\n  phantom, {share:.0%} copies: recall {recall:.3f}, precision {precision:.3f}",
            end="",
        )
    assert recall >= 0.95
    assert precision >= 0.95


def test_alignment_finds_the_map(lesions: list[Image.Image]) -> None:
    """A known crop, mirrored: every point must land where the crop took it from."""
    whole = np.stack([np.asarray(picture.resize((112, 112))) for picture in lesions[:4]])
    part = np.stack(
        [
            np.asarray(Image.fromarray(x[10:94, 20:104, :][:, ::-1]).resize((112, 112)))
            for x in whole
        ]
    )
    correlation, overlap, maps = registration.align(
        np.concatenate([whole, part]), np.arange(8).reshape(2, 4).T
    )
    assert (correlation > 0.9).all()
    seen = detail.picture_of(detail.grey_of(whole)).numpy()[:, 0]
    assert overlap == pytest.approx(seen[:, 10:94, 20:104].sum((1, 2)) / seen.sum((1, 2)), abs=0.05)
    # of the crop, in the whole's coordinates
    middle = np.array([2 * 62 / 112 - 1, 2 * 52 / 112 - 1, 1.0])
    assert maps @ middle == pytest.approx(np.zeros((4, 2)), abs=0.05)
    assert maps[:, 0, 0] == pytest.approx([-112 / 84] * 4, abs=0.06), "mirrored"
    assert maps[:, 1, 1] == pytest.approx([112 / 84] * 4, abs=0.06)


def test_the_search_is_the_plain_sum_over_every_shift() -> None:
    """Unscaled, in each of the eight ways.

    A shift that leaves less than half of the area in common is none.
    """
    a, b = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
    found = registration._starts(registration._search(a[None]), registration._search(b[None]))
    unscaled = found[0][0].reshape(8, -1)[:, 0].numpy()
    for way, x in enumerate(registration._ways(a[None])[0].numpy()):
        best = -1.0
        for dy in range(-15, 16):
            for dx in range(-15, 16):
                one = x[max(dy, 0) : 16 + dy, max(dx, 0) : 16 + dx]
                other = b.numpy()[max(-dy, 0) : 16 - dy, max(-dx, 0) : 16 - dx]
                if one.size > 128:
                    best = max(
                        best,
                        (one * other).sum()
                        / np.sqrt((one**2).sum() * (other**2).sum())
                        * np.sqrt(one.size / 256),
                    )
        assert unscaled[way] == pytest.approx(best, abs=1e-4)


def test_a_copy_is_not_left_on_the_way(lesions: list[Image.Image]) -> None:
    """Pairs that end as copies are fitted to the end.

    What is left early is none, and is never said to be more than it is.
    """
    sizes = [np.asarray(picture.resize((112, 112))) for picture in lesions[:16]]
    made = [np.asarray(changed(lesions[i], HOWS[i % 4]).resize((112, 112))) for i in range(8)]
    pack = np.stack([*sizes, *made])
    index = np.array([*((i, 16 + i) for i in range(8)), *((i, i + 1) for i in range(15))])
    whole, quick = (registration.align(pack, index, all_the_way=way)[0] for way in (True, False))
    assert quick[:8] == pytest.approx(whole[:8], abs=0.01)
    assert (whole[:8] > 0.7).all()
    assert (quick[8:] <= whole[8:] + 0.01).all()
    assert (quick[8:] < whole[8:] - 0.01).any(), "some are left before they are fitted"


def test_eight_hashes_are_those_of_the_turned_images(lesions: list[Image.Image]) -> None:
    pack = np.stack([np.asarray(picture.resize((64, 64))) for picture in lesions[:20]])
    codes = candidate_pairs.hashes(pack)
    turned = np.stack([np.rot90(x) for x in pack])
    plain = candidate_pairs.hashes(turned)[0]
    nearest = (codes != plain).sum(2).min(0)
    assert nearest.max() <= 4, "the least frequencies lie near the median"
    assert np.median((codes[0] != plain).sum(1)) > 10


def test_neighbours_come_in_blocks_and_never_of_one_group(
    lesions: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = np.stack(
        [
            np.asarray(picture.resize((64, 64)))
            for picture in [*lesions[:40], *(changed(one, "resized") for one in lesions[:20])]
        ]
    )
    codes, groups = candidate_pairs.hashes(pack), np.arange(60)
    whole = list(candidate_pairs.NearHashes(codes, groups, 14))
    assert {(i, i + 40) for i in range(20)} <= set(whole[:25])
    monkeypatch.setattr(hamming_search, "_BLOCK", 60 * 7)
    monkeypatch.setattr(hamming_search, "_IMAGES", 7)
    assert list(candidate_pairs.NearHashes(codes, groups, 14)) == whole
    groups[40:] = groups[:20]
    points = [(i, j) for i, j, _ in local_points.by_points(pack, groups, 4)]
    for found in (list(candidate_pairs.NearHashes(codes, groups, 14)), points):
        assert found
        assert not {(i, i + 40) for i in range(20)} & set(found)


def drawn_codes(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """(8, n, 63) bool, the codes of n images in eight ways.

    unrelated: a third of them a few bits from another. films: of one anatomy. one picture: hardly
    any two differ. twins: a code for eleven images each, its ways the same.
    """
    spread = {"unrelated": 0.5, "films": 0.2, "one picture": 0.01, "twins": 0.5}[kind]
    codes = (rng.random(63) < 0.5) ^ (rng.random((8, n, 63)) < spread)
    if kind == "unrelated":
        copies = rng.integers(0, n, n // 3)
        codes[:, : len(copies)] = codes[:, copies] ^ (rng.random((8, len(copies), 63)) < 0.06)
    if kind == "twins":
        codes = codes[:1, np.arange(n) // 11].repeat(8, 0)
    return codes


@pytest.mark.parametrize(
    ("n", "groups", "kind", "far"),
    [
        (150, 50, "unrelated", 14),
        (150, 150, "films", 14),
        (150, 2, "films", 5),
        (150, 50, "one picture", 8),
        (150, 50, "twins", 14),
        (150, 2, "twins", 5),
        (50, 50, "one picture", 3),
        (2, 2, "films", 8),
    ],
)
@pytest.mark.parametrize("how", ["as it costs", "looked up", "compared"])
def test_nearest_codes_are_those_of_all_comparisons(
    n: int, groups: int, kind: str, far: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two groups are a pool and a task.

    Equally near ones come by their number. What is sure comes step by step, none of it nearer than
    what came before; and of some images alone it is the same.
    """
    rng = np.random.default_rng(n + far)
    codes = drawn_codes(kind, n, rng)
    own = rng.integers(0, groups, n)
    if how == "looked up":
        made = {"_LOOK_UP": 0, "_GIVEN": 0, "_BLOCK": 50_000, "_IMAGES": 137, "_LARGE": 100}
        for name, value in made.items():
            monkeypatch.setattr(hamming_search, name, value)
        monkeypatch.setattr(hamming_search.Search, "_compared", lambda *of: pytest.fail("compared"))
    if how == "compared":
        monkeypatch.setattr(hamming_search, "_LOOK_UP", 10**9)
    bits = np.stack([(codes[:, i, None] != codes[0]).sum(2).min(0) for i in range(n)])
    others = [
        sorted(np.flatnonzero((bits[i] <= far) & (own != own[i])), key=lambda j: (bits[i, j], j))
        for i in range(n)
    ]
    expected = [(i, int(bits[i, j]), int(j)) for i in range(n) for j in others[i][:4]]
    assert hamming_search.nearest(codes, own, 4, far).tolist() == list(map(list, expected))
    search = hamming_search.Search(codes, own, 4, far)
    parts = [part[:, 1] for part in search.of(np.arange(n)) if len(part)]
    assert all(one.max() < other.min() for one, other in pairwise(parts))
    some = np.arange(0, n, 7)
    of_some = sorted(map(tuple, np.concatenate(list(search.of(some))).tolist()))
    assert of_some == [row for row in expected if row[0] in set(some.tolist())]
    near: dict[tuple[int, int], int] = {}
    for i, distance, j in expected:
        pair = (min(i, j), max(i, j))
        near[pair] = min(distance, near.get(pair, distance))
    hashes = candidate_pairs.NearHashes(codes, own, far)
    order = sorted(near, key=lambda pair: (near[pair], pair))
    assert list(islice(hashes, 3)) == order[:3]
    asked = [*order[::5], (0, n - 1)]
    assert hashes.bits(asked) == {pair: near[pair] for pair in asked if pair in near}
    assert list(candidate_pairs.NearHashes(codes, own, far)) == order


def test_copies_of_one_code_are_not_looked_through_one_by_one() -> None:
    """A thousand blank images, say, are a few codes to a search; the neighbours are the same."""
    codes = np.zeros((8, 1000, 63), bool)
    search = hamming_search.Search(codes, np.arange(1000), 4, 14)
    assert search.rows.tolist() == [0, 1, 2, 3, 4]
    (first, *_) = search.of(np.array([2, 999]))
    assert first.tolist() == [[2, 0, j] for j in (0, 1, 3, 4)] + [[999, 0, j] for j in range(4)]


def test_hashes_are_compared_no_further_than_pairs_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What ends the search for copies ends the search for near hashes; and what it tries, and
    when it ends, does not hang on how the pairs come."""
    judge = duplicates.Judge(np.zeros((0, 1, 1, 3), np.uint8))
    likeness = {(i, 99): float(i % 7 == 0 and i < 40) for i in range(99)}

    def tried(self: object, block: list[tuple[int, int]]) -> np.ndarray:
        nowhere = np.zeros((2, 3))
        judge.tried.update({p: duplicates._Tried(likeness[p], 1.0, nowhere) for p in block})
        return np.array([likeness[pair] for pair in block])

    monkeypatch.setattr(duplicates.Judge, "_try", tried)
    taken: list[tuple[int, int]] = []
    pairs = (taken.append(pair) or pair for pair in list(likeness))  # type: ignore[func-returns-value]
    assert judge.search(pairs, 0.5, 16, 1000)
    # the last copy is the 36th; in blocks of 16 the search ends with the first that ends 16 later
    assert len(taken) == len(judge.tried) == 64
    assert not judge.search(pairs, 0.5, 16, 64), "a limit ends it, and there are more"
    assert len(judge.tried) == 64
    assert judge.search(iter([]), 0.5, 16, 64), "there are no more"


def test_points_of_a_turned_or_mirrored_image_are_described_alike(
    lesions: list[Image.Image],
) -> None:
    image = np.asarray(lesions[0].resize((112, 112)))
    plain, _ = local_points._descriptions(image[None])
    for other in (np.rot90(image), image[:, ::-1]):
        moved, _ = local_points._descriptions(np.ascontiguousarray(other)[None])
        assert torch.cdist(plain, moved).min(1).values.median() < 0.01
    different, _ = local_points._descriptions(np.asarray(lesions[1].resize((112, 112)))[None])
    assert torch.cdist(plain, different).min(1).values.median() > 0.1


def test_crops_share_points_with_their_source_alone() -> None:
    sources = alike("chexpert")
    pack = np.stack(
        [
            np.asarray(picture.resize((112, 112)))
            for picture in [*sources, *(changed(one, "cropped") for one in sources[:20])]
        ]
    )
    n = len(sources)
    found = local_points.by_points(pack, np.arange(len(pack)), 4)
    assert len({(i, j) for i, j, _ in found[:25]} & {(i, n + i) for i in range(20)}) >= 19


@cache
def alike(task: str, n: int = 48) -> list[Image.Image]:
    """n phantoms of a task that are taken alike: frontal films, or right eyes, one a patient."""
    phantom = registry.task(task).phantom
    assert phantom is not None
    found: dict[str, Image.Image] = {}
    for split in phantom().values():
        for image, name, group in zip(
            split.images, split.ids.tolist(), split.groups.tolist(), strict=True
        ):
            if (
                "lateral" not in name
                and "left" not in name
                and len(found) < n
                and group not in found
            ):
                found[group] = Image.fromarray(image.draw(image.seed))
    return list(found.values())


@pytest.mark.parametrize("task", ["chexpert", pytest.param("retina", marks=pytest.mark.slow)])
def test_look_alikes_are_no_copies_and_each_kind_of_copy_is_one(task: str) -> None:
    """On the audits before, up to 12 in 100 pairs of aligned films and eyes were called leaks.

    Then recompressed and labelled copies were missed.
    """
    sources = alike(task)
    hows = [*HOWS, "turned", "lit", "labelled"]
    made = [changed(sources[3 * k], how) for k, how in enumerate(hows)]
    pack = np.stack(
        [
            np.asarray(picture.resize((112, 112), Image.Resampling.BICUBIC))
            for picture in [*sources, *made]
        ]
    )
    effort = duplicates.Effort(random=160, patience=32, limit=80, per_image=0)
    found = duplicates.near(pack, np.arange(len(pack)), effort)
    assert {(pair.i, pair.j): pair.kind for pair in found.pairs if pair.kind != "possible"} == {
        (3 * k, len(sources) + k): "near" for k in range(len(hows))
    }
    one = next(pair for pair in found.pairs if pair.j == len(sources) + hows.index("labelled"))
    assert (
        one.correlation > found.threshold.sure > found.threshold.possible > found.threshold.random
    )


def aligned_chests(n: int) -> list[Image.Image]:
    """Ribs, lungs and a spine in the same place in all; a faint texture of each one's own."""
    y, x = np.mgrid[:200, :200] / 200 - 0.5
    lungs = sum(np.exp(-((((x - at) / 0.17) ** 2 + (y / 0.36) ** 2) ** 3)) for at in (-0.2, 0.2))
    ribs = sum(np.exp(-(((y + 0.4 - 0.08 * k - 0.5 * np.abs(x)) / 0.012) ** 2)) for k in range(10))
    shared = 150 - 80 * lungs + 45 * np.exp(-((x / 0.05) ** 2)) + 30 * ribs * (np.abs(x) < 0.42)
    found = []
    for k in range(n):
        own = ndimage.gaussian_filter(np.random.default_rng([31, k]).normal(0, 1, x.shape), 1.5)
        grey = np.clip(np.roll(shared, k % 3 - 1, 1) + 30 * own, 0, 255).astype(np.uint8)
        found.append(Image.fromarray(grey).convert("RGB"))
    return found


def test_aligned_films_are_no_copies_and_a_cropped_or_equalised_one_is() -> None:
    """The likeness before took films of one pose for each other as much as for their copies.

    Of six crops it found one.
    """
    films = aligned_chests(20)
    pictures = [*films, films[3].crop((20, 12, 185, 170)), ImageOps.equalize(films[7])]
    sizes = {
        size: np.stack(
            [np.asarray(one.resize((size, size), Image.Resampling.BICUBIC)) for one in pictures]
        )
        for size in (112, 160)
    }
    effort = duplicates.Effort(random=60, patience=24, limit=70, per_image=0, closer=40)
    found = duplicates.near(sizes[112], np.arange(len(pictures)), effort, sizes[160].__getitem__)
    assert {(pair.i, pair.j): pair.kind for pair in found.pairs} == {
        (3, 20): "near",
        (7, 21): "near",
    }
    assert np.tanh(1.3) < found.threshold.random < found.threshold.sure, "they are much alike"


def test_what_is_in_doubt_is_read_again_and_judged_by_that_look() -> None:
    """Two pictures of one coarse content look like one at the search's size.

    Read finer they are two, and a copy stays one.
    """
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 256, (12, 160, 160, 1)).repeat(3, 3).astype(np.uint8)
    fine[11] = fine[10]
    asked: list[int] = []

    def read(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        found: np.ndarray = fine[rows]
        return found

    identity = np.eye(2, 3)
    judge = duplicates.Judge(fine)
    judge.tried = {
        (2 * k, 2 * k + 1): duplicates._Tried(likeness, 1.0, identity)
        for k, likeness in enumerate([0.2, 0.95, 0.9, 0.9999, 0.1, 0.92])
    }
    doubtful = judge.doubtful(duplicates.Threshold(0.94, 0.87, 0.5))
    assert doubtful == [(2, 3), (10, 11), (4, 5)], (
        "the likest first; neither what is sure nor what is far below"
    )
    random = duplicates._Pairs(
        np.array([[0, 5], [1, 6], [2, 7]]), np.repeat(identity[None], 3, 0), np.zeros(3)
    )
    found = duplicates._looked_at_closer(read, random, doubtful, judge.tried, 2)
    assert len(found) == 2 + 3
    assert found[3] > 0.99 > 0.5 > found[[0, 1, 2, 4]].max()
    assert sorted(asked) == sorted({0, 5, 1, 6, 2, 3, 10, 11, 4}), "each image once"


def test_a_picture_much_like_several_is_a_possible_copy_of_each() -> None:
    """Round cells without lobes: 3 of 225 pairs were taken for copies, of one cell with three
    others."""
    judge = duplicates.Judge(np.zeros((9, 1, 1, 3), np.uint8))
    given = {
        (0, 1): 0.95,
        (0, 2): 0.945,
        (3, 4): 0.95,
        (3, 5): 0.6,
        (5, 6): 0.9995,
        (5, 7): 0.999,
        (7, 8): 0.88,
    }
    judge.tried = {
        pair: duplicates._Tried(likeness, 1.0, np.eye(2, 3)) for pair, likeness in given.items()
    }
    kinds = {
        pair: kind
        for pair, (_, kind) in judge.verdicts(duplicates.Threshold(0.93, 0.87, 0.6)).items()
    }
    assert kinds == {
        (0, 1): "possible",
        (0, 2): "possible",
        (3, 4): "near",
        (3, 5): "",
        (5, 6): "near",
        (5, 7): "near",
        (7, 8): "possible",
    }, "two sure copies of one picture stay copies"


def test_maps_are_fitted_to_a_fraction_of_a_fine_pixel() -> None:
    y, x = np.mgrid[:240, :240]
    big = ndimage.gaussian_filter(np.random.default_rng(5).normal(0, 1, (240, 240)), 2.0)
    shifted = [
        ndimage.map_coordinates(big, [y[40:200, 40:200], x[40:200, 40:200] + off], order=3)
        for off in (0.0, 1.5)
    ]
    pack = np.stack(
        [
            np.clip(128 + 400 * one, 0, 255).astype(np.uint8)[..., None].repeat(3, 2)
            for one in shifted
        ]
    )
    (found,) = registration.refined(pack, np.array([[0, 1]]), np.eye(2, 3)[None])
    assert found[:, :2] == pytest.approx(np.eye(2), abs=0.005)
    assert found[:, 2] * 80 == pytest.approx([-1.5, 0], abs=0.15)


def test_a_pair_stands_out_by_what_its_images_share_with_no_other() -> None:
    """Aligned images have many votes with all; a crop has few, but hardly any with another."""
    first, second = np.array([0, 0, 1, 3, 1]), np.array([1, 2, 2, 4, 4])
    votes = np.array([20.0, 19.0, 18.0, 4.0, 0.5])
    found = local_points._standing_out(first, second, votes, 6)
    assert found.argmax() == 3
    assert found[3] == pytest.approx(2 * 4 / 1), "of 3, which has no other"


def test_points_are_halved_at_the_median_until_they_fill_leaves() -> None:
    random = torch.Generator().manual_seed(0)
    points = torch.randn(30_000, 4, generator=random).half()
    leaves = local_points._tree(points, random)
    assert leaves.shape == (256, 118)
    assert len(leaves.unique()) == 30_000
    spread = points[leaves].float().var(1).mean()
    assert spread < 0.2, "those of a leaf lie together"
    values = torch.tensor([2.0, 1, 1, 3, 1, 0])
    assert local_points._halved(values).tolist() == [1, 2, 5, 0, 3, 4]


def test_a_disc_is_a_point_and_a_line_is_none() -> None:
    y, x = np.mgrid[:64, :64]
    grey = torch.from_numpy(
        np.exp(-((x - 20.0) ** 2 + (y - 20.0) ** 2) / 8) + np.exp(-((x - 48.0) ** 2) / 16)
    ).float()[None, None]
    blurred = torch.cat([detail.blur(grey, sigma) for sigma in local_points._BLURS[:3]], 1)
    places = torch.tensor([[20 * 64 + 20, 40 * 64 + 48]])
    disc, line = local_points._roundness(blurred, places)[0].tolist()
    assert disc > 0.95 > 0.05 > line


def test_copies_are_alike_in_spite_of_a_label_or_compression_and_others_are_not() -> None:
    sources = alike("chexpert")[:6]
    for how in ("recompressed", "labelled"):
        made = [changed(source, how) for source in sources]
        pack = np.stack(
            [
                np.asarray(picture.resize((112, 112), Image.Resampling.BICUBIC))
                for picture in [*sources, *made]
            ]
        )
        same = np.repeat(np.eye(2, 3)[None], 6, 0)
        copies = likeness.likeness(pack, np.array([(i, 6 + i) for i in range(6)]), same)
        others = likeness.likeness(pack, np.array([(i, 6 + (i + 1) % 6) for i in range(6)]), same)
        assert copies.min() > max(0.95, others.max())


def test_a_mirrored_copy_is_alike_under_its_map_alone() -> None:
    image = np.asarray(alike("retina")[0].resize((112, 112)))
    pack = np.stack([image, image[:, ::-1]])
    mirrored, same = np.diag([-1.0, 1.0, 0.0])[:2], np.eye(2, 3)
    over, beside = likeness.likeness(pack, np.array([[0, 1], [0, 1]]), np.stack([mirrored, same]))
    assert over > 0.99
    assert beside < 0.7


def test_a_frame_is_the_same_in_a_darker_copy() -> None:
    """A fixed grey level took the rim of dark pictures for their frame, and nine tenths of some."""
    y, x = np.mgrid[:112, :112] - 55.5
    disc = np.where(np.hypot(x, y) < 42, 0.4 - 0.25 * (np.hypot(x, y) / 42) ** 2, 0.01).astype(
        np.float32
    )
    seen = detail.picture_of(torch.from_numpy(np.stack([disc, 0.6 * disc])[:, None]))
    assert 0.3 < seen[0].mean() < 0.45
    assert (seen[0] != seen[1]).float().mean() < 0.02


def test_thresholds_stand_above_pairs_drawn_at_random() -> None:
    rng = np.random.default_rng(0)
    random = np.tanh(rng.normal(0.4, 0.1, 2_000))
    found = duplicates._threshold(random, 1_000, 0.1)
    assert np.arctanh(found.sure) == pytest.approx(0.4 + 1.1 * 4.61 * 0.1, abs=0.05), (
        "2 in a million pairs"
    )
    assert 0.4 < found.possible < found.sure < duplicates._threshold(random, 10_000, 0.1).sure, (
        "more images have more pairs"
    )
    copies = duplicates._threshold(np.concatenate([random, np.ones(60)]), 1_000, 0.1)
    assert copies.sure == pytest.approx(found.sure, abs=0.03), (
        "a few copies among them change little"
    )
    assert duplicates._threshold(random - 0.5, 1_000, 0.8).sure == 0.8, "never less than the lowest"
    few = duplicates._threshold(random[:3], 4, 0.1)
    assert few.sure > duplicates._threshold(random[:1_000], 4, 0.1).sure, "three pairs say little"


def test_a_possible_copy_is_to_be_looked_at_and_no_leak() -> None:
    pair = duplicates.DuplicatePair(0, 1, "possible", -1, 0.55, 1.0)
    (found,) = checks.copies(subject(8), [pair])
    assert (found.check, found.severity, found.count) == ("possible copies across parts", "look", 1)
    assert "correlation 0.55" in found.examples[0]


def published_overlap(root: Path, lesions: list[Image.Image]) -> Path:
    """Two lists as they were published for an endoscopy set, in small.

    Nearly every test file stands in train as well.
    """
    saved(root / "images", lesions[:40])
    rows = [(f"images/{i:03d}.png", ("polyp", "ulcer")[i % 2], "train") for i in range(38)]
    rows += [(f"images/{i:03d}.png", ("polyp", "ulcer")[i % 2], "test") for i in range(10, 40)]
    with (root / "both.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "split"), *rows])
    return root / "both.csv"


def test_an_overlap_of_published_lists_is_named(
    lesions: list[Image.Image],
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = published_overlap(tmp_path / "endo", lesions)
    assert medbench("run", "--task", f"folder:{file}") == 2
    assert "repeats 'images/010.png'" in capsys.readouterr().err
    assert (
        medbench(
            "audit",
            f"folder:{file}",
            "--fast",
            "--json",
            "found.json",
            "--csv",
            "pairs.csv",
            "--sheet",
            "pairs.png",
        )
        == 1
    )
    said = capsys.readouterr().out
    assert "a run would refuse this: both.csv line 40 repeats 'images/010.png'" in said
    assert "LEAK  28 of 30 images of test are also in train, byte for byte" in said
    assert "images/010.png (train) = images/010.png (test)" in said
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["findings"][0]["severity"] == "leak"
    with (tmp_path / "pairs.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 28
    with Image.open(tmp_path / "pairs.png") as picture:
        assert np.asarray(picture).std() > 10, "it shows something"


def test_the_exit_code_tells_ci_of_contradicting_labels(
    lesions: list[Image.Image], tmp_path: Path, medbench: Callable[..., int]
) -> None:
    """Two copies in one part, of two labels: no leak, and yet no data to learn from."""
    lines = ["path,label,split,group"]
    for i, image in enumerate(lesions[:24]):
        image.save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{i % 2},{'train' if i < 16 else 'test'},p{i}")
    (tmp_path / "good.csv").write_text("\n".join(lines) + "\n")
    assert medbench("audit", "folder:good.csv", "--fast") == 0
    lesions[0].save(tmp_path / "again.png", compress_level=1)
    (tmp_path / "two.csv").write_text("\n".join([*lines, "again.png,1,train,p99"]) + "\n")
    assert medbench("audit", "folder:two.csv", "--fast", "--json", "two.json") == 1
    found = json.loads((tmp_path / "two.json").read_text())["findings"]
    assert "conflict" in {one["severity"] for one in found}
    assert "leak" not in {one["severity"] for one in found}


def test_a_folder_with_the_overlap_is_named_too(
    lesions: list[Image.Image], tmp_path: Path, medbench: Callable[..., int]
) -> None:
    for part, which in (("train", range(0, 34)), ("test", range(6, 40))):
        for i in which:
            place = tmp_path / "endo" / part / ("polyp", "ulcer")[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            lesions[i].save(place / f"{part}{i}.png")
    assert medbench("audit", "folder:endo", "--fast", "--json", "a.json") == 1
    found = {
        finding["check"]: finding
        for finding in json.loads((tmp_path / "a.json").read_text())["findings"]
    }
    assert found["identical copies across parts"]["count"] == 28


@pytest.mark.slow
def test_a_folder_with_copies_is_decoded_once_for_its_audit_and_its_run(
    lesions: list[Image.Image],
    tmp_path: Path,
    medbench: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        duplicates,
        "QUICK",
        duplicates.Effort(far=8, random=16, lowest=0.75, patience=16, limit=60, per_image=0),
    )
    make_leaking(tmp_path / "mine", lesions)
    shutil.rmtree(tmp_path / "mine" / "test")
    shutil.copy(
        tmp_path / "mine" / "train" / "a" / "004.png", tmp_path / "mine" / "train" / "a" / "104.png"
    )
    (tmp_path / "mine" / "train").rename(tmp_path / "whole")
    place = "folder:whole"
    medbench("audit", place)
    packs, features = (
        len(list((images.cache_folder() / name).iterdir())) for name in ("packs", "features")
    )
    medbench(
        "run",
        "--task",
        place,
        "--labels",
        "100",
        "--seeds",
        "1",
        "--methods",
        "supervised",
        "--out",
        "out",
        "--allow-leak",
    )
    assert (tmp_path / "out" / "rows.jsonl").is_file()
    assert packs == features == 1
    assert [
        len(list((images.cache_folder() / name).iterdir())) for name in ("packs", "features")
    ] == [1, 1]


def make_leaking(root: Path, lesions: list[Image.Image]) -> None:
    """Three test images are mirrored training images; nothing that a plain run sees."""
    for i, picture in enumerate(lesions[:60]):
        place = root / ("train" if i < 40 else "test") / ("a", "b")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{i:03d}.png")
    for i in (4, 8, 12):
        changed(lesions[i], "mirrored").save(root / "test" / "a" / f"{i + 100}.png")


RUN = (
    "run",
    "--task",
    "folder:mine",
    "--labels",
    "100",
    "--seeds",
    "1",
    "--methods",
    "supervised",
    "--size",
    "32",
    "--out",
    "out",
)


def test_a_run_on_a_leaking_folder_says_so_on_every_table(
    lesions: list[Image.Image],
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        duplicates,
        "QUICK",
        duplicates.Effort(far=8, random=16, lowest=0.75, patience=16, limit=60, per_image=0),
    )
    make_leaking(tmp_path / "mine", lesions)
    assert medbench(*RUN, "--strict") == 2
    strict = capsys.readouterr()
    assert "3 of 23 images of test are also in train, nearly" in strict.err
    assert "aligning" in strict.err
    assert not (tmp_path / "out").exists()
    assert medbench(*RUN) == 0
    said = capsys.readouterr()
    assert "aligning" not in said.err, "the audit of the same data lies in the cache"
    leak = "LEAK: 3 of 23 images of test are also in train, nearly"
    assert leak in " ".join(said.out.split())
    assert leak in (tmp_path / "out" / "leaderboard.md").read_text()
    (entry,) = json.loads((tmp_path / "out" / "plan.json").read_text())["tasks"].values()
    assert any(
        finding["kind"] == "leak" and leak.endswith(finding["text"][: len(leak) - 6])
        for finding in entry["audit"]
    )
    fingerprints = {
        json.loads(line)["fingerprint"]
        for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    }
    assert medbench(*RUN[:-1], "plain", "--no-audit") == 0
    (entry,) = json.loads((tmp_path / "plain" / "plan.json").read_text())["tasks"].values()
    assert "audit" not in entry
    assert not any(mark["kind"] == "leak" for mark in entry["marks"])
    same = {
        json.loads(line)["fingerprint"]
        for line in (tmp_path / "plain" / "rows.jsonl").read_text().splitlines()
    }
    assert same == fingerprints, "an audit changes no cell"


def test_another_task_brings_what_the_audit_of_its_data_found(tmp_path: Path) -> None:
    from medbench.data.task_data import open_task

    notes: list[Note] = []
    cache, grid = images.cache_folder(), Grid(data="phantom")
    data = open_task(registry.task("derm"), grid, cache, notes)
    assert dataset.audited(data, grid, cache, notes).audit == ()
    sha256 = dataset.of_data(data).sha256
    leak = dataset.DatasetFinding(
        "near copies across parts", "leak", 2, "2 of 9 images of test are also in train, nearly"
    )
    saved_reports.save_report(cache, dataset.DatasetReport("derm", sha256, "full", {}, (leak,)))
    told = dataset.audited(data, grid, cache, notes)
    assert told.marks[-1] == Mark("leak", "2 of 9 images of test are also in train, nearly (audit)")
    assert told.identity == data.identity
    saved_reports.save_report(cache, dataset.DatasetReport("derm", sha256, "hashes", {}, ()))
    assert saved_reports.load_report(cache, sha256) == dataset.DatasetReport(
        "derm", sha256, "full", {}, (leak,)
    ), "the deeper one stays"
    with pytest.raises(
        UserError, match=r"2 of 9 images of test are also in train.*without --strict"
    ):
        dataset.audited(data, Grid(data="phantom", strict=True), cache, notes)
    saved_reports.file_of(cache, sha256).write_text("{")
    assert dataset.audited(data, grid, cache, notes).audit == (), "a broken entry is none"


def test_other_metadata_or_names_of_classes_are_another_audit() -> None:
    images_, text = [Path("a"), Path("b")], np.array(["a", "b"])
    split = Split(images_, text, np.array([0, 1]), text, text, {"age": np.array([1.0, 2.0])})
    data = TaskData(
        replace(registry.task("derm"), classes=("x", "y")),
        "phantom",
        {"train": split},
        ["1", "2"],
        "sha",
        (),
    )
    older = replace(data, parts={"train": replace(split, meta={"age": np.array([1.0, 3.0])})})
    renamed = replace(data, task=replace(data.task, classes=("x", "z")))
    assert len({dataset.of_data(one).sha256 for one in (data, older, renamed)}) == 3


def subject(n: int, **given: object) -> dataset.Subject:
    """n images of 2 classes, nothing on disk."""
    known: dict[str, object] = {
        "name": "t",
        "images": [],
        "ids": np.array([f"i{i}" for i in range(n)]),
        "parts": np.array(["train", "test"])[np.arange(n) % 2],
        "groups": np.array([f"g{i}" for i in range(n)]),
        "labels": np.arange(n) // 2 % 2,
        "kind": "binary",
        "classes": ("no", "yes"),
        "hashes": [],
        "sha256": "",
        "grouped": "patient",
    }
    return dataset.Subject(**{**known, **given})  # type: ignore[arg-type]


def test_torn_groups_conflicts_and_copies_are_counted() -> None:
    torn = subject(8, groups=np.array(["a", "a", "b", "b", "c", "d", "e", "f"]))
    (found,) = checks.torn_groups(torn)
    assert (found.severity, found.count, found.examples) == ("leak", 2, ("a", "b"))
    assert found.sentence == "2 patients are in both train and test, of 4 in test"
    those = [
        duplicates.DuplicatePair(0, 2, "identical", 0, 1.0, 1.0),
        duplicates.DuplicatePair(0, 1, "near", 3, 0.8, 1.0),
        duplicates.DuplicatePair(2, 1, "near", 3, 0.8, 1.0),
    ]
    (conflict,) = checks.conflicts(torn, those[:2])
    assert conflict.examples == ("i0 (train) = i2 (train): no / yes",)
    severities = {
        found.check: (found.severity, found.count) for found in checks.copies(torn, those)
    }
    assert severities == {
        "identical copies within train": ("look", 1),
        "near copies across parts": ("leak", 1),
    }, "one test image, twice"
    assert checks.conflicts(subject(4, labels=None), those) == []
    (absent,) = checks.classes(subject(4, labels=np.zeros(4, int)))[:1]
    assert absent.sentence == "train has no image of yes"


def test_look_alikes_of_one_group_are_named_where_their_labels_differ(
    lesions: list[Image.Image], tmp_path: Path
) -> None:
    folder = saved(tmp_path / "lesions", lesions[:24])
    rows = [(f"{i:03d}.png", "no" if i % 2 else "yes", f"p{i // 4}") for i in range(24)]
    for source, label in ((4, "no"), (8, "yes")):  # whose own labels are yes
        changed(lesions[source], "resized").save(folder / f"again{source}.png")
        rows.append((f"again{source}.png", label, f"p{source // 4}"))
    with (folder / "images.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "group"), *rows])
    subject = dataset.of_task(f"folder:{folder / 'images.csv'}", None, images.cache_folder())
    report = dataset.audit(subject, images.cache_folder(), depth="hashes", effort=SHORT)
    (found,) = [one for one in report.findings if one.check.startswith("look-alikes")]
    assert (found.severity, found.count) == ("look", 1)
    assert found.examples[0].endswith(": yes / no")
    assert not report.fails, "one patient's two images may be alike, and no label be wrong"
    assert [(pair["image"], pair["other"]) for pair in report.pairs] == [("004.png", "again4.png")]


def test_metadata_that_gives_the_label_away_is_named_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    n = 240
    y = rng.integers(0, 2, n)
    of = subject(
        n,
        labels=y,
        groups=np.array([f"g{i // 2}" for i in range(n)]),
        meta={
            "dx_type": np.where(
                y == 1, "histo", np.where(rng.random(n) < 0.04, "histo", "consensus")
            ),
            "age": rng.normal(50, 10, n),
            "site": np.array(["one"] * n),
        },
    )
    found = {column.name: column for column in label_errors.columns(of)}
    assert set(found) == {"dx_type", "age", "all columns"}, "a constant column says nothing"
    assert found["dx_type"].low > 0.9
    assert found["age"].low < 0.5 < found["age"].high
    said = checks.given_away(list(found.values()))
    assert [finding.severity for finding in said] == ["look", "look"]
    assert "dx_type without the image: AUC 0.9" in " ".join(finding.sentence for finding in said)


def test_wrong_labels_come_first() -> None:
    rng = np.random.default_rng(0)
    n = 300
    y = rng.integers(0, 3, n)
    features = (np.eye(3)[y] * 4 + rng.normal(size=(n, 3))).astype(np.float32)
    wrong = [3, 77, 150, 222]
    given = y.copy()
    given[wrong] = (y[wrong] + 1) % 3
    of = subject(n, labels=given, classes=("a", "b", "c"), kind="multiclass")
    found, count = label_errors.suspects(of, np.arange(n), features)
    assert {suspect.row for suspect in found[:4]} == set(wrong)
    assert all(suspect.likely == of.classes[y[suspect.row]] for suspect in found[:4])
    assert 3 <= count <= 15
    assert found[0].margin > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Name a task or --images, one of them"),
        (("derm", "--images", "x.csv"), "Name a task or --images, one of them"),
        (("--images", "nothing.txt"), "--images nothing.txt does not exist"),
        (
            ("--images", "list.txt"),
            "1 images that list.txt lists do not exist".replace("1 images", "1 of 1 images"),
        ),
        (("--images", "other.csv"), "has no column path; it has: file, label"),
        (("--images", "empty"), "lists no image"),
        (("drem",), "Unknown task 'drem'"),
        (("derm", "--sheet", "pairs.jpg"), "--sheet writes a PNG file, not 'pairs.jpg'"),
        (
            ("derm", "--json", "/dev/null/x.json"),
            "/dev/null/x.json cannot be written: /dev/null: Not a directory.",
        ),
        (("derm", "--device", "cuda:9"), "Device 'cuda:9' is not there"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "list.txt").write_text("gone.png\n")
    (tmp_path / "other.csv").write_text("file,label\na.png,1\n")
    (tmp_path / "empty").mkdir()
    assert medbench("audit", *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_the_six_pairs_of_kermany_are_found(real_data: Path) -> None:
    """The reader joins each pair into one group, so that no score suffers.

    They are listed all the same.
    """
    subject = dataset.of_task("pneumonia", str(real_data), images.cache_folder())
    found = duplicates.identical(subject.hashes)
    assert len(found) == 6
    assert all(subject.label(pair.i) == subject.label(pair.j) for pair in found)
    said = checks.copies(subject, found)
    assert sum(finding.count for finding in said) == 6
    assert not any(finding.severity == "leak" for finding in said)


def test_lesions_that_look_alike_are_two(real_data: Path) -> None:
    """Small dark naevi on clear skin: nearest neighbours of each other, and by eye two lesions.

    Beside them, two pictures of one.
    """
    alike = [
        ("ISIC_0026022", "ISIC_0029187"),
        ("ISIC_0033767", "ISIC_0033409"),
        ("ISIC_0034102", "ISIC_0033409"),
        ("ISIC_0024883", "ISIC_0029187"),
    ]
    one = [("ISIC_0027027", "ISIC_0029036"), ("ISIC_0033421", "ISIC_0033481")]
    places = {file.stem: file for file in (real_data / "ham10000").rglob("*.jpg")}
    pack = np.stack(
        [
            np.asarray(Image.open(places[name]).resize((112, 112)))
            for pair in (*alike, *one)
            for name in pair
        ]
    )
    pairs = np.arange(len(pack)).reshape(-1, 2)
    _, _, maps = registration.align(pack, pairs)
    found = likeness.likeness(pack, pairs, maps)
    assert (found[:4] < duplicates.Effort().lowest).all()
    assert found[4] > duplicates.Effort().lowest
    assert found[5] > found[:4].max(), "taken from another side: possible"


def test_a_torn_folder_is_opened(
    lesions: list[Image.Image],
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    saved(tmp_path / "f" / "images", lesions[:12])
    rows = [
        ("path", "label", "group", "split"),
        *(
            (f"images/{i:03d}.png", "ab"[i % 2], f"p{i % 5}", "train" if i < 8 else "test")
            for i in range(12)
        ),
    ]
    with (tmp_path / "f" / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    shutil.copy(tmp_path / "f" / "images" / "000.png", tmp_path / "f" / "images" / "011.png")
    assert medbench("audit", "folder:f/t.csv", "--fast") == 1
    said = capsys.readouterr().out
    assert "LEAK  4 groups are in both train and test, of 4 in test" in said
    assert "CONFLICT  1 pair of copies has two labels" in said


def test_several_labels_an_image_are_judged_one_by_one() -> None:
    rng = np.random.default_rng(0)
    n = 240
    y = rng.integers(0, 2, (n, 2)).astype(float)
    features = (y * 4 + rng.normal(size=(n, 2))).astype(np.float32)
    given = y.copy()
    given[5, 1] = 1 - given[5, 1]
    given[9, 0] = np.nan
    meta = {"view": np.where(y[:, 0] == 1, "ap", "pa")}
    of = subject(n, labels=given, classes=("effusion", "mass"), kind="multilabel", meta=meta)
    found, _ = label_errors.suspects(of, np.arange(n), features)
    assert (5, "mass") in [(suspect.row, suspect.column) for suspect in found[:2]], (
        "beside an effusion that looks like none, by the noise"
    )
    assert {found[0].label, found[0].likely} == {"yes", "no"}
    assert checks.counts(of)["train"]["classes"]["effusion"] == int((given[::2, 0] == 1).sum())
    (column,) = label_errors.columns(of)
    assert 0.6 < column.auc < 0.9, "it tells one label of two: (1 + 0.5) / 2"


def test_a_plan_names_the_audit_of_the_folder_as_it_was_asked_for(
    medbench: Callable[..., int], folder: Path, mine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The task is named by the last part of its path, which no command would find."""
    asked = ("--encoder", mine, "--methods", "given", "--labels", "100", "--size", "32")
    assert medbench("run", "--task", f"folder:{folder}", *asked, "--plan") == 0
    assert f"Next: medbench audit folder:{folder}" in capsys.readouterr().err


def test_the_audit_of_a_task_that_is_divided_otherwise_is_that_of_the_folder() -> None:
    asked = Grid(tasks=("folder:/data/my moles", "chexpert:ones", "derm"), hold_out_by="site")
    names = {
        "folder:my moles:site=a": "'folder:/data/my moles'",
        "folder:my moles": "'folder:/data/my moles'",
        "derm:site=a": "derm",
        "chexpert:ones": "chexpert:ones",
        "folder:other": "folder:other",
    }
    assert {name: as_asked(name, asked.tasks) for name in names} == names


def test_what_is_odd_in_how_a_folder_was_read_is_not_called_joined_groups() -> None:
    marks = (Mark("look", "1 images are called masks"), Mark("split", "a fifth"))
    (found,) = checks.read_so(SimpleNamespace(data=SimpleNamespace(marks=marks)))  # type: ignore[arg-type]
    assert (found.check, found.sentence) == ("reading", "1 images are called masks")
