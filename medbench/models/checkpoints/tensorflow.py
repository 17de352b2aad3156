"""Variables of a TensorFlow checkpoint, read without TensorFlow.

`NAME.index` beside `NAME.data-00000-of-00001`, as a SavedModel's `variables/` holds them. The index
is a table of LevelDB (google/leveldb, doc/table_format.md) from names to protocol buffers that say
type, shape and place of each variable in the data files
(tensorflow/core/protobuf/tensor_bundle.proto). In a checkpoint of TensorFlow 2 names are places in
a graph of objects; that graph (trackable_object_graph.proto) gives each variable's own name.
Nothing is executed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = 0xDB4775248B80FB57
GRAPH = b"_CHECKPOINTABLE_OBJECT_GRAPH"
FLOATS = {1: "<f4", 2: "<f8", 19: "<f2"}  # DT_FLOAT, DT_DOUBLE, DT_HALF
_FOOTER, _TRAILER = 48, 5  # bytes


def is_index(file: Path) -> bool:
    """Tell whether a file is the index of a checkpoint, by its last bytes."""
    if file.stat().st_size < _FOOTER:
        return False
    with file.open("rb") as stream:
        stream.seek(-8, 2)
        return bool(struct.unpack("<Q", stream.read(8))[0] == MAGIC)


def data_files(index: Path) -> list[Path]:
    """List the files beside an index that hold its values."""
    return sorted(index.parent.glob(f"{index.stem}.data-*-of-*"))


def variables(index: Path) -> dict[str, np.ndarray]:
    """Read every floating-point variable: its own name -> values.

    Raises ValueError for what is no checkpoint, or is not all there.
    """
    entries = dict(_entries(index.read_bytes()))
    header = _message(entries.pop(b"", b""))
    shards = data_files(index)
    if len(shards) != header.get(1, [1])[0]:
        raise ValueError(
            f"{header.get(1, [1])[0]} files {index.stem}.data-* belong to it, {len(shards)} are there"
        )
    content = [
        np.memmap(shard, np.uint8, "r") if shard.stat().st_size else np.zeros(0, np.uint8)
        for shard in shards
    ]
    about = {name: _message(entry) for name, entry in entries.items()}
    names = _names(_bytes(content, about[GRAPH])) if GRAPH in about else {}
    found = {}
    for key, entry in about.items():
        kind = FLOATS.get(entry.get(1, [0])[0])
        if kind is not None:
            shape = [
                _message(dim).get(1, [0])[0] for dim in _message(entry.get(2, [b""])[0]).get(2, [])
            ]
            values = _bytes(content, entry)
            if len(values) != prod(shape) * np.dtype(kind).itemsize:
                raise ValueError(
                    f"{key.decode(errors='replace')} has {len(values)} bytes for shape {shape}"
                )
            found[names.get(key.decode(), key.decode())] = np.frombuffer(values, kind).reshape(
                shape
            )
    return found


def _bytes(content: list[np.ndarray], entry: dict[int, list[Any]]) -> bytes:
    """Of a variable, as they lie in its data file."""
    shard, start, size = (entry.get(field, [0])[0] for field in (3, 4, 5))
    if shard >= len(content) or start + size > len(content[shard]):
        raise ValueError("a value lies beyond the end of its file")
    found: bytes = content[shard][start : start + size].tobytes()
    return found


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every key of a LevelDB table with its value."""
    if len(table) < _FOOTER or struct.unpack("<Q", table[-8:])[0] != MAGIC:
        raise ValueError("it is not an index of a TensorFlow checkpoint")
    footer, at = table[-_FOOTER:], 0
    places = []
    for _ in range(4):  # of the meta index, which is not needed, and of the index
        value, at = _varint(footer, at)
        places.append(value)
    for _, handle in _block(table, *places[2:]):
        start, at = _varint(handle, 0)
        yield from _block(table, start, _varint(handle, at)[0])


def _block(table: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if start + size + _TRAILER > len(table) or size < 4:
        raise ValueError("a block lies beyond its end")
    if table[start + size]:
        raise ValueError("its blocks are compressed, which TensorFlow does not do")
    block = table[start : start + size]
    end = size - 4 - 4 * struct.unpack("<I", block[-4:])[0]  # restarts are for searching
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, and where the next one begins."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("it is damaged")
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _message(data: bytes) -> dict[int, list[Any]]:
    """Return a protocol buffer's fields by number.

    Numbers, or bytes.
    """
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        value: Any
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = data[at : at + size], at + size
        elif wire == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError("it is damaged")
        if at > len(data):
            raise ValueError("it is damaged")
        found.setdefault(number, []).append(value)
    return found


def _names(text: bytes) -> dict[str, str]:
    """Key in the checkpoint -> a variable's own name, as the graph of objects says."""
    size, at = _varint(text, 0)  # of the one string, then a checksum
    graph = _message(text[at + 4 : at + 4 + size])
    attributes = [_message(one) for node in graph.get(1, []) for one in _message(node).get(2, [])]
    return {
        one[3][0].decode(): one[2][0].decode() for one in attributes if one.get(2) and one.get(3)
    }
