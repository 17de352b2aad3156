"""How long `medbench predict` takes beside what cannot be saved: decoding and squeezing the images, and the network's forward pass.

    python benchmarks/speed/predict.py [--images 10000] [--size 112] [--encoder tf_efficientnet_lite0]

Images are JPEGs of 600 x 450 pixels, drawn; weights are random: neither changes the time. The two parts are timed alone, one after the other, then
the command's own function; the ratio is of CPU seconds, as predict overlaps the two. All three are done by turns, three times, and the least of
each is taken.

10,000 images on one of two cores, the other busy for half of the time, each part once: decoding
36 s, forward 104 s, predict 138 s, a ratio of 0.98. 1,000 images on two cores that eight others
shared: 2.4, 7.4 and 9.6 s, 0.98.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from medbench import Weights, build_encoder
from medbench.models.exported import LinearHead, Parts, Tower, load, write
from medbench.models.exported.listing import listed
from medbench.models.exported.prediction import predict
from medbench.models.exported.typical import typical_of
from medbench.models.features import BATCH
from medbench.schema import Encoder


def model(folder: Path, architecture: str, size: int) -> None:
    """A folder of seven classes with random weights."""
    encoder = Encoder(
        architecture, architecture, "", size, (0.5,) * 3, (0.5,) * 3, "bicubic", "pool"
    )
    net = build_encoder(encoder, Weights("drawn", "0", (), None), 0)
    width, rng = int(net.num_features), np.random.default_rng(0)  # type: ignore[arg-type]
    arrays = {
        "weight": rng.normal(size=(1, 7, width)),
        "bias": np.zeros((1, 7)),
        "mean": np.zeros(width),
        "scale": np.ones(width),
    }
    arrays |= {"limit": np.full(1, 9.0), "columns": np.arange(7), "base": np.zeros(7)}
    head = LinearHead.of(arrays, "multiclass", 7)
    seen = {
        "target": "test",
        "images": 0,
        "groups": 0,
        "auc": [None] * 3,
        "calibration": {},
        "classes": {},
    }
    points = {"temperature": None, "held_out_images": 0, "points": {}, "sets": {}}
    lies = typical_of(rng.gamma(2, 1, (500, width)).astype(np.float32), np.arange(500))
    folder.mkdir()
    write(
        folder,
        Parts(
            (Tower(encoder, net),),
            head,
            "linear",
            tuple("abcdefg"),
            "multiclass",
            "fp32",
            points,
            seen,
            lies,
        ),
        "",
    )


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--encoder", default="tf_efficientnet_lite0")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--keep", type=Path, help="A folder for the images, made where it lacks some."
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        images = asked.keep or Path(place) / "images"
        images.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        few = [
            Image.fromarray(rng.integers(0, 255, (30, 40, 3)).astype(np.uint8)).resize((600, 450))
            for _ in range(50)
        ]
        for i in range(len(list(images.iterdir())), asked.images):
            few[i % 50].putpixel((i % 600, i // 600), (i % 256, i // 256, 0))  # no file twice
            few[i % 50].save(images / f"{i:06d}.jpg", quality=90)
        model(Path(place) / "model", asked.encoder, asked.size)
        loaded, found = load(Path(place) / "model", "cpu"), listed(images).images
        pixels = np.stack([loaded.decode(one.file) for one in found[:BATCH]])
        rounds = range(0, asked.images, BATCH)
        parts: dict[str, Callable[[], object]] = {
            "decoding": lambda: [loaded.decode(one.file) for one in found],
            "forward": lambda: [loaded.features(pixels[: len(found) - i]) for i in rounds],
            "predict": lambda: predict(
                loaded, Path(place) / "model", found, Path(place) / "out.csv", overwrite=True
            ),
        }
        if not asked.turns:
            return
        turns = [{name: timed(work) for name, work in parts.items()} for _ in range(asked.turns)]
        least = {name: min(turn[name] for turn in turns) for name in parts}
        own = least["decoding"] + least["forward"]
        told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in least.items())
        print(
            f"{asked.images} images: {told}; predict / (decoding + forward) {least['predict'] / own:.3f}"
        )


if __name__ == "__main__":
    main()
