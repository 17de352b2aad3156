"""The positive control: does pretraining learn what the classes show, from pixels alone, and does a
planted defect prevent it?

A small encoder with random weights at 32 px on the dermoscopy phantom, whose classes random
features separate badly. Each method sees 50,000 views, a minute on one core. Its linear probe must
rise above the random encoder's by more than the paired interval over lesions. MAE has a small ViT
instead, see `test_mae_learns_what_the_classes_show`.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch import nn

from medbench import LinearProbe, stats
from medbench.images.augment import Crop
from medbench.images.squeezing import squeeze
from medbench.methods.barlow import barlow
from medbench.methods.byol import byol
from medbench.methods.dino import dino
from medbench.methods.lejepa import lejepa
from medbench.methods.mae import mae
from medbench.methods.mocov3 import mocov3
from medbench.methods.simclr import simclr
from medbench.methods.swav import swav
from medbench.methods.vicreg import vicreg
from medbench.models import pretrain
from medbench.models.pretrain import Recipe
from medbench.models.pretrain.monitor import Collapsed
from medbench.models.pretrain.objective import Objective, each_view
from medbench.stats import metrics
from medbench.tasks import phantoms

pytestmark = pytest.mark.slow
SIZE, VIEWS, BATCH = 32, 50_000, 64
Normal = tuple[tuple[float, ...], tuple[float, ...]]
NORMAL: Normal = ((0.6,) * 3, (0.2,) * 3)
TWO = (Crop(2, scale=(0.3, 1), vertical_flip=0.5, jitter=(0.4, 0.4, 0.2, 0.05), gray_p=0.1),)
STILL = (Crop(2, scale=(1, 1), ratio=(1, 1), flip=0),)
COMMON = Recipe(None, TWO, VIEWS, BATCH, lr=2e-3, warmup=0.1, weight_decay=(0.01, 0.01), clip=3.0)
# From random weights, 64 images a step and 60 clusters, the paper's epsilon of 0.05 stays at
# chance: its README then advises a smaller one.
SWAV = {
    "temperature": 0.1,
    "epsilon": 0.02,
    "sinkhorn_iterations": 3,
    "hidden": 256,
    "width": 64,
    "prototypes": 60,
}
SWAV |= {"queue": 0, "queue_from": 1.0, "frozen_until": 0.3}
DINO = {
    "hidden": 256,
    "width": 64,
    "prototypes": 64,
    "student_temperature": 0.1,
    "centre_momentum": 0.9,
    "momentum": 0.95,
}
DINO |= {"teacher_temperature": (0.04, 0.04), "temperature_until": 0.0, "frozen_until": 0.1}
SIMCLR = COMMON.having(
    objective=simclr, hyper={"temperature": 0.1, "width": 128, "head_norm": True}
)
VICREG = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0, "hidden": 256, "width": 256}
BARLOW = {"redundancy": 0.0051, "hidden": 256, "width": 256}
FOLLOWED = {"hidden": 256, "width": 64, "momentum": 0.95}
LEJEPA = {"normality": 0.05, "hidden": 256, "width": 64, "directions": 256}
MAE = {"masked": 0.75, "width": 64, "depth": 2, "heads": 4, "positions": "fixed"}
HALVES = SIMCLR.having(views=VIEWS // 2)
SOUND = {
    "simclr": [SIMCLR],
    "micle": [HALVES, HALVES.having(paired=True)],
    "swav": [COMMON.having(objective=swav, hyper=SWAV)],
    "dino": [COMMON.having(objective=dino, hyper=DINO)],
    "lejepa": [
        COMMON.having(
            objective=lejepa,
            crops=(*TWO, replace(TWO[0], count=1, size=0.99)),
            batch=32,
            hyper=LEJEPA,
        )
    ],
    "vicreg": [COMMON.having(objective=vicreg, hyper=VICREG)],
    "barlow": [COMMON.having(objective=barlow, hyper=BARLOW)],
    "byol": [COMMON.having(objective=byol, hyper=FOLLOWED)],
    "mocov3": [COMMON.having(objective=mocov3, hyper={**FOLLOWED, "temperature": 0.2})],
}
MASKED = COMMON.having(objective=mae, crops=(Crop(scale=(0.4, 1), vertical_flip=0.5),), hyper=MAE)


def byol_without_stop_gradient(backbone: nn.Module, dim: int, recipe: Recipe) -> Objective:
    """The targets come from the network that learns, and move towards its predictions."""
    made = byol(backbone, dim, recipe)
    head, predictor = made.parts["head"], made.parts["predictor"]

    def project(views: Any, position: object) -> list[torch.Tensor]:
        own = each_view(backbone, head, views)
        return [*own, *map(predictor, own)]

    made.project = project
    return made


def strangers(objective: Any) -> Any:
    """Each image's partner is that of its neighbour in the batch.

    The last outputs, those that learn in MoCo v3, are turned by one.
    """

    def made(backbone: nn.Module, dim: int, recipe: Recipe) -> Objective:
        found: Objective = objective(backbone, dim, recipe)
        criterion, n = found.criterion, {"mocov3": 2}.get(objective.__name__, 1)
        found.criterion = lambda outputs, position: criterion(
            [*outputs[:-n], *(out.roll(1, 0) for out in outputs[-n:])], position
        )
        return found

    return made


DEFECTS = {
    "simclr: identical views": [SIMCLR.having(crops=STILL)],
    "micle: bags of strangers": [HALVES.having(paired=True, views=VIEWS)],
    "swav: Sinkhorn skipped": [SOUND["swav"][0].having(hyper={**SWAV, "sinkhorn_iterations": 0})],
    "dino: teacher never updated": [SOUND["dino"][0].having(hyper={**DINO, "momentum": 1.0})],
    # Constant outputs cost nothing then, and the watch ends it after 240 steps whatever the loss is
    # (it was .0006, the rank had fallen from 19 to 9).
    "vicreg: variance off": [SOUND["vicreg"][0].having(hyper={**VICREG, "variance": 0.0})],
    "barlow: strangers for partners": [SOUND["barlow"][0].having(objective=strangers(barlow))],
    "byol: stop-gradient removed": [SOUND["byol"][0].having(objective=byol_without_stop_gradient)],
    "mocov3: strangers for partners": [SOUND["mocov3"][0].having(objective=strangers(mocov3))],
    "mae: pixels of strangers": [MASKED.having(objective=strangers(mae))],
}


class Images(NamedTuple):
    pixels: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    bags: np.ndarray


@pytest.fixture(scope="module")
def parts() -> tuple[Images, Images]:
    """Training images, and those that the probe is scored on (test and val)."""
    drawn = phantoms.derm()
    found = {
        name: Images(
            np.stack([squeeze(i, SIZE, "bicubic") for i in split.images]),
            split.labels,
            split.groups,
            split.bags,
        )
        for name, split in drawn.items()
    }
    return found["train"], Images(
        *(np.concatenate(both) for both in zip(found["test"], found["val"], strict=True))
    )


def vit() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VisionTransformer(
            img_size=SIZE,
            patch_size=4,
            embed_dim=96,
            depth=4,
            num_heads=4,
            num_classes=0,
            global_pool="avg",
        ).eval()


def encoder() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for before, after in ((3, 32), (32, 32), (32, 64), (64, 128)):
            layers += [
                nn.Conv2d(before, after, 3, 2 if layers else 1, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


@torch.no_grad()
def features(net: nn.Module, pixels: np.ndarray, normal: Normal) -> np.ndarray:
    mean, sd = (torch.tensor(each)[:, None, None] for each in normal)
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / sd
    return torch.cat([net(chunk) for chunk in images.split(256)]).numpy()


def held_out(
    net: nn.Module, train: Images, scored: Images, normal: Normal
) -> tuple[np.ndarray, Images]:
    """Chances of a linear probe on all training labels, and the images that they are of."""
    probe = LinearProbe(cv=3).fit(
        features(net, train.pixels, normal), train.labels, groups=train.groups
    )
    return probe.predict_proba(features(net, scored.pixels, normal)), scored


def crossed(
    net: nn.Module, train: Images, scored: Images, normal: Normal
) -> tuple[np.ndarray, Images]:
    """The same of all images.

    Each is told by one of three probes, which has seen no view of its lesion.
    """
    whole = Images(*(np.concatenate(both) for both in zip(train, scored, strict=True)))
    x, y, groups = features(net, whole.pixels, normal), whole.labels, whole.groups
    chances = np.zeros((len(y), int(y.max()) + 1))
    for fitted, told in StratifiedGroupKFold(3, shuffle=True, random_state=0).split(x, y, groups):
        chances[told] = (
            LinearProbe(cv=3)
            .fit(x[fitted], y[fitted], groups=groups[fitted])
            .predict_proba(x[told])
        )
    return chances, whole


def auc(chances: np.ndarray, of: Images) -> tuple[float, np.ndarray]:
    """The value, and that of each bootstrap resample of the groups."""
    chances, weights = chances.astype(np.float32), stats.group_weights(of.groups)
    values = [
        metrics.score(of.labels, chances, chances.argmax(1), "multiclass", w).values["auc"]
        for w in (None, weights)
    ]
    return float(np.squeeze(values[0])), np.asarray(values[1])


def own_normal(images: Images) -> Normal:
    """Mean and standard deviation of each channel, as the authors of MAE bring ImageNet's images to
    ImageNet's.

    Each patch that MAE draws has mean 0 and variance 1 over its pixels and channels together. With
    .6 and .2 in every channel, 80 % of that variance are three numbers, the same in every patch:
    skin is red. With the images' own they are .2 %.
    """
    mean, sd = (getattr(images.pixels / 255, what)((0, 1, 2)) for what in ("mean", "std"))
    return tuple(map(float, mean)), tuple(map(float, sd))


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear centred kernel alignment of two feature matrices, in [0, 1] (Kornblith et al. 2019,
    section 3)."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float(np.linalg.norm(x.T @ y) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y))


def gain(
    name: str, recipes: list[Recipe], parts: tuple[Images, Images], folder: Path
) -> tuple[float, float]:
    """The paired interval of the rise in AUC over the random encoder."""
    train, scored = parts
    masks = name.startswith("mae")
    build, probed, normal = (
        (vit, crossed, own_normal(train)) if masks else (encoder, held_out, NORMAL)
    )
    bags, groups = (
        (np.random.default_rng(0).permutation(train.bags),) * 2
        if "bags of strangers" in name
        else (train.bags, train.groups)
    )
    start = time.perf_counter()
    args = (
        train.pixels,
        np.arange(len(train.labels)),
        bags,
        groups,
        train.labels,
        build,
        *normal,
        SIZE,
        recipes,
    )
    net = build()
    before, resampled_before = auc(*probed(net, train, scored, normal))
    old = features(net, scored.pixels, normal)
    file = pretrain.pretrain(*args, seed=0, folder=folder, device="cpu")
    seconds = time.perf_counter() - start
    net.load_state_dict(torch.load(file, weights_only=True))
    after, resampled_after = auc(*probed(net.eval(), train, scored, normal))
    low, high = map(float, stats.interval(resampled_after - resampled_before))
    moved = cka(old, features(net, scored.pixels, normal))
    losses = [round(loss, 3) for loss in looks(folder, "held_out_loss")]
    ranks, scores = (
        [round(score, 3) for score in looks(folder, what)] for what in ("look_rank", "knn_auc")
    )
    print(
        f"\n{name}: AUC {before:.3f} -> {after:.3f}, rise from {low:.3f} to {high:.3f}; {seconds:.0f} s; CKA with random weights {moved:.2f}"
    )
    print(f"held-out loss {losses}, rank {ranks}, kNN {scores}")
    return low, high


def looks(folder: Path, what: str) -> list[float]:
    return [
        line[what]
        for line in json.loads((folder / "history.json").read_text())["steps"]
        if what in line
    ]


@pytest.mark.parametrize("name", list(SOUND))
def test_each_method_learns_what_the_classes_show(
    name: str, parts: tuple[Images, Images], tmp_path: Path
) -> None:
    low, _ = gain(name, SOUND[name], parts, tmp_path)
    losses = looks(tmp_path, "held_out_loss")
    assert low > 0
    # it starts low, for student and teacher are one and nothing is centred: what counts is that it
    # stays off chance
    if name == "dino":
        assert losses[-1] < math.log(DINO["prototypes"])  # type: ignore[arg-type]
    else:
        assert losses[-1] < losses[0]


def test_mae_learns_what_the_classes_show(parts: tuple[Images, Images], tmp_path: Path) -> None:
    """Probed as the others are, MAE rose by less than its interval.

    From .574 to .606 (-.056 to .088). See `own_normal` for one reason.

    What the paper says (He et al. 2022, arXiv:2111.06377): 800 and more epochs (here 37), images at
    the data's own mean and variance (the others have .6 and .2), 196 patches of which 49 are seen
    (here 64 and 16), averaged patches (here, too), and a linear probe is where MAE is weakest (73.9
    % where fine-tuning has 84.9 %, ViT-L): a small rise is right, and needs more images to be seen.
    Trials, written down before they ran:

    1. `own_normal`, and `crossed`, which scores 2,028 images instead of 609: .518 to .611 (.060 to
       .126).
    2. The same with steps of 16 images at a rate of 1e-3: not needed.
    3. The better of these with 100,000 views: not needed.

    The first was no blind one: own means and probes crossed within the training part had risen from
    .494 to .563 in an earlier look.
    """
    low, _ = gain("mae", [MASKED], parts, tmp_path)
    losses = looks(tmp_path, "held_out_loss")
    assert low > 0
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", list(DEFECTS))
def test_a_planted_defect_prevents_it(
    name: str, parts: tuple[Images, Images], tmp_path: Path
) -> None:
    """The rises that were measured.

    Dino -.024 to .055, barlow -.007 to .077, byol -.130 to -.009, mae -.009 to .013; vicreg is
    stopped.
    """
    try:
        low, _ = gain(name, DEFECTS[name], parts, tmp_path)
    except Collapsed as error:
        print(f"\n{name}: {error}")
    else:
        assert low <= 0
