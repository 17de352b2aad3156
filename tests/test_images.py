"""Decoding, hashing, packing and batching, against Pillow, pydicom, hashlib and the plain
formula."""

from __future__ import annotations

import errno
import io
import os
import pickle
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fakes.jpeg_files import many_scans
from PIL import Image

from medbench import images
from medbench.images import batching, decoding, grey_levels, packing, squeezing
from medbench.schema import Drawn, Encoder, UserError
from medbench.system import worker_pool
from medbench.system.progress_listener import listening

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (24, 36, 3), dtype=np.uint8)
GREY = COLOUR[:, :, 0]


@pytest.fixture
def save(tmp_path):
    def save(picture, name, **options):
        file = tmp_path / name
        (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(
            file, **options
        )
        return file

    return save


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


def three(grey):
    return np.repeat(np.asarray(grey)[:, :, None], 3, 2)


# decode


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.webp"])
def test_lossless_formats_give_their_pixels(save, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    decoded = images.decode(save(COLOUR, name, **options))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, COLOUR)


def test_jpeg_gives_what_pillow_gives(save):
    file = save(COLOUR, "a.jpg", quality=90)
    np.testing.assert_array_equal(images.decode(file), np.asarray(Image.open(file)))


def test_type_is_found_by_content(save):
    np.testing.assert_array_equal(images.decode(save(COLOUR, "scan.jpg", format="PNG")), COLOUR)


def test_grey_and_one_bit_become_rgb(save):
    np.testing.assert_array_equal(images.decode(save(GREY, "grey.png")), three(GREY))
    np.testing.assert_array_equal(
        images.decode(save(Image.fromarray(GREY > 127), "bit.png")),
        three(np.where(GREY > 127, 255, 0)),
    )


def test_palette_becomes_rgb(save):
    palette = Image.fromarray(COLOUR).quantize(16)
    np.testing.assert_array_equal(
        images.decode(save(palette, "p.png")), np.asarray(palette.convert("RGB"))
    )


def test_cmyk_becomes_rgb(save):
    ink = Image.fromarray(COLOUR).convert("CMYK")
    np.testing.assert_array_equal(
        images.decode(save(ink, "ink.tif")), np.asarray(ink.convert("RGB"))
    )


@pytest.mark.parametrize("alpha", [1, 128, 255])
def test_alpha_is_laid_over_black(save, alpha):
    rgba = np.dstack([COLOUR, np.full(GREY.shape, alpha, np.uint8)])
    np.testing.assert_allclose(images.decode(save(rgba, "a.png")), COLOUR * (alpha / 255), atol=1)
    grey = images.decode(save(Image.fromarray(rgba).convert("LA"), "la.png"))
    np.testing.assert_allclose(
        grey[0, 0, 0],
        np.asarray(Image.fromarray(COLOUR).convert("L"))[0, 0] * (alpha / 255),
        atol=1,
    )


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def write_png(file, x, colour_type, bits, *extra):
    """x: (H, W) or (H, W, S) samples of so many bits.

    extra: (kind, data) of chunks before the pixels.
    """
    if bits < 8:
        rows = np.packbits(
            np.unpackbits(x.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :].reshape(
                len(x), -1
            ),
            axis=1,
        )
    else:
        rows = x.astype(f">u{bits // 8}").reshape(len(x), -1).view(np.uint8)
    head = (
        x.shape[1].to_bytes(4, "big")
        + x.shape[0].to_bytes(4, "big")
        + bytes([bits, colour_type, 0, 0, 0])
    )
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = [(b"IHDR", head), *extra, (b"IDAT", pixels), (b"IEND", b"")]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks))
    return file


def levels(count):
    return b"PLTE", bytes(np.repeat(np.linspace(0, 255, count).astype(np.uint8), 3))


