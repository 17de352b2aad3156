"""A fitted model as a folder that timm and medbench load: weights, head and words, without pickle.

Nothing of a folder is believed before it is looked at.

model.safetensors      the encoder's weights, timm's names
config.json            timm's `local-dir:` form with the preprocessing, and under "medbench" what scoring needs beside it
typical.safetensors    where the training images' features lie (`typical`); not there where they were too few
head.safetensors       the classifier on the encoder's features (`head`)
classes.json           the classes in the order of the probabilities, and the task's kind
operating_points.json  thresholds and a temperature, chosen from held-out scores
evidence.json          what the model did on the part it was scored on, at each of these points
model.onnx             the whole, for onnxruntime; where it was asked for
README.md              the model card
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.models.exported.head import HEADS, Head, head_of
from medbench.models.exported.typical import Typical
from medbench.schema import KINDS, READOUTS, Encoder, Kind, UserError, checked, parsed
from medbench.schema.plain_text import is_plain
from medbench.system import atomic_write

if TYPE_CHECKING:
    import torch

VERSION = 2  # of the folder's form
MODEL, HEAD, TYPICAL, ONNX = (
    "model.safetensors",
    "head.safetensors",
    "typical.safetensors",
    "model.onnx",
)
CONFIG, CLASSES, POINTS, EVIDENCE = (
    "config.json",
    "classes.json",
    "operating_points.json",
    "evidence.json",
)
CARD = "README.md"
#: Bytes of each file: what is larger is not opened. An ONNX file is a protocol buffer, which ends
#: at 2 GiB.
MOST = {
    **dict.fromkeys((CONFIG, CLASSES, POINTS, EVIDENCE), 8 << 20),
    **{MODEL: 64 << 30, HEAD: 4 << 30, TYPICAL: 256 << 20, ONNX: 2 << 30},
}
MOST_CLASSES = 10_000
AGAIN = "medbench export writes such a folder"


@dataclass(frozen=True, eq=False)
class Parts:
    """What a folder holds.

    net: the encoder with its readout, in eval mode. points: operating_points.json. evidence:
    evidence.json, as `report.clinical.evidence` makes it.
    """

    encoder: Encoder
    net: torch.nn.Module
    head: Head
    protocol: str
    classes: tuple[str, ...]
    kind: Kind
    precision: str
    points: Mapping[str, Any]
    evidence: Mapping[str, Any]
    typical: Typical | None = None


def write(folder: Path, parts: Parts, card: str, *, onnx: bool = False) -> None:
    """Fill an empty folder. Raises OSError."""
    from safetensors.numpy import save_file as save_arrays
    from safetensors.torch import save_file

    from medbench.models.timm_answers import config_of

    model: Any = _inside(parts.net)
    state = {
        name: value.detach().cpu().clone().contiguous()
        for name, value in model.state_dict().items()
    }
    arrays = {name: np.ascontiguousarray(value) for name, value in parts.head.arrays().items()}
    atomic_write.write(
        folder / MODEL,
        _on_disk(lambda partial: save_file(state, partial, metadata={"format": "pt"})),
    )
    atomic_write.write(folder / HEAD, _on_disk(lambda partial: save_arrays(arrays, partial)))
    if parts.typical is not None:
        lies = parts.typical.arrays()
        atomic_write.write(folder / TYPICAL, _on_disk(lambda partial: save_arrays(lies, partial)))
    if onnx:
        from medbench.models.exported.onnx_file import write_onnx

        write_onnx(folder / ONNX, parts)
    sums = {
        name: _sha256(folder / name)
        for name in (MODEL, HEAD, TYPICAL, ONNX)
        if (folder / name).is_file()
    }
    encoder = parts.encoder
    # made for one image size, as ViTs are
    fixed = config_of(encoder.architecture, encoder.checkpoint).fixed_input_size
    preprocessing = {
        "input_size": [3, encoder.size, encoder.size],
        "interpolation": encoder.interpolation,
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "num_classes": 0,
    }
    about = {
        "version": VERSION,
        "protocol": parts.protocol,
        "readout": encoder.readout,
        "precision": parts.precision,
        "sha256": sums,
    }
    config = {
        "architecture": encoder.architecture,
        "num_classes": 0,
        "num_features": int(model.num_features),
        "model_args": {"img_size": encoder.size} if fixed else {},
        "pretrained_cfg": preprocessing,
        "medbench": about,
    }
    atomic_write.record(folder / CONFIG, config, indent=2)
    atomic_write.record(
        folder / CLASSES, {"classes": list(parts.classes), "kind": parts.kind}, indent=2
    )
    atomic_write.record(folder / POINTS, parts.points, indent=2)
    atomic_write.record(folder / EVIDENCE, parts.evidence, indent=2)
    atomic_write.write(folder / CARD, lambda partial: partial.write_text(card, encoding="utf-8"))


def _on_disk(save: Callable[[Path], object]) -> Callable[[Path], None]:
    """Make safetensors raise what the disk says: its own error has that as words alone."""
    from safetensors import SafetensorError

    def saved(file: Path) -> None:
        try:
            save(file)
        except SafetensorError as error:
            code = re.search(r"\(os error (\d+)\)", str(error))
            if not code:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1]))) from error

    return saved


def read(folder: Path) -> Parts:
    """Read a folder that `write` filled.

    Raises UserError, one line, for a folder that is no exported model, is damaged, or wants
    something that no such folder does.
    """
    about, parts = _read(folder, (MODEL, HEAD))
    from medbench.models.timm_answers import architectures

    architecture = parts.encoder.architecture
    with _damaged(folder):
        if architecture not in architectures():
            raise ValueError(f"timm has no architecture {architecture!r:.60}")
        head = head_of(
            about["protocol"],
            _arrays(folder / HEAD, about["sha256"]),
            parts.kind,
            len(parts.classes),
        )
        net = _net(folder / MODEL, parts.encoder, about["model_args"], about["sha256"])
        _check_width(net, parts.encoder, head)
    if parts.typical is not None and len(parts.typical.mean) != head.width:
        raise UserError(
            f"{folder} is not an exported model, or damaged: {TYPICAL} is of other features.",
            then=AGAIN,
        )
    return replace(parts, net=net, head=head)


def read_without_torch(folder: Path) -> Parts:
    """Read all but network and head, which the ONNX file holds.

    Raises UserError as `read`, and where there is no such file.
    """
    if not (folder / ONNX).is_file():
        raise UserError(
            f"{folder} has no {ONNX}.", then="medbench export FOLDER --out model --onnx"
        )
    about, parts = _read(folder, (ONNX,))
    with _damaged(folder):
        if ONNX not in about["sha256"]:
            raise ValueError(f"{CONFIG} does not name {ONNX}")
        _check_sum(folder / ONNX, about["sha256"])
        # the key of tensors that lie in another file
        if b"location" in (folder / ONNX).read_bytes():
            raise ValueError(f"{ONNX} refers to a file outside itself")
    return parts


@contextmanager
def _damaged(folder: Path) -> Iterator[None]:
    """Say in one line what a reader finds wrong in the folder.

    Raises UserError.
    """
    try:
        yield
    except (
        ValueError,
        TypeError,
        KeyError,
        RuntimeError,
        AssertionError,
    ) as error:  # timm's models refuse a size in several ways
        raise UserError(
            f"{folder} is not an exported model, or damaged: {error}.", then=AGAIN
        ) from error


def _read(folder: Path, files: Sequence[str]) -> tuple[dict[str, Any], Parts]:
    """Return what the configuration says, and all but network and head.

    files: that are needed beside the words.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is not an exported model: it has no {CONFIG}.",
            then="medbench export FOLDER --out model",
        )
    for name in (*files, CONFIG, CLASSES, POINTS, EVIDENCE):
        _check_file(folder / name)
    with _damaged(folder):
        config = _json(folder / CONFIG)
        encoder, about = _config(config)
        classes, kind = _classes(_json(folder / CLASSES))
        points, evidence = (
            _points(_json(folder / POINTS), classes),
            _evidence(_json(folder / EVIDENCE), classes),
        )
        typical = None
        if TYPICAL in about["sha256"]:
            _check_file(folder / TYPICAL)
            typical = Typical.of(_arrays(folder / TYPICAL, about["sha256"]))
    nothing: Any = None
    parts = Parts(
        encoder,
        nothing,
        nothing,
        about["protocol"],
        classes,
        kind,
        about["precision"],
        points,
        evidence,
        typical,
    )
    return {**about, "model_args": config["model_args"]}, parts


