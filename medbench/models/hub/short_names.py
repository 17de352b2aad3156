"""open_clip's own names of its networks and weights, `open_clip:ViT-B-32@laion2b_s34b_b79k`.

Each means a repository of the hub, as open_clip's table has it. So two names of the same weights
are one encoder, and everything that is known of them is read where they lie.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from medbench.models.hub.references import DOORS, check_installed
from medbench.models.timm_answers import kept
from medbench.schema import UserError

DOOR = DOORS["open_clip"]


def resolved(text: str, size: int | None) -> tuple[str, int | None]:
    """Return `open_clip:OWNER/NAME` and the size of a short name; any other name as it is.

    Raises UserError for a name that open_clip does not know, and one without its weights' tag.
    """
    prefix, _, rest = text.partition(":")
    found = re.fullmatch(r"([\w.-]+)(?:@([\w.-]*))?", rest)
    if prefix != DOOR.prefix or not found:
        return text, size
    check_installed(DOOR, text)
    name, tag = found[1], (found[2] or "").lower().replace("-", "_")  # as open_clip reads a tag
    known = kept(_names, version("open_clip_torch"))
    spelled = {one.lower(): one for one in known}.get(name.lower(), name)
    if spelled not in known:
        raise UserError(
            f"open_clip has no network '{name}'.",
            allowed=[*known, f"{DOOR.usage}[@REVISION]"],
            given=name,
            then=f"medbench run --encoder {DOOR.prefix}:NAME@WEIGHTS, or {DOOR.usage}",
        )
    weights, own = known[spelled]["weights"], known[spelled]["size"]
    if tag not in weights:
        allowed = list(weights)
        what = (
            f"open_clip has no weights '{tag}' of '{spelled}'."
            if tag
            else f"'{text}' does not say which weights: open_clip has {len(allowed)} of it."
        )
        names = [f"{DOOR.prefix}:{spelled}@{one}" for one in allowed]
        given = f"{DOOR.prefix}:{spelled}@{tag}" if tag else ""
        raise UserError(what, allowed=names, given=given, then=f"medbench run --encoder {names[0]}")
    repository = weights[tag]
    if not repository:
        raise UserError(
            f"open_clip does not say where on the hub the weights '{tag}' of '{spelled}' lie.",
            allowed=[f"{DOOR.prefix}:{spelled}@{one}" for one, place in weights.items() if place],
            then=f"find their repository, and medbench run --encoder {DOOR.usage}",
        )
    return f"{DOOR.prefix}:{repository}", size or own


def _names(*parts: object) -> dict[str, Any]:
    """Name -> weights: tag -> repository, "" where open_clip names none; size: its images' side."""
    import open_clip
    from open_clip.pretrained import _PRETRAINED

    found = {}
    for name, tags in _PRETRAINED.items():
        side = (open_clip.get_model_config(name) or {}).get("vision_cfg", {}).get("image_size")
        places = {tag: _repository(about.get("hf_hub", "")) for tag, about in tags.items()}
        found[name] = {"weights": places, "size": side if isinstance(side, int) else None}
    return found


def _repository(place: str) -> str:
    """OWNER/NAME of `OWNER/NAME/` or `OWNER/NAME/FILE`."""
    return "/".join(place.split("/")[:2])
