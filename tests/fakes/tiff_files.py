"""TIFF files written tag by tag, in forms that Pillow cannot write."""

from __future__ import annotations

import zlib

import numpy as np

SHORT, LONG = 3, 4
_FORMATS = {"u": 1, "i": 2, "f": 3}


def write_tiff(
    file,
    x,
    photometric,
    *,
    order="<",
    bits=None,
    planes=False,
    compression=1,
    predictor=1,
    tags=None,
):
    """x: (H, W) or (H, W, S) samples of any type.

    bits: of packed samples, fewer than the type's. tags: more of them, or others (number ->
    values).
    """
    samples = 1 if x.ndim == 2 else x.shape[2]
    bits = bits or 8 * x.dtype.itemsize
    known = {
        256: (LONG, [x.shape[1]]),
        257: (LONG, [x.shape[0]]),
        258: (SHORT, [bits] * samples),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        277: (SHORT, [samples]),
        278: (LONG, [x.shape[0]]),
        284: (SHORT, [2 if planes else 1]),
        317: (SHORT, [predictor]),
        339: (SHORT, [_FORMATS[x.dtype.kind]] * samples),
    }
    if predictor == 1:
        del known[317]
    known |= {number: (SHORT, values) for number, values in (tags or {}).items()}
    strips = (
        [np.ascontiguousarray(x[..., s]) for s in range(samples)] if planes and samples > 1 else [x]
    )
    data = [_packed(strip, order, bits, compression, predictor) for strip in strips]
    known[273] = (LONG, [0] * len(data))
    known[279] = (LONG, [len(one) for one in data])
    start = 8 + _directory_size(known)
    known[273] = (LONG, [start + sum(map(len, data[:i])) for i in range(len(data))])
    file.write_bytes(
        (b"II*\0" if order == "<" else b"MM\0*")
        + _number(8, 4, order)
        + _directory(known, order)
        + b"".join(data)
    )
    return file


def _packed(x, order, bits, compression, predictor):
    if bits < 8 * x.dtype.itemsize:
        each = np.unpackbits(x.astype(">u2").view(np.uint8).reshape(*x.shape, 2), axis=-1)[
            ..., 16 - bits :
        ]
        raw = np.packbits(each.reshape(len(x), -1), axis=1).tobytes()
    else:
        if predictor == 2:
            x = np.concatenate([x[:, :1], x[:, 1:] - x[:, :-1]], 1)
        raw = x.astype(x.dtype.newbyteorder(order)).tobytes()
    return zlib.compress(raw) if compression == 8 else raw


def _number(value, size, order):
    return int(value).to_bytes(size, "little" if order == "<" else "big")


def _directory_size(known):
    return (
        2
        + 12 * len(known)
        + 4
        + sum(
            n
            for kind, values in known.values()
            if (n := len(values) * (2 if kind == SHORT else 4)) > 4
        )
    )


def _directory(known, order):
    """The directory at byte 8, and the values that do not fit into it."""
    head, after, at = _number(len(known), 2, order), b"", 8 + 2 + 12 * len(known) + 4
    for number in sorted(known):
        kind, values = known[number]
        value = b"".join(_number(one, 2 if kind == SHORT else 4, order) for one in values)
        if len(value) > 4:
            place, after = _number(at + len(after), 4, order), after + value
        else:
            place = value.ljust(4, b"\0")
        head += (
            _number(number, 2, order)
            + _number(kind, 2, order)
            + _number(len(values), 4, order)
            + place
        )
    return head + bytes(4) + after
