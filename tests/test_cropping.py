"""Squares as timm, open_clip and transformers make them of files of any shape, and what is made of
these squares."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from trees import hub

from medbench import Grid, UserError, images
from medbench.images import cropping
from medbench.images.cropping import CropRule, crop_in, crop_of
from medbench.images.squeezing import squeeze
from medbench.models import encoders
from medbench.models.hub import preprocessing
from medbench.models.stated import stated
from medbench.run.units import member_encoder, unit_of
from medbench.run.validation import encoder_of
from medbench.schema import Member, Weights, registry

SHAPES = ((61, 40), (40, 61), (33, 97), (50, 50), (20, 27), (36, 41))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Smooth ones, wide, high and square, smaller and larger than what is asked for."""
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 255, (7, 9, 3)).astype(np.uint8)).resize(
            shape, Image.Resampling.BICUBIC
        )
        for shape in SHAPES
    ]


def ours(picture: Image.Image, size: int, how: str, crop: str) -> np.ndarray:
    found = np.asarray(cropping.square(picture, size, how, crop)).astype(int)
    assert found.shape == (size, size, 3)
    return found


@pytest.mark.parametrize("mode", cropping.MODES)
@pytest.mark.parametrize("pct", [1.0, 0.9, 0.875])
def test_timm_makes_the_same_pixels(mode: str, pct: float, pictures: list[Image.Image]) -> None:
    from timm.data.transforms_factory import create_transform

    mean = (0.485, 0.456, 0.406)
    for size, how in ((32, "bicubic"), (29, "bilinear")):
        about: dict[str, Any] = {"mean": mean, "std": (1, 1, 1), "interpolation": how}
        about |= {"crop_pct": pct, "crop_mode": mode}
        native = create_transform((3, size, size), is_training=False, **about)
        seen = preprocessing.of_timm({**about, "input_size": [3, size, size]})
        crop = seen.crop.at(size)
        for picture in pictures:
            wanted = native(picture).permute(1, 2, 0).numpy() + mean
            np.testing.assert_array_equal(
                ours(picture, size, how, crop), np.rint(255 * wanted), f"{crop} of {picture.size}"
            )
        assert crop_of(crop).side == 0 or cropping.share_of(crop, size)[0] == mode
        assert CropRule(*cropping.share_of(crop, size), fill=seen.crop.fill).at(size) == crop


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_open_clip_makes_the_same_pixels(mode: str, pictures: list[Image.Image]) -> None:
    transform = pytest.importorskip("open_clip.transform")
    about = {"resize_mode": mode, "mean": [0.0] * 3, "std": [1.0] * 3, "fill_color": 9}
    native = transform.image_transform(32, is_train=False, **about)
    crop = preprocessing.of_open_clip({"preprocess_cfg": {**about, "size": 32}}).crop.at(32)
    for picture in pictures:
        wanted = native(picture).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(ours(picture, 32, "bicubic", crop), np.rint(255 * wanted))


