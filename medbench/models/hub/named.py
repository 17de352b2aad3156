"""An encoder of the hub by its name: what a plan must know of it, and its weights.

Nothing of a repository is executed.

The top level is light. What transformers says of a repository's processor is kept in the cache, by
commit.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from medbench.models.foreign_errors import NOT_ITS_OWN
from medbench.models.hub import known, preprocessing, repository, short_names
from medbench.models.hub.preprocessing import Preprocessing, said_of
from medbench.models.hub.references import DOORS, Reference, check_installed, check_readout, parse
from medbench.models.stated import NOTHING, SAY, Stated
from medbench.models.timm_answers import kept
from medbench.schema import Encoder, UserError, Weights, fingerprint, parsed
from medbench.system.download import sha256

#: Where a network that comes with code of its own can be used: its user has read that code.
FUNCTION = "read its code, and give it as a function of yours: medbench run --encoder FILE.py:NAME (docs/encoders.md)"


def encoder(text: str, size: int | None, readout: str, stated: Stated = NOTHING) -> Encoder:
    """Return the encoder that a name of the hub means, from the repository's config.

    stated: the user's own word, which comes before the repository's. Raises UserError for an
    unknown name or readout, a package that is not installed, files that cannot be fetched, and a
    config that states no preprocessing.
    """
    text, size = short_names.resolved(text, size)
    reference = parse(text)
    check_readout(reference, readout)
    check_installed(reference.door, str(reference))
    found = repository.snapshot(reference, reference.door.configs)
    seen = stated.over(lambda: _preprocessing(reference, found), size)
    config = found.files[0]
    if config is None:
        raise _silent(reference, reference.door.configs[0][0])
    return Encoder(
        str(reference),
        reference.repository,
        found.commit,
        seen.size,
        seen.mean,
        seen.std,
        seen.interpolation,
        readout,
        kind="hub",
        file=config.parent,
        trained_on=stated.trained_on or known.trained_on(reference.repository),
        said="; ".join(filter(None, (said_of(seen), known.remark(reference.repository)))),
        crop=seen.crop.at(seen.size),
    )


def weights(encoder: Encoder) -> Weights:
    """Return a hub encoder's weights: their file, or the list of their files, fetched if they lack.

    Raises UserError where they cannot be had.
    """
    reference, files = weight_files(encoder)
    sums = [_digest(file) for file in files]
    digest = sums[0] if len(sums) == 1 else fingerprint("files", *sums)
    return Weights(
        f"{reference} ({encoder.checkpoint[:7]}, {files[0].name})",
        digest,
        encoder.trained_on,
        files[0],
    )


def weight_files(encoder: Encoder) -> tuple[Reference, list[Path]]:
    """Return the repository, and the files of its weights, fetched if they lack.

    Safetensors where it has them. Raises UserError where it has none that is read, or none can be
    had.
    """
    reference = parse(encoder.name)
    (file,) = repository.snapshot(reference, [reference.door.weights], encoder.checkpoint).files
    if file is None:
        what = f"{reference} has no weights that {reference.door.package} reads."
        raise UserError(what, allowed=reference.door.weights, then=f"see {reference.page}")
    return reference, repository.shards(reference, encoder.checkpoint, file)


def _digest(file: Path) -> str:
    """SHA-256 of a file.

    The hub's cache names large files by it: one that is damaged is told. Raises UserError.
    """
    digest, name = sha256(file), file.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", name) and name != digest:
        raise UserError(
            f"{file} is damaged: its SHA-256 is not that of its name.",
            then=f"delete {file.resolve()}, and fetch it again",
        )
    return digest


def _preprocessing(reference: Reference, found: repository.Snapshot) -> Preprocessing:
    """As the repository says.

    Raises UserError where it does not, or where its network is code of its own.
    """
    lacking = [
        group[0]
        for group, file in zip(reference.door.configs, found.files, strict=True)
        if file is None
    ]
    config = found.files[0]
    if lacking or config is None:
        raise _silent(reference, lacking[0])
    try:
        about = parsed(config.read_bytes())
        if reference.door.prefix == "hf-hub":
            return preprocessing.of_timm(about)
        if reference.door.prefix == "open_clip":
            return preprocessing.of_open_clip(about)
        content = hashlib.sha256(
            b"".join(file.read_bytes() for file in found.files if file)
        ).hexdigest()
        said = kept(_transformers_says, content, folder=config.parent)
        if said["code"]:
            raise UserError(
                f"{reference} runs code of its repository ({said['code']}), which medbench does not.",
                then=FUNCTION,
            )
        return preprocessing.of_transformers(
            said["processor"], about.get("vision_config", about).get("image_size")
        )
    except NOT_ITS_OWN as error:
        what = f"{reference}: {config.name} does not say how images enter as {reference.door.package} writes it: {error}."
        raise UserError(what, then=f"see {reference.page}, and {SAY}") from error


def _silent(reference: Reference, lacking: str) -> UserError:
    """Of a repository without a file that says how images enter, or what the network is."""
    what = f"{reference} has no {lacking}."
    if lacking != reference.door.configs[0][0]:
        return UserError(
            f"{what} How its images enter is not said there.",
            then=f"see {reference.page}, and {SAY}",
        )
    others = [
        f"{door.prefix}:{reference.repository}"
        for door in DOORS.values()
        if door is not reference.door
    ]
    return UserError(
        f"{what} {reference.door.package} cannot read it.",
        allowed=others,
        then=f"see {reference.page}",
    )


def _transformers_says(*parts: object, folder: Path) -> dict[str, Any]:
    """processor: the values of a repository's image processor, those that its class adds included.

    code: whose own code would be run, "" where none would.
    """
    from transformers import CONFIG_MAPPING, AutoImageProcessor

    about = parsed((folder / "config.json").read_bytes())
    if "auto_map" in about and about.get("model_type") not in CONFIG_MAPPING:
        return {
            "code": f"auto_map in config.json, model type '{about.get('model_type')}'",
            "processor": {},
        }
    try:
        processor = AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (ValueError, OSError) as error:
        if "trust_remote_code" in str(error):
            return {"code": "auto_map of its image processor", "processor": {}}
        raise ValueError(str(error).splitlines()[0]) from error
    return {"code": "", "processor": parsed(processor.to_json_string().encode())}
