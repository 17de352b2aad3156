"""Search for a rule of the `unlike` flag that knows another modality at 64 px from 70 images.

    python benchmarks/unlike.py DATA [--draws 20] [--out unlike.txt]

DATA holds ham10000/, hyperkvasir/, kermany/ and hannover_cxr/. The question, the rules, the sets and
the criterion below were written before the first run; `benchmarks/unlike.txt` is what came out.

The rule of the time (mahalanobis, e .01) flags, at 64 px after 70 images of HAM10000, 86 % of
endoscopy, 63 % in the worst draw; wanted are 90 %, with at most 3 % of the home's own.

Rules. Each gives log scores of an image from the features of the home's images alone; the threshold
is the normal prediction limit of held-out log scores (5 folds of whole groups), beyond which a new
image lies with the probability e = .01, .015 or .02. Several scores: the largest standardised one,
with e shared out between them; or Hotelling's T2 of all of them (F limit).
    mahalanobis   the one of the time (unit length, standardised, Ledoit-Wolf, first components)
    inside, outside   its two parts: within the components, and beside them (ViM's residual)
    raw           the same without unit length
    hellinger     the same of square roots of |features|: the one that was chosen, with e .02
    euclid        unit length, standardised, no covariance
    cosine        1 - cosine to the mean direction
    norm          the length of the features, both sides
    knn1, knn5    distance of unit vectors to the nearest and fifth nearest (Sun et al. 2022). They keep
                  vectors of patients' images: a yardstick, not to be adopted
    ViM's logit and relative Mahalanobis need classes, which unlabelled images do not have: left out.
Combinations: mahalanobis + norm, mahalanobis + cosine, mahalanobis + raw, mahalanobis + hellinger,
inside + outside, inside + outside + norm, all but knn; each by the largest and by T2.

Sets. Features of tf_efficientnet_lite0 (ImageNet), whole images squeezed. Each set is split in two
halves by group. Tuning, at 64 px, n = 70, first halves: home endoscopy against dermoscopy and X-rays;
home paediatric X-rays and home adult X-rays, each against dermoscopy and endoscopy.
Judged on second halves, which tuning has not seen, and on pairs that it has not: home dermoscopy
against endoscopy and both X-rays, n = 70 and 350, at 64 and 112 px, and at 64 px with random weights.

Criterion. Of the rules that keep no vector and flag at most 3 % of the own of each tuning home (mean
over draws), that with the highest least rate over the tuning pairs (of the worst tenth of the draws,
mean of these). It is adopted if, where it is judged with ImageNet weights, its own stay at most 3 %
(mean), and it flags at 64 px after 70 images at least 90 % of endoscopy (mean) and more than today's
rule in the worst draw, and nowhere 1 point less than today's.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from medbench import Weights, build_encoder
from medbench.images.squeezing import squeeze
from medbench.models.encoders import encoder as encoder_of
from medbench.models.exported.typical import COMPONENTS, FOLDS, _fitted
from medbench.models.features import forward
from medbench.models.weights import supervised

MOST = 2000  # images of a set
Score = Callable[[np.ndarray], np.ndarray]
Named = dict[str, np.ndarray]
SCORES = (
    "mahalanobis",
    "inside",
    "outside",
    "raw",
    "hellinger",
    "euclid",
    "cosine",
    "norm",
    "knn1",
    "knn5",
)
PAIRS = (
    ("mahalanobis", "norm"),
    ("mahalanobis", "cosine"),
    ("mahalanobis", "raw"),
    ("mahalanobis", "hellinger"),
    ("inside", "outside"),
    ("inside", "outside", "norm"),
    ("mahalanobis", "inside", "outside", "raw", "hellinger", "euclid", "cosine", "norm"),
)
EXPECTED = (0.01, 0.015, 0.02)
XRAYS = ("kermany", "hannover")


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def squared(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * x**2


def scores(home: np.ndarray, k: int, asked: np.ndarray) -> Named:
    """Log scores of features asked (M, D), fitted to those of home (N, D)."""
    found: Named = {}
    # the rule in the package takes roots since: these are of squares
    typical = _fitted(squared(home), k)
    z = (unit(asked) - typical.mean) * typical.scale
    inside = z @ typical.components.T
    within = (inside**2 / typical.variances).sum(1)
    beside = np.maximum((z**2).sum(1) - (inside**2).sum(1), 1e-12)
    found["mahalanobis"] = np.log(typical.distance(squared(asked)))
    found["inside"], found["outside"] = np.log(within) / 2, np.log(beside) / 2
    found["euclid"] = np.log((z**2).sum(1)) / 2
    padded = [
        squared(np.hstack([x, np.full((len(x), 1), 1e3 * np.abs(home).max())]))
        for x in (home, asked)
    ]
    found["raw"] = np.log(_fitted(padded[0], k).distance(padded[1]))  # the last makes all as long
    found["hellinger"] = np.log(_fitted(home, k).distance(asked))
    middle = unit(unit(home).mean(0, keepdims=True))[0]
    found["cosine"] = np.log(np.maximum(1 - unit(asked) @ middle, 1e-12))
    found["norm"] = np.log(np.linalg.norm(asked, axis=1))
    near = np.sort(1 - unit(asked) @ unit(home).T, axis=1)
    found["knn1"], found["knn5"] = (np.log(np.maximum(near[:, i], 1e-12)) for i in (0, 4))
    return found


def standardised(
    held: Named, asked: Named, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(n, S) and (M, S): of held-out images and of others; the norm counts both ways."""
    made = []
    for of in (held, asked):
        columns = [(of[name] - held[name].mean()) / held[name].std(ddof=1) for name in names]
        made.append(np.stack(columns, 1))
    return made[0], made[1]


