"""Checkpoints of TensorFlow and archives of NumPy with Big Transfer's ResNets, read without
TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models.resnetv2 import ResNetV2

from medbench import UserError
from medbench.models import checkpoints
from medbench.models.checkpoints import bit, tensorflow
from medbench.models.weights import _check_width


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def field(number: int, value: int | bytes) -> bytes:
    return (
        varint(number << 3 | 2) + varint(len(value)) + value
        if isinstance(value, bytes)
        else varint(number << 3) + varint(value)
    )


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Keys share what they begin with, as LevelDB writes them."""
    found, last = b"", b""
    for key, value in entries:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, last, strict=False)) if a != b),
            min(len(key), len(last)),
        )
        found += (
            varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        )
        last = key
    return found + struct.pack("<II", 0, 1)


def written(
    values: Mapping[str, np.ndarray], place: Path, graph: Mapping[str, str] | None = None
) -> Path:
    """`variables.index` and its data. graph: key in the checkpoint -> the variable's own name."""
    place.mkdir(parents=True, exist_ok=True)
    data, entries = b"", [(b"", field(1, 1))]
    content = {
        name.encode(): (field(1, 1), array.astype("<f4").tobytes(), array.shape)
        for name, array in values.items()
    }
    if graph:
        nodes = b"".join(
            field(
                1,
                field(
                    2, field(1, b"VARIABLE_VALUE") + field(2, own.encode()) + field(3, key.encode())
                ),
            )
            for key, own in graph.items()
        )
        content[tensorflow.GRAPH] = (field(1, 7), varint(len(nodes)) + b"\0\0\0\0" + nodes, ())
    for name, (kind, raw, shape) in sorted(content.items()):
        sides = b"".join(field(2, field(1, side)) for side in shape)
        entries.append((name, kind + field(2, sides) + field(4, len(data)) + field(5, len(raw))))
        data += raw
    blocks, handles = b"", []
    for part in (entries[: len(entries) // 2], entries[len(entries) // 2 :]):
        own = block(part)
        handles.append((part[-1][0], varint(len(blocks)) + varint(len(own))))
        blocks += own + b"\0" * 5
    index = block(handles)
    footer = varint(0) + varint(0) + varint(len(blocks)) + varint(len(index))
    (place / "variables.index").write_bytes(
        blocks + index + b"\0" * 5 + footer.ljust(40, b"\0") + struct.pack("<Q", tensorflow.MAGIC)
    )
    (place / "variables.data-00000-of-00001").write_bytes(data)
    return place / "variables.index"


@pytest.fixture
def small() -> ResNetV2:
    """Big Transfer's network with few channels."""
    torch.manual_seed(0)
    return ResNetV2(
        (1, 2, 1, 1),
        channels=(128, 256, 128, 128),
        stem_chs=32,
        num_classes=3,
        bottle_ratio=0.25,
        stem_type="fixed",
    ).eval()


def authors(net: ResNetV2) -> dict[str, np.ndarray]:
    """Its weights in the authors' names, as timm's own reader of their archives wants them."""
    generator = np.random.default_rng(0)
    found = {}

    def kernel(name: str, like: torch.Tensor) -> None:
        found[f"resnet/{name}/kernel"] = generator.normal(
            size=[like.shape[i] for i in (2, 3, 1, 0)]
        ).astype(np.float32)

    def norm(name: str, like: torch.Tensor) -> None:
        found.update(
            {
                f"resnet/{name}/group_norm/{part}".replace("//", "/"): generator.normal(
                    size=len(like)
                ).astype(np.float32)
                for part in ("gamma", "beta")
            }
        )

    kernel("root_block/standardized_conv2d", net.stem.conv.weight)
    for i, stage in enumerate(net.stages):
        for j, one in enumerate(stage.blocks):
            for letter, conv, own in zip(
                "abc",
                (one.conv1, one.conv2, one.conv3),
                (one.norm1, one.norm2, one.norm3),
                strict=True,
            ):
                kernel(f"block{i + 1}/unit{j + 1:02d}/{letter}/standardized_conv2d", conv.weight)
                norm(f"block{i + 1}/unit{j + 1:02d}/{letter}", own.weight)
            if one.downsample is not None:
                kernel(
                    f"block{i + 1}/unit{j + 1:02d}/a/proj/standardized_conv2d",
                    one.downsample.conv.weight,
                )
    norm("", net.norm.weight)
    kernel("head/conv2d", net.head.fc.weight)
    found["resnet/head/conv2d/bias"] = generator.normal(size=3).astype(np.float32)
    return found


def test_an_archive_and_a_checkpoint_are_read_as_timms_own_reader_does(
    small: ResNetV2, tmp_path: Path
) -> None:
    values = authors(small)
    np.savez(tmp_path / "BiT.npz", **values)
    with torch.no_grad():
        small.load_pretrained(str(tmp_path / "BiT.npz"))
    keys = {f"v/{i}/.ATTRIBUTES/VARIABLE_VALUE": name for i, name in enumerate(values)}
    named = written({f"{name}:0": array for name, array in values.items()}, tmp_path / "named")
    graph = written(
        {key: values[name] for key, name in keys.items()},
        tmp_path / "graph",
        {key: f"bit/{name}" for key, name in keys.items()},
    )
    expected = {
        name: value for name, value in small.state_dict().items() if not name.startswith("head")
    }
    for file in (tmp_path / "BiT.npz", named, graph):
        found = checkpoints.state_dict(file, checkpoints.OWN)
        assert found.keys() == expected.keys(), file
        assert all(torch.equal(found[name], value) for name, value in expected.items()), file


def test_timms_networks_have_these_names() -> None:
    with torch.device("meta"):
        for name in ("resnetv2_50x1_bit", "resnetv2_152x2_bit"):
            net = timm.create_model(name, num_classes=0)
            assert {
                "stem.conv.weight",
                "norm.bias",
                "stages.0.blocks.0.downsample.conv.weight",
                "stages.3.blocks.2.norm3.weight",
            } <= set(net.state_dict())


def test_data_of_a_checkpoint_are_part_of_its_hash(tmp_path: Path) -> None:
    file = written({"a": np.ones(3)}, tmp_path)
    first = checkpoints.content_hash(file)
    (tmp_path / "variables.data-00000-of-00001").write_bytes(np.zeros(3, "<f4").tobytes())
    assert checkpoints.content_hash(file) != first


def test_what_is_no_such_network_is_one_line(tmp_path: Path) -> None:
    simclr = written(
        {"base_model/conv2d/kernel": np.zeros((7, 7, 3, 128)), "global_step": np.zeros(())},
        tmp_path / "simclr",
    )
    other = written({"dense/kernel": np.zeros((4, 4))}, tmp_path / "other")
    broken = written({"a": np.ones(300)}, tmp_path / "broken")
    (tmp_path / "broken" / "variables.data-00000-of-00001").write_bytes(b"\0" * 8)
    lacking = written({"a": np.ones(3)}, tmp_path / "lacking")
    (tmp_path / "lacking" / "variables.data-00000-of-00001").unlink()
    damaged = written({"a": np.ones(3)}, tmp_path / "damaged")
    damaged.write_bytes(b"\xff" * 40 + damaged.read_bytes()[40:])
    for file, message in {
        simclr: r"is a checkpoint of Google's SimCLR.* timm has no ResNet of 2x or 4x: write a function",
        other: r"variables\.index holds no ResNet of Big Transfer, but dense/kernel \(1 in all\)",
        broken: r"cannot be read as a checkpoint of TensorFlow .*a value lies beyond the end of its file",
        lacking: r"1 files variables\.data-\* belong to it, 0 are there",
        damaged: r"cannot be read as a checkpoint of TensorFlow",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            checkpoints.state_dict(file, checkpoints.OWN)
        assert "\n" not in str(caught.value)


def test_a_wider_resnet_is_told_by_its_width(tmp_path: Path) -> None:
    shapes = {"conv1.weight": (64, 3, 7, 7)}
    _check_width({"conv1.weight": torch.empty(64, 3, 7, 7)}, shapes, tmp_path / "1x.pth")
    for times in (2, 4):
        with pytest.raises(
            UserError, match=rf"is a ResNet of {times} times the width, which timm does not have"
        ):
            _check_width(
                {"conv1.weight": torch.empty(64 * times, 3, 7, 7)}, shapes, tmp_path / "wide.pth"
            )


def test_an_archive_that_is_damaged_at_any_byte_is_one_line(tmp_path: Path) -> None:
    file, random = tmp_path / "a.npz", np.random.default_rng(0)
    np.savez_compressed(file, kernel=np.arange(60.0).reshape(3, 20), bias=np.ones(4))
    whole = file.read_bytes()
    for i in range(600):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= int(random.integers(1, 256))
        file.write_bytes(damaged[: -int(random.integers(len(whole)))] if i % 5 == 0 else damaged)
        with pytest.raises(UserError) as told:
            bit.read(file)
        assert "\n" not in str(told.value)
