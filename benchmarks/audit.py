"""Planted copies in real images: how many `medbench audit` finds, and how many of the pairs it calls one picture are.

    MEDBENCH_DATA=FOLDER python benchmarks/audit.py [--shares 1,5,20] [--sets ham10000,hyperkvasir,kermany] [--images 1000]

Of each data set so many images, and of a share of them a copy: resized to a half to 0.8, recompressed as JPEG at quality 30 to 70, mirrored,
cropped to 0.7 to 0.9 of each side, or all four. Recall: planted pairs found. Precision: of the pairs found that hold a planted copy, those whose
other image is its source, or a picture that the audit of the data without copies already calls the same as its source. What
the data hold by nature (frames of one film, a patient taken twice) is counted apart and is judged by eye: --sheet FOLDER draws it.
Prints a line a set and share, with seconds and the memory at most.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from medbench import images
from medbench.audit import dataset
from medbench.audit.dataset.duplicates_picture import draw_duplicates

KINDS = ("resized", "recompressed", "mirrored", "cropped", "all four")


def copy(source: Image.Image, kind: str, rng: np.random.Generator) -> tuple[Image.Image, int]:
    """A changed copy and the JPEG quality it is saved with."""
    made, quality = source, 92
    if kind in ("cropped", "all four"):
        share = rng.uniform(0.7, 0.9)
        w, h = (round(share * side) for side in made.size)
        x, y = (
            int(rng.integers(0, side - cut + 1))
            for side, cut in zip(made.size, (w, h), strict=True)
        )
        made = made.crop((x, y, x + w, y + h))
    if kind in ("mirrored", "all four"):
        made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if kind in ("resized", "all four"):
        share = rng.uniform(0.5, 0.8)
        made = made.resize(
            (max(1, round(share * made.width)), max(1, round(share * made.height))),
            Image.Resampling.BICUBIC,
        )
    if kind in ("recompressed", "all four"):
        quality = int(rng.integers(30, 71))
    return made, quality


def plant(
    files: list[Path], share: float, folder: Path, rng: np.random.Generator
) -> dict[str, tuple[str, str]]:
    """Links to all files and copies of a share of them, in `folder`.

    -> name of the copy: (name of its source, kind).
    """
    for file in files:
        (folder / file.name).symlink_to(file)
    planted = {}
    for k, i in enumerate(rng.permutation(len(files))[: max(1, round(share * len(files)))]):
        kind = KINDS[k % len(KINDS)]
        with Image.open(files[i]) as source:
            made, quality = copy(source.convert("RGB"), kind, rng)
        stream = io.BytesIO()
        made.save(stream, "JPEG", quality=quality)
        name = f"copy{k:05d}.jpg"
        (folder / name).write_bytes(stream.getvalue())
        planted[name] = (files[i].name, kind)
    return planted


def audited(folder: Path, cache: Path) -> tuple[dataset.DatasetReport, dataset.Subject, float]:
    began = time.perf_counter()
    subject = dataset.of_list(folder, cache)
    return dataset.audit(subject, cache), subject, time.perf_counter() - began


def joined(report: dataset.DatasetReport) -> dict[str, str]:
    """Name -> one name of all that the audit calls one picture."""
    head: dict[str, str] = {}

    def top(name: str) -> str:
        while head.get(name, name) != name:
            name = head[name]
        return name

    for pair in report.pairs:
        head[top(pair["image"])] = top(pair["other"])
    return {
        name: top(name)
        for name in {n for pair in report.pairs for n in (pair["image"], pair["other"])}
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shares", default="1,5,20")
    parser.add_argument("--sets", default="ham10000,hyperkvasir,kermany")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    root, cache = Path(os.environ["MEDBENCH_DATA"]), images.cache_folder()
    for name in options.sets.split(","):
        rng = np.random.default_rng(0)
        every = sorted(
            file
            for file in (root / name).rglob("*")
            if file.suffix.lower() in (".jpg", ".jpeg", ".png")
        )
        files = [every[i] for i in sorted(rng.permutation(len(every))[: options.images])]
        with tempfile.TemporaryDirectory() as place:
            plain = Path(place, "plain")
            plain.mkdir()
            for file in files:
                (plain / file.name).symlink_to(file)
            report, subject, seconds = audited(plain, cache)
            natural = joined(report)
            how = f"threshold {report.settings['threshold']}, {report.settings['pairs_aligned']} pairs aligned"
            print(
                f"{name}: {len(files)} images as they are: {len(report.pairs)} pairs, {how}, {seconds:.0f} s",
                flush=True,
            )
            if options.sheet:
                draw_duplicates(report, subject, options.sheet / f"{name}.png")
            for share in (float(text) / 100 for text in options.shares.split(",")):
                folder = Path(place, f"{share}")
                folder.mkdir()
                planted = plant(files, share, folder, rng)
                report, _, seconds = audited(folder, cache)
                hits, wrong, right = set(), 0, 0
                for pair in report.pairs:
                    names = (pair["image"], pair["other"])
                    if not any(one in planted for one in names):
                        continue
                    a, b = (planted.get(one, (one,))[0] for one in names)
                    same = a == b or natural.get(a, a) == natural.get(b, b)
                    right, wrong = right + same, wrong + (not same)
                    hits |= {
                        one
                        for one, other in (names, names[::-1])
                        if one in planted and planted[one][0] == other
                    }
                each = {
                    kind: [name in hits for name, (_, k) in planted.items() if k == kind]
                    for kind in KINDS
                }
                kinds = ", ".join(
                    f"{kind} {sum(found)}/{len(found)}" for kind, found in each.items()
                )
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
                print(
                    f"{name} {share:.0%}: recall {len(hits) / len(planted):.3f} ({kinds}), precision {right / max(1, right + wrong):.3f}"
                    f" ({right} of {right + wrong}), {seconds:.0f} s, {memory:.1f} GB at most",
                    flush=True,
                )


if __name__ == "__main__":
    main()