KEYED = np.where(GREY[0, 0] == GREY, 0, GREY)
OPAQUE = np.full(GREY.shape, 255, np.uint8)
PNG_FORMS = {
    "16": (GREY.astype(np.uint16) * 257, 0, 16, (), GREY),
    "4": (GREY >> 4, 0, 4, (), (GREY >> 4) * 17),
    "2": (GREY >> 6, 0, 2, (), (GREY >> 6) * 85),
    "1": (GREY >> 7, 0, 1, (), (GREY >> 7) * 255),
    "palette": (GREY, 3, 8, (levels(256),), GREY),
    "palette 4": (GREY >> 4, 3, 4, (levels(16),), (GREY >> 4) * 17),
    "palette 1": (GREY >> 7, 3, 1, (levels(2),), (GREY >> 7) * 255),
    "opaque palette": (GREY, 3, 8, (levels(256), (b"tRNS", b"\xff" * 256)), GREY),
    "palette with a clear entry": (
        GREY,
        3,
        8,
        (levels(256), (b"tRNS", bytes([255] * GREY[0, 0] + [0]))),
        KEYED,
    ),
    "a clear level": (GREY, 0, 8, ((b"tRNS", int(GREY[0, 0]).to_bytes(2, "big")),), KEYED),
    "and alpha": (np.stack([GREY, OPAQUE], 2), 4, 8, (), GREY),
    "and alpha 16": (np.stack([GREY, OPAQUE], 2).astype(np.uint16) * 257, 4, 16, (), GREY),
    "RGB": (three(GREY), 2, 8, (), GREY),
    "RGB 16": (three(GREY).astype(np.uint16) * 257, 2, 16, (), GREY),
    "RGB 16 with a clear colour": (
        three(GREY).astype(np.uint16) * 257,
        2,
        16,
        ((b"tRNS", bytes([GREY[0, 0]]) * 6),),
        KEYED,
    ),
    "RGBA": (np.dstack([three(GREY), OPAQUE]), 6, 8, (), GREY),
    "RGBA 16": (np.dstack([three(GREY), OPAQUE]).astype(np.uint16) * 257, 6, 16, (), GREY),
}


@pytest.mark.parametrize("name", PNG_FORMS)
def test_a_storage_form_of_png_does_not_show(tmp_path, name):
    x, colour_type, bits, extra, shown = PNG_FORMS[name]
    np.testing.assert_array_equal(
        images.decode(write_png(tmp_path / "a.png", x, colour_type, bits, *extra)), three(shown)
    )


@pytest.mark.parametrize(
    ("bits", "x"),
    [(16, GREY.astype(np.uint16) * 257), (4, GREY >> 4), (2, GREY >> 6), (1, GREY >> 7)],
)
def test_a_clear_level_of_other_than_8_bits_is_refused(tmp_path, bits, x):
    with pytest.raises(
        UserError, match=r"a\.png: a transparent level of grey that is not 8 bits deep"
    ):
        images.decode(
            write_png(tmp_path / "a.png", x, 0, bits, (b"tRNS", int(x[0, 0]).to_bytes(2, "big")))
        )


def write_bmp(file, bits, data, header=b"", compression=0):
    size = 40 + len(header)
    words = (size, 36, 24, 1 | bits << 16, compression, len(data), 0, 0, 0, 0)
    head = b"".join(word.to_bytes(4, "little") for word in words) + header
    file.write_bytes(
        b"BM"
        + b"".join(n.to_bytes(4, "little") for n in (14 + size + len(data), 0, 14 + size))
        + head
        + data
    )
    return file


def test_a_storage_form_of_bmp_does_not_show(tmp_path):
    flipped = COLOUR[::-1, :, ::-1]
    fourth = lambda value: np.dstack([flipped, np.full(GREY.shape, value, np.uint8)]).tobytes()
    np.testing.assert_array_equal(
        images.decode(write_bmp(tmp_path / "24.bmp", 24, flipped.tobytes())), COLOUR
    )
    np.testing.assert_array_equal(
        images.decode(write_bmp(tmp_path / "32.bmp", 32, fourth(0))), COLOUR
    )
    masks = b"".join(
        mask.to_bytes(4, "little") for mask in (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    ) + bytes(52)
    np.testing.assert_array_equal(
        images.decode(write_bmp(tmp_path / "v4.bmp", 32, fourth(255), masks, 3)), COLOUR
    )
    with pytest.raises(UserError, match="every pixel is transparent"):
        images.decode(write_bmp(tmp_path / "clear.bmp", 32, fourth(0), masks, 3))


def test_cmyk_jpeg_is_read_by_adobes_mark_or_refused(save):
    smooth = Image.fromarray(COLOUR[:3, :4]).resize((64, 48)).convert("CMYK")
    file = save(smooth, "a.jpg", quality=100)
    np.testing.assert_allclose(images.decode(file), np.asarray(smooth.convert("RGB")), atol=6)
    data = file.read_bytes()
    mark = data.index(b"\xff\xee")
    file.write_bytes(
        data[:mark] + data[mark + 2 + int.from_bytes(data[mark + 2 : mark + 4], "big") :]
    )
    with pytest.raises(UserError, match=r"a\.jpg: CMYK without Adobe's mark"):
        images.decode(file)


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("a.png", "RGBA", {}),
        ("a.png", "LA", {}),
        ("a.png", "P", {"transparency": bytes(256)}),
        ("a.tif", "RGBA", {}),
        ("a.webp", "RGBA", {"lossless": True, "exact": True}),
    ],
)
def test_an_image_that_is_transparent_everywhere_is_no_black_one(save, name, mode, options):
    clear = Image.fromarray(np.dstack([COLOUR, np.zeros_like(GREY)]))
    file = save(
        clear.convert("RGB").quantize(16) if mode == "P" else clear.convert(mode), name, **options
    )
    with pytest.raises(
        UserError,
        match=rf"{name}: every pixel is transparent \(alpha 0\).*save it without its alpha plane",
    ):
        images.decode(file)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1)), (8, np.rot90)],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.png"])
