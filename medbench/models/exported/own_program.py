"""Write, for a model's card, the Python by which a program without medbench gets the same numbers.

From the file's bytes to probabilities, the temperature and `unlike`, and what model.onnx takes and
gives. `tests/test_own_program.py` runs what stands here and compares it with the model.
"""

from __future__ import annotations

from collections.abc import Sequence

from medbench.images.cropping import Crop, crop_of, needed
from medbench.images.decoding import DRAFT_GAP, FORMATS
from medbench.images.grey_levels import BRIGHT, MAX_PIXELS
from medbench.models.exported.head import ComponentHead, LinearHead
from medbench.models.exported.layout import HEAD, ONNX, TYPICAL, Parts, member_folder
from medbench.models.exported.onnx_file import OUTPUTS, inputs
from medbench.models.exported.trained_heads import LayerHead
from medbench.models.exported.training_vectors import NeighbourHead, SupportHead
from medbench.models.neighbours import TIE
from medbench.schema import Encoder, Kind
from medbench.stats.temperature import SMALLEST

_IMPORTS = """import numpy as np, timm, torch
from PIL import Image, ImageOps
from safetensors.numpy import load_file

def softmax(x):
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)
"""
#: As `images.decoding.decode`; {side}: the pixels that are wanted, {square}: `_square`.
_PIXELS = """
def {name}(file):                      # ({size}, {size}, 3) uint8, RGB
    im = Image.open(file)
    if im.format in ("JPEG", "MPO"):   # a large JPEG is read at 1/2, 1/4 or 1/8
        im.draft(im.mode, ({draft}, {draft}))
    im = ImageOps.exif_transpose(im)   # upright; colour profiles are not applied
    if im.mode[0] in "IF":             # grey of more than 8 bits
        x = np.asarray(im)
        low, high = float(x.min()), float(x.max())
        if low >= 0 and x.dtype.kind in "iu":
            bright = int(np.quantile(x, {bright}, method="lower"))
            low, high = 0, 2 ** max(8, bright.bit_length()) - 1
        elif low >= 0 and high <= 1:
            low, high = 0, 1
        x = (x.astype(float) - low) * (255 / (high - low or 1)) + 0.5
        im = Image.fromarray(x.clip(0, 255).astype(np.uint8))
    elif im.has_transparency_data:     # laid over black
        im = im.convert("RGBA")
        im = Image.alpha_composite(Image.new("RGBA", im.size, (0, 0, 0, 255)), im)
    im = im.convert("RGB")
{square}
"""
_READOUTS = {
    "pool": "net(x)",
    "cls": "net.forward_features(x)[:, 0]",
    "mean": "mean(net, net.forward_features(x))",
    "cls+mean": "torch.cat([(t := net.forward_features(x))[:, 0], mean(net, t)], 1)",
    "last4": "torch.cat([p[:, 0] for _, p in net.forward_intermediates(x, indices=4, return_prefix_tokens=True, norm=True, "
    'output_fmt="NLC", intermediates_only=True)], 1)',
}
_MEAN = """
def mean(net, t):                      # over patches, or places of a map
    if t.ndim == 3:
        return t[:, net.num_prefix_tokens:].mean(1)
    return t.mean((2, 3) if t.shape[1] == net.num_features else (1, 2))
"""
_COMPONENTS = """x = f[:, h["varies"] > 0].clip(-h["reach"], h["reach"])
at, c = h["power_exponents"], h["power_centre"]
def yeo_johnson(x):
    a, t = np.where(x < 0, 2 - at, at), np.log1p(np.abs(x))
    return np.where(x < 0, -1, 1) * np.where(a == 0, t, np.expm1(a * t) / np.where(a == 0, 1, a))
x = (yeo_johnson(x) - yeo_johnson(np.sign(c) * np.expm1(np.abs(c)))) / np.exp(np.where(c < 0, 2 - at, at) * np.abs(c))
x = ((x - h["power_mean"]) / h["power_deviation"]).clip(-h["limit"], h["limit"])
x = (x - h["centre"]) @ h["components"].T
"""
_SEEN = 'p = np.zeros((len(f), {n}))\np[:, h["seen"]] = softmax({values})'
_UNLIKE = """
t = load_file(FOLDER + "/{file}")
def unlike(f):                         # True: far from the training images
    f = np.sign(f) * np.sqrt(np.abs(f.astype(float)))
    f /= np.maximum(np.linalg.norm(f, axis=1, keepdims=True), 1e-12)
    z = (f - t["mean"]) * t["scale"]
    a = z @ t["components"].astype(float).T
    rest = np.maximum((z**2).sum(1) - (a**2).sum(1), 0) / t["rest"]
    d = np.sqrt(((a**2 / t["variances"]).sum(1) + rest) / (t["scale"] > 0).sum())
    return ~(d <= t["threshold"])
"""


