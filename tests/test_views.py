"""Random views: every operation against Pillow or torchvision image by image, what chance may do,
and the papers' numbers."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from medbench.images import augment
from medbench.images.augment import Crop, Parameters
from medbench.schema import MODALITIES

STILL = Crop(scale=(1.0, 1.0), flip=0.0)  # the image itself
HALF = ((0.5,) * 3, (0.5,) * 3)
SETS = {
    "simclr": augment.simclr_views,
    "swav": augment.swav_views,
    "dino": augment.dino_views,
    "finetune": augment.finetune_views,
}
SETS |= {"truong2021": augment.truong2021_views}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """(12, 40, 40, 3) uint8: smooth coloured patterns with noise."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (12, 3, 6, 6)))
    fine = torch.nn.functional.interpolate(coarse, 40, mode="bicubic") + torch.from_numpy(
        rng.normal(0, 12, (12, 3, 40, 40))
    )
    return fine.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def planes(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float() / 255


def made(
    images: torch.Tensor, crop: Crop, size: int = 40, seed: int = 0
) -> tuple[torch.Tensor, Parameters]:
    drawn = augment.draw_parameters(crop, len(images), generator(seed))
    return augment.render_views(images, drawn, crop, size), drawn


def test_a_view_without_chance_is_the_image(images: torch.Tensor) -> None:
    for interpolation in ("bicubic", "bilinear"):
        view, _ = made(images, replace(STILL, interpolation=interpolation))
        torch.testing.assert_close(view, planes(images), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [24, 40, 64])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_crop_resize_and_flips_are_pillows(
    images: torch.Tensor, interpolation: str, size: int
) -> None:
    view, drawn = made(images, Crop(interpolation=interpolation, vertical_flip=0.5), size)
    for got, image, box, flip in zip(view, planes(images), drawn.box * 40, drawn.flip, strict=True):
        bands = [
            Image.fromarray(band.numpy()).resize(
                (size, size), Image.Resampling[interpolation.upper()], tuple(box)
            )
            for band in image
        ]
        want = torch.from_numpy(np.stack(bands)).clamp(0, 1)
        want = want.flip([axis for axis, done in ((2, flip[0]), (1, flip[1])) if done])
        torch.testing.assert_close(got, want, atol=2e-5, rtol=0)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_whole_images_are_resized_as_by_torchvision(
    images: torch.Tensor, interpolation: str
) -> None:
    view, _ = made(images, replace(STILL, interpolation=interpolation), 17)
    want = F.resized_crop(
        planes(images),
        0,
        0,
        40,
        40,
        [17, 17],
        interpolation=F.InterpolationMode(interpolation),
        antialias=True,
    )
    torch.testing.assert_close(view, want.clamp(0, 1), atol=1e-5, rtol=0)


def test_rotation_is_torchvisions(images: torch.Tensor) -> None:
    view, drawn = made(images, replace(STILL, rotation=180))
    assert drawn.angle.unique().numel() == len(images)
    for got, image, angle in zip(view, planes(images), drawn.angle.tolist(), strict=True):
        torch.testing.assert_close(
            got, F.rotate(image, angle, F.InterpolationMode.BILINEAR), atol=1e-4, rtol=0
        )


def test_perspective_is_torchvisions(images: torch.Tensor) -> None:
    view, drawn = made(images, replace(STILL, perspective=0.5, perspective_p=1.0))
    whole = [[0, 0], [40, 0], [40, 40], [0, 40]]
    for got, image, corners in zip(
        view, planes(images), ((drawn.corners + 1) * 20).tolist(), strict=True
    ):
        want = F.perspective(image, whole, corners, F.InterpolationMode.BILINEAR)
        torch.testing.assert_close(got, want, atol=2e-3, rtol=0)


def test_a_warp_then_a_crop_is_one_after_the_other(images: torch.Tensor) -> None:
    """One sampling instead of two.

    The same picture, but for what the second interpolation would have blurred.
    """
    crop = Crop(
        scale=(0.3, 0.6),
        rotation=90,
        perspective=0.4,
        perspective_p=1.0,
        vertical_flip=0.5,
        interpolation="bilinear",
    )
    smooth = F.gaussian_blur(images.permute(0, 3, 1, 2), [13, 13], [4.0, 4.0]).permute(0, 2, 3, 1)
    view, drawn = made(smooth, crop, 80)
    whole = [[0, 0], [40, 0], [40, 40], [0, 40]]
    for i, image in enumerate(planes(smooth)):
        image = F.perspective(
            image, whole, ((drawn.corners[i] + 1) * 20).tolist(), F.InterpolationMode.BILINEAR
        )
        image = F.rotate(image, float(drawn.angle[i]), F.InterpolationMode.BILINEAR)
        bands = [
            Image.fromarray(b.numpy()).resize(
                (80, 80), Image.Resampling.BILINEAR, tuple(drawn.box[i] * 40)
            )
            for b in image
        ]
        want = torch.from_numpy(np.stack(bands)).flip(
            [a for a, done in ((2, drawn.flip[i, 0]), (1, drawn.flip[i, 1])) if done]
        )
        assert (view[i] - want).abs().median() < 0.005  # beside the black border
        assert (view[i].flip(2) - want).abs().median() > 0.02


def test_small_rotated_views_do_not_alias() -> None:
    """Stripes of one pixel, a quarter turn, half the size: grey, as by Pillow's antialiased
    resize."""
    stripes = torch.zeros(4, 64, 64, 3, dtype=torch.uint8)
    stripes[:, ::2] = 255
    drawn = augment.draw_parameters(replace(STILL, rotation=1), 4, generator())
    view = augment.render_views(
        stripes, replace_angle(drawn, 90.0), replace(STILL, rotation=90), 32
    )
    assert view.std() < 0.01 and view.mean() == pytest.approx(0.5, abs=0.01)


def replace_angle(drawn: Parameters, angle: float) -> Parameters:
    return replace(drawn, angle=torch.full_like(drawn.angle, angle))


def jittered(image: torch.Tensor, drawn: Parameters, i: int) -> torch.Tensor:
    """One image (3, H, W) by torchvision, with the parameters and the order that were drawn for
    it."""
    change = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    for operation in drawn.order[i].tolist():
        image = change[operation](image, float(drawn.jitter[i, operation]))
    return image


@pytest.mark.parametrize(
    "strength",
    [
        (0.8, 0, 0, 0),
        (0, 0.8, 0, 0),
        (0, 0, 0.8, 0),
        (0, 0, 0, 0.2),
        (0.8, 0.8, 0.8, 0.2),
        (0.4, 0.4, 0, 0),
    ],
)
def test_jitter_is_torchvisions_in_each_images_own_order(
    images: torch.Tensor, strength: tuple[float, float, float, float]
) -> None:
    view, drawn = made(images, replace(STILL, jitter=strength, jitter_p=1.0))
    for i, image in enumerate(planes(images)):
        torch.testing.assert_close(view[i], jittered(image, drawn, i), atol=1e-4, rtol=0)
    used = [operation for operation, s in enumerate(strength) if s]
    assert all(drawn.jitter[:, operation].unique().numel() == len(images) for operation in used)
    assert (drawn.order[:, : len(used)].sort(1).values == torch.tensor(used)).all()


def test_grey_and_solarised_images_are_torchvisions(images: torch.Tensor) -> None:
    gray, drawn = made(images, replace(STILL, gray_p=0.5))
    assert 0 < drawn.gray.sum() < len(images)
    want = torch.where(
        drawn.gray[:, None, None, None], F.rgb_to_grayscale(planes(images), 3), planes(images)
    )
    torch.testing.assert_close(gray, want, atol=1e-5, rtol=0)
    solar, drawn = made(images, replace(STILL, solarise_p=0.5))
    assert 0 < drawn.solarise.sum() < len(images)
    want = torch.where(
        drawn.solarise[:, None, None, None], F.solarize(planes(images), 0.5), planes(images)
    )
    torch.testing.assert_close(solar, want, atol=1e-5, rtol=0)


def test_blur_is_torchvisions_with_each_images_own_sigma(images: torch.Tensor) -> None:
    view, drawn = made(images, replace(STILL, blur_p=0.7, blur_kernel=11 / 40, made_for=40))
    assert drawn.sigma.unique().numel() == (drawn.sigma > 0).sum() + 1 < len(images)
    for got, image, sigma in zip(view, planes(images), drawn.sigma.tolist(), strict=True):
        want = F.gaussian_blur(image, [11, 11], [sigma, sigma]) if sigma else image
        torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_simclrs_kernel_is_a_tenth_of_the_side_made_odd() -> None:
    dot = torch.zeros(1, 224, 224, 3, dtype=torch.uint8)
    dot[:, 112, 112] = 255
    view, _ = made(dot, replace(STILL, blur_p=1.0, blur_sigma=(50.0, 50.0)), 224)
    assert (view[0, 0, 112] > 0).sum() == 224 // 10 + 1


def test_a_blur_takes_the_same_share_of_a_view_of_any_size() -> None:
    spread = []
    for side in (224, 112):
        dot = torch.zeros(1, side, side, 3, dtype=torch.uint8)
        dot[:, side // 2, side // 2] = 255
        line = made(dot, replace(STILL, blur_p=1.0, blur_sigma=(3.0, 3.0)), side)[0][
            0, 0, side // 2
        ]
        spread.append(
            ((torch.arange(side) - side // 2) ** 2 * line / line.sum()).sum().sqrt().item() / side
        )
    assert spread[0] == pytest.approx(3 / 224, rel=0.05) and spread[1] == pytest.approx(
        spread[0], rel=0.05
    )


def test_views_have_the_sizes_counts_and_values_of_their_kinds(images: torch.Tensor) -> None:
    got = augment.views(
        images, augment.swav_views(), 64, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), generator()
    )
    assert [tuple(v.shape) for v in got] == [(12, 3, 64, 64)] * 2 + [(12, 3, 32, 32)] * 6
    assert all(
        v.dtype == torch.float32 and v.is_contiguous(memory_format=torch.channels_last) for v in got
    )
    view = augment.views(images, [STILL], 40, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), generator())[0]
    torch.testing.assert_close(
        view, F.normalize(planes(images), [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]), atol=1e-5, rtol=0
    )


def test_chance_comes_from_the_generator_alone(images: torch.Tensor) -> None:
    state = torch.random.get_rng_state()
    one, two, other = (
        augment.views(images, augment.dino_views(), 32, *HALF, generator(seed))
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len({v.sum().item() for v in one}) == len(one)  # each of the views is drawn anew


def test_an_image_gets_the_same_view_whatever_else_is_in_its_batch(images: torch.Tensor) -> None:
    crop = augment.nielsen2023_views()[1]
    view, drawn = made(images, crop)
    for i in (0, 5):
        mine = Parameters(**{f.name: getattr(drawn, f.name)[i : i + 1] for f in fields(drawn)})
        torch.testing.assert_close(
            augment.render_views(images[i : i + 1], mine, crop, 40)[0], view[i], atol=1e-5, rtol=0
        )


def test_any_memory_layout_and_the_callers_autocast_give_the_same_views(
    images: torch.Tensor,
) -> None:
    view = partial(augment.views, crops=augment.simclr_views(), size=32, mean=HALF[0], std=HALF[1])
    plain = view(images, generator=generator())
    turned = images.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)
    assert not turned.is_contiguous()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(
            torch.equal(a, b)
            for a, b in zip(plain, view(turned, generator=generator()), strict=True)
        )
    before = images.clone()
    view(images, generator=generator())
    assert torch.equal(images, before)


def test_parameters_follow_their_distributions() -> None:
    n = 20_000
    crop = Crop(
        vertical_flip=0.2,
        rotation=45,
        rotation_p=0.6,
        jitter=(0.8, 0.4, 1.5, 0.2),
        jitter_p=0.7,
        gray_p=0.3,
        blur_p=0.4,
        solarise_p=0.1,
    )
    drawn = augment.draw_parameters(
        replace(crop, perspective=0.5, perspective_p=0.25), n, generator()
    )
    extent = drawn.box[:, 2:] - drawn.box[:, :2]
    area, ratio = extent.prod(1), extent[:, 0] / extent[:, 1]
    assert drawn.box.min() >= 0 and drawn.box.max() <= 1 + 1e-6
    assert area.min() >= 0.08 - 1e-5 and ratio.min() >= 3 / 4 - 1e-4 and ratio.max() <= 4 / 3 + 1e-4
    assert ratio.log().mean().abs() < 0.005
    moved = (drawn.corners.abs() != 1).flatten(1).any(1)
    shares = {
        0.5: drawn.flip[:, 0],
        0.2: drawn.flip[:, 1],
        0.6: drawn.angle != 0,
        0.3: drawn.gray,
        0.4: drawn.sigma > 0,
        0.1: drawn.solarise,
    }
    shares |= {0.25: moved, 0.7: drawn.jitter[:, 0] != 1}
    for share, happened in shares.items():
        assert happened.float().mean().item() == pytest.approx(share, abs=0.015)
    assert drawn.angle.min() < -44.9 and drawn.angle.max() > 44.9 and drawn.angle.abs().max() <= 45
    assert drawn.corners.abs().min() == pytest.approx(0.5, abs=0.01)
    for operation, (low, high) in enumerate([(0.2, 1.8), (0.6, 1.4), (0, 2.5), (-0.2, 0.2)]):
        values = drawn.jitter[:, operation]
        assert low <= values.min() < low + 0.01 and high - 0.01 < values.max() <= high
    assert np.bincount(drawn.order[:, 0], minlength=4).min() > 0.23 * n
    sigma = drawn.sigma[drawn.sigma > 0]
    assert 0.1 <= sigma.min() < 0.11 and 1.99 < sigma.max() <= 2


LARGE = {"simclr": 0.08, "swav": 0.14, "dino": 0.4, "nielsen2023": 0.5, "nearly whole": 0.99}
SCALES = {
    **{name: (low, 1.0) for name, low in LARGE.items()},
    "swav small": (0.05, 0.14),
    "dino small": (0.05, 0.4),
}


@pytest.mark.parametrize("name", SCALES)
def test_areas_ratios_and_places_are_torchvisions(name: str) -> None:
    """Two-sample Kolmogorov-Smirnov over 20,000 draws; torchvision's image is so large that its
    whole pixels do not show."""
    n, side, ratio = 20_000, 100_000, (3 / 4, 4 / 3)
    image = torch.empty(1, side, side, device="meta")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        theirs = (
            torch.tensor(
                [
                    RandomResizedCrop.get_params(image, list(SCALES[name]), list(ratio))
                    for _ in range(n)
                ]
            )
            / side
        )
    box = augment.draw_parameters(Crop(scale=SCALES[name], ratio=ratio), n, generator(7)).box
    # top, left, height, width
    ours = torch.stack([box[:, 1], box[:, 0], box[:, 3] - box[:, 1], box[:, 2] - box[:, 0]], 1)

    def shown(drawn: torch.Tensor) -> dict[str, torch.Tensor]:
        top, left, height, width = drawn.unbind(1)
        return {"area": height * width, "ratio": width / height, "top": top, "left": left}

    for quantity, values in shown(ours).items():
        assert ks_2samp(values, shown(theirs)[quantity]).pvalue > 0.005, quantity
    often = [(drawn[:, 2] * drawn[:, 3] > 0.9).float().mean().item() for drawn in (ours, theirs)]
    assert often[0] == pytest.approx(often[1], abs=0.006)


@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (2.0, 3.0), (0.2, 0.5)])
def test_a_crop_that_never_fits_is_torchvisions_in_the_middle(ratio: tuple[float, float]) -> None:
    top, left, height, width = RandomResizedCrop.get_params(
        torch.empty(1, 1000, 1000, device="meta"), [1.0, 1.0], list(ratio)
    )
    for box in augment.draw_parameters(Crop(scale=(1.0, 1.0), ratio=ratio), 50, generator()).box:
        torch.testing.assert_close(
            box * 1000, torch.tensor([left, top, left + width, top + height]).float()
        )