def _check_file(file: Path) -> None:
    """Raise UserError for a file that is missing, leads elsewhere, or is a text of an absurd size.

    Raises OSError for what may not be read.
    """
    try:
        found = file.lstat()
    except FileNotFoundError:
        raise UserError(
            f"{file.parent} is not an exported model: it has no {file.name}.", then=AGAIN
        ) from None
    if not stat.S_ISREG(found.st_mode):
        what = "a link" if stat.S_ISLNK(found.st_mode) else "no file"
        raise UserError(
            f"{file} is {what}: an exported model holds its files itself.",
            then="copy the whole folder",
        )
    # raises what the disk says; safetensors would say that the file is not there
    file.open("rb").close()
    if found.st_size > MOST[file.name]:
        raise UserError(
            f"{file} has {found.st_size:,} bytes, more than any exported model's.", then=AGAIN
        )


def _json(file: Path) -> Any:
    try:
        return parsed(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error


_TOP = {
    "architecture": str,
    "num_classes": int,
    "num_features": int,
    "model_args": dict,
    "pretrained_cfg": dict,
    "medbench": dict,
}
_SEEN = {
    **{"input_size": list, "interpolation": str, "crop_pct": float, "crop_mode": str},
    **{"mean": list, "std": list, "num_classes": int},
}
_ABOUT = {"version": int, "protocol": str, "readout": str, "precision": str, "sha256": dict}


def _only(record: Any, kinds: Mapping[str, Any], of: str) -> None:
    """Check that a record has these keys and no other.

    timm would follow a file, an address or code that a further key names. Raises TypeError or
    ValueError.
    """
    checked(record, kinds, of)
    more = sorted(set(record) - set(kinds))
    if more:
        raise ValueError(f"{of} has '{more[0]:.40}', which no exported model has")


def _config(record: Any) -> tuple[Encoder, Mapping[str, Any]]:
    _only(record, _TOP, CONFIG)
    seen, about = record["pretrained_cfg"], record["medbench"]
    _only(seen, _SEEN, f"{CONFIG} pretrained_cfg")
    _only(about, _ABOUT, f"{CONFIG} medbench")
    more = {
        name: str
        for name in (TYPICAL, ONNX)
        if isinstance(about["sha256"], Mapping) and name in about["sha256"]
    }
    _only(about["sha256"], {MODEL: str, HEAD: str, **more}, f"{CONFIG} sha256")
    if about["version"] != VERSION:
        raise ValueError(f"its form is {about['version']}, this medbench reads {VERSION}")
    size = seen["input_size"][-1] if seen["input_size"] else None
    if type(size) is not int or not 32 <= size <= 1024 or seen["input_size"] != [3, size, size]:
        raise ValueError(
            f"input_size is {seen['input_size']!r:.60}, not 3 channels and 32 to 1024 pixels"
        )
    for name in ("mean", "std"):
        values = seen[name]
        right = len(values) == 3 and all(
            type(v) in (int, float) and abs(v) < 1e3 and (name == "mean" or v > 1e-3)
            for v in values
        )
        if not right:
            raise ValueError(f"{name} is {values!r:.60}")
    allowed = {
        "interpolation": ("bicubic", "bilinear"),
        "crop_mode": ("squash",),
        "crop_pct": (1.0,),
    }
    for name, words in allowed.items():
        if seen[name] not in words:
            raise ValueError(f"{name} is {seen[name]!r:.60}")
    for name, words in {
        "protocol": tuple(HEADS),
        "readout": READOUTS,
        "precision": ("fp32", "tf32", "bf16"),
    }.items():
        if about[name] not in words:
            raise ValueError(f"{name} is {about[name]!r:.60}")
    (mr, mg, mb), (sr, sg, sb) = seen["mean"], seen["std"]
    architecture = record["architecture"]
    encoder = Encoder(
        architecture,
        architecture,
        "",
        size,
        (mr, mg, mb),
        (sr, sg, sb),
        seen["interpolation"],
        about["readout"],
    )
    if record["model_args"] not in ({}, {"img_size": size}):
        raise ValueError(f"model_args is {record['model_args']!r:.60}")
    return encoder, about


def _classes(record: Any) -> tuple[tuple[str, ...], Kind]:
    _only(record, {"classes": list, "kind": str}, CLASSES)
    names = record["classes"]
    if (
        not 2 - (record["kind"] == "multilabel") <= len(names) <= MOST_CLASSES
        or record["kind"] not in KINDS
    ):
        raise ValueError(f"{CLASSES} has {len(names)} classes of kind {record['kind']!r:.20}")
    if not all(isinstance(name, str) and is_plain(name) for name in names) or len(set(names)) < len(
        names
    ):
        raise ValueError(f"{CLASSES} names no classes")
    if record["kind"] == "binary" and len(names) != 2:
        raise ValueError(f"{CLASSES} has {len(names)} classes of a binary task")
    return tuple(names), record["kind"]


def _points(record: Any, classes: tuple[str, ...]) -> Mapping[str, Any]:
    _only(
        record,
        {"temperature": (float, type(None)), "held_out_images": int, "points": dict, "sets": dict},
        POINTS,
    )
    for name, quantile in record["sets"].items():
        if not re.fullmatch(r"0\.\d\d", name) or not (
            quantile is None or (type(quantile) in (int, float) and 0 <= quantile <= 1)
        ):
            raise ValueError(f"{POINTS} sets holds {name!r:.20}: {quantile!r:.40}")
    t = record["temperature"]
    if t is not None and not 0 < t < 1e6:
        raise ValueError(f"temperature is {t!r:.60}")
    for name, point in record["points"].items():
        _only(point, {"compare": str, "thresholds": dict}, f"{POINTS} {name:.40}")
        if point["compare"] not in (">", ">=") or not set(point["thresholds"]) <= set(classes):
            raise ValueError(
                f"{POINTS} {name:.40} compares by {point['compare']!r:.20}, or names other classes"
            )
        for value in point["thresholds"].values():
            if value is not None and not (type(value) in (int, float) and 0 <= value <= 1):
                raise ValueError(f"{POINTS} {name:.40} holds the threshold {value!r:.40}")
    return dict(record)


def _evidence(record: Any, classes: tuple[str, ...]) -> Mapping[str, Any]:
    kinds = {
        "target": str,
        "images": int,
        "groups": int,
        "auc": list,
        "calibration": dict,
        "classes": dict,
    }
    _only(record, kinds, EVIDENCE)
    numbers = [record["auc"], *record["calibration"].values()]
    if not set(record["classes"]) <= set(classes):
        raise ValueError(f"{EVIDENCE} names other classes")
    for name, of in record["classes"].items():
        checked(of, {"n": int, "prevalence": list, "auc": list}, f"{EVIDENCE} {name:.40}")
        numbers += [of["auc"], of["prevalence"]]
        for point in of.keys() - {"n", "auc", "prevalence"}:
            _only(
                of[point],
                {"sensitivity": list, "specificity": list},
                f"{EVIDENCE} {name:.40} {point:.40}",
            )
            numbers += of[point].values()
    for three in numbers:
        if not (
            isinstance(three, list)
            and len(three) == 3
            and all(one is None or type(one) in (int, float) for one in three)
        ):
            raise ValueError(f"{EVIDENCE} holds {three!r:.60}, no value with its interval")
    return dict(record)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_sum(file: Path, sums: Mapping[str, str]) -> None:
    if _sha256(file) != sums[file.name]:
        raise ValueError(
            f"{file.name} is not the file that {CONFIG} names (its SHA-256 is another)"
        )


def _arrays(file: Path, sums: Mapping[str, str]) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found: dict[str, np.ndarray] = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file.name} is no safetensors file ({error})") from error
    _check_sum(file, sums)
    return found