def test_exif_orientation_is_applied(save, orientation, turn, name):
    smooth = np.asarray(Image.fromarray(COLOUR[:3, :4]).resize((64, 48)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = images.decode(save(smooth, name, exif=exif))
    assert decoded.shape == turn(smooth).shape
    assert np.abs(decoded.astype(int) - turn(smooth)).mean() < 4


@pytest.mark.parametrize(
    ("bits", "name"), [(16, "a.png"), (12, "a.png"), (16, "a.tif"), (10, "a.tif")]
)
def test_16_bit_grey_is_scaled_by_the_bits_in_use(save, bits, name):
    deep = np.linspace(0, 2**bits - 1, 24 * 36).reshape(24, 36).astype(np.uint16)
    np.testing.assert_array_equal(
        images.decode(save(deep, name)), three(np.round(deep / (2**bits - 1) * 255))
    )


def test_a_burned_in_mark_does_not_blacken_a_12_bit_image(save):
    deep = np.full((100, 100), 3000, np.uint16)
    deep[0, :5] = 65535
    decoded = images.decode(save(deep, "a.png"))
    assert decoded[50, 50, 0] == round(3000 / 4095 * 255)
    assert decoded[0, 0, 0] == 255


def test_big_endian_signed_and_float_grey(save, tmp_path):
    deep = (np.arange(24 * 36).reshape(24, 36) * 75).astype(np.uint16)
    big = tmp_path / "big.tif"
    big.write_bytes(
        b"MM\x00*\x00\x00\x00\x08" + _ifd(36, 24, 8 + 2 + 9 * 12 + 4) + deep.astype(">u2").tobytes()
    )
    np.testing.assert_array_equal(images.decode(big), three(np.round(deep / 65535 * 255)))
    signed = np.linspace(-1000, 3000, 24 * 36).reshape(24, 36).astype(np.int32)
    np.testing.assert_allclose(
        images.decode(save(signed, "i.tif")), three((signed + 1000) / 4000 * 255), atol=0.51
    )
    unit = np.linspace(0, 0.5, 24 * 36, dtype=np.float32).reshape(24, 36)
    np.testing.assert_allclose(images.decode(save(unit, "f.tif")), three(unit * 255), atol=0.51)


def _ifd(width, height, data):
    """A big-endian TIFF directory for 16-bit grey.

    Nine entries of tag, type LONG, count 1, value (SHORT values sit in the high half).
    """
    short = {258: 16, 259: 1, 262: 1, 277: 1}
    long = {256: width, 257: height, 273: data, 278: height, 279: width * height * 2}
    entries = b""
    for tag in sorted({**short, **long}):
        kind, value = (3, short[tag] << 16) if tag in short else (4, long[tag])
        entries += (
            tag.to_bytes(2, "big")
            + kind.to_bytes(2, "big")
            + (1).to_bytes(4, "big")
            + value.to_bytes(4, "big")
        )
    return (9).to_bytes(2, "big") + entries + bytes(4)


def test_pixels_that_are_not_finite_are_refused(save):
    with pytest.raises(UserError, match=r"nan\.tif: it holds pixels that are not finite"):
        images.decode(save(np.full((4, 4), np.nan, np.float32), "nan.tif"))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.bmp", "a.webp"])
@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_truncated_files_are_named(save, name, keep):
    file = save(COLOUR, name)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UserError, match=rf"{name}"):
        images.decode(file)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"patient list", "is not an image"),
        (b"\xff\xd8\xff" + bytes(50), "is not an image"),
    ],
)
def test_files_that_are_no_images_are_named(tmp_path, data, reason):
    file = tmp_path / "x.png"
    file.write_bytes(data)
    with pytest.raises(UserError, match=rf"x\.png.*{reason}"):
        images.decode(file)