def test_switching_an_operation_off_leaves_the_other_draws() -> None:
    with_blur, without = (
        augment.draw_parameters(replace(augment.simclr_views()[0], blur_p=p), 50, generator())
        for p in (0.5, 0.0)
    )
    same = {
        f.name: torch.equal(getattr(with_blur, f.name), getattr(without, f.name))
        for f in fields(with_blur)
    }
    assert same == {name: name != "sigma" for name in same}


@pytest.mark.parametrize("name", SETS)
def test_on_x_ray_grey_stays_grey_upright_and_sharp(images: torch.Tensor, name: str) -> None:
    film = images[..., :1].expand(-1, -1, -1, 3)
    kinds = SETS[name]("x-ray")
    for view in augment.views(film, kinds, 64, *HALF, generator()):
        assert torch.equal(view[:, 0], view[:, 1]) and torch.equal(view[:, 0], view[:, 2])
    assert all(crop.vertical_flip == crop.blur_p == crop.solarise_p == 0 for crop in kinds)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("modality", MODALITIES)
def test_every_modality_has_views(images: torch.Tensor, name: str, modality: str) -> None:
    for view in augment.views(images[:1], SETS[name](modality), 32, *HALF, generator()):
        assert (
            view.shape == (1, 3, 32, 32) and view.isfinite().all() and view.abs().max() <= 1 + 1e-5
        )


