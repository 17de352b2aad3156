"""A repository that timm reads, as an architecture of timm and its keyword arguments.

Plain values alone: a class stands as the text of its name (`known.CLASSES`). So they can be written
into a folder of `medbench export`, and are looked at before they are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from medbench.models.hub import known
from medbench.models.hub.references import parse
from medbench.models.timm_answers import architectures, config_of
from medbench.schema import Encoder, UserError, parsed

#: Where timm finds weights, or what else it would load. Never taken from a file.
_WHERE = {
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "cache_dir",
    "model_name",
}
_WORD = re.compile(r"[a-z0-9_]*")
_MOST, _LARGEST = 64, 1 << 16  # of a list, and of a number


def timm_form(encoder: Encoder) -> tuple[str, dict[str, Any]]:
    """Return the architecture, and what it is called with beside its weights and classes.

    Raises UserError for an architecture that timm has not, ValueError for what is no config.
    """
    reference = parse(encoder.name)
    assert encoder.file is not None, "an encoder of the hub has a folder"
    about = parsed((encoder.file / "config.json").read_bytes())
    architecture = str(about.get("architecture", ""))
    if architecture not in architectures():
        raise UserError(
            f"{reference}: timm has no architecture '{architecture}'.",
            allowed=architectures(),
            given=architecture,
        )
    stated, given = about.get("pretrained_cfg", about), about.get("model_args", {})
    if not isinstance(given, Mapping):
        raise ValueError(f"model_args is {given!r:.60}")
    words = {str(word): value for word, value in given.items() if word not in _WHERE}
    words |= known.keywords(reference.repository)
    own = config_of(architecture, "").fixed_input_size
    if stated.get("fixed_input_size", own) and not words.get("dynamic_img_size"):
        words["img_size"] = encoder.size
    words.pop("num_classes", None)
    return architecture, words


def as_timm(encoder: Encoder) -> tuple[Encoder, dict[str, Any] | None]:
    """Return an encoder that timm reads as one of timm's, and what its architecture is called with.

    None of one that is timm's own. Raises UserError where that is more than an exported model
    holds.
    """
    if encoder.kind != "hub":
        return encoder, None
    try:
        architecture, words = timm_form(encoder)
        check_words(words)
    except ValueError as error:
        raise UserError(
            f"{encoder.name} cannot be exported: {error}.",
            then="medbench export --only encoder=NAME, another line",
        ) from error
    made = replace(encoder, name=architecture, architecture=architecture, checkpoint="", said="")
    return replace(made, kind="timm", file=None, trained_on=()), words


def is_class(value: object) -> bool:
    """Return whether a keyword argument is a class."""
    return isinstance(value, str) and value in known.CLASSES


def check_words(words: Mapping[str, Any]) -> None:
    """Raise ValueError for keyword arguments that no config of a network holds."""
    for word, value in words.items():
        if word in _WHERE or not re.fullmatch(r"[a-z_]\w{0,40}", word, re.ASCII):
            raise ValueError(f"model_args has {word!r:.60}")
        if isinstance(value, list) and len(value) > _MOST:
            raise ValueError(f"model_args has {len(value)} values of {word}")
        for one in value if isinstance(value, list) else [value]:
            text = isinstance(one, str) and (_WORD.fullmatch(one) or is_class(one))
            number = type(one) in (bool, int, float) and abs(one) <= _LARGEST
            if not (text or number or one is None):
                raise ValueError(f"model_args has {word} = {one!r:.60}")