def own_program(parts: Parts, *, onnx: bool) -> list[str]:
    """Return what a card says of scoring without medbench, in lines of Markdown.

    onnx: whether the folder has model.onnx.
    """
    code = program(parts)
    lines = [
        "These lines give the probabilities of `medbench predict`, to rounding (about 1e-5). Other ways to decode and to resize an image end elsewhere.",
        "",
        "```python",
        *code.splitlines(),
        "```",
        "",
        *_left_out(),
    ]
    if not head_program(parts):
        lines += [
            "",
            f"The classifier of a fusion is a network of its own (`{HEAD}`): medbench"
            + (f" and `{ONNX}` run it." if onnx else " runs it."),
        ]
    return [*lines, *(["", *_of_onnx(parts)] if onnx else [])]


def program(parts: Parts) -> str:
    """Return the Python by which a program without medbench gets the same probabilities.

    It defines pixels(file), features(files), probabilities(f), calibrated(p) and unlike(f).
    """
    towers = parts.towers
    names = pixel_functions(parts)
    each = [
        _pixels(name, size, interpolation, crop)
        for (size, interpolation, crop), name in names.items()
    ]
    mean = _MEAN if any("mean" in tower.encoder.readout for tower in towers) else ""
    code = [_IMPORTS, '\nFOLDER = "."                           # this folder\n', *each, mean]
    if parts.joint is None:
        code.append(_features(parts, names))
    head = head_program(parts)
    if head:
        body = "\n".join(f"    {line}" for line in head.splitlines())
        code.append(
            f'\nh = load_file(FOLDER + "/{HEAD}")\ndef probabilities(f):                  # columns as in classes.json\n'
            f"    f = f.astype(float)\n{body}\n    return p\n"
        )
    if parts.points["temperature"] is not None:
        code.append(_calibrated(parts))
    if parts.typical is not None:
        code.append(_UNLIKE.format(file=TYPICAL))
    return "".join(code)


def pixel_functions(parts: Parts) -> dict[tuple[int, str, str], str]:
    """Return the names of the functions that make pixels: form -> pixels, pixels_2, ...

    form: (size, interpolation, crop).
    """
    return dict(zip(parts.forms, inputs(parts), strict=True))


def _pixels(name: str, size: int, interpolation: str, crop: str) -> str:
    return _PIXELS.format(
        name=name,
        size=size,
        draft=DRAFT_GAP * needed(size, crop),
        bright=BRIGHT,
        square="\n".join(f"    {line}" for line in _square(size, interpolation, crop_of(crop))),
    )


def _square(size: int, interpolation: str, crop: Crop) -> list[str]:
    """Write `images.cropping.square`."""
    how = f"Image.Resampling.{interpolation.upper()}"
    if not crop.side:
        return [f"return np.asarray(im.resize(({size}, {size}), {how}))    # whole, antialiased"]
    wanted = {
        "squash": f"({crop.side}, {crop.side})",
        "center": f"({crop.side} * im.width // min(im.size), {crop.side} * im.height // min(im.size))",
        "border": f"tuple(max(1, round(n / (max(im.size) / {crop.side}))) for n in im.size)",
    }
    first = f"(n - {size}) // 2" if crop.down else f"round((n - {size}) / 2)"
    lines = [
        f"im = im.resize({wanted[crop.mode]}, {how})",
        f"x, y = (-(({size} - n) // 2) if n < {size} else {first} for n in im.size)",
    ]
    if crop.mode != "border":
        return [*lines, f"return np.asarray(im.crop((x, y, x + {size}, y + {size})))"]
    return [
        *lines,
        f'square = Image.new("RGB", ({size}, {size}), {crop.fill})',
        "square.paste(im, (-x, -y))",
        "return np.asarray(square)",
    ]