@pytest.mark.parametrize("what", ["profile", "text"])
def test_a_png_with_a_large_profile_or_text_is_no_corrupt_file(tmp_path, what):
    from PIL.PngImagePlugin import PngInfo

    pixels = RNG.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    large, texts = bytes(3 << 20), PngInfo()
    if what == "text":
        texts.add_text("report", large.decode(), zip=True)
    Image.fromarray(pixels).save(
        tmp_path / "x.png", pnginfo=texts, icc_profile=large if what == "profile" else None
    )
    assert (np.asarray(decoding.picture(tmp_path / "x.png")) == pixels).all()


def test_more_pixels_than_pillow_opens_are_told_as_such(tmp_path):
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    made = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "x.png").write_bytes(made)
    with pytest.raises(
        UserError,
        match=r"it has more than 178,956,970 pixels; at most 89,478,485 are read: cut it into tiles first",
    ):
        decoding.picture(tmp_path / "x.png")


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.png cannot be read"):
        images.decode(tmp_path / "gone.png")
    with pytest.raises(UserError, match="cannot be read"):
        images.decode(tmp_path)


def test_random_bytes_behind_a_header_never_escape_as_another_error(save, tmp_path):
    for name in ("a.jpg", "a.png", "a.tif", "a.bmp", "a.webp"):
        data = np.frombuffer(save(COLOUR, name).read_bytes(), np.uint8)
        for seed in range(20):
            rng = np.random.default_rng(seed)
            damaged = data.copy()
            damaged[rng.integers(2, len(data), 12)] = rng.integers(0, 256, 12)
            file = tmp_path / "damaged"
            file.write_bytes(damaged.tobytes())
            outcome = decode_or_say(file)
            if isinstance(outcome, str):
                assert "damaged" in outcome
            else:  # damage that the format does not notice
                assert outcome.ndim == 3


def decode_or_say(file):
    try:
        return images.decode(file)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC, as phones save it"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"PK\x03\x04" + bytes(40), "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
    ],
)
def test_what_is_called_an_image_and_is_another_file(tmp_path, content, kind):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(
        UserError, match=rf"a\.jpg: it is {kind}.*whatever its name says; JPEG, PNG,"
    ):
        images.decode(tmp_path / "a.jpg")


def test_a_progressive_jpeg_of_many_scans_is_refused(tmp_path):
    """300 of them took 15 s for half a megabyte; encoders make 6 to 14."""
    (tmp_path / "a.jpg").write_bytes(many_scans(GREY, 80))
    assert images.decode(tmp_path / "a.jpg").shape == (*GREY.shape, 3)
    (tmp_path / "a.jpg").write_bytes(many_scans(GREY, 300))
    with pytest.raises(
        UserError,
        match=r"a\.jpg: it is a progressive JPEG of 30\d scans, and at most 100 are read: save it as a plain JPEG",
    ):
        images.decode(tmp_path / "a.jpg")


def test_several_frames_are_refused(save):
    other = Image.fromarray(255 - COLOUR)
    with pytest.raises(UserError, match="holds 2 frames"):
        images.decode(save(COLOUR, "a.tif", save_all=True, append_images=[other]))


def test_bombs_are_refused_before_they_are_decoded(save, monkeypatch):
    file = save(COLOUR, "a.png")
    monkeypatch.setattr(grey_levels, "MAX_PIXELS", COLOUR.shape[0] * COLOUR.shape[1] - 1)
    with pytest.raises(UserError, match="36 x 24 pixels"):
        images.decode(file)
    blank = io.BytesIO()
    Image.new("1", (20000, 20000)).save(blank, "PNG")
    file.write_bytes(blank.getvalue())
    with pytest.raises(UserError, match=r"a\.png"):
        images.decode(file)