def test_the_sets_are_the_papers() -> None:
    def kinds(crops: tuple[Crop, ...], size: int) -> list[tuple[int, int, tuple[float, float]]]:
        return [(crop.count, crop.pixels(size), crop.scale) for crop in crops]

    assert kinds(augment.simclr_views(), 224) == [(2, 224, (0.08, 1.0))]
    assert kinds(augment.swav_views(), 224) == [(2, 224, (0.14, 1.0)), (6, 96, (0.05, 0.14))]
    assert kinds(augment.dino_views(), 224) == [
        (1, 224, (0.4, 1.0)),
        (1, 224, (0.4, 1.0)),
        (8, 96, (0.05, 0.4)),
    ]
    assert kinds(augment.nielsen2023_views(), 256) == [
        (1, 256, (0.5, 1.0)),
        (1, 256, (0.5, 1.0)),
        (5, 96, (0.1, 0.5)),
    ]
    assert [(c.blur_p, c.solarise_p) for c in augment.dino_views()] == [
        (1.0, 0.0),
        (0.1, 0.2),
        (0.5, 0.0),
    ]
    assert [(c.blur_p, c.solarise_p, c.perspective_p) for c in augment.nielsen2023_views()] == [
        (1.0, 0.0, 0.75),
        (0.1, 0.2, 0.5),
        (0.5, 0.0, 0.5),
    ]
    (film,) = augment.simclr_views("x-ray")
    assert (film.rotation, film.blur_p, film.jitter) == (45, 0, (0.4, 0.4, 0, 0))