def _features(parts: Parts, names: dict[tuple[int, str, str], str]) -> str:
    """Write `features(files)`: each encoder on its own pixels, side by side."""
    one_encoder = len(parts.towers) == 1
    places = [""] if one_encoder else [f"/{member_folder(i)}" for i in range(len(parts.towers))]
    lines = ["", "@torch.inference_mode()", "def features(files):", "    made = []"]
    for i, place in enumerate(places):
        net = f'timm.create_model("local-dir:" + FOLDER + "{place}", pretrained=True).eval()'
        lines.insert(i + 1, f"net_{i + 1} = {net}")
    for i, tower in enumerate(parts.towers):
        one = tower.encoder
        lines += [
            f"    x, net = torch.from_numpy(np.stack([{names[one.form]}(file) for file in files])), net_{i + 1}",
            f"    x = (x.permute(0, 3, 1, 2) / 255 - {_column(one.mean)}) / {_column(one.std)}",
            f"    made.append({_READOUTS[one.readout]}.numpy())",
        ]
    return "\n".join([*lines, "    return np.concatenate(made, 1)", ""])


def _column(values: Sequence[float]) -> str:
    return f"torch.tensor({list(values)}).view(3, 1, 1)"


def head_program(parts: Parts) -> str:
    """Return Python from features f (N, D) float64 and arrays h to p (N, C).

    "" of a fusion's own head.
    """
    head, n, kind = parts.head, len(parts.classes), parts.kind
    if isinstance(head, LinearHead):
        return _linear(kind, n)
    if isinstance(head, LayerHead):
        return f'x = f @ h["weight"].T + h["bias"]\np = {_sigmoid("x") if head.several else "softmax(x)"}'
    if isinstance(head, ComponentHead):
        return _COMPONENTS + _SEEN.format(n=n, values='x @ h["coef"].T + h["intercept"]')
    if isinstance(head, SupportHead):
        return _COMPONENTS + _support(head, n)
    return _neighbours(kind, n) if isinstance(head, NeighbourHead) else ""


def _sigmoid(x: str) -> str:
    return f"1 / (1 + np.exp(-{x}))"


def _linear(kind: Kind, n: int) -> str:
    each = kind in ("binary", "multilabel")
    lines = [
        'x = ((f - h["mean"]) * h["scale"]).clip(-h["limit"], h["limit"])',
        'x = x @ h["weight"].reshape(-1, f.shape[1]).T + h["bias"].ravel()',
        'p = np.tile(h["base"], (len(f), 1))    # of a class that could not be learnt',
        f'p[:, h["columns"]] = {_sigmoid("x") if each else "softmax(x)"}',
    ]
    return "\n".join([*lines, *(["p = np.hstack([1 - p, p])"] if kind == "binary" else [])])


def _support(head: SupportHead, n: int) -> str:
    """Write `SupportHead._decide`."""
    if not len(head.vectors):
        return _SEEN.format(n=n, values='np.zeros((len(f), len(h["seen"])))')
    kernel = """d = (x**2).sum(1, keepdims=True) - 2 * x @ h["vectors"].T + (h["vectors"]**2).sum(1)
k = np.exp(-h["gamma"] * np.maximum(d, 0))
"""
    if len(head.seen) == 2:
        decided = """m = k @ h["dual"][0] + h["bias"][0]
v = np.stack([0 * m, m], 1)
"""
    else:
        decided = """c, of = len(h["seen"]), np.repeat(np.arange(len(h["seen"])), h["counts"].astype(int))
votes, sums = np.zeros((2, len(f), c))
for b, (i, j) in zip(h["bias"], [(i, j) for i in range(c) for j in range(i + 1, c)]):
    m = k[:, of == i] @ h["dual"][j - 1, of == i] + k[:, of == j] @ h["dual"][i, of == j] + b
    sums[:, i] += m; sums[:, j] -= m
    votes[:, i] += m > 0; votes[:, j] += m <= 0
v = votes + sums / (3 * (np.abs(sums) + 1))
"""
    return kernel + decided + _SEEN.format(n=n, values='h["sharpness"] * v')