def test_a_large_jpeg_keeps_its_look_when_it_is_reduced(save):
    detail = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    )
    file = save(detail.resize((1600, 1200), Image.Resampling.BICUBIC), "large.jpg", quality=92)
    packed = squeezing.squeeze(file, 128, "bicubic").astype(float)
    full = np.asarray(
        Image.fromarray(images.decode(file)).resize((128, 128), Image.Resampling.BICUBIC)
    )
    assert packed.std() > 30
    assert np.abs(packed - full).mean() < 1


# pack


def draw(seed, size=16):
    """Module-level, so that workers can receive it."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def drawings(n):
    return [Drawn(draw, i, f"test {i}") for i in range(n)]


def pack(pictures, cache, size=16, interpolation="bicubic", **options):
    return images.pack(
        pictures, images.content_hashes(pictures, cache), size, interpolation, cache, **options
    )


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_rows_are_the_whole_image_squeezed(save, cache, interpolation):
    files = [save(COLOUR, "c.png"), save(GREY, "g.png"), save(COLOUR[:, ::-1], "m.png")]
    made = pack([*files, *drawings(1)], cache, 16, interpolation)
    resample = Image.Resampling[interpolation.upper()]
    for row, source in zip(made.array, (COLOUR, three(GREY), COLOUR[:, ::-1]), strict=False):
        np.testing.assert_array_equal(
            row,
            np.asarray(Image.fromarray(np.ascontiguousarray(source)).resize((16, 16), resample)),
        )
    np.testing.assert_array_equal(made.array[3], draw(0))
    assert made.array.dtype == np.uint8
    assert isinstance(made.array.array, np.memmap)
    assert not made.array.array.flags.writeable
    assert len(made) == 4


def test_drawings_of_another_size_are_resized(cache):
    expected = np.asarray(Image.fromarray(draw(0)).resize((8, 8), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(pack(drawings(1), cache, 8).array[0], expected)


def test_key_names_content_order_size_and_interpolation():
    base = images.pack_key(["a", "b"], 16, "bicubic")
    assert base == images.pack_key(("a", "b"), 16, "bicubic")
    others = [
        images.pack_key(["b", "a"], 16, "bicubic"),
        images.pack_key(["a", "b"], 8, "bicubic"),
        images.pack_key(["a", "b"], 16, "bilinear"),
    ]
    assert len({base, *others}) == 4


def test_a_finished_pack_is_not_made_again(cache):
    first = pack(drawings(3), cache)
    before = first.file.stat().st_mtime_ns
    with listening(
        lambda progress: progress.stage == "packing images" and pytest.fail("it was made again")
    ):
        again = pack(drawings(3), cache)
    assert again == first
    assert first.file.stat().st_mtime_ns == before


def test_workers_write_what_one_process_writes(save, cache, tmp_path):
    pictures = [save(COLOUR, "a.png"), *drawings(230)]
    seen = []
    with listening(
        lambda progress: (
            seen.append((progress.done, progress.total)) if progress.unit == "images" else None
        )
    ):
        made = pack(pictures, cache, workers=2)
    expected = np.stack([squeezing.squeeze(p, 16, "bicubic") for p in pictures])
    np.testing.assert_array_equal(made.array, expected)
    assert seen[0] == (0, 231)
    assert seen[-1] == (231, 231)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_packs_of_several_sizes_are_those_made_alone_and_read_each_file_once(
    tmp_path, cache, monkeypatch
):
    """The JPEG is decoded at 1/8 for 16 px, at 1/2 for 64, whole for 200; the PNG has one size."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)).resize(
        (800, 600), Image.Resampling.BICUBIC
    )
    files = [tmp_path / "a.jpg", tmp_path / "b.png"]
    for file in files:
        picture.save(file)
    read = []
    whole = decoding._read
    monkeypatch.setattr(decoding, "_read", lambda file: read.append(file) or whole(file))
    forms = [
        images.PackForm(size, way) for size in (16, 64, 200) for way in ("bicubic", "bilinear")
    ]
    hashes = images.content_hashes(files, cache)
    together = images.packs(files, hashes, forms, cache / "together")
    assert read == files
    for form, made in zip(forms, together, strict=True):
        alone = images.pack(files, hashes, *form[:2], cache / "alone")
        assert (made.key, made.sums) == (alone.key, alone.sums)
        np.testing.assert_array_equal(made.array, alone.array)
    read.clear()
    again = images.packs(
        files, hashes, [*forms, images.PackForm(20, "bicubic")], cache / "together"
    )
    assert read == files and len(again) == 7, "what is there is not made again"