def _check_width(net: torch.nn.Module, encoder: Encoder, head: Head) -> None:
    """Raise ValueError where the head is of other features."""
    import torch

    with torch.inference_mode():
        made = net(torch.zeros(1, 3, encoder.size, encoder.size)).shape
    if made != (1, head.width):
        raise ValueError(
            f"{HEAD} is for {head.width} features, the encoder gives {tuple(made)[1:]}"
        )


def _net(
    file: Path, encoder: Encoder, options: dict[str, Any], sums: Mapping[str, str]
) -> torch.nn.Module:
    """Names and shapes are compared before memory is taken for them. Raises ValueError."""
    import timm
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    from medbench.models.encoder_checks import broken_statistics
    from medbench.models.readout import with_readout

    def made() -> Any:
        model: Any = timm.create_model(encoder.architecture, pretrained=False, **options)
        model.reset_classifier(0)
        return model

    with torch.device("meta"):  # names and shapes alone
        wanted = {name: tuple(value.shape) for name, value in made().state_dict().items()}
    try:
        with safe_open(file, "pt") as opened:
            there = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file.name} is no safetensors file ({error})") from error
    if wanted != there:
        wrong = sorted(name for name in {*wanted, *there} if wanted.get(name) != there.get(name))
        raise ValueError(
            f"{file.name} does not fit {encoder.architecture}: {len(wrong)} tensors differ, first '{wrong[0]:.60}'"
        )
    _check_sum(file, sums)
    with torch.random.fork_rng(devices=[]):
        model = made()
    model.load_state_dict(load_file(file))
    net = with_readout(model, encoder.readout).eval()
    if broken := broken_statistics(net):
        raise ValueError(
            f"{file.name} has batch norms whose statistics are no numbers ({broken[0]})"
        )
    return net


def _inside(net: torch.nn.Module) -> torch.nn.Module:
    """timm's model, without what reads a vector out of it."""
    from medbench.models.readout import Readout

    model: torch.nn.Module = net.model if isinstance(net, Readout) else net
    return model
