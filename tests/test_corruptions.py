"""Damage that depends on the image and its id alone, grows with the level, and means the same at
every size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medbench import Grid, UserError, images
from medbench.images.corruptions import catalogue
from medbench.images.corruptions.catalogue import BY_MODALITY, LEVELS, Corruption
from medbench.images.corruptions.corrupted_pack import CorruptedPack
from medbench.images.corruptions.transforms import KINDS, corrupt
from medbench.models import features
from medbench.report import leaderboard
from medbench.run import execution
from medbench.schema import MODALITIES, Note, registry
from medbench.tasks import phantoms

Medbench = Callable[..., int]
EVERY = {
    f"{modality or 'any'}-{name}": kind
    for modality, kinds in BY_MODALITY.items()
    for name, kind in kinds.items()
}
DISTINCT = {kind.how: kind for kind in EVERY.values()}


@pytest.fixture(scope="module")
def skin() -> tuple[np.ndarray, np.ndarray]:
    """Eight drawn lesions at 64 pixels, and their ids."""
    part = phantoms.derm()["test"].take(np.arange(8))
    return np.stack([image.draw(image.seed) for image in part.images]), part.ids  # type: ignore[union-attr]


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(float) - b) ** 2)))


def test_every_modality_has_kinds_of_five_levels() -> None:
    assert set(BY_MODALITY) == set(MODALITIES)
    assert {kind.how for kind in EVERY.values()} == set(KINDS)
    for name, kind in EVERY.items():
        assert len(set(kind.strengths)) == LEVELS, name
        assert list(kind.strengths) in (
            sorted(kind.strengths),
            sorted(kind.strengths, reverse=True),
        ), name
    assert BY_MODALITY["x-ray"]["noise"].grey
    assert not BY_MODALITY["dermoscopy"]["noise"].grey


@pytest.mark.parametrize("kind", DISTINCT.values(), ids=DISTINCT)
def test_an_image_is_damaged_alike_whoever_stands_beside_it(
    kind: Corruption, skin: tuple[np.ndarray, np.ndarray]
) -> None:
    pixels, ids = skin
    whole = corrupt(pixels, ids, kind, 3)
    order = np.array([5, 2, 7])
    assert (corrupt(pixels[order], ids[order], kind, 3) == whole[order]).all()
    assert (corrupt(pixels[:1], ids[:1], kind, 3) == whole[:1]).all()
    assert whole.dtype == np.uint8
    assert whole.shape == pixels.shape


@pytest.mark.parametrize("kind", EVERY.values(), ids=EVERY)
def test_more_damage_at_a_higher_level_and_little_at_the_first(
    kind: Corruption, skin: tuple[np.ndarray, np.ndarray]
) -> None:
    """Little: at 64 pixels the damaged image still correlates with its own by .8, and more than
    with any other."""
    pixels, ids = skin
    damaged = [corrupt(pixels, ids, kind, level) for level in range(1, LEVELS + 1)]
    errors = [error(each, pixels) for each in damaged]
    assert errors == sorted(errors)
    assert 0.2 < errors[0] < errors[-1]
    flat = [each.reshape(8, -1).astype(float) for each in (pixels, damaged[0])]
    alike = np.corrcoef(*flat)[:8, 8:]
    assert (np.diag(alike) > 0.8).all()
    assert (alike.argmax(0) == np.arange(8)).all()


@pytest.mark.parametrize("name", ["disc_blur", "gaussian_blur", "motion_blur"])
def test_a_blur_is_as_wide_at_every_size(name: str) -> None:
    """The spread of a point, as a share of the side, at 64 and 192 pixels; light is kept."""
    kind, spreads = replace(DISTINCT[name], how=name), []
    for side in (64, 192):
        point = np.zeros((1, side, side, 3), np.uint8)
        middle = slice(side * 30 // 64, side * 34 // 64)
        point[:, middle, middle] = 255
        blurred = corrupt(point, np.array(["a"]), kind, 5)[0, :, :, 0].astype(float)
        assert blurred.sum() == pytest.approx(point[0, :, :, 0].sum(), rel=0.05)
        at = (np.arange(side) + 0.5) / side - 0.5
        spreads.append(np.sqrt((blurred * (at[:, None] ** 2 + at**2)).sum() / blurred.sum()))
    assert spreads[0] == pytest.approx(spreads[1], rel=0.05)


def test_a_gaussian_blur_is_scipys(skin: tuple[np.ndarray, np.ndarray]) -> None:
    from scipy.ndimage import gaussian_filter

    pixels, ids = skin
    kind = replace(BY_MODALITY["x-ray"]["blur"], strengths=(3 / 64,) * 5)
    expected = gaussian_filter(pixels.astype(float), (0, 3, 3, 0), mode="reflect", truncate=6)
    assert np.abs(corrupt(pixels, ids, kind, 1) - expected).max() < 1.0


def test_brightness_and_contrast_are_pillows(skin: tuple[np.ndarray, np.ndarray]) -> None:
    from PIL import Image, ImageEnhance

    pixels, ids = skin
    for name, enhance in (
        ("darker", ImageEnhance.Brightness),
        ("contrast-up", ImageEnhance.Contrast),
    ):
        kind = BY_MODALITY["dermoscopy"][name]
        for mine, image in zip(corrupt(pixels, ids, kind, 4), pixels, strict=True):
            theirs = np.asarray(enhance(Image.fromarray(image)).enhance(kind.strengths[3]), float)
            assert np.abs(mine - theirs).max() <= 2.0, "Pillow rounds the mean and cuts"


def test_noise_has_its_deviation_and_its_channels() -> None:
    grey = np.full((40, 64, 64, 3), 128, np.uint8)
    ids = np.array([f"image {i}" for i in range(40)])
    film = corrupt(grey, ids, BY_MODALITY["x-ray"]["noise"], 2).astype(float) / 255 - 128 / 255
    colour = (
        corrupt(grey, ids, BY_MODALITY["dermoscopy"]["noise"], 2).astype(float) / 255 - 128 / 255
    )
    assert film.std() == pytest.approx(0.08, rel=0.02)
    assert colour.std() == pytest.approx(0.08, rel=0.02)
    assert (film[..., 0] == film[..., 2]).all()
    assert abs(np.corrcoef(colour[..., 0].ravel(), colour[..., 2].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(film[0].ravel(), film[1].ravel())[0, 1]) < 0.05, (
        "another image, other noise"
    )


def test_salt_and_pepper_in_their_share() -> None:
    grey = np.full((20, 64, 64, 3), 128, np.uint8)
    spoilt = corrupt(grey, np.arange(20).astype(str), BY_MODALITY["dermoscopy"]["impulse"], 5)
    assert (spoilt == 0).mean() == pytest.approx(0.085, rel=0.05)
    assert (spoilt == 255).mean() == pytest.approx(0.085, rel=0.05)


def test_pixels_become_squares() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, None, :, None] * 4, (1, 64, 1, 3))
    kind = replace(BY_MODALITY[""]["pixelate"], strengths=(0.25,) * 5)
    squares = corrupt(ramp, np.array(["a"]), kind, 1)[0, 0, :, 0]
    assert squares.reshape(16, 4).std(1).max() == 0
    assert squares[::4].tolist() == [round(4 * (4 * i + 1.5)) for i in range(16)]


def test_a_stain_moves_along_its_own_direction() -> None:
    """Pure haematoxylin of density 0.5: more or less of it by the share, and nothing else."""
    direction = np.array([0.65, 0.70, 0.29]) / np.linalg.norm([0.65, 0.70, 0.29])
    tissue = np.tile(np.exp(-0.5 * direction), (2, 8, 8, 1))
    pixels = np.rint(255 * tissue).astype(np.uint8)
    for image in corrupt(pixels, np.array(["a", "d"]), BY_MODALITY["histology"]["stain"], 3):
        density = -np.log(image[0, 0] / 255)
        assert density @ direction == pytest.approx(
            0.5 * 1.3, abs=0.02
        ) or density @ direction == pytest.approx(0.5 * 0.7, abs=0.02)
        assert np.linalg.norm(density - (density @ direction) * direction) < 0.02


def test_rows_of_a_pack_are_damaged_as_they_are_read(tmp_path: Path) -> None:
    part = phantoms.derm()["test"].take(np.arange(5))
    hashes = images.content_hashes(part.images, tmp_path)
    pack = images.pack(part.images, hashes, 32, "bicubic", tmp_path)
    kind = BY_MODALITY["dermoscopy"]["noise"]
    found = CorruptedPack(pack, slice(1, 4), part.ids[1:4], kind, 2)
    expected = corrupt(pack.array[1:4], part.ids[1:4], kind, 2)
    assert len(found) == len(found.array) == 3
    assert found.array.shape == expected.shape
    assert (found.array[1:] == expected[1:]).all()
    assert (found.array[np.array([2, 0])] == expected[[2, 0]]).all()
    (batch,) = images.batches(found, np.arange(3), 8, "cpu", (0, 0, 0), (1, 1, 1))
    np.testing.assert_allclose(batch.permute(0, 2, 3, 1).numpy(), expected / 255, atol=1e-6)


# Runs
# --------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(folder: Path, mine: str) -> Grid:
    return Grid(
        (f"folder:{folder}",),
        encoders=(mine,),
        size=32,
        labels=("100",),
        corruptions=("blur", "noise"),
        levels=("1", "5"),
    )


def test_each_level_is_a_target_of_the_same_fit(
    asked: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = execution.run(
        replace(asked, corruptions=(), levels=Grid().levels), tmp_path / "home"
    ).rows()
    store = execution.run(asked, tmp_path / "out")
    rows = {row.cell.target: row for row in store.rows().values()}
    assert list(rows) == [
        "test",
        "corrupted-blur-1",
        "corrupted-blur-5",
        "corrupted-noise-1",
        "corrupted-noise-5",
    ]
    (key,) = home
    assert store.rows()[key].metrics == home[key].metrics
    assert len({row.provenance["target"] for row in rows.values()}) == 1, (
        "ids, labels and groups are those of the test part"
    )
    scores = {name: store.scores(row)["probabilities"] for name, row in rows.items()}
    moved = {name: np.abs(values - scores["test"]).max() for name, values in scores.items()}
    assert 0 < moved["corrupted-noise-1"] < moved["corrupted-noise-5"]
    boards = {board.target: board for board in leaderboard.leaderboards(store)}
    assert boards["corrupted-blur-5"].shift == {
        "kind": "corruption",
        "corruption": "blur",
        "level": 5,
        "of": "test",
    }
    assert (
        boards["corrupted-blur-5"]
        .about["marks"][0]
        .text.startswith("the test images with blur, level 5 of 5")
    )

    def never(*_: object, **__: object) -> None:
        raise AssertionError("features of damaged images are in the cache, too")

    monkeypatch.setattr(features, "forward", never)
    assert not execution.run(asked, tmp_path / "again").failures()


def test_fine_tuned_networks_see_damaged_pixels(
    asked: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The protocol gets them as it gets all pixels; a stand-in looks at what it was given."""
    from medbench.schema import Scores

    seen = {}

    def looks(train, targets, draws):  # type: ignore[no-untyped-def]
        for _ in draws:
            seen.update(
                {name: np.array(pixels[0 : len(pixels)]) for name, pixels in targets.items()}
            )
            yield {
                name: Scores(np.full((18, 3), 1 / 3, np.float32), np.zeros(18, int), {})
                for name in targets
            }

    monkeypatch.setitem(
        registry.protocols(), "finetune", replace(registry.protocol("finetune"), evaluate=looks)
    )
    store = execution.run(replace(asked, protocols=("finetune",), seeds=1), tmp_path / "out")
    assert len(store.rows()) == 5
    assert seen["test"].shape == seen["corrupted-noise-5"].shape == (18, 32, 32, 3)
    ids = store.target(next(iter(store.rows().values())).provenance["target"])["ids"]
    assert (
        seen["corrupted-noise-5"] == corrupt(seen["test"], ids, BY_MODALITY[""]["noise"], 5)
    ).all()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--corruptions", "blurr"], "Unknown corruption 'blurr'. Allowed: all, noise, speckle"),
        (
            ["--corruptions", "gamma-up"],
            "Corruption 'gamma-up' does not fit dermoscopy, as in 'derm'. Allowed: all, noise",
        ),
        (
            ["--corruptions", "all", "--levels", "0,6"],
            "Level '0' of a corruption is out of range. Allowed: 1 to 5. Next: medbench run --levels 1,3,5",
        ),
        (
            ["--corruptions", "all", "--levels", "two"],
            "Level 'two' of a corruption is out of range.",
        ),
        (["--corruptions", "all", "--levels", ""], "No level of the corruptions was given."),
        (
            ["--corruptions", "all", "--on", "val"],
            "A shift is measured against the test part, not with --on val.",
        ),
    ],
)
def test_refused(
    arguments: list[str],
    line: str,
    medbench: Medbench,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert medbench("run", *arguments) == 2
    (error,) = [
        text for text in capsys.readouterr().err.splitlines() if text.startswith("medbench: ")
    ]
    assert line in error
    assert not (tmp_path / "runs").exists()


def test_features_of_a_file_cannot_be_damaged(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", ids=["a"], features=np.zeros((1, 3)))
    with pytest.raises(
        UserError, match=r"Corruptions need images, and features:.*mine\.npz holds features alone"
    ):
        execution.run(
            Grid(
                (f"folder:{folder}",),
                encoders=(f"features:{tmp_path / 'mine.npz'}",),
                corruptions=("all",),
            ),
            tmp_path / "out",
        )


def test_what_fits_one_of_two_tasks_is_noted_for_the_other() -> None:
    from medbench.data.evaluation_sets import corruptions_of

    tasks = [registry.task("derm"), registry.task("chexpert")]
    found, notes = corruptions_of(
        tasks, Grid(corruptions=("gamma-up", "blur"), levels=("3", "1", "3"))
    )
    assert [(kind.name, level) for kind, level in found["derm"]] == [("blur", 1), ("blur", 3)]
    assert [kind.name for kind, _ in found["chexpert"]] == ["gamma-up", "gamma-up", "blur", "blur"]
    assert found["derm"][0][0].how != found["chexpert"][2][0].how, (
        "out of focus here, unsharp there"
    )
    assert notes == [
        Note(
            "left out", "derm is scored without the corruption gamma-up: it does not fit its images"
        )
    ]
    assert catalogue.chosen("t", "", ["blur", "all"])[0].name == "blur"