def _neighbours(kind: Kind, n: int) -> str:
    labels = (
        'y, known = np.nan_to_num(h["labels"]), 1.0 - np.isnan(h["labels"])'
        if kind == "multilabel"
        else f'y, known = np.eye({n})[h["labels"].astype(int)], np.ones((len(h["labels"]), 1))'
    )
    return f"""unit = lambda x: x.astype(float) / np.maximum(np.linalg.norm(x.astype(float), axis=1, keepdims=True), 1e-300)
near, k = unit(f) @ unit(h["images"]).T, int(h["k"][0])
w = np.exp(near / h["temperature"]) * (near >= np.sort(near, 1)[:, [-k]] - {TIE:g})
{labels}
votes = w @ known
p = np.where(votes > 0, np.minimum(w @ y / np.maximum(votes, 1e-300), 1), (y.sum(0) + 1) / (known.sum(0) + 2))"""


def _calibrated(parts: Parts) -> str:
    """Write `stats.temperature.tempered`."""
    t, low = parts.points["temperature"], f"{SMALLEST:.9g}"
    lines = [
        "",
        f"def calibrated(p, t={t!r}):",
        f"    p = p.clip({low}, 1 - {low})",
    ]
    if parts.kind == "multilabel":
        lines += [f"    return {_sigmoid('np.log(p / (1 - p)) / t')}"]
    else:
        if not all(parts.possible):
            lines += [f"    learnt = np.array({[int(one) for one in parts.possible]})"]
        only = "" if all(parts.possible) else " * learnt"
        lines += [f"    p = np.exp(np.log(p) / t){only}", "    return p / p.sum(1, keepdims=True)"]
    return "\n".join([*lines, ""])


def _left_out() -> list[str]:
    """Say what of `images.decoding` the program does not do."""
    return [
        f"What it leaves out, and medbench does: a file's type goes by its content ({', '.join(FORMATS)}, DICOM), never by its name; refused are more than "
        f"{MAX_PIXELS:,} pixels, several frames, and pixels that are all transparent. "
        f"Colour of 16 bits a sample is shown by its high byte where the {100 * BRIGHT:g} % quantile of all samples needs 16 bits, or where all samples are "
        "multiples of 257 or of 256; else it is divided by 2^b - 1, b the bits of that quantile, at least 8. "
        "DICOM: rescale slope and intercept or modality LUT, then the first VOI LUT, else the first window, else the rule for deep grey above; MONOCHROME1 is "
        "inverted, padding is black. TIFF of signed, white-is-zero or CMYK samples is read by its tags.",
    ]


def _of_onnx(parts: Parts) -> list[str]:
    """Say what model.onnx takes and gives."""
    n, width = len(parts.classes), parts.head.width
    names = inputs(parts)
    takes = [
        f"- input `{name}`: uint8 (N, height, width, 3), RGB, 0 to 255, any height and width, the same for the N images; {_resized(one)}"
        for name, one in zip(names, _of_forms(parts), strict=True)
    ]
    gives = {
        OUTPUTS[0]: f"float32 (N, {n}), 0 to 1, columns as in `classes.json`",
        OUTPUTS[1]: f"float32 (N, {n}), the same at the temperature"
        + ("" if parts.points["temperature"] is not None else ", which this model lacks: as given"),
        OUTPUTS[2]: f"float32 (N, {width}), which `unlike` is worked out from",
    }
    return [
        f"`{ONNX}`, for onnxruntime:",
        "",
        *takes,
        *(f"- output `{name}`: {what}" for name, what in gives.items()),
        "",
        f"Decode as `{names[0]}(file)` does. Pixels that it resized give the probabilities above to 1e-4; of whole pictures the file makes the square "
        "itself, a little otherwise: by how much stands under How it was made.",
    ]


def _of_forms(parts: Parts) -> list[Encoder]:
    """Return an encoder of each form, in the order of `Parts.forms`."""
    found = {one.form: one for one in reversed(parts.seen)}
    return [found[form] for form in parts.forms]


def _resized(one: Encoder) -> str:
    return f"{one.size} x {one.size} pixels pass unchanged, others are made that square inside"