def test_views_of_azizi_for_another_modality() -> None:
    """Azizi et al. 2021 for chest films.

    Jitter at half strength, rotation of up to 45 degrees, no blur; for skin: SimCLR's.
    """
    skin, film = augment.simclr_views("dermoscopy"), augment.simclr_views("x-ray")
    (chest,) = augment.simclr_views("dermoscopy", "chest")
    assert (chest.jitter, chest.rotation, chest.blur_p, chest.gray_p) == (
        (0.4, 0.4, 0.4, 0.1),
        45,
        0,
        0,
    )
    assert (chest.scale, chest.ratio, chest.flip) == (skin[0].scale, skin[0].ratio, 0.5)
    assert (
        augment.simclr_views("x-ray", "dermatology")
        == augment.simclr_views("dermoscopy", "dermatology")
        == skin
    )
    assert augment.simclr_views("x-ray", "chest") == film != skin


def test_small_views_keep_a_side_that_encoders_accept() -> None:
    assert [Crop(size=96 / 224).pixels(size) for size in (32, 64, 112, 224, 384)] == [
        32,
        32,
        48,
        96,
        160,
    ]
    assert [Crop().pixels(size) for size in (32, 97, 224)] == [32, 97, 224]


@pytest.mark.parametrize(
    ("modality", "side"), [("fundus", 0.875), ("x-ray", 0.875), ("histology", 1.0)]
)
def test_views_of_truong_et_al_are_crops_flips_and_turns(
    images: torch.Tensor, modality: str, side: float
) -> None:
    """224 of 256 pixels, anywhere; patches whole; films are turned and never mirrored."""
    (crop,) = augment.truong2021_views(modality)
    drawn = augment.draw_parameters(crop, 400, generator())
    torch.testing.assert_close(drawn.box[:, 2:] - drawn.box[:, :2], torch.full((400, 2), side))
    assert drawn.box[:, 0].min() < 0.01 and (drawn.box[:, 0].max() > 0.115) == (side < 1)
    film = modality == "x-ray"
    assert drawn.flip.any(0).tolist() == [not film, modality == "histology"]
    assert float(drawn.angle.abs().max()) == (pytest.approx(10, abs=0.2) if film else 0)
    assert (
        not drawn.gray.any()
        and not drawn.sigma.any()
        and (drawn.jitter == torch.tensor([1.0, 1, 1, 0])).all()
    )
    if side == 1:
        view, of = made(images, crop)
        back = [
            plane.flip([axis for axis, turned in zip((2, 1), flip, strict=True) if turned])
            for plane, flip in zip(view, of.flip, strict=True)
        ]
        torch.testing.assert_close(torch.stack(back), planes(images), atol=1e-6, rtol=0)