def test_a_pack_syncs_by_time(cache, monkeypatch):
    """Not two times for 32 images, which took half of the time."""
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(fd) or fsync(fd))
    pictures = drawings(20 * packing.CHUNK)
    hashes = images.content_hashes(pictures, cache)
    synced.clear()
    images.pack(pictures, hashes, 16, "bicubic", cache, workers=1)
    often = len(synced)
    monkeypatch.setattr(packing, "SYNC_EVERY", 0.0)
    monkeypatch.setattr(packing, "SYNC_SHARE", 0)
    synced.clear()
    images.pack(pictures, hashes, 20, "bicubic", cache, workers=1)
    assert often < 8 and len(synced) >= 20, "a slow packing loses a second, not all"


def test_a_killed_run_goes_on_where_it_stopped(cache):
    pictures = drawings(3 * packing.CHUNK + 5)

    def die(progress):
        if progress.unit == "images" and progress.done >= packing.CHUNK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(die):
        pack(pictures, cache)
    folder = (
        cache / "packs" / images.pack_key(images.content_hashes(pictures, cache), 16, "bicubic")
    )
    assert not (folder / "images.npy").exists()
    seen = []
    with listening(lambda progress: seen.append(progress.done)):
        made = pack(pictures, cache)
    assert seen[0] == packing.CHUNK
    np.testing.assert_array_equal(made.array, np.stack([draw(i) for i in range(len(pictures))]))
    assert sorted(file.name for file in folder.iterdir() if file.stat().st_size) == [
        "about.json",
        "images.npy",
    ]


def test_a_killed_run_does_not_forget_a_bad_image(tmp_path, cache):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"broken")

    def die(progress):
        if progress.unit == "images" and progress.done >= packing.CHUNK:
            raise KeyboardInterrupt

    pictures = [bad, *drawings(2 * packing.CHUNK)]
    with pytest.raises(KeyboardInterrupt), listening(die):
        pack(pictures, cache)
    with pytest.raises(UserError, match=r"1 of 65 images cannot be decoded: .*bad\.png"):
        pack(pictures, cache)


def test_a_pack_whose_beginning_was_cut_short_is_begun_again(cache):
    pictures = drawings(5)
    folder = (
        cache / "packs" / images.pack_key(images.content_hashes(pictures, cache), 16, "bicubic")
    )
    folder.mkdir(parents=True)
    (folder / "images.partial.npy").write_bytes(b"\x93NUMPY")
    np.save(folder / "done.npy", np.ones(1, np.uint8))
    np.testing.assert_array_equal(
        pack(pictures, cache).array, np.stack([draw(i) for i in range(5)])
    )


@pytest.mark.parametrize("small", [0, 200])
def test_all_bad_images_are_named_and_nothing_is_published(tmp_path, cache, monkeypatch, small):
    monkeypatch.setattr(packing, "_SMALL", small)
    files = []
    for i in range(40):
        files.append(tmp_path / f"image{i:02d}.png")
        Image.fromarray(COLOUR).save(files[i])
        if i % 3 == 0:
            files[i].write_bytes(b"broken")
    with pytest.raises(UserError, match="14 of 40 images cannot be decoded") as caught:
        pack(files, cache, workers=2)
    assert [f"image{i:02d}" in str(caught.value) for i in range(0, 40, 3)] == [True] * 10 + [
        False
    ] * 4
    assert not list(cache.glob("packs/*/*.npy"))
    for file in files:
        Image.fromarray(COLOUR).save(file)
    assert len(pack(files, cache)) == 40


def test_two_runs_at_once_make_one_pack(cache):
    drawn = []
    pictures = [
        Drawn(lambda seed: drawn.append(seed) or draw(seed), i, f"test {i}") for i in range(40)
    ]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: pack(pictures, cache), range(2))
    assert first == second
    assert sorted(drawn) == list(range(40))


def test_a_disk_without_room_is_an_error_before_the_work(cache, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"needs 0\.0 MB .*MEDBENCH_CACHE"):
        pack(drawings(2), cache)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_is_named(cache, monkeypatch, code):
    def full(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"disk is full: .*packs.* needs .*MEDBENCH_CACHE"):
        pack(drawings(2), cache)


