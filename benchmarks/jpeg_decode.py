"""Does the decoder's reduced-size reading of large JPEGs change results? Full decode against it,
beside rounding.

    MEDBENCH_DATA=... python benchmarks/jpeg_decode.py first OUT.json        half an hour on a core
    MEDBENCH_DATA=... python benchmarks/jpeg_decode.py second OUT.json       a quarter of an hour

Images of three tasks are enlarged 8 times (Lanczos), given a camera's grain (sd 3 grey levels, a
pixel) and saved as JPEG (quality 90, 4:2:0): 2,048 px endoscopy, 2,400 px chest films, 1,200 px
dermoscopy; read at 64, 112 and 224 px. Files as they are, of 256 and 300 px and with detail in
every pixel, are read at 32 px. Four ways: fully decoded; at 1/2, 1/4 or 1/8 by the inverse DCT,
never below 3 or 6 times the wanted size; and fully decoded with a tenth of all values moved by one
grey level, which is what rounding does. Frozen features of the default encoder, linear probe, 20
draws of half the images, scored on the other half; differences are paired.

The first rule, written before the first number: the reduced reading stays only where it cannot be
told from a full decode. That is, for each task and size where it is used: the interval of the mean
difference of AUC and of (weighted) kappa (95 % for all of them together) holds 0, and the root mean
square of the differences is at most 1.5 times that of rounding. Where one fails at 3 times, 6 times
is tried by the same rule; where that fails, images are decoded in full.

Its outcome: every root mean square but one (gap 6) passed, but of 22 intervals two did not hold 0
for gap 3, two for gap 6, and two for rounding, too: draws of one set of images overlap, so that an
interval over draws is too narrow for a fixed change of pixels, and the rule refuses what it was to
allow.

The second rule, written before the second run: with other grain and other draws, endoscopy and
chest films at 64 and 112 px, beside nine roundings of their own chance. The reduced reading is told
apart where its mean difference is larger, in size, than that of all nine, in 3 or more of the 8
comparisons (2 metrics; 4 % by chance). Then images are decoded in full, else it stays.

Its outcome: larger than all nine in 1 of 8 (weighted kappa at 112 px, +.0038 beside .0032), so the
reading at 3 times stays. Mean differences of AUC: -.0003 to +.0011, of one draw at most .004; of
weighted kappa up to +.0038, of one draw up to .03 (at 32 px .046), where rounding alone moves one
draw by up to .063. Decoding and resizing took 50 ms an image of 2,048 px in full, and 12, 14 and 22
ms at 64, 112 and 224 px.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

DRAWS = 20
GAPS = {"full": 0, "gap 3": 3, "gap 6": 6}
#: Task, how many images, how often enlarged, sizes.
SETS = (
    ("uc-grade", 777, 1, (32,)),
    ("pneumonia", 624, 1, (32,)),
    ("uc-grade", 600, 8, (64, 112, 224)),
    ("pneumonia", 500, 8, (64, 112, 224)),
    ("derm", 600, 8, (64, 112, 224)),
)
SECOND = (("uc-grade", 600, 8, (64, 112)), ("pneumonia", 500, 8, (64, 112)))
COMPARISONS = 2 * sum(len(sizes) for *_, sizes in SETS)
GRAIN, QUALITY = 3.0, 90


def enlarged(file: Path, times: int, grain: np.ndarray, rng: np.random.Generator) -> bytes:
    """The JPEG of an image as a camera of so many times its resolution would give it; once.

    The file itself.
    """
    if times == 1:
        return file.read_bytes()
    with Image.open(file) as small:
        large = np.asarray(
            small.resize((small.width * times, small.height * times), Image.Resampling.LANCZOS),
            np.int16,
        )
    rows, columns = (
        rng.integers(grain.shape[0] - large.shape[0] + 1),
        rng.integers(grain.shape[1] - large.shape[1] + 1),
    )
    own = grain[rows : rows + large.shape[0], columns : columns + large.shape[1]]
    noisy = np.clip(large + (own if large.ndim == 2 else own[..., None]), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noisy).save(out, "JPEG", quality=QUALITY, subsampling=2)
    return out.getvalue()


def read(data: bytes, size: int, gap: int) -> tuple[np.ndarray, int, float]:
    """(size, size, 3) uint8, by how much the decoder reduced, and seconds. gap 0: a full decode."""
    start = time.perf_counter()
    image = Image.open(io.BytesIO(data))
    width = image.width
    if gap:
        image.draft(image.mode, (size * gap, size * gap))
    image.load()
    reduced = round(width / image.width)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC).convert("RGB"))
    return pixels, reduced, time.perf_counter() - start


def read_all(
    files: list[Path], times: int, sizes: tuple[int, ...], roundings: int, seed: int
) -> tuple[dict[tuple[int, str], np.ndarray], dict[str, dict[str, float]]]:
    """Pixels by size and way, and what each way costs."""
    rng = np.random.default_rng(seed)
    grain = (rng.standard_normal((2600, 2600), np.float32) * GRAIN).round().astype(np.int16)
    ways = [*GAPS, *(f"rounding {i}" for i in range(roundings))]
    found: dict[tuple[int, str], list[np.ndarray]] = {
        (size, way): [] for size in sizes for way in ways
    }
    cost: dict[str, dict[str, float]] = {}
    for file in files:
        data = enlarged(file, times, grain, rng)
        for size in sizes:
            for way, gap in GAPS.items():
                pixels, reduced, seconds = read(data, size, gap)
                found[size, way].append(pixels)
                of = cost.setdefault(f"{size} {way}", {"reduced": reduced, "seconds": 0.0})
                of["seconds"] += seconds / len(files)
            full = found[size, "full"][-1]
            for way in ways[len(GAPS) :]:
                moved = (rng.random(full.shape) < 0.1) * rng.choice((-1, 1), full.shape)
                found[size, way].append(
                    np.clip(full.astype(np.int16) + moved, 0, 255).astype(np.uint8)
                )
    return {key: np.stack(one) for key, one in found.items()}, cost


def embedded(pixels: np.ndarray, size: int) -> np.ndarray:
    import torch

    from medbench.models import encoders, weights

    encoder = encoders.encoder(encoders.EMBEDDED, size)
    net = weights.build_encoder(
        encoder, weights.supervised(encoder, Path(os.environ["MEDBENCH_CACHE"])), 0
    )
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (encoder.mean, encoder.std))
    with torch.inference_mode():
        batches = (
            torch.from_numpy(pixels[i : i + 32]).permute(0, 3, 1, 2).float() / 255
            for i in range(0, len(pixels), 32)
        )
        return torch.cat([net((batch - mean) / std) for batch in batches]).numpy()


def scored(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, kind: str, classes: int, seed: int
) -> list[dict[str, float]]:
    """Metrics of each draw: half the groups learn, half are scored."""
    from medbench.protocols.linear import evaluate
    from medbench.schema import Train
    from medbench.stats import metrics

    found = []
    names = np.unique(groups)
    for draw in range(DRAWS):
        chosen = np.random.default_rng(1000 * seed + draw).permutation(names)[: len(names) // 2]
        inside = np.isin(groups, chosen)
        train = Train(features[inside], labels[inside], groups[inside], kind, classes)
        (scores,) = evaluate(train, {"test": features[~inside]}, [np.arange(inside.sum())])
        values = metrics.score(
            labels[~inside], scores["test"].probabilities, scores["test"].decisions, kind
        ).values
        found.append(
            {
                name: float(values[name])
                for name in ("auc", "weighted_kappa" if kind == "ordinal" else "kappa")
            }
        )
    return found


def differences(name: str, of: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Of each way but the full decode: mean, half its interval, root mean square and largest of the
    paired differences."""
    from scipy import stats

    found = {}
    for way in list(of)[1:]:
        apart = np.array(
            [one[name] - full[name] for one, full in zip(of[way], of["full"], strict=True)]
        )
        half = float(
            stats.t.ppf(1 - 0.025 / COMPARISONS, len(apart) - 1)
            * apart.std(ddof=1)
            / len(apart) ** 0.5
        )
        found[way] = {
            "mean": float(apart.mean()),
            "half": half,
            "rms": float((apart**2).mean() ** 0.5),
            "max": float(abs(apart).max()),
        }
    return found