def test_a_sheet_shows_the_originals_and_their_views(images: torch.Tensor) -> None:
    kinds = [replace(STILL, flip=1.0), replace(STILL, size=0.5)]
    picture = augment.draw_views(images[:2], kinds, 40, generator())
    assert picture.shape == (2 * 42, 3 * 42, 3) and picture.dtype == np.uint8
    for row, image in enumerate(images[:2].numpy()):
        tile = picture[row * 42 + 1 : row * 42 + 41]
        assert np.array_equal(tile[:, 1:41], image)
        assert np.array_equal(tile[:, 43:83], image[:, ::-1])
        assert (tile[:4, 85:125] == 255).all() and (tile[4:36, 89:121] != 255).mean() > 0.9


@pytest.mark.parametrize(
    ("folder", "pattern", "modality"),
    [("ham10000", "*/*.jpg", "dermoscopy"), ("hannover_cxr", "**/*.png", "x-ray")],
)
def test_views_of_real_images_stay_near_their_image(
    real_data: Path, folder: str, pattern: str, modality: str
) -> None:
    """Of a view and two images, the view is nearer in mean colour to its own image than to another
    more often than not."""
    files = sorted((real_data / folder).glob(pattern))[:64]
    images = torch.stack(
        [torch.from_numpy(np.array(Image.open(f).convert("RGB").resize((64, 64)))) for f in files]
    )
    (view,) = augment.views(
        images, augment.finetune_views(modality), 64, (0.0,) * 3, (1.0,) * 3, generator()
    )
    ours, theirs = view.mean((2, 3)), planes(images).mean((2, 3))
    nearer = (ours - theirs).norm(dim=1) < (ours - theirs.roll(1, 0)).norm(dim=1)
    assert nearer.float().mean() > 0.6
