"""How fast an encoder embeds, as it was measured or in a trial batch, and how many numbers it gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from medbench.models.features import BATCH, RECORD
from medbench.schema import Encoder, checked, parsed
from medbench.system.environment import machine

if TYPE_CHECKING:
    import torch


def measured_speed(cache_dir: Path, encoder: Encoder, device: str) -> float | None:
    """Return the images a second of the last embedding with an encoder; None where there was none.

    With this encoder and size on this device, as the cache's features say.
    """
    files = sorted(
        (cache_dir / "features").glob("*/about.json"),
        key=lambda file: file.stat().st_mtime,
        reverse=True,
    )
    for file in files:
        try:
            record = parsed(file.read_bytes())
            checked(record, RECORD)
        except (ValueError, TypeError, FileNotFoundError):
            continue  # told where it is needed
        made = record.get("encoder"), record.get("size"), record["made_with"].get("device")
        if made == (encoder.name, encoder.size, machine(device)["device"]):
            return float(record["images_per_second"])
    return None


def trial_speed(
    build: Callable[[], torch.nn.Module], encoder: Encoder, device: str, precision: str
) -> float:
    """Return how many black images a second one batch takes, after a batch to warm up.

    build() -> the network. device: resolved, as "cpu" or "cuda". A batch that does not fit is
    divided, as in a run.
    """
    import torch

    from medbench.models.forward_pass import Division, encoded

    net, division = build(), Division()
    batch = torch.zeros(BATCH, 3, encoder.size, encoder.size, device=device).contiguous(
        memory_format=torch.channels_last
    )
    list(encoded(net, [batch], encoder, device, precision, division))
    start = time.perf_counter()
    list(encoded(net, [batch], encoder, device, precision, division))
    return BATCH / (time.perf_counter() - start)


def width(build: Callable[[], torch.nn.Module], encoder: Encoder) -> int:
    """Return the number of features that an encoder gives of an image, from a pass on the CPU.

    build() -> the network.
    """
    import torch

    with torch.inference_mode():
        return int(build()(torch.zeros(2, 3, encoder.size, encoder.size)).shape[1])