@pytest.mark.parametrize(
    ("kind", "about", "crop"),
    [
        ("CLIPImageProcessor", {"size": {"shortest_edge": 36}, "crop_size": 32}, "center 36 floor"),
        (
            "BitImageProcessor",
            {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
            "center 32 floor",
        ),
        ("ViTImageProcessor", {"size": {"height": 32, "width": 32}}, "squash"),
        (
            "ConvNextImageProcessor",
            {"size": {"shortest_edge": 32}, "crop_pct": 0.875},
            "center 36 floor",
        ),
    ],
)
def test_transformers_makes_the_same_pixels(
    kind: str, about: dict[str, Any], crop: str, pictures: list[Image.Image], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    given = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "resample": 3, **about}
    native = getattr(transformers, kind)(**given)
    said = json.loads(native.to_json_string())
    seen = preprocessing.of_transformers(said)
    assert (seen.crop.at(seen.size), seen.apart) == (crop, "")
    for picture in pictures:
        wanted = 255 * native(picture, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        # torchvision resizes bytes with other roundings than Pillow
        assert np.abs(ours(picture, 32, "bicubic", crop) - wanted).max() <= 1.01, picture.size


def test_what_cannot_be_followed_is_said() -> None:
    def seen(**about: Any) -> preprocessing.Preprocessing:
        return preprocessing.of_transformers({**hub.processor(32, (0.5,) * 3, (0.5,) * 3), **about})

    unsized = seen(do_resize=False, do_center_crop=True, crop_size=32)
    assert "its own processor crops the middle 32, medbench does not" in preprocessing.said_of(
        unsized
    )
    ratio = seen(size={"shortest_edge": 32})
    assert "resizes the shorter side to 32 and keeps the ratio" in ratio.apart
    padded = seen(size={"shortest_edge": 24}, do_center_crop=True, crop_size=32)
    assert padded.crop.at(32) == "squash" and padded.apart
    older = seen(size=36, do_center_crop=True, crop_size=32)
    assert older.crop.at(32) == "center 36 floor"
    odd = preprocessing.of_timm({"mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.2})
    assert odd.crop.at(224) == "squash" and "crop_pct 1.2" in odd.apart


def test_another_size_keeps_the_share() -> None:
    """timm's floor(size / crop_pct), and the two sides of a processor of transformers."""
    assert CropRule("center", 0.9).at(224) == "center 248"
    assert CropRule("center", 0.9).at(448) == "center 497"
    clip = preprocessing.of_transformers(
        {
            **hub.processor(224, (0.5,) * 3, (0.5,) * 3),
            **{"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224},
        }
    )
    assert [clip.crop.at(size) for size in (224, 112)] == ["center 256 floor", "center 128 floor"]


@pytest.mark.parametrize("text", ["center", "squash 0", "centre 256", "center 256 up", "center x"])
def test_a_crop_is_read_back_as_it_was_written(text: str) -> None:
    for crop in ("squash", "squash 36 floor", "center 256", "border 224 124,116,104"):
        assert str(crop_of(crop)) == crop
    row = {"identity": {"encoder": {"crop": "center 256 floor"}}}
    assert [crop_in(one).name for one in (row, {})] == ["center crop of 256 px", ""]
    with pytest.raises(ValueError, match="is not a crop"):
        crop_of(text)


def test_a_strip_has_no_middle() -> None:
    with pytest.raises(UserError, match=r"60000 x 20 pixels, too long for a crop of its middle"):
        cropping.square(Image.new("L", (60_000, 20)), 224, "bicubic", "center 256")


def test_a_pack_is_made_in_the_cropped_form(pictures: list[Image.Image], tmp_path: Path) -> None:
    """Beside that of the same images squashed, whose key is what it was."""
    files = []
    for i, picture in enumerate(pictures):
        picture.save(file := tmp_path / f"{i}.png")
        files.append(file)
    hashes = images.content_hashes(files, tmp_path)
    plain = images.PackForm(32, "bicubic")
    assert images.pack_key(hashes, *plain) == images.pack_key(hashes, 32, "bicubic")
    forms = [plain, plain._replace(crop="center 36"), plain._replace(crop="center 36 floor")]
    made = images.packs(files, hashes, forms, tmp_path)
    assert len({pack.key for pack in made}) == 3
    for pack, form in zip(made, forms, strict=True):
        for file, row in zip(files, np.asarray(pack.array), strict=True):
            np.testing.assert_array_equal(row, squeeze(file, *form))
    assert (np.asarray(made[0].array[0]) != np.asarray(made[1].array[0])).any()
    with open(made[1].file, "r+b") as stream:  # a damaged row is made again as it was
        stream.seek(-100, 2)
        stream.write(b"\1" * 50)
    np.testing.assert_array_equal(made[1].array[-1], squeeze(files[-1], *forms[1]))


def test_the_doctor_sees_what_a_pack_holds(pictures: list[Image.Image]) -> None:
    from medbench.audit.encoder import resize_images

    seen = resize_images([np.asarray(one) for one in pictures], 32, "bicubic", "center 36")
    for picture, row in zip(pictures, seen, strict=True):
        wanted = ours(picture, 32, "bicubic", "center 36")
        np.testing.assert_array_equal(np.rint(255 * row.permute(1, 2, 0).numpy()), wanted)


def test_the_option_says_it_for_every_encoder_that_has_an_own_crop(tmp_path: Path) -> None:
    def crop(encoder: str, **grid: Any) -> str:
        return encoder_of(encoder, "pool", Grid(**grid)).crop

    assert crop("resnet50.tv_in1k") == "squash"
    assert crop("resnet50.tv_in1k", crop="center") == "center 256"
    assert crop("resnet50.tv_in1k", crop="center:1") == "center 224"
    assert crop("tf_efficientnet_lite0", crop="center") == "center 128"
    assert crop("resnet50.tv_in1k", crop="border") == "border 256 124,116,104"
    (tmp_path / "mine.py").write_text(
        "def net(size=64, mean=(0.5,) * 3, std=(0.5, 0.5, 0.5), crop='center:0.5'): ...\n"
        "def own(size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop='center:0.5'): ...\n"
    )
    mine = f"{tmp_path / 'mine.py'}:own"
    assert crop(mine) == "center 128"
    with pytest.raises(UserError, match=r"brings its own preprocessing: it takes no --crop"):
        crop(mine, crop="squash")
    for wrong, why in {
        "centre": r"Unknown crop 'centre'.*Did you mean 'center'",
        "center:2": r"'2' is not the share of a side",
        "center:x": r"'x' is not the share of a side",
        "": r"Unknown crop ''",
    }.items():
        with pytest.raises(UserError, match=why):
            stated((), (), None, (), wrong)
    plain = encoders.encoder("resnet50.tv_in1k")
    assert "crop" not in plain.identity()
    assert replace(plain, crop="center 256").identity()["crop"] == "center 256"


def test_members_of_a_fusion_are_cropped_as_it_is() -> None:
    whole = encoder_of("resnet50.tv_in1k", "pool", Grid(crop="center"))
    read = member_encoder(Member("simclr", None, "mean"), whole, phantom=True)
    assert read == replace(whole, readout="mean")
    other = Member("simclr", "resnet18.tv_in1k")
    assert member_encoder(other, whole, phantom=False, crop="center:1").crop == "center 224"
    assert member_encoder(other, whole, phantom=False).crop == "squash"


def test_weights_of_ones_own_are_cropped_as_the_config_beside_them_says(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"")

    def seen(**grid: Any) -> tuple[str, str]:
        made = encoder_of(
            "resnet18.tv_in1k", "pool", Grid(weights=str(tmp_path / "mine.pth"), **grid)
        )
        return made.crop, made.said

    assert seen()[0] == "squash"
    assert seen(crop="center")[0] == "center 256"
    about = hub.processor(96, (0.1,) * 3, (0.2,) * 3)
    about |= {"do_center_crop": True, "crop_size": {"height": 96, "width": 96}}
    about["size"] = {"shortest_edge": 108}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(about))
    crop, said = seen()
    assert crop == "center 108 floor"
    assert "resizes the shorter side to 108 and crops the middle 96" in said
    assert seen(size=48)[0] == "center 54 floor"
    assert seen(crop="squash")[0] == "squash" and "but for --crop" in seen(crop="squash")[1]


def test_the_own_size_changes_no_crop_and_a_mean_fills(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"")
    all_of = {"mean": ("0.1",), "std": ("0.2",)}

    def crop(**grid: Any) -> str:
        asked = Grid(weights=str(tmp_path / "mine.pth"), **all_of, **grid)
        return encoder_of("resnet18.tv_in1k", "pool", asked).crop

    for mode, made in {
        "squash": "squash",
        "center": "center 256",
        "center:0.5": "center 448",
        "border": "border 256 26,26,26",
    }.items():
        assert crop(crop=mode) == crop(crop=mode, size=224) == made
    about = hub.processor(96, (0.1,) * 3, (0.2,) * 3)
    about |= {"do_center_crop": True, "crop_size": {"height": 96, "width": 96}}
    about["size"] = {"shortest_edge": 108}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(about))
    assert crop(crop="center") == crop(crop="center", size=96) == "center 108 floor"


def test_a_checkpoint_that_brings_a_mean_fills_with_it(tmp_path: Path) -> None:
    bordered = encoder_of("resnet18.tv_in1k", "pool", Grid(crop="border"))
    assert bordered.crop == "border 256 124,116,104"
    for mean, crop in (((0.5, 0.5, 0.5), "border 256 128,128,128"), (None, bordered.crop)):
        found = Weights("a", "b", (), tmp_path / "a", mean=mean)
        method = replace(registry.method("supervised"), weights=lambda *_, found=found: found)
        data: Any = None
        unit = unit_of(data, method, bordered, 0, Grid(source="imagenet"), tmp_path)
        assert unit.encoder.crop == crop
