"""From a file of any common layout to a state dict in timm's names, without classifier and heads.

Nothing in a file is ever executed.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.models.checkpoints import averaged, bit
from medbench.schema import UserError, told
from medbench.system import archive_errors, file_kinds

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where a file keeps an encoder.

    The way down nested dicts, prefixes of its keys, and the parts that are left out.
    """

    path: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()  # first components of keys, once the prefixes are gone
    beside: tuple[str, ...] = ()  # other networks of the file, which are not taken

    def __str__(self) -> str:
        said = [" > ".join(self.path)] if self.path else []
        said += [f"prefix {''.join(self.prefixes)}"] if self.prefixes else []
        without = [name for name in self.left_out if name not in self.beside]
        said += [f"without {', '.join(without)}"] if without else []
        said += [f"not {', '.join(self.beside)}"] if self.beside else []
        return ", ".join(said) or "as it is"


#: The file is recognised, see `recognise`.
OWN = "own"
LAYOUTS: Mapping[str, Layout] = {
    "encoder": Layout(),  # timm's names without a classifier, as pretraining writes them
    # torchvision's, facebookresearch/dino's and facebookresearch/xcit's names
    "plain": Layout(left_out=("fc", "head")),
    # vissl, issues 235, 550 and 566
    "vissl": Layout(("classy_state_dict", "base_model", "model", "trunk"), ("_feature_blocks.",)),
    # facebookresearch/swav, resnet50.py
    "swav": Layout((), ("module.",), ("projection_head", "prototypes")),
    # facebookresearch/dino, main_dino.py; the teacher has no `module.` unless the network has batch
    # norm
    "dino-full": Layout(("teacher",), ("module.", "backbone."), ("head",)),
    "simclr-google": Layout(("state_dict",), (), ("fc",)),  # tonylins/simclr-converter, convert.py
    # IPMI-ICNS-UKE/sparsam, reproduce_results.py
    "sparsam": Layout((), ("backbone.",), ("projection_head",)),
}

#: Weights averaged over the steps of a training, beside those of its last step: the ones that are
#: meant, as timm's own loader has it.
AVERAGED = (
    *(
        "state_dict_ema",
        "model_ema",
        "ema_state_dict",
        "model_state_dict_ema",
        "ema_model",
        "ema",
        "ema_weights",
        "shadow",
    ),
    *("averaged_model", "swa_model", "swa_state_dict", "swa"),
)
DEEPEST = 6  # dicts on the way to weights: one that holds itself has no end
#: In the order in which they are looked for: of several networks in one file the averaged one, or
#: the teacher, which is an average.
WRAPPERS = (
    *AVERAGED,
    *(
        "classy_state_dict",
        "base_model",
        "teacher",
        "target_encoder",
        "student",
        "state_dict",
        "model_state_dict",
        "model",
        "trunk",
    ),
    *("module", "params", "net", "encoder"),
)
PREFIXES = (
    *(f"{name}." for name in AVERAGED),
    *("module.", "_orig_mod.", "model.", "net."),
    *(
        "teacher.",
        "teacher_backbone.",
        "student.",
        "student_backbone.",
        "encoder_q.",
        "base_encoder.",
    ),
    *("backbone.", "encoder.", "trunk.", "_feature_blocks."),
)
HEADS = {
    *(
        "fc",
        "head",
        "heads",
        "classifier",
        "head_dist",
        "last_linear",
        "predictor",
        "prediction_head",
        "prototypes",
    ),
    *(
        "projection_head",
        "projection",
        "projector",
        "teacher_head",
        "student_head",
        "queue",
        "queue_ptr",
        "center",
        "centers",
    ),
    *("dino_head", "ibot_head", "online_classifier", "online_linear_eval", "linear_eval"),
    # of a masked autoencoder, which are used in pretraining alone
    *(
        "decoder",
        "decoder_embed",
        "decoder_pos_embed",
        "decoder_blocks",
        "decoder_norm",
        "decoder_pred",
        "mask_token",
    ),
    "n_averaged",  # of torch.optim.swa_utils.AveragedModel
}
#: What PyTorch puts into the middle of names: of sharded modules and of those that are computed
#: twice to save memory.
WRAPPED = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
#: The other network of a pair, beside one whose prefix was found.
TWINS = {
    "student",
    "student_backbone",
    "encoder_k",
    "momentum_encoder",
    "backbone_momentum",
    "momentum_backbone",
    "projection_head_momentum",
}


