"""TIFF pixels: the same picture in every storage form is the same picture, or is refused by
name."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.tiff_files import write_tiff
from PIL import Image

from medbench import images
from medbench.images import decoding
from medbench.schema import UserError

RNG = np.random.default_rng(0)
GREY = RNG.integers(20, 236, (24, 36)).astype(np.uint8)
COLOUR = RNG.integers(20, 236, (24, 36, 3)).astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 257
DEEP_COLOUR = (COLOUR.astype(np.uint16) * 257) >> 4
CURVE = np.arange(256)
BLACK_IS_ZERO, WHITE_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 1, 0, 2, 3, 5, 6


def three(grey):
    return np.repeat(np.asarray(grey)[:, :, None], 3, 2)


def with_plane(x, value):
    return np.concatenate([x, np.full((*x.shape[:2], 1), value, x.dtype)], 2)


def luma(grey):
    return np.stack([grey, np.full_like(grey, 128), np.full_like(grey, 128)], 2)


#: Name -> (samples, photometric interpretation, how they are written, what they show).
FORMS = {
    "grey 8": (GREY, BLACK_IS_ZERO, {}, three(GREY)),
    "grey 16": (DEEP, BLACK_IS_ZERO, {}, three(GREY)),
    "grey 12 of 16": (DEEP >> 4, BLACK_IS_ZERO, {}, three(GREY)),
    "grey 4": ((GREY >> 4).astype(np.uint16), BLACK_IS_ZERO, {"bits": 4}, three((GREY >> 4) * 17)),
    "grey 1": ((GREY >> 7).astype(np.uint16), BLACK_IS_ZERO, {"bits": 1}, three((GREY >> 7) * 255)),
    "float 32": ((GREY / 255).astype(np.float32), BLACK_IS_ZERO, {}, three(GREY)),
    "signed 8": ((GREY.astype(int) - 128).astype(np.int8), BLACK_IS_ZERO, {}, three(GREY)),
    "signed 16, none below 0": (
        DEEP.astype(np.int32).__rshift__(1).astype(np.int16),
        BLACK_IS_ZERO,
        {},
        three(GREY),
    ),
    "signed 32, none below 0": (DEEP.astype(np.int32), BLACK_IS_ZERO, {}, three(GREY)),
    "unsigned 32": (GREY.astype(np.uint32) * 16843009, BLACK_IS_ZERO, {}, three(GREY)),
    "unsigned 32, 16 used": (DEEP.astype(np.uint32), BLACK_IS_ZERO, {}, three(GREY)),
    "WhiteIsZero 8": (255 - GREY, WHITE_IS_ZERO, {}, three(GREY)),
    "WhiteIsZero 16": (65535 - DEEP, WHITE_IS_ZERO, {}, three(GREY)),
    "WhiteIsZero 12 of 16": (4095 - (DEEP >> 4), WHITE_IS_ZERO, {}, three(GREY)),
    "WhiteIsZero 16, 12 used": (65535 - (DEEP >> 4), WHITE_IS_ZERO, {}, three(GREY)),
    "WhiteIsZero 4": (
        15 - (GREY >> 4).astype(np.uint16),
        WHITE_IS_ZERO,
        {"bits": 4},
        three((GREY >> 4) * 17),
    ),
    "WhiteIsZero float": ((1 - GREY / 255).astype(np.float32), WHITE_IS_ZERO, {}, three(GREY)),
    "grey and alpha": (
        np.stack([GREY, np.full_like(GREY, 255)], 2),
        BLACK_IS_ZERO,
        {"tags": {338: [2]}},
        three(GREY),
    ),
    "grey and another plane": (
        np.stack([GREY, np.zeros_like(GREY)], 2),
        BLACK_IS_ZERO,
        {"tags": {338: [0]}},
        three(GREY),
    ),
    "palette 16": (GREY, PALETTE, {"tags": {320: np.tile(CURVE * 257, 3).tolist()}}, three(GREY)),
    "palette, upper byte": (
        GREY,
        PALETTE,
        {"tags": {320: np.tile(CURVE * 256, 3).tolist()}},
        three(GREY),
    ),
    "palette of 8-bit values": (
        GREY,
        PALETTE,
        {"tags": {320: np.tile(CURVE, 3).tolist()}},
        three(GREY),
    ),
    "palette of 16 entries of 8-bit values": (
        (GREY >> 4).astype(np.uint16),
        PALETTE,
        {"bits": 4, "tags": {320: np.tile(np.arange(16) * 17, 3).tolist()}},
        three((GREY >> 4) * 17),
    ),
    "palette of colours": (
        GREY,
        PALETTE,
        {"tags": {320: [*CURVE, *(255 - CURVE), *(CURVE // 2)]}},
        np.stack([GREY, 255 - GREY, GREY // 2], 2),
    ),
    "RGB 8": (COLOUR, RGB, {}, COLOUR),
    "RGB 16": (COLOUR.astype(np.uint16) * 257, RGB, {}, COLOUR),
    "RGB 12 of 16": (DEEP_COLOUR, RGB, {}, COLOUR),
    "RGB 8 of 16": (COLOUR.astype(np.uint16), RGB, {}, COLOUR),
    "RGB 12 of 16 and alpha": (with_plane(DEEP_COLOUR, 65535), RGB, {"tags": {338: [2]}}, COLOUR),
    "RGB 12 of 16 and another plane": (
        with_plane(DEEP_COLOUR, 0),
        RGB,
        {"tags": {338: [0]}},
        COLOUR,
    ),
    "palette of 12-bit values": (
        GREY,
        PALETTE,
        {"tags": {320: np.tile(CURVE * 16, 3).tolist()}},
        three(GREY),
    ),
    "RGB in planes": (COLOUR, RGB, {"planes": True}, COLOUR),
    "RGB and alpha": (with_plane(COLOUR, 255), RGB, {"tags": {338: [2]}}, COLOUR),
    "RGB and alpha in planes": (
        with_plane(COLOUR, 255),
        RGB,
        {"planes": True, "tags": {338: [2]}},
        COLOUR,
    ),
    "RGB and associated alpha": (with_plane(COLOUR, 255), RGB, {"tags": {338: [1]}}, COLOUR),
    "RGB and another plane": (with_plane(COLOUR, 0), RGB, {"tags": {338: [0]}}, COLOUR),
    "RGB and a plane of 0 without a name": (with_plane(COLOUR, 0), RGB, {}, COLOUR),
    "RGB and a plane of 255 without a name": (with_plane(COLOUR, 255), RGB, {}, COLOUR),
    "CMYK": (with_plane(255 - COLOUR, 0), CMYK, {}, COLOUR),
    "CMYK in planes": (with_plane(255 - COLOUR, 0), CMYK, {"planes": True}, COLOUR),
    "YCbCr": (luma(GREY), YCBCR, {"tags": {530: [1, 1]}}, three(GREY)),
}
WAYS = {
    f"{'little' if order == '<' else 'big'}{' deflated' if compression == 8 else ''}{' differences' if predictor == 2 else ''}": (
        order,
        compression,
        predictor,
    )
    for order in "<>"
    for compression, predictor in ((1, 1), (8, 1), (8, 2))
}


def not_read(name, order, compression):
    """Why a form is refused where it is written this way; "" where it is read."""
    if order == ">" and (
        name.startswith("unsigned 32")
        or name in ("WhiteIsZero 16", "WhiteIsZero 12 of 16", "WhiteIsZero 16, 12 used")
    ):
        return "its form of TIFF is not read"
    if (
        order == ">"
        and compression == 8
        and name.startswith(("signed 16", "signed 32", "float", "WhiteIsZero float"))
    ):
        return "compressed big-endian samples"
    return ""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FORMS)
def test_a_storage_form_does_not_show(tmp_path, name, way):
    x, photometric, how, shown = FORMS[name]
    order, compression, predictor = WAYS[way]
    if predictor == 2 and ("bits" in how or x.dtype.kind == "f"):
        predictor = 1
    file = write_tiff(
        tmp_path / "a.tif",
        x,
        photometric,
        order=order,
        compression=compression,
        predictor=predictor,
        **how,
    )
    if why := not_read(name, order, compression):
        with pytest.raises(UserError, match=rf"a\.tif: {why}"):
            images.decode(file)
    else:
        assert np.abs(images.decode(file).astype(int) - shown).max() <= 1


@pytest.mark.parametrize(
    ("x", "photometric", "how"),
    [
        (COLOUR.astype(np.uint16) * 257, RGB, {"planes": True}),
        (with_plane(COLOUR, 100), RGB, {"planes": True}),
        (with_plane(COLOUR, 0), RGB, {"planes": True, "compression": 8}),
        (luma(GREY), 8, {"planes": True}),
    ],
    ids=[
        "16 bits uncompressed",
        "a fourth without a name",
        "a fourth without a name, deflated",
        "CIELAB",
    ],
)
def test_planes_that_would_be_wrong_are_refused(tmp_path, x, photometric, how):
    with pytest.raises(
        UserError, match=r"a\.tif: its planes .* are not read: save its pixels interleaved"
    ):
        images.decode(write_tiff(tmp_path / "a.tif", x, photometric, **how))


@pytest.mark.parametrize(
    ("x", "photometric"),
    [
        ((GREY / 255).astype(np.float64), BLACK_IS_ZERO),
        ((COLOUR / 255).astype(np.float32), RGB),
        ((COLOUR.astype(int) - 128).astype(np.int8), RGB),
        (GREY.astype(np.int8), WHITE_IS_ZERO),
        ((DEEP // 2).astype(np.int16), WHITE_IS_ZERO),
    ],
    ids=[
        "float 64",
        "RGB of floats",
        "RGB of signed bytes",
        "WhiteIsZero of signed bytes",
        "WhiteIsZero of signed 16",
    ],
)
def test_forms_that_pillow_does_not_know_are_told_as_such(tmp_path, x, photometric):
    with pytest.raises(UserError, match=r"a\.tif: its form of TIFF is not read"):
        images.decode(write_tiff(tmp_path / "a.tif", x, photometric))


@pytest.mark.parametrize(
    ("x", "how", "said"),
    [
        (
            DEEP_COLOUR,
            {"planes": True, "compression": 8},
            "colour of 16 bits stored in planes, which uses few of them, is not read",
        ),
        (
            with_plane(DEEP_COLOUR, 65535),
            {"tags": {338: [1]}},
            "colour of 16 bits multiplied by its alpha, which uses few of them, is not",
        ),
    ],
    ids=["planes", "associated alpha"],
)
def test_deep_colour_whose_low_bytes_cannot_be_had_is_refused(tmp_path, x, how, said):
    with pytest.raises(UserError, match=said):
        images.decode(write_tiff(tmp_path / "a.tif", x, RGB, **how))


def test_bits_in_reversed_order_are_refused_beyond_8(tmp_path):
    mirrored = np.packbits(np.unpackbits(GREY, axis=1, bitorder="little"), axis=1, bitorder="big")
    eight = images.decode(write_tiff(tmp_path / "8.tif", mirrored, BLACK_IS_ZERO, tags={266: [2]}))
    np.testing.assert_array_equal(eight, three(GREY))
    with pytest.raises(UserError, match=r"reversed order \(FillOrder 2\)"):
        images.decode(write_tiff(tmp_path / "16.tif", DEEP, BLACK_IS_ZERO, tags={266: [2]}))


def test_by_hand(tmp_path):
    signed = images.decode(
        write_tiff(tmp_path / "i8.tif", np.array([[-128, -1, 0, 127]], np.int8), BLACK_IS_ZERO)
    )
    assert signed[0, :, 0].tolist() == [0, 127, 128, 255]
    white = images.decode(
        write_tiff(
            tmp_path / "w.tif", np.array([[0, 16384, 32768, 65535]], np.uint16), WHITE_IS_ZERO
        )
    )
    assert white[0, :, 0].tolist() == [255, 191, 127, 0]
    wide = images.decode(
        write_tiff(
            tmp_path / "u32.tif",
            np.array([[0, 1 << 30, 1 << 31, (1 << 32) - 1]], np.uint32),
            BLACK_IS_ZERO,
        )
    )
    assert wide[0, :, 0].tolist() == [0, 64, 128, 255]


@pytest.mark.parametrize(
    "name",
    [
        "grey 8",
        "grey 12 of 16",
        "signed 32, none below 0",
        "WhiteIsZero 8",
        "RGB 8",
        "palette 16",
        "CMYK",
    ],
)
def test_what_pillow_reads_right_is_left_as_it_reads_it(tmp_path, name):
    x, photometric, how, _ = FORMS[name]
    file = write_tiff(tmp_path / "a.tif", x, photometric, **how)
    with Image.open(file) as im:
        read = np.asarray(im if im.mode.startswith("I") else im.convert("RGB"))
    if read.ndim == 2:
        read = three(np.round(read / ((1 << int(read.max()).bit_length()) - 1) * 255))
    np.testing.assert_allclose(images.decode(file), read, atol=0.51)


def test_the_decoder_of_tiff_is_an_ingredient_of_its_own():
    assert decoding.DECODERS["tiff"] == 3
