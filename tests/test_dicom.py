"""DICOM pixels, against pydicom where it is right, hand-made values, and the same picture in other
storage forms."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pydicom
import pytest
from fakes.dicom_files import write_dicom
from fakes.jpeg_files import many_scans
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from medbench import images
from medbench.images import decoding
from medbench.schema import UserError

#: Of pydicom, where a test writes what the standard does not allow.
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR CS")

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (24, 36, 3), dtype=np.uint8)
GREY = COLOUR[:, :, 0]
NOISE = RNG.integers(300, 3500, (24, 36)).astype(np.uint16)
TWELVE = {"BitsStored": 12, "HighBit": 11}


def three(grey):
    return np.repeat(np.asarray(grey)[:, :, None], 3, 2)


def item(**fields):
    ds = pydicom.Dataset()
    for name, value in fields.items():
        setattr(ds, name, value)
    return ds


def table(descriptor, data, vr="US"):
    """An item of a modality or VOI LUT sequence; data: words, or bytes with OW."""
    ds = item(LUTDescriptor=list(descriptor))
    ds["LUTDescriptor"].VR = "US"
    ds.add_new("LUTData", vr, data)
    return ds


HOUNSFIELD = np.linspace(0, 4095, 24 * 36).reshape(24, 36).astype(np.uint16)
RESCALE = {"RescaleSlope": 1, "RescaleIntercept": -1024, "BitsStored": 12, "HighBit": 11}


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_dicom_window_is_the_first_of_the_header(tmp_path, function):
    file = write_dicom(
        tmp_path,
        HOUNSFIELD,
        WindowCenter=[40, -600],
        WindowWidth=[400, 1500],
        VOILUTFunction=function,
        **RESCALE,
    )
    ds = pydicom.dcmread(file)
    modality = pydicom.pixels.apply_modality_lut(ds.pixel_array, ds)
    windowed = pydicom.pixels.apply_windowing(modality, ds)
    low, high = -1024, 4095 - 1024  # pydicom maps the window onto the range of the stored bits
    np.testing.assert_allclose(
        images.decode(file), three((windowed - low) / (high - low) * 255), atol=0.51
    )


def test_monochrome1_is_inverted(tmp_path):
    window = {"WindowCenter": 1000, "WindowWidth": 900}
    plain = images.decode(write_dicom(tmp_path, HOUNSFIELD, **window))
    np.testing.assert_array_equal(
        images.decode(
            write_dicom(tmp_path, HOUNSFIELD, PhotometricInterpretation="MONOCHROME1", **window)
        ),
        255 - plain,
    )
    assert plain.min() == 0
    assert plain.max() == 255


def test_dicom_without_window_keeps_its_contrast(tmp_path):
    np.testing.assert_array_equal(
        images.decode(write_dicom(tmp_path, HOUNSFIELD)), three(np.round(HOUNSFIELD / 4095 * 255))
    )
    stretched = images.decode(
        write_dicom(tmp_path, HOUNSFIELD, WindowCenter=40, WindowWidth=0, **RESCALE)
    )
    np.testing.assert_allclose(stretched, three(HOUNSFIELD / 4095 * 255), atol=0.51)


def test_a_window_of_one_is_a_threshold(tmp_path):
    decoded = images.decode(write_dicom(tmp_path, HOUNSFIELD, WindowCenter=2000, WindowWidth=1))
    np.testing.assert_array_equal(decoded, three(np.where(HOUNSFIELD > 1999.5, 255, 0)))


def test_dicom_voi_lut_comes_before_the_window(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor = [256, 0, 8]
    table.LUTData = list(range(255, -1, -1))
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    file = write_dicom(tmp_path, GREY, VOILUTSequence=[table], WindowCenter=1, WindowWidth=2)
    np.testing.assert_array_equal(images.decode(file), three(255 - GREY))


def test_dicom_colour(tmp_path):
    np.testing.assert_array_equal(images.decode(write_dicom(tmp_path, COLOUR)), COLOUR)
    ybr = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
    file = write_dicom(tmp_path, np.ascontiguousarray(ybr), PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(images.decode(file), COLOUR, atol=3)


def test_dicom_without_preamble_or_suffix(tmp_path):
    file = write_dicom(tmp_path, GREY, name="IM0001")
    whole = images.decode(file)
    file.write_bytes(file.read_bytes()[132:])
    np.testing.assert_array_equal(images.decode(file), whole)


@pytest.mark.parametrize("syntax", [pydicom.uid.RLELossless, pydicom.uid.JPEG2000Lossless])
def test_compressed_dicom_that_can_be_read(tmp_path, syntax):
    file = write_dicom(tmp_path, GREY)
    if syntax == pydicom.uid.RLELossless:
        ds = pydicom.dcmread(file)
        ds.compress(syntax, encoding_plugin="pydicom")
    else:
        stream = io.BytesIO()
        Image.fromarray(GREY).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
        ds = pydicom.dcmread(file)
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
        ds["PixelData"].is_undefined_length = True
    ds.save_as(file)
    np.testing.assert_array_equal(images.decode(file), three(GREY))


def test_a_codec_with_more_bits_than_the_header_is_not_cut(tmp_path):
    ds = pydicom.dcmread(write_dicom(tmp_path, NOISE, BitsStored=8, HighBit=7))
    stream = io.BytesIO()
    Image.fromarray(NOISE << 4).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(tmp_path / "a.dcm")
    np.testing.assert_allclose(
        images.decode(tmp_path / "a.dcm"), three(np.round(NOISE / 4095 * 255)), atol=1
    )


@pytest.mark.parametrize(
    ("syntax", "line"),
    [
        (
            pydicom.uid.JPEGLSLossless,
            r"JPEG-LS Lossless.*Next: pip install pylibjpeg pylibjpeg-libjpeg",
        ),
        (
            pydicom.uid.HTJ2KLossless,
            r"High-Throughput JPEG 2000.*Next: pip install pylibjpeg pylibjpeg-openjpeg",
        ),
        (
            pydicom.uid.JPEGExtended12Bit,
            r"JPEG Extended.*Next: pip install pylibjpeg pylibjpeg-libjpeg",
        ),
    ],
)
def test_a_missing_plugin_is_named(syntax, line, tmp_path, monkeypatch):
    """The one that pydicom reads this compression with.

    Pillow is there, and reads no JPEG of 12 bits.
    """
    file = write_dicom(tmp_path, NOISE, **TWELVE)
    ds = pydicom.dcmread(file)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = pydicom.encaps.encapsulate([bytes(64)])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(file)
    base = pydicom.pixels.decoders.base
    decoder = base._PIXEL_DATA_DECODERS[syntax][0]
    monkeypatch.setattr(
        decoder,
        "_available",
        {name: made for name, made in decoder._available.items() if name == "pillow"},
    )
    if not any(text.startswith("pylibjpeg") for text in decoder.missing_dependencies):
        pytest.skip("the plugin is installed")
    with pytest.raises(UserError, match=rf"a\.dcm.*{line}"):
        images.decode(file)


def test_a_compressed_progressive_jpeg_of_many_scans_is_refused(tmp_path):
    file = write_dicom(tmp_path, GREY)
    ds = pydicom.dcmread(file)
    ds.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    ds.PixelData = pydicom.encaps.encapsulate([many_scans(GREY, 101)])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(file)
    with pytest.raises(
        UserError,
        match=r"a\.dcm: it is a progressive JPEG of 1\d\d scans, and at most 100 are read",
    ):
        images.decode(file)


def test_dicom_that_holds_no_single_image(tmp_path):
    with pytest.raises(UserError, match="holds no image"):
        images.decode(write_dicom(tmp_path, GREY, PixelData=None))
    frames = np.repeat(GREY[None], 3, 0)
    with pytest.raises(UserError, match="3 frames"):
        images.decode(
            write_dicom(
                tmp_path,
                frames,
                Rows=24,
                Columns=36,
                SamplesPerPixel=1,
                PhotometricInterpretation="MONOCHROME2",
                NumberOfFrames=3,
            )
        )
    file = write_dicom(tmp_path, GREY)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"a\.dcm"):
        images.decode(file)


# one picture, many storage forms

WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
RAMP12 = np.arange(4096)


def palettes(entries, bits, vr="OW"):
    """The three tables of a grey palette."""
    found = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        found[f"{colour}PaletteColorLookupTableDescriptor"] = [len(entries) % 65536, 0, bits]
        found[f"{colour}PaletteColorLookupTableData"] = entries.tobytes()
    return found


def in_groups(shared=(), own=(), **fields):
    """Functional groups with these items, as enhanced CT and MR have them."""
    names = {"slope": "PixelValueTransformationSequence", "window": "FrameVOILUTSequence"}
    group = lambda items: [
        item(**{names[kind]: [item(**values)] for kind, values in dict(items).items()})
    ]
    return {
        "SharedFunctionalGroupsSequence": group(shared),
        "PerFrameFunctionalGroupsSequence": group(own),
        **fields,
    }


#: Name -> (stored words, header fields) of the same noise, 0 black and 4095 white.
FORMS = {
    "12 of 16 bits": (NOISE, TWELVE),
    "the upper 12 of 16 bits": (NOISE << 4, {"BitsStored": 12, "HighBit": 15}),
    "an overlay in the spare bits": (NOISE | (np.uint16(1) << 13), TWELVE),
    "32 bits allocated": (NOISE.astype(np.uint32), {}),
    "MONOCHROME1": (4095 - NOISE, {**TWELVE, "PhotometricInterpretation": "MONOCHROME1", **WINDOW}),
    "a name in small letters": (NOISE, {**TWELVE, "PhotometricInterpretation": "Monochrome2"}),
    "signed, with an intercept": (
        NOISE.astype(np.int16) - 2048,
        {**TWELVE, "RescaleSlope": 1, "RescaleIntercept": 2048},
    ),
    "an intercept without a slope": (
        NOISE.astype(np.int16) - 2048,
        {**TWELVE, "RescaleIntercept": 2048},
    ),
    "a slope of 0": (NOISE, {**TWELVE, "RescaleSlope": 0, "RescaleIntercept": 0}),
    "a falling slope": (
        4095 - NOISE,
        {**TWELVE, "RescaleSlope": -1, "RescaleIntercept": 4095, **WINDOW},
    ),
    "slope and window of the frame": (
        NOISE.astype(np.int16) - 2048,
        in_groups(
            shared={"window": {"WindowCenter": 1, "WindowWidth": 2}},
            own={
                "slope": {"RescaleSlope": 2, "RescaleIntercept": 4096},
                "window": {"WindowCenter": 4095, "WindowWidth": 8191},
            },
            **TWELVE,
        ),
    ),
    "slope and window of all frames": (
        NOISE,
        in_groups(
            shared={
                "slope": {"RescaleSlope": 0.5, "RescaleIntercept": 7},
                "window": {"WindowCenter": 1031, "WindowWidth": 2048},
            },
            **TWELVE,
        ),
    ),
    "a modality LUT": (
        NOISE,
        {**TWELVE, "ModalityLUTSequence": [table((4096, 0, 16), RAMP12.tolist())]},
    ),
    "a modality LUT of 12 bits": (
        NOISE,
        {**TWELVE, "ModalityLUTSequence": [table((4096, 0, 12), RAMP12.tolist())]},
    ),
    "a modality LUT of bytes": (
        NOISE,
        {
            **TWELVE,
            "ModalityLUTSequence": [
                table((4096, 0, 8), (RAMP12 >> 4).astype(np.uint8).tobytes(), "OW")
            ],
        },
    ),
    "a VOI LUT of 12 bits": (
        NOISE,
        {**TWELVE, "VOILUTSequence": [table((4096, 0, 12), RAMP12.tolist())]},
    ),
    "a VOI LUT that declares 16 bits and uses 12": (
        NOISE,
        {**TWELVE, "VOILUTSequence": [table((4096, 0, 16), RAMP12.tolist())]},
    ),
    "a VOI LUT of 16 bits": (
        NOISE,
        {**TWELVE, "VOILUTSequence": [table((4096, 0, 16), (RAMP12 * 16).tolist())]},
    ),
    "a VOI LUT of bytes, two a word": (
        NOISE,
        {
            **TWELVE,
            "VOILUTSequence": [table((4096, 0, 8), (RAMP12 >> 4).astype(np.uint8).tobytes(), "OW")],
        },
    ),
    "a VOI LUT of bytes, two a word, as numbers": (
        NOISE,
        {
            **TWELVE,
            "VOILUTSequence": [
                table((4096, 0, 8), (RAMP12 >> 4).astype(np.uint8).view("<u2").tolist())
            ],
        },
    ),
    "a VOI LUT of bytes, one a word": (
        NOISE,
        {**TWELVE, "VOILUTSequence": [table((4096, 0, 8), (RAMP12 >> 4).tolist())]},
    ),
    "a VOI LUT that begins below 0": (
        NOISE.astype(np.int16) - 2048,
        {**TWELVE, "VOILUTSequence": [table((4096, 65536 - 2048, 12), RAMP12.tolist())]},
    ),
    "a palette of bytes": (NOISE, {**TWELVE, **palettes((RAMP12 >> 4).astype(np.uint8), 8)}),
    "a palette of 8-bit values in words": (
        NOISE,
        {**TWELVE, **palettes((RAMP12 >> 4).astype("<u2"), 8)},
    ),
    "a palette that declares 16 bits and uses 8": (
        NOISE,
        {**TWELVE, **palettes((RAMP12 >> 4).astype("<u2"), 16)},
    ),
    "a palette of 16 bits": (NOISE, {**TWELVE, **palettes((RAMP12 * 16).astype("<u2"), 16)}),
    "the upper 8 bits": ((NOISE >> 4).astype(np.uint8), {}),
    "signed bytes": (((NOISE >> 4).astype(np.int16) - 128).astype(np.int8), {}),
    "RGB": (three(NOISE >> 4).astype(np.uint8), {}),
    "RGB in planes": (
        np.ascontiguousarray(three(NOISE >> 4).astype(np.uint8).transpose(2, 0, 1)),
        {
            "Rows": 24,
            "Columns": 36,
            "SamplesPerPixel": 3,
            "PlanarConfiguration": 1,
            "PhotometricInterpretation": "RGB",
        },
    ),
    "RGB of 16 bits": (three(NOISE << 4), {}),
    "RGB of 12 bits in words": (three(NOISE), {}),
    "a palette that declares 16 bits and uses 12": (
        NOISE,
        {**TWELVE, **palettes(RAMP12.astype("<u2"), 16)},
    ),
    "RGB of the upper 12 bits": (three(NOISE << 4), {"BitsStored": 12, "HighBit": 15}),
    "RGB of bytes in words": (three(NOISE >> 4), {}),
    "YBR_FULL": (
        np.stack([NOISE >> 4, np.full_like(NOISE, 128), np.full_like(NOISE, 128)], 2).astype(
            np.uint8
        ),
        {"PhotometricInterpretation": "YBR_FULL"},
    ),
    "YBR_FULL_422": (
        np.stack(
            [
                (NOISE >> 4)[:, ::2],
                (NOISE >> 4)[:, 1::2],
                np.full((24, 18), 128),
                np.full((24, 18), 128),
            ],
            2,
        ).astype(np.uint8),
        {
            "Columns": 36,
            "SamplesPerPixel": 3,
            "PlanarConfiguration": 0,
            "PhotometricInterpretation": "YBR_FULL_422",
        },
    ),
    "YBR_FULL in planes": (
        np.stack([NOISE >> 4, np.full_like(NOISE, 128), np.full_like(NOISE, 128)]).astype(np.uint8),
        {
            "Rows": 24,
            "Columns": 36,
            "SamplesPerPixel": 3,
            "PlanarConfiguration": 1,
            "PhotometricInterpretation": "YBR_FULL",
        },
    ),
    **{
        f"window {name}": (NOISE, {**TWELVE, **WINDOW, "VOILUTFunction": name})
        for name in ("linear", "Linear_Exact")
    },
}


@pytest.mark.parametrize("name", FORMS)
def test_a_storage_form_does_not_show(tmp_path, name):
    words, fields = FORMS[name]
    decoded = images.decode(write_dicom(tmp_path, words, **fields)).astype(int)
    assert np.abs(decoded - three(np.round(NOISE / 4095 * 255))).max() <= 1


def test_functional_groups_say_what_the_top_level_would(tmp_path):
    slope, window = (
        {"RescaleSlope": 2, "RescaleIntercept": -1024},
        {"WindowCenter": 900, "WindowWidth": 1500, "VOILUTFunction": "SIGMOID"},
    )
    expected = images.decode(write_dicom(tmp_path, NOISE, **slope, **window, **TWELVE))
    by_hand = 255 / (1 + np.exp(-4 * (2.0 * NOISE - 1024 - 900) / 1500))
    np.testing.assert_allclose(expected, three(by_hand), atol=0.51)
    wrong = {"WindowCenter": 1, "WindowWidth": 2}
    for groups in (
        in_groups(shared={"slope": slope, "window": window}),
        in_groups(own={"slope": slope, "window": window}),
        in_groups(shared={"slope": slope, "window": wrong}, own={"window": window}),
    ):
        np.testing.assert_array_equal(
            images.decode(write_dicom(tmp_path, NOISE, **groups, **TWELVE)), expected
        )


@pytest.mark.parametrize(("slope", "intercept"), [(1, None), (0, 50), (None, 0)])
def test_half_a_rescale_is_taken_as_far_as_it_goes(tmp_path, slope, intercept):
    window = {"WindowCenter": 2000, "WindowWidth": 1500, **TWELVE}
    fields = {
        name: value
        for name, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept))
        if value is not None
    }
    plain = images.decode(write_dicom(tmp_path, NOISE, **window))
    np.testing.assert_array_equal(
        images.decode(write_dicom(tmp_path, NOISE, **window, **fields)), plain
    )
    shifted = images.decode(write_dicom(tmp_path, NOISE + 100, **window, RescaleIntercept=-100))
    np.testing.assert_array_equal(shifted, plain)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless],
)
@pytest.mark.parametrize(
    "name",
    [
        "12 of 16 bits",
        "the upper 12 of 16 bits",
        "a VOI LUT of bytes, two a word",
        "a palette of bytes",
        "RGB",
    ],
)
def test_a_transfer_syntax_does_not_show(tmp_path, syntax, name):
    words, fields = FORMS[name]
    plain = write_dicom(tmp_path, words, **fields)
    expected = images.decode(plain)
    ds = pydicom.dcmread(plain)
    if syntax == RLELossless:
        ds.compress(syntax, encoding_plugin="pydicom")
        ds.save_as(plain)
    else:
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = words.byteswap().tobytes() if words.itemsize > 1 else words.tobytes()
            for one in (*ds.get("VOILUTSequence", ()), ds):
                for element in one:
                    if (
                        element.VR == "OW" and element.keyword.endswith("LUTData")
                    ) or element.keyword.endswith("TableData"):
                        element.value = np.frombuffer(element.value, "<u2").byteswap().tobytes()
        ds.file_meta.TransferSyntaxUID = syntax
        plain = tmp_path / "other.dcm"
        pydicom.dcmwrite(
            plain,
            ds,
            implicit_vr=syntax.is_implicit_VR,
            little_endian=syntax.is_little_endian,
            enforce_file_format=True,
        )
    np.testing.assert_array_equal(images.decode(plain), expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 7])
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16])
def test_fewer_than_8_bits_fill_the_range(tmp_path, bits, kind):
    low = -(1 << bits - 1) if kind is np.int8 else 0
    few = RNG.integers(0, 1 << bits, (24, 36))
    stored = {"BitsStored": bits, "HighBit": bits - 1}
    expected = three(np.round(few / ((1 << bits) - 1) * 255))
    np.testing.assert_allclose(
        images.decode(write_dicom(tmp_path, (few + low).astype(kind), **stored)), expected, atol=1
    )
    scaled = {**stored, "RescaleSlope": 3, "RescaleIntercept": -5}
    np.testing.assert_allclose(
        images.decode(write_dicom(tmp_path, (few + low).astype(kind), **scaled)), expected, atol=1
    )
    if kind is np.uint8:
        np.testing.assert_allclose(
            images.decode(write_dicom(tmp_path, three(few).astype(kind), **stored)),
            expected,
            atol=1,
        )


def test_single_bits_are_black_and_white(tmp_path):
    bits = GREY > 127
    packed = np.packbits(bits.ravel(), bitorder="little")
    file = write_dicom(
        tmp_path, packed[None], Rows=24, Columns=36, BitsAllocated=1, BitsStored=1, HighBit=0
    )
    np.testing.assert_array_equal(images.decode(file), three(bits * 255))


@pytest.mark.parametrize("name", ["sigmoid", "Sigmoid", "SIGMOID"])
def test_sigmoid_in_any_letters(tmp_path, name):
    ds = pydicom.dcmread(
        write_dicom(
            tmp_path, NOISE, WindowCenter=2000, WindowWidth=900, VOILUTFunction=name, **TWELVE
        )
    )
    expected = pydicom.pixels.apply_windowing(ds.pixel_array, ds) / 4095 * 255
    np.testing.assert_allclose(images.decode(ds.filename), three(expected), atol=0.51)
    by_hand = 255 / (1 + np.exp(-4 * (int(NOISE[0, 0]) - 2000) / 900))
    assert images.decode(ds.filename)[0, 0, 0] == round(by_hand)


def test_a_function_that_nobody_knows_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.dcm: its VOI LUT function 'LOG' is not known"):
        images.decode(
            write_dicom(
                tmp_path, NOISE, WindowCenter=2000, WindowWidth=900, VOILUTFunction="LOG", **TWELVE
            )
        )


def test_tables_give_what_pydicom_gives(tmp_path):
    """Where pydicom is right: 16-bit entries, one a word."""
    entries = np.sort(RNG.integers(0, 65536, 1000))
    entries[-1] = 65535
    voi = {**TWELVE, "VOILUTSequence": [table((1000, 700, 16), entries.tolist())]}
    ds = pydicom.dcmread(write_dicom(tmp_path, NOISE, **voi))
    np.testing.assert_allclose(
        images.decode(ds.filename),
        three(pydicom.pixels.apply_voi_lut(ds.pixel_array, ds) / 65535 * 255),
        atol=0.51,
    )
    modality = {**TWELVE, "ModalityLUTSequence": [table((1000, 700, 16), entries.tolist())]}
    ds = pydicom.dcmread(write_dicom(tmp_path, NOISE, **modality))
    np.testing.assert_allclose(
        images.decode(ds.filename),
        three(pydicom.pixels.apply_modality_lut(ds.pixel_array, ds) / 65535 * 255),
        atol=0.51,
    )
    ds = pydicom.dcmread(
        write_dicom(tmp_path, NOISE, **TWELVE, **palettes(entries.astype("<u2"), 16))
    )
    np.testing.assert_array_equal(
        images.decode(ds.filename), pydicom.pixels.apply_color_lut(ds.pixel_array, ds) >> 8
    )


def test_a_palette_of_segments(tmp_path):
    # one entry of 0, then 255 more that climb to 255
    segments = np.array([0, 1, 0, 1, 255, 255], np.uint8)
    fields = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        fields[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        fields[f"Segmented{colour}PaletteColorLookupTableData"] = segments.tobytes()
    np.testing.assert_array_equal(images.decode(write_dicom(tmp_path, GREY, **fields)), three(GREY))
    fields["RedPaletteColorLookupTableDescriptor"] = [300, 0, 8]
    with pytest.raises(UserError, match="segmented palette of 300 entries"):
        images.decode(write_dicom(tmp_path, GREY, **fields))


def test_a_table_that_is_too_short_is_named(tmp_path):
    with pytest.raises(UserError, match="declares 4096 entries and holds 200"):
        images.decode(
            write_dicom(
                tmp_path, NOISE, **TWELVE, VOILUTSequence=[table((4096, 0, 12), list(range(100)))]
            )
        )


# padding

FRAME = np.zeros((24, 36), bool)
FRAME[:, :6] = True


@pytest.mark.parametrize("window", [{}, WINDOW], ids=["no window", "window"])
@pytest.mark.parametrize("negative", [False, True], ids=["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize(
    ("value", "limit", "kind"),
    [
        (0, None, np.uint16),
        (4095, None, np.uint16),
        (65535, None, np.uint16),
        (-2000, None, np.int16),
        (-3000, -2500, np.int16),
        (-32768, None, np.int16),
    ],
)
def test_padding_is_black_and_takes_no_part(tmp_path, value, limit, kind, negative, window):
    picture = np.clip(NOISE, 1, 4094).astype(kind)
    picture[:, -2:] = 1, 4094
    fields = {
        **window,
        **(TWELVE if kind is np.uint16 else {}),
        **({"PhotometricInterpretation": "MONOCHROME1"} if negative else {}),
    }
    whole = images.decode(write_dicom(tmp_path, picture, **fields))
    padded = np.where(FRAME, limit or value, picture).astype(kind)
    padded[0, 0] = value
    file = write_dicom(tmp_path, padded, **fields)
    ds = pydicom.dcmread(file)
    # with the other sign, as many writers have it
    ds.add_new("PixelPaddingValue", "US", value % 65536)
    if limit is not None:
        ds.add_new("PixelPaddingRangeLimit", "SS", limit)
    ds.save_as(file)
    decoded = images.decode(file)
    assert (decoded[FRAME] == 0).all()
    np.testing.assert_allclose(decoded[~FRAME], whole[~FRAME], atol=1)


def test_nothing_but_padding_is_black(tmp_path):
    file = write_dicom(
        tmp_path,
        np.full((4, 4), 7, np.uint16),
        PixelPaddingValue=7,
        PhotometricInterpretation="MONOCHROME1",
    )
    assert (images.decode(file) == 0).all()


# floats, and what is refused


@pytest.mark.parametrize(
    ("name", "kind"), [("FloatPixelData", np.float32), ("DoubleFloatPixelData", np.float64)]
)
def test_float_pixels(tmp_path, name, kind):
    def write(values, **fields):
        bits = 8 * np.dtype(kind).itemsize
        file = write_dicom(
            tmp_path,
            NOISE,
            PixelData=None,
            BitsStored=None,
            HighBit=None,
            PixelRepresentation=None,
            BitsAllocated=bits,
            **fields,
        )
        ds = pydicom.dcmread(file)
        setattr(ds, name, values.astype(kind).tobytes())
        ds.save_as(file)
        return file

    np.testing.assert_allclose(
        images.decode(write(NOISE / 4095)), three(NOISE / 4095 * 255), atol=0.51
    )
    np.testing.assert_allclose(
        images.decode(write(NOISE - 0.5, **WINDOW)), three(NOISE / 4095 * 255), atol=1
    )
    with pytest.raises(UserError, match="not finite"):
        images.decode(write(np.where(FRAME, np.nan, NOISE)))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"PhotometricInterpretation": "YBR_PARTIAL_422"}, "YBR_PARTIAL_422, 3 samples"),
        ({"PhotometricInterpretation": "YBR_RCT"}, "YBR_RCT, 3 samples"),
        ({"PhotometricInterpretation": "HSV"}, "HSV, 3 samples"),
        ({"PhotometricInterpretation": "MONOCHROME2"}, "MONOCHROME2, 3 samples"),
        ({"PixelRepresentation": 1}, "RGB, 3 samples"),
        ({"BitsStored": 7, "HighBit": 3}, "7 stored bits cannot end at bit 3 of 8"),
    ],
)
def test_colours_that_would_be_wrong_are_refused(tmp_path, fields, said):
    with pytest.raises(UserError, match=said):
        images.decode(write_dicom(tmp_path, COLOUR, **fields))


# more pixels than the header declares


def test_a_deflated_bomb_is_refused_before_it_is_inflated(tmp_path):
    file = write_dicom(
        tmp_path, GREY[:10, :10], PixelData=bytes(96 << 20), syntax=DeflatedExplicitVRLittleEndian
    )
    assert file.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(
        UserError,
        match=r"a\.dcm: it inflates to more than the 10 x 10 pixels that its header declares",
    ):
        images.decode(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 48 << 20


def test_a_deflated_file_that_is_cut_is_named(tmp_path):
    file = write_dicom(tmp_path, GREY, syntax=DeflatedExplicitVRLittleEndian)
    np.testing.assert_array_equal(images.decode(file), three(GREY))
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(UserError, match="ends before its deflated data do"):
        images.decode(file)


def test_more_images_than_the_header_declares(tmp_path):
    file = write_dicom(tmp_path, GREY, PixelData=np.repeat(GREY[None], 10, 0).tobytes())
    with pytest.raises(UserError, match="pixels for 10 images of the 36 x 24"):
        images.decode(file)


@pytest.mark.parametrize("kind", ["JPEG2000", "JPEG"])
def test_a_codec_with_another_size_than_the_header(tmp_path, kind):
    ds = pydicom.dcmread(write_dicom(tmp_path, GREY))
    stream = io.BytesIO()
    options = {"irreversible": False, "no_jp2": True} if kind == "JPEG2000" else {}
    Image.new("L", (2000, 2000)).save(stream, kind, **options)
    ds.file_meta.TransferSyntaxUID = (
        JPEG2000Lossless if kind == "JPEG2000" else pydicom.uid.JPEGBaseline8Bit
    )
    ds.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(tmp_path / "a.dcm")
    with pytest.raises(UserError, match="more or other pixels than the 36 x 24"):
        images.decode(tmp_path / "a.dcm")


def encapsulated(tmp_path, words, syntax, stream, **fields):
    ds = pydicom.dcmread(write_dicom(tmp_path, words, **fields))
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = pydicom.encaps.encapsulate([stream])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(tmp_path / "a.dcm")
    return tmp_path / "a.dcm"


@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("named", [True, False], ids=["JFIF", "without JFIF"])
@pytest.mark.parametrize("subsampling", [1, 2])
def test_colours_of_a_jpeg_with_halved_planes_are_brightness_and_colour_whatever_its_header_calls_them(
    tmp_path, kind, named, subsampling
):
    down, across = np.mgrid[:24, :36]
    smooth = np.stack([down * 8 + 30, across * 6 + 10, 200 - down * 3], 2).astype(np.uint8)
    written = io.BytesIO()
    Image.fromarray(smooth).save(written, "JPEG", quality=98, subsampling=subsampling)
    # without the 18 bytes of its APP0
    stream = written.getvalue() if named else written.getvalue()[:2] + written.getvalue()[20:]
    file = encapsulated(
        tmp_path, smooth, pydicom.uid.JPEGBaseline8Bit, stream, PhotometricInterpretation=kind
    )
    assert np.abs(images.decode(file).astype(int) - smooth).max() < 8


def test_a_codec_with_more_bits_than_the_header_has_room_for_is_refused(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(NOISE).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
    with pytest.raises(UserError, match="its pixels have 16 bits, and its header has room for 8"):
        images.decode(encapsulated(tmp_path, GREY, JPEG2000Lossless, stream.getvalue()))


def test_the_decoder_of_dicom_is_an_ingredient_of_its_own():
    assert decoding.DECODERS["dicom"] == 3
    assert decoding.DECODERS["jpeg"] == decoding.DECODERS["png"] == 1
