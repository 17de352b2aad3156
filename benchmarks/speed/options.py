"""What scripts beside this one are asked: on which device, with which encoder, size and precision.

Both sides of a ratio have the same.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from medbench.models import encoders, weights
from medbench.schema import Encoder
from medbench.system import devices
from medbench.system.precision import PRECISIONS

RANDOM = weights.Weights("random", "", (), None)


def parser(text: str | None, size: int, precision: str = "fp32") -> argparse.ArgumentParser:
    """--device, --encoder, --size, --precision."""
    made = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--device",
        default=devices.resolve("auto"),
        help="cpu, cuda, cuda:1; a GPU where there is one",
    )
    made.add_argument(
        "--encoder",
        default=encoders.EMBEDDED,
        help="a timm encoder; other than the embedded one with random weights",
    )
    made.add_argument("--size", type=int, default=size, help="pixels")
    made.add_argument("--precision", default=precision, choices=PRECISIONS)
    return made


def encoder_of(asked: argparse.Namespace) -> tuple[Encoder, Callable[[], torch.nn.Module]]:
    """The encoder and what builds it. Nothing is downloaded: time does not hang on the weights."""
    encoder = encoders.encoder(asked.encoder, asked.size)
    start = (
        weights.supervised(encoder, Path(tempfile.gettempdir()))
        if asked.encoder == encoders.EMBEDDED
        else RANDOM
    )
    return encoder, lambda: weights.build_encoder(encoder, start, 0)


def seconds(work: Callable[[], object], device: str, times: int = 1, warm: int = 0) -> float:
    """Median, the device's work included."""
    taken = []
    for turn in range(warm + times):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        if turn >= warm:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