def test_a_file_system_that_cannot_reserve_space_will_do(cache, monkeypatch):
    def unsupported(*args):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    assert len(pack(drawings(2), cache)) == 2


def test_space_that_cannot_be_reserved_is_given_back(cache, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(UserError, match="disk is full"):
        pack(drawings(2), cache)
    assert images.cache_entries(cache, "packs") == {}


def test_the_space_is_taken_before_the_first_image(cache):
    sizes = []
    with listening(
        lambda progress: sizes.extend(f.stat().st_blocks for f in cache.glob("packs/*/*partial*"))
    ):
        made = pack(drawings(40), cache, 64)
    assert sizes[0] * 512 >= made.array.nbytes


def test_bad_arguments(cache):
    with pytest.raises(UserError, match="Did you mean 'bicubic'"):
        pack(drawings(1), cache, interpolation="cubic")
    with pytest.raises(ValueError, match="no pack"):
        pack([], cache)


def test_a_pack_travels_as_a_name(cache):
    made = pack(drawings(50), cache, 32)
    sent = pickle.dumps(made)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).array, made.array)


# workers


def loaded(job):
    return sorted({"torch", "pandas", "sklearn", "timm"} & set(sys.modules))


def fail(job):
    raise OSError(errno.ENOSPC, "no room") if job == 1 else ValueError("a fault in the drawing")


def noisy(job):
    os.write(1, b"a library that prints")
    return job * job


def test_workers_import_nothing_heavy():
    assert dict(worker_pool.run_jobs(loaded, [1, 2], 2)) == {1: [], 2: []}


def test_what_a_worker_prints_does_not_disturb():
    assert dict(worker_pool.run_jobs(noisy, list(range(9)), 2)) == {i: i * i for i in range(9)}


def test_errors_of_a_job_reach_the_parent():
    with pytest.raises(OSError, match="no room") as caught:
        list(worker_pool.run_jobs(fail, [1, 1], 2))
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(RuntimeError, match="a fault in the drawing"):
        list(worker_pool.run_jobs(fail, [2, 2], 2))


def test_a_worker_that_is_killed_is_an_error_not_a_hang():
    with pytest.raises(UserError, match="worker process was killed"):
        list(worker_pool.run_jobs(os._exit, [9, 9], 2))


def test_a_script_without_a_guard_can_pack(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from PIL import Image\n"
        "from medbench import images\n"
        "here = Path(__file__).parent\n"
        "print('run')\n"
        "files = [here / f'{i}.png' for i in range(201)]\n"
        "for i, file in enumerate(files): Image.new('RGB', (9, 9), (i, i, i)).save(file)\n"
        "made = images.pack(files, images.content_hashes(files, here), 4, 'bilinear', here, workers=2)\n"
        "print(made.array[:, 0, 0, 0].tolist() == list(range(201)))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.split() == ["run", "True"]


# batches

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_batches_are_the_plain_formula(cache):
    torch = pytest.importorskip("torch")
    made = pack(drawings(23), cache)
    index = np.array([22, 3, 3, *range(17, 4, -1)])
    got = list(images.batches(made, index, 6, "cpu", MEAN, STD))
    assert [len(b) for b in got] == [6, 6, 4]
    plain = (made.array[index].astype(np.float64) / 255 - MEAN) / STD
    np.testing.assert_allclose(
        torch.cat(got).numpy(), plain.transpose(0, 3, 1, 2), rtol=0, atol=1e-6
    )
    assert all(
        b.dtype == torch.float32 and b.is_contiguous(memory_format=torch.channels_last) for b in got
    )
    half = next(images.batches(made, index, 6, "cpu", MEAN, STD, dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), got[0], atol=0.02, rtol=0.01)


def test_no_images_give_no_batches(cache):
    assert (
        list(images.batches(pack(drawings(2), cache), np.array([], int), 4, "cpu", MEAN, STD)) == []
    )


def test_the_reader_ends_with_its_consumer(cache):
    made = pack(drawings(64), cache)
    before = threading.active_count()
    stream = images.batches(made, np.arange(64), 2, "cpu", MEAN, STD)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_an_error_of_the_reader_reaches_the_consumer(cache):
    with pytest.raises(IndexError):
        list(images.batches(pack(drawings(3), cache), np.array([0, 99]), 1, "cpu", MEAN, STD))


def test_few_batches_wait(cache, monkeypatch):
    made = pack(drawings(64), cache)
    read, rows_read = [], batching.rows_read
    monkeypatch.setattr(
        batching,
        "rows_read",
        lambda array, index, pin: read.append(index) or rows_read(array, index, pin),
    )
    stream = images.batches(made, np.arange(64), 2, "cpu", MEAN, STD)
    next(stream)
    time.sleep(0.1)
    assert 1 <= len(read) <= 3  # one used, two wait
    stream.close()


# the cache folder


def test_cache_folder_is_the_named_one_or_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "new" / "cache"))
    assert images.cache_folder() == tmp_path / "new" / "cache"
    monkeypatch.delenv("MEDBENCH_CACHE")
    monkeypatch.setattr(
        "platformdirs.user_cache_dir", lambda *args, **options: str(tmp_path / "own")
    )
    assert images.cache_folder() == tmp_path / "own"


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"cache.*MEDBENCH_CACHE.*cannot be written"):
        images.cache_folder()