def state_dict(
    file: Path, layout: str | None = None, names: Collection[str] = ()
) -> dict[str, Tensor]:
    """Read the encoder in a checkpoint file: name -> tensor on the CPU, in upstream's order.

    layout: one of LAYOUTS; None or OWN: recognised. names: of the network that it is meant for:
    what it has is no head. Names are timm's but for what timm's own key filter renames (XCiT's
    positions, class attention). Raises UserError for a file that is broken, that holds more than
    tensors and plain values, or that holds something else.
    """
    tree = _read(file)
    found = (
        recognise(tree, names, file.name) if layout is None or layout == OWN else LAYOUTS[layout]
    )
    state = _descend(tree, found, file)
    for prefix in found.prefixes:
        kept = {
            key: value
            for key, value in state.items()
            if key.startswith(prefix) or _first(key) not in found.left_out
        }
        state = {key.removeprefix(prefix): value for key, value in kept.items()}
        if len(state) < len(kept):
            raise UserError(
                f"{file.name} holds two networks, with and without the prefix '{prefix}'.",
                then="save the one that is meant alone",
            )
    return {
        key: value
        for key, value in state.items()
        if _first(key) not in found.left_out or key in names
    }


def recognise(
    checkpoint: Path | Mapping[str, Any],
    names: Collection[str] = (),
    called: str = "the checkpoint",
) -> Layout:
    """Recognise the layout of a checkpoint by the usual wrappers, prefixes and heads.

    names: as in `state_dict`; called: its name, for a message.
    """
    tree: Any = _read(checkpoint) if isinstance(checkpoint, Path) else checkpoint
    path: list[str] = []
    beside: dict[str, None] = {}
    while len(path) < DEEPEST and (found := _wrappers(tree)):
        way = (
            averaged.elsewhere(tree, tree[found[0]], called)
            if found[0] not in (*AVERAGED, "teacher", "target_encoder")
            else ()
        )
        path += way or found[:1]
        beside |= dict.fromkeys(found if way else found[1:])
        tree = reduce(getitem, way or found[:1], tree)
    keys = [_unwrapped(str(key)) for key in tree]
    prefixes: list[str] = []
    left_out: dict[str, None] = {}
    while prefix := next(
        (
            p
            for p in (*averaged.prefixes(keys), *PREFIXES)
            if _starts(keys, p) and not _starts(names, p)
        ),
        None,
    ):
        prefixes.append(prefix)
        rest = [key for key in keys if not key.startswith(prefix)]
        # what stands beside one is what it is of
        average = averaged.says_so(prefix.removesuffix("."))
        others = {_first(key): None for key in rest if average or _first(key) in TWINS}
        left_out |= others | dict.fromkeys(_first(key) for key in rest if _first(key) in HEADS)
        beside |= {name: None for name in others if name not in HEADS}
        keys = [key.removeprefix(prefix) for key in keys if key.startswith(prefix)] + [
            key for key in rest if _first(key) not in left_out
        ]
    left_out |= dict.fromkeys(
        _first(key) for key in keys if _first(key) in HEADS and key not in names
    )
    return Layout(tuple(path), tuple(prefixes), tuple(left_out), tuple(beside))


def _wrappers(tree: Mapping[str, Any]) -> list[str]:
    """List what is on the way to weights, the one that is meant first.

    Else one that is a dict, for the message.
    """
    holding = [name for name in WRAPPERS if _holds_weights(tree.get(name))]
    return [
        name
        for name in holding
        if name not in AVERAGED or averaged.is_whole(tree[name], [tree[one] for one in holding])
    ] or [
        name for name in WRAPPERS if name not in AVERAGED and isinstance(tree.get(name), Mapping)
    ][:1]


def _holds_weights(tree: object, depth: int = 0) -> bool:
    """Whether it is a dict of tensors, or one on the way to it."""
    import torch

    if not isinstance(tree, Mapping) or depth > DEEPEST:
        return False
    if any(isinstance(value, torch.Tensor) and value.ndim for value in tree.values()):
        return True
    return any(_holds_weights(tree[name], depth + 1) for name in WRAPPERS if name in tree)


def _unwrapped(key: str) -> str:
    return reduce(lambda name, part: name.replace(part, ""), WRAPPED, key)


def _first(key: str) -> str:
    return key.partition(".")[0]


def _starts(keys: Collection[str], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in keys)


def _descend(tree: Mapping[str, Any], layout: Layout, file: Path) -> dict[str, Tensor]:
    """Return the flat dict of tensors at the end of a layout's path."""
    import torch

    for step in layout.path:
        if not isinstance(tree.get(step), Mapping):
            raise UserError(
                f"{file.name} has no '{step}' on the way {' > '.join(layout.path)}; it holds {_some(tree)}."
            )
        tree = tree[step]
    others = [
        str(key)
        for key, value in tree.items()
        if not (isinstance(key, str) and isinstance(value, torch.Tensor))
    ]
    if others or not tree:
        what = f"{len(others)} entries are none, {_some(others)}" if others else "it is empty"
        raise UserError(
            f"{file.name} is not a state dict, names with tensors: {what}.",
            then="torch.save(model.state_dict(), FILE)",
        )
    return {_unwrapped(key): value for key, value in tree.items()}


