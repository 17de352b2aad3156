"""What a plan says of an encoder that a user brought.

The cheap half of `encoder.diagnosis`, kept by weights and preprocessing. Light, as a plan is.

The user states how images enter, so the user can be wrong, and nothing else would say it: features
come out all the same. Values are tried on natural images first, and where something is found, on
images of the task: weights may have been trained on either, and what is told must hold for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medbench.schema import Encoder, Image, Mark, Weights, checked, fingerprint, parsed
from medbench.system import atomic_write

if TYPE_CHECKING:
    from torch import nn

    from medbench.audit.encoder.encoder_report import EncoderFinding

VERSION = 1  # raise it with every change of what is found
IMAGES = 12
#: What is told in every table: what no choice of images explains. Sizes and interpolations stand in
#: the row, an order of channels is too fine for twelve images. Values must be this much off, in
#: nats. The default encoder at 64 to 224 px, with its batch norms' memory as it is and taken anew
#: on four sets of medical images, shown five kinds of images, gains at most .65 by other values
#: where its own are right; mean and std of 127.5, and values of [0, 255], lose .94 or more on each
#: of them. Smaller mistakes are `medbench doctor`'s to measure.
CLEAR = 0.8
TOLD = ("range", "mean and std", "readout", "weights")


def encoder_marks(
    encoder: Encoder,
    weights: Weights,
    build: Callable[[], nn.Module],
    images: Sequence[Image],
    cache_dir: Path,
) -> tuple[Mark, ...]:
    """Return what every table of this encoder must say; () where nothing is wrong with it.

    build: gives the network, and is called only if needed. images: of the task's training part;
    fewer than 8 are not looked at.
    """
    about = [VERSION, weights.identity, encoder.identity()]
    found = _kept(cache_dir, about, "natural", encoder, build, _natural)
    if found and len(images) >= 8:
        from medbench.images import content_hashes, decode

        some = [
            images[i] for i in np.sort(np.random.default_rng(0).permutation(len(images))[:IMAGES])
        ]
        again = _kept(
            cache_dir,
            about,
            content_hashes(some, cache_dir),
            encoder,
            build,
            lambda: [np.asarray(decode(image)) for image in some],
        )
        found = [one for one in found if one["what"] in {other["what"] for other in again}]
    return tuple(
        Mark("encoder", f"{encoder.name}: {one['what']}: {one['evidence']}. Fix: {one['fix']}")
        for one in found
    )


def _natural() -> Sequence[np.ndarray]:
    from medbench.audit.encoder import reference_images

    return reference_images(IMAGES)


def _kept(
    cache_dir: Path,
    about: list[object],
    shown: object,
    encoder: Encoder,
    build: Callable[[], nn.Module],
    images: Callable[[], Sequence[np.ndarray]],
) -> list[dict[str, str]]:
    """Return the findings on some images, from the cache where they lie there.

    They are `EncoderFinding`s.
    """
    file = cache_dir / "audits" / f"encoder-{fingerprint('encoder', *about, shown)[:32]}.json"
    try:
        record = parsed(file.read_bytes())
        checked(record, {"findings": list}, "encoder")
        for one in record["findings"]:
            checked(one, {"what": str, "evidence": str, "fix": str}, "a finding")
        kept: list[dict[str, str]] = record["findings"]
        return kept
    except (FileNotFoundError, ValueError, TypeError):  # a broken entry is made anew
        found = [asdict(one) for one in examined(build(), encoder, images())]
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write.record(file, {"findings": found})
    return found


def examined(
    net: nn.Module, encoder: Encoder, images: Sequence[np.ndarray]
) -> list[EncoderFinding]:
    """Find what of TOLD is wrong with a network (eval mode) on images (H, W, 3) uint8.

    It takes one pass for each of a handful of mean and std.
    """
    from medbench.audit.encoder.diagnosis import VALUES, diagnose
    from medbench.audit.encoder.preprocessing_findings import no_range
    from medbench.audit.encoder.preprocessing_trials import STATED

    report = diagnose(net, encoder, images, cheap=True)
    best = report.candidates[0]
    stated = next(one for one in report.candidates if one.name == STATED)
    sure = bool(no_range(encoder)) or stated.misfit - best.misfit > CLEAR
    return [one for one in report.findings if one.what in TOLD and (sure or one.what not in VALUES)]