def flags(
    held: Named, asked: Named, groups: int, names: tuple[str, ...], how: str, e: float
) -> np.ndarray:
    """(M,) bool."""
    own, z = standardised(held, asked, names)
    if how == "T2":
        s = len(names)
        inverse = np.linalg.inv(np.cov(own.T).reshape(s, s) + 1e-6 * np.eye(s))
        limit = (
            s * (groups**2 - 1) / (groups * (groups - s)) * f_distribution.ppf(1 - e, s, groups - s)
        )
        return np.einsum("ms,st,mt->m", z, inverse, z) > limit
    sides = np.array([name == "norm" for name in names])
    shares = e / (len(names) * (1 + sides))
    limits = t_distribution.ppf(1 - shares, groups - 1) * np.sqrt(1 + 1 / groups)
    return (np.where(sides, np.abs(z), z) > limits).any(1)


def rules() -> list[tuple[tuple[str, ...], str, float]]:
    single = [((name,), "largest", e) for name in SCORES for e in EXPECTED]
    return single + [
        (names, how, e) for names in PAIRS for how in ("largest", "T2") for e in EXPECTED
    ]


def draw(groups: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of whole groups, about n, and those of the others."""
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    sizes = np.array([(groups == name).sum() for name in names])
    taken = names[: int(np.searchsorted(np.cumsum(sizes), n)) + 1]
    inside = np.isin(groups, taken)
    return np.flatnonzero(inside)[:n], np.flatnonzero(~inside)


def judged(
    home: tuple[np.ndarray, np.ndarray], others: dict[str, np.ndarray], n: int, draws: int
) -> dict:
    """rule -> set -> share flagged in each draw; "own": of the home's other images."""
    features, groups = home
    found: dict = {rule: {name: [] for name in ("own", *others)} for rule in rules()}
    for seed in range(draws):
        took, left = draw(groups, n, seed)
        x, (names, member) = features[took], np.unique(groups[took], return_inverse=True)
        fold = np.random.default_rng(0).permutation(len(names))[member] % FOLDS
        k = min(COMPONENTS, int(np.bincount(fold).min()))
        parts = [scores(x[fold != i], k, x[fold == i]) for i in range(FOLDS)]
        held = {name: np.concatenate([part[name] for part in parts]) for name in SCORES}
        asked = {"own": features[left], **others}
        whole = {name: scores(x, k, of) for name, of in asked.items()}
        for rule in found:
            for name in asked:
                found[rule][name].append(flags(held, whole[name], len(names), *rule).mean())
    return found


def files(data: Path) -> dict[str, tuple[list[Path], np.ndarray]]:
    """Set -> images and their groups, at most MOST."""
    with next((data / "ham10000").rglob("*etadata*.csv")).open() as stream:
        lesion = {row["image_id"]: row["lesion_id"] for row in csv.DictReader(stream)}
    with next((data / "hannover_cxr").rglob("data.csv")).open() as stream:
        patient = {row["image_id"]: row["patient_id"] for row in csv.DictReader(stream)}
    of: dict[str, Callable[[Path], str]] = {
        "ham10000": lambda file: lesion[file.stem],
        "hyperkvasir": lambda file: file.stem,
        "kermany": lambda file: file.stem,
        "hannover_cxr": lambda file: patient.get(file.stem, file.stem),
    }
    found = {}
    for name, group in of.items():
        images = sorted(
            f for f in (data / name).rglob("*") if f.suffix in (".jpg", ".jpeg", ".png")
        )
        kept = np.sort(np.random.default_rng(0).permutation(len(images))[:MOST])
        chosen = [images[i] for i in kept]
        found[name.removesuffix("_cxr")] = chosen, np.array([group(file) for file in chosen])
    return found


def embedded(images: list[Path], size: int, drawn: bool) -> np.ndarray:
    encoder = encoder_of("tf_efficientnet_lite0", size)
    weights = Weights("drawn", "0", (), None) if drawn else supervised(encoder, Path())
    net = build_encoder(encoder, weights, 0).eval()
    pixels = np.stack([squeeze(file, size, encoder.interpolation) for file in images])
    pack = type("Pack", (), {"array": pixels, "__len__": lambda self: len(pixels)})()
    with torch.inference_mode():
        return np.concatenate(
            list(forward(net, pack, np.arange(len(pixels)), encoder, "cpu", "fp32"))
        ).astype(float)


def half(groups: np.ndarray, which: int) -> np.ndarray:
    names = np.random.default_rng(1).permutation(np.unique(groups))
    return np.isin(groups, names[which::2])


def called(rule: tuple[tuple[str, ...], str, float]) -> str:
    names, how, e = rule
    return f"{' + '.join(names) if len(names) < 6 else 'all but knn'}{f' ({how})' if len(names) > 1 else ''}, e {e:g}"


def worst(shares: list[float]) -> float:
    return float(np.mean(sorted(shares)[: max(1, len(shares) // 10)]))


def row(rule: tuple, found: dict) -> str:
    told = [
        f"{name} {100 * np.mean(v):.1f} ({100 * (max if name == 'own' else min)(v):.0f})"
        for name, v in found.items()
    ]
    return f"  {called(rule):48} {', '.join(told)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    sets, told = files(asked.data), []
    kinds = {(64, False): "64 px", (112, False): "112 px", (64, True): "64 px, random weights"}
    made = {kind: {name: embedded(of, *kind) for name, (of, _) in sets.items()} for kind in kinds}
    groups = {name: of for name, (_, of) in sets.items()}

    def part(kind: tuple[int, bool], name: str, which: int) -> tuple[np.ndarray, np.ndarray]:
        mask = half(groups[name], which)
        return made[kind][name][mask], groups[name][mask]

    rows: dict = {rule: {} for rule in rules()}
    for home in ("hyperkvasir", *XRAYS):
        others = [n for n in sets if n != home and not (home in XRAYS and n in XRAYS)]
        of = {name: part((64, False), name, 0)[0] for name in others}
        for rule, found in judged(part((64, False), home, 0), of, 70, asked.draws).items():
            rows[rule] |= {f"{home}>{name}": shares for name, shares in found.items()}
    fit = [
        r for r in rows if all(np.mean(v) <= 0.03 for n, v in rows[r].items() if n.endswith(">own"))
    ]
    least = {r: min(worst(v) for n, v in rows[r].items() if not n.endswith(">own")) for r in fit}
    order = sorted(fit, key=lambda r: -least[r])
    told.append(
        f"Tuning, 64 px, 70 images, {asked.draws} draws: {len(fit)} of {len(rows)} rules keep each home's own at 3 %. Least rate of the worst draws:"
    )
    told += [f"  {called(r):48} {100 * least[r]:.1f}" for r in order]
    told += [
        "Flagged, % (own: most of a draw; others: least of a draw):",
        *(row(r, rows[r]) for r in rows),
    ]
    today = (("mahalanobis",), "largest", 0.01)
    best = next(r for r in order if not any(name.startswith("knn") for name in r[0]))
    shown = dict.fromkeys(
        (today, best, *order[:5], *itertools.islice((r for r in order if "knn" in r[0][0]), 1))
    )
    told.append(f"Chosen: {called(best)}")
    for kind, n in itertools.product(kinds, (70, 350)):
        of = {name: part(kind, name, 1)[0] for name in sets if name != "ham10000"}
        found = judged(part(kind, "ham10000", 1), of, n, asked.draws)
        told += [
            f"Judged, home dermoscopy, {kinds[kind]}, {n} images:",
            *(row(r, found[r]) for r in shown),
        ]
    text = "\n".join(told) + "\n"
    print(text)
    if asked.out:
        asked.out.write_text(text)


if __name__ == "__main__":
    main()