def _some(names: Collection[Any]) -> str:
    shown = ", ".join(str(name) for name in list(names)[:5])
    return shown + (f", ... ({len(names)} in all)" if len(names) > 5 else "")


def container(file: Path, what: str = "") -> str:
    """Tell how a checkpoint file is packed, by its first bytes.

    "zip" or "pickle" (torch.save), "safetensors". Raises UserError for anything else. what: the
    file in words, for the message.
    """
    with file.open("rb") as stream:
        head = stream.read(file_kinds.HEAD)
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"\x80"):
        return "pickle"
    raise UserError(
        f"{what or file} {_what(head)}.", allowed=["a file of torch.save or of safetensors"]
    )


#: What torch's reader of pickles raises at some damaged byte.
_DAMAGED = (
    *(RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError),
    *(AssertionError, ArithmeticError, OSError, MemoryError, struct.error),
)


def _read(file: Path) -> Mapping[str, Any]:
    """Read a file, tensors mapped into memory where its format allows. Raises UserError."""
    if bit.is_one(file):
        return bit.read(file)
    packed = container(file)
    if packed == "zip":
        _check_zip(file)
    try:
        tree = _safetensors(file) if packed == "safetensors" else _torch(file, mmap=packed == "zip")
    except pickle.UnpicklingError as error:
        raise _refused(file, error) from error
    except _DAMAGED as error:
        raise UserError(
            f"{file} is broken or incomplete: {told(error).splitlines()[0]}", then="fetch it again"
        ) from error
    if not isinstance(tree, Mapping):
        raise UserError(
            f"{file.name} holds a {type(tree).__name__}, not a state dict.",
            then="torch.save(model.state_dict(), FILE)",
        )
    return tree


def _check_zip(file: Path) -> None:
    """Raise UserError for a zip archive that torch.save did not make."""
    try:
        with archive_errors.reading(ValueError), zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except ValueError:
        return  # torch says what is wrong with it
    if any(name.endswith("/constants.pkl") for name in names) and any(
        "/code/" in name for name in names
    ):
        what, then = (
            "is a TorchScript program, not weights alone",
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')",
        )
    elif any(name.endswith(".npy") for name in names):
        what = "is a NumPy archive, as the authors of ViT and BiT publish their weights"
        then = (
            "medbench run --encoder NAME.TAG, where timm has these weights (medbench list encoders)"
        )
    elif not any(name.endswith("data.pkl") for name in names):
        what, then = (
            f"is a zip archive that holds {_some(names)}",
            f"unpack it, and give the file in it to --weights (unzip {file.name})",
        )
    else:
        return
    raise UserError(f"{file.name} {what}.", then=then)


def _what(head: bytes) -> str:
    """Say what a file that is no checkpoint is, by its first bytes."""
    if not head:
        return "is empty"
    kind = file_kinds.kind_of(head)
    return f"is {kind}" if kind else "is not a checkpoint"


def _safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _torch(file: Path, *, mmap: bool) -> Any:
    import torch

    with torch.serialization.safe_globals(_harmless()):
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)


def _harmless() -> list[Any]:
    """Return the types of plain values that training scripts keep beside the weights.

    Options, NumPy numbers and arrays, paths. Building one runs no code.
    """
    import argparse
    import pathlib

    import numpy as np

    found: list[Any] = [argparse.Namespace, pathlib.PosixPath, np.ndarray, np.dtype]
    found += {
        type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?"
    }
    # Python 3.13 has these in pathlib._local; a path of Windows is only named
    found += [(pathlib.PosixPath, "pathlib._local.PosixPath")]
    found += [
        (pathlib.PureWindowsPath, f"{module}.WindowsPath")
        for module in ("pathlib", "pathlib._local")
    ]
    makers: list[Any] = [np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]]
    for make in makers:  # they moved in NumPy 2; files name both places
        found += [
            (make, f"{module}.{make.__name__}")
            for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        ]
    return found


def _refused(file: Path, error: pickle.UnpicklingError) -> UserError:
    """Explain a checkpoint that holds objects of somebody's code, or is no pickle at all."""
    import re

    globals_ = re.findall(r"GLOBAL ([\w.]+)", str(error))
    if not globals_:
        return UserError(
            f"{file} is broken or incomplete: {str(error).splitlines()[0][:120]}",
            then="fetch it again",
        )
    convert = f"import torch; torch.save(torch.load('{file.name}', map_location='cpu', weights_only=False)[...], 'weights.pth')"
    return UserError(
        f"{file} holds more than weights ({globals_[0]}); reading that could run code of its author, so medbench does not.",
        then="where you trust it, keep its state dict alone, with [...] the way to it or .state_dict() of a whole module, and give that to "
        f'--weights: python -c "{convert}"',
    )