def main(which: str, out: Path) -> None:
    from medbench.schema import registry

    root, report = Path(os.environ["MEDBENCH_DATA"]), {}
    sets, roundings, seed = (SETS, 1, 0) if which == "first" else (SECOND, 9, 1)
    for name, most, times, sizes in sets:
        task = registry.task(name)
        parts = task.load(task.find(root))
        images = [image for part in parts.values() for image in part.images]
        labels, groups = (
            np.concatenate([getattr(part, of) for part in parts.values()])
            for of in ("labels", "groups")
        )
        some = np.random.default_rng(0).permutation(len(images))[:most]
        pixels, cost = read_all([Path(images[i]) for i in some], times, sizes, roundings, seed)
        for size in sizes:
            full = pixels[size, "full"].astype(int)
            results = {}
            ways = [way for one, way in pixels if one == size]
            for way in ways:
                results[way] = scored(
                    embedded(pixels[size, way], size),
                    labels[some],
                    groups[some],
                    task.kind,
                    len(task.classes),
                    seed,
                )
            report[f"{name} x{times} {size}"] = {
                "metrics": {metric: differences(metric, results) for metric in results["full"][0]},
                "value": {
                    metric: float(np.mean([one[metric] for one in results["full"]]))
                    for metric in results["full"][0]
                },
                "grey levels": {
                    way: float(abs(pixels[size, way].astype(int) - full).mean()) for way in ways[1:]
                },
                "largest": {
                    way: int(abs(pixels[size, way].astype(int) - full).max()) for way in ways[1:]
                },
                "cost": {way: cost[f"{size} {way}"] for way in GAPS},
            }
            out.write_text(json.dumps(report, indent=1))
            print(name, size, json.dumps(report[f"{name} x{times} {size}"]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