def test_entries_and_prune(cache):
    from filelock import FileLock

    kept, dropped = pack(drawings(3), cache), pack(drawings(4), cache)
    about = [(one.file.parent / "about.json").stat().st_size for one in (kept, dropped)]
    size = 128 + 16 * 16 * 3
    assert images.cache_entries(cache, "packs") == {
        kept.key: size + 2 * 768 + about[0],
        dropped.key: size + 3 * 768 + about[1],
    }
    with FileLock(kept.file.with_name("lock")):
        images.prune(cache, "packs")
    assert list(images.cache_entries(cache, "packs")) == [kept.key]
    assert images.cache_entries(cache, "features") == {}
    assert len(pack(drawings(4), cache)) == 4


def test_a_killed_prune_leaves_nothing_that_looks_whole(cache, monkeypatch):
    from medbench.models import features

    entry = cache / "features" / "key"
    entry.mkdir(parents=True)
    np.save(entry / "features.npy", np.zeros((2, 3), np.float32))
    (entry / "about.json").write_text("{}")
    listed, unlink, gone = Path.iterdir, Path.unlink, []

    def killed(file, **options):
        if gone:
            raise KeyboardInterrupt
        gone.append(file.name)
        unlink(file, **options)

    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(sorted(listed(folder), reverse=True)))
    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        images.prune(cache, "features")
    assert gone == ["about.json"]
    assert features.cached(cache, "key") is None


def test_features_need_no_reserved_space_either(cache, monkeypatch):
    import torch

    from medbench.models import features

    def unsupported(*args):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    encoder = Encoder("mean", "", "", 16, (0.0,) * 3, (1.0,) * 3, "bicubic")
    net = lambda: torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    assert features.extract_features(
        pack(drawings(2), cache), net, encoder, "key", cache, device="cpu", precision="fp32"
    ).array.shape == (
        2,
        3,
    )


def test_a_speed_is_that_of_the_same_device(cache, monkeypatch):
    import torch

    from medbench.models import encoder_speed, features

    encoder = Encoder("mean", "", "", 16, (0.0,) * 3, (1.0,) * 3, "bicubic")
    net = lambda: torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    made = features.extract_features(
        pack(drawings(2), cache), net, encoder, "key", cache, device="cpu", precision="fp32"
    )
    assert encoder_speed.measured_speed(cache, encoder, "cpu") == made.images_per_second
    monkeypatch.setattr(encoder_speed, "machine", lambda device: {"device": "another"})
    assert encoder_speed.measured_speed(cache, encoder, "cuda") is None


def test_a_name_that_is_no_text_is_named(tmp_path, cache):
    file = os.fsdecode(os.fsencode(tmp_path) + b"/m\xe4nn.png")
    with pytest.raises(UserError, match=r"m\\xe4nn\.png is not UTF-8"):
        images.content_hashes([Path(file)], cache)


# real images


@pytest.mark.parametrize("folder", ["hyperkvasir", "hannover_cxr", "kermany"])
def test_real_images_come_out_as_pillow_resizes_them(real_data, folder, cache):
    files = sorted(
        file for file in (real_data / folder).rglob("*") if file.suffix in decoding.SUFFIXES
    )
    files = files[:: max(1, len(files) // 12)]
    made = pack(files, cache, 96)
    for file, row in zip(files, made.array, strict=True):
        plain = Image.open(file).convert("RGB").resize((96, 96), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(row, np.asarray(plain), atol=1)
        assert row.std() > 5
