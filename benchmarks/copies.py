"""Planted copies among images that look alike: how many `medbench audit` finds, by transform, and how many pairs of different images it calls copies.

    MEDBENCH_DATA=FOLDER python benchmarks/copies.py [--sets ham10000,chexpert,...] [--images 400] [--share 20]

Sets are folders of MEDBENCH_DATA, or tasks whose phantoms are drawn: one image a group, frontal films and right eyes alone. The thresholds of
`medbench/audit/dataset/duplicates.py` were chosen on phantoms and on kermany, with the transforms of TUNED; the others are for judging. Of a share
of the images (%) a copy is planted, transforms by turns. Prints a line a set and transform: sure and possible ones found of those planted; and a line a set:
false pairs a thousand images, sure and possible, and seconds. A real set holds one patient twice here and there: false pairs are named, for the eye.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from medbench import images
from medbench.audit import dataset
from medbench.schema import registry

Change = Callable[[Image.Image, np.random.Generator], Image.Image]
_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270, Image.Transpose.TRANSPOSE)


def recompressed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    stream = BytesIO()
    image.save(stream, "JPEG", quality=int(rng.integers(40, 81)))
    return Image.open(stream).convert("RGB")


def resized(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    share = rng.uniform(0.6, 0.85)
    return image.resize((round(share * image.width), round(share * image.height)), Image.Resampling.BICUBIC)


def lit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(rng.uniform(0.75, 1.25))).enhance(rng.uniform(0.7, 1.3))


def cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    w, h = (round(rng.uniform(0.7, 0.9) * side) for side in image.size)
    x, y = (int(rng.integers(0, side - cut + 1)) for side, cut in zip(image.size, (w, h), strict=True))
    return image.crop((x, y, x + w, y + h))


def padded(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    x, y = (round(side * rng.uniform(0.04, 0.12)) for side in image.size)
    framed = Image.new("RGB", (image.width + 2 * x, image.height + 2 * y))
    framed.paste(image, (x, y))
    return framed


def noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    values = np.asarray(image, float) + rng.normal(0, 5, (image.height, image.width, 3))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def gamma(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return Image.fromarray((255 * (np.asarray(image) / 255.0) ** rng.choice([0.7, 1.4])).round().astype(np.uint8))


TUNED: dict[str, Change] = {
    "recompressed": recompressed,
    "resized": resized,
    "lit": lit,
    "mirrored": lambda image, _: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": lambda image, rng: image.transpose(_TURNS[rng.integers(4)]),
    "cropped": cropped,
}
UNSEEN: dict[str, Change] = {
    "gamma": gamma,
    "grey": lambda image, _: image.convert("L").convert("RGB"),
    "noisy": noisy,
    "blurred": lambda image, _: image.filter(ImageFilter.GaussianBlur(image.width / 256)),
    "padded": padded,
    "cropped, lit, recompressed": lambda image, rng: recompressed(lit(cropped(image, rng), rng), rng),
}


def pictures(name: str, n: int) -> list[tuple[str, Image.Image]]:
    """At most n different images of a folder of MEDBENCH_DATA or of a task's phantom, and their names."""
    place = Path(os.environ.get("MEDBENCH_DATA", "."), name)
    if place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
        rows = sorted(np.random.default_rng(0).permutation(len(files))[:n])
        return [(files[i].name, Image.open(files[i]).convert("RGB")) for i in rows]
    phantom = registry.task(name).phantom
    assert phantom is not None, f"{name} is neither a folder of MEDBENCH_DATA nor a task with a phantom"
    found: dict[str, tuple[str, Image.Image]] = {}
    for split in phantom().values():
        for image, one, group in zip(split.images, split.ids.tolist(), split.groups.tolist(), strict=True):
            key = one if name == "lymph" else group
            if len(found) < n and key not in found and "lateral" not in one and "left" not in one:
                found[key] = one, Image.fromarray(image.draw(image.seed))
    return list(found.values())


def planted(sources: list[Image.Image], share: float, folder: Path) -> dict[str, tuple[int, str]]:
    """Files of all sources and of copies of a share of them -> (source, transform; "" for a source)."""
    rng, changes = np.random.default_rng(1), {**TUNED, **UNSEEN}
    known = {}
    for i, image in enumerate(sources):
        image.save(folder / f"{i:05d}.png")
        known[f"{i:05d}.png"] = (i, "")
    for k, i in enumerate(rng.permutation(len(sources))[: round(share * len(sources))].tolist()):
        kind = list(changes)[k % len(changes)]
        changes[kind](sources[i], rng).save(folder / f"copy{k:05d}.png")
        known[f"copy{k:05d}.png"] = (i, kind)
    return known


def judged(name: str, n: int, share: float) -> None:
    named = pictures(name, n)
    with tempfile.TemporaryDirectory() as place:
        known = planted([image for _, image in named], share, Path(place))
        began = time.perf_counter()
        cache = images.cache_folder()
        report = dataset.audit(dataset.of_list(Path(place), cache), cache)
        seconds = time.perf_counter() - began
    best: dict[str, str] = {}
    wrong: Counter[str] = Counter()
    for pair in report.pairs:
        (a, _), (b, _) = known[pair["image"]], known[pair["other"]]
        if a != b:
            wrong["possible" if pair["kind"] == "possible" else "sure"] += 1
            print(f"  {name}: {pair['kind']} {pair['correlation']:.2f} {named[a][0]} = {named[b][0]}")
            continue
        for one in (pair["image"], pair["other"]):
            best[one] = "sure" if pair["kind"] != "possible" or best.get(one) == "sure" else "possible"
    for kind in {**TUNED, **UNSEEN}:
        copies = [one for one, (_, how) in known.items() if how == kind]
        sure, possible = (sum(best.get(one) == what for one in copies) for what in ("sure", "possible"))
        print(f"{name:12s} {kind:28s}{' ' if kind in TUNED else '*'} {sure:4d} sure {possible:3d} possible of {len(copies)}")
    rates = " and ".join(f"{1000 * wrong[what] / len(known):.1f} {what}" for what in ("sure", "possible"))
    print(f"{name:12s} {len(known)} images: false pairs a thousand {rates}; {report.settings}; {seconds:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", default="derm,chexpert,retina,lymph,ham10000,hyperkvasir,kermany,hannover_cxr")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--share", type=float, default=20)
    options = parser.parse_args()
    for name in options.sets.split(","):
        judged(name, options.images, options.share / 100)


if __name__ == "__main__":
    main()
