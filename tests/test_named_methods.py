"""The methods that stand by name alone.

Losses against the papers' formulas in NumPy, their recipes, MAE's masks and the encoders it serves.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from fakes.pretraining import NAMED, SMALL, plain_vit
from torch import nn

from medbench.methods.mae import _masks
from medbench.models import encoders, pretrain
from medbench.models.pretrain import Position
from medbench.models.pretrain.objective import Objective
from medbench.models.pretrain.optimizer import make_optimiser, set_rates
from medbench.schema import Split, registry
from medbench.schema.methods import BUDGETS

Medbench = Callable[..., int]
HERE = Position(0, 10)


def encoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 10, 5, 4, bias=False),
        nn.BatchNorm2d(10),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def made(name: str) -> Objective:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return SMALL[name].objective(plain_vit() if name == "mae" else encoder(), 10, SMALL[name])  # type: ignore[misc]


def drawn(n: int, b: int = 12, width: int = 8) -> list[torch.Tensor]:
    return list(torch.randn(n, b, width, generator=torch.Generator().manual_seed(2)) * 1.3 + 0.2)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


# -- losses, by hand
# -------------------------------------------------------------------------------------------------------------------------


def test_vicreg_by_hand() -> None:
    """Bardes et al. 2022, equations 1 to 6.

    The authors' code, which made the paper's numbers, takes the mean over the values of a vector
    where equation 5 sums, and half of both variances: 25, 25 and 1 are weights of these.
    """
    a, b = drawn(2)
    z, other = a.double().numpy(), b.double().numpy()
    n, d = z.shape
    distance = sum(np.sum((z[i] - other[i]) ** 2) for i in range(n)) / n

    def variance(x: np.ndarray) -> float:
        return sum(max(0.0, 1 - math.sqrt(x[:, j].var(ddof=1) + 1e-4)) for j in range(d)) / d

    def covariance(x: np.ndarray) -> float:
        c = sum(np.outer(row - x.mean(0), row - x.mean(0)) for row in x) / (n - 1)
        return sum(c[i, j] ** 2 for i in range(d) for j in range(d) if i != j) / d

    expected = (
        25 * distance / d
        + 25 * (variance(z) + variance(other)) / 2
        + covariance(z)
        + covariance(other)
    )
    assert variance(z) > 0 and made("vicreg").criterion([a, b], HERE).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_barlow_twins_by_hand() -> None:
    """Zbontar et al. 2021, equations 1 and 2."""
    a, b = drawn(2)
    z, other = (x.double().numpy() - x.double().numpy().mean(0) for x in (a, b))
    total = 0.0
    for i in range(8):
        for j in range(8):
            c = (
                (z[:, i] * other[:, j]).sum()
                / math.sqrt((z[:, i] ** 2).sum())
                / math.sqrt((other[:, j] ** 2).sum())
            )
            total += (1 - c) ** 2 if i == j else 0.0051 * c**2
    # batch norm adds 1e-5 to a variance
    assert made("barlow").criterion([a, b], HERE).item() == pytest.approx(total, rel=1e-4)


def test_byol_by_hand() -> None:
    """Grill et al. 2020, equation 2, and the sum of both directions."""
    out = drawn(4)
    first_target, second_target, first, second = (x.double().numpy() for x in out)
    total = np.mean(
        [
            np.sum((unit(first[i]) - unit(second_target[i])) ** 2)
            + np.sum((unit(second[i]) - unit(first_target[i])) ** 2)
            for i in range(12)
        ]
    )
    assert made("byol").criterion(out, HERE).item() == pytest.approx(total, rel=1e-5)


def test_mocov3_by_hand() -> None:
    """Chen et al. 2021, equation 1 and algorithm 1.

    Keys of the other view, those of all other images as negatives, times 2 tau.
    """
    out = drawn(4)
    first_keys, second_keys, first, second = (
        [unit(row) for row in x.double().numpy()] for x in out
    )
    total = 0.0
    for queries, keys in ((first, second_keys), (second, first_keys)):
        for i in range(12):
            similar = [math.exp(queries[i] @ key / 0.2) for key in keys]
            total -= 2 * 0.2 * math.log(similar[i] / sum(similar)) / 12
    assert made("mocov3").criterion(out, HERE).item() == pytest.approx(total, rel=1e-5)


def test_lejepa_by_hand() -> None:
    """Balestriero and LeCun 2025.

    N times the weighted distance of the empirical characteristic function from the Gaussian's,
    along each direction.

    Once by the trapezoidal rule over the 33 points in [-3, 3], and once in closed form over the
    whole line (Epps and Pulley 1983), which the rule's range and step come close to.
    """
    out = drawn(5)
    objective = made("lejepa")
    torch.manual_seed(3)
    found = objective.criterion(out, HERE).item()
    torch.manual_seed(3)
    directions = torch.randn(8, 32).double().numpy()
    directions /= np.linalg.norm(directions, axis=0)
    views = [x.double().numpy() for x in out]
    t = np.linspace(-3, 3, 33)
    by_rule, closed = [], []
    for view in views:
        for direction in directions.T:
            x = view @ direction
            far = np.abs(np.exp(1j * t[:, None] * x).mean(1) - np.exp(-(t**2) / 2)) ** 2 * np.exp(
                -(t**2) / 2
            )
            by_rule.append(len(x) * np.trapezoid(far, t))
            pairs = np.exp(-((x[:, None] - x) ** 2) / 2).mean() * math.sqrt(2 * math.pi)
            closed.append(
                len(x)
                * (
                    pairs
                    - 2 * math.sqrt(math.pi) * np.exp(-(x**2) / 4).mean()
                    + math.sqrt(2 * math.pi / 3)
                )
            )
    centre = (views[0] + views[1]) / 2
    far = np.mean([(view - centre) ** 2 for view in views])
    assert found == pytest.approx(0.05 * np.mean(by_rule) + 0.95 * far, rel=1e-5)
    assert np.mean(by_rule) == pytest.approx(np.mean(closed), rel=0.03)
    assert (
        objective.parts["loss"].sigreg(torch.randn(3, 4096, 8)).item()
        < 1.5
        < objective.parts["loss"].sigreg(torch.rand(3, 4096, 8)).item()
    )


def test_mae_by_hand() -> None:
    """He et al. 2022, section 3.

    The error over the pixels of masked patches alone, each normalised by its own mean and
    deviation.
    """
    objective = made("mae").eval()
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(5)
    kept, masked = _masks(3, 16, 1, 0.75, images.device)
    assert kept.shape == (3, 5) and masked.shape == (3, 12) and (kept[:, 0] == 0).all()
    assert all(
        sorted([*kept[i].tolist(), *masked[i].tolist()]) == list(range(17)) for i in range(3)
    )
    torch.manual_seed(5)
    with torch.no_grad():
        predicted, _ = objective.project([images], HERE)
        torch.manual_seed(5)
        found = objective([images], HERE).item()
    pixels, total = images.double().numpy(), 0.0
    for i in range(3):
        for k, place in enumerate(masked[i].tolist()):
            row, column = divmod(place - 1, 4)
            patch = (
                pixels[i, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                .transpose(1, 2, 0)
                .ravel()
            )
            wanted = (patch - patch.mean()) / math.sqrt(patch.var(ddof=1) + 1e-6)
            total += np.sum((predicted[i, k].double().numpy() - wanted) ** 2)
    assert found == pytest.approx(total / (3 * 12 * 48), rel=1e-5)


def test_what_mae_masks_is_not_seen() -> None:
    """The predictions are the same whatever the masked pixels are, and others where a visible one
    changes."""
    objective = made("mae").eval()
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(5)
    kept, masked = _masks(2, 16, 1, 0.75, images.device)

    def predicted(places: torch.Tensor) -> torch.Tensor:
        changed = images.clone()
        for i in range(2):
            for place in places[i].tolist():
                row, column = divmod(place - 1, 4)
                changed[i, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
        torch.manual_seed(5)
        with torch.no_grad():
            found: torch.Tensor = objective.project([changed], HERE)[0]
        return found

    plain = predicted(masked[:, :0])
    torch.testing.assert_close(predicted(masked), plain, rtol=0, atol=0)
    assert not torch.allclose(predicted(kept[:, 1:]), plain)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_mae_trains_all_of_the_encoder_that_is_kept(pool: str) -> None:
    """No tensor of the encoder is left without a gradient, the norm behind an average among them,
    and the watch has the readout's vectors."""
    backbone = timm.models.VisionTransformer(
        img_size=16,
        patch_size=4,
        embed_dim=16,
        depth=2,
        num_heads=2,
        num_classes=0,
        global_pool=pool,
    )
    objective = SMALL["mae"].objective(backbone, 16, SMALL["mae"])  # type: ignore[misc]
    objective([torch.randn(4, 3, 16, 16)], HERE).backward()
    without = [name for name, value in backbone.named_parameters() if value.grad is None]
    assert without == []
    assert objective.features is not None and objective.features.shape == (4, 16)
    heads = [
        value
        for name, value in objective.named_parameters()
        if "backbone" not in name and value.requires_grad
    ]
    assert heads and all(value.grad is not None for value in heads)


@pytest.mark.parametrize("tokens", [{}, {"no_embed_class": True, "reg_tokens": 4}])
def test_from_random_weights_mae_knows_where_patches_lie(tokens: dict[str, Any]) -> None:
    """Sines and cosines that stay, as in the authors' code: a patch is nearest to its neighbours.

    Weights that were trained keep their positions.
    """
    make = timm.models.VisionTransformer
    for source, fixed in (("task", True), ("imagenet+task", False)):
        for budget in BUDGETS:
            hyper = registry.method("mae").recipes("", budget, 100, source)[0].hyper  # type: ignore[misc]
            assert (hyper.get("positions") == "fixed") is fixed
        backbone = make(
            img_size=24, patch_size=4, embed_dim=16, depth=1, num_heads=2, num_classes=0, **tokens
        )
        before = backbone.pos_embed.detach().clone()
        recipe = SMALL["mae"].having(
            hyper={**SMALL["mae"].hyper, **({"positions": "fixed"} if fixed else {})}
        )
        recipe.objective(backbone, 16, recipe)  # type: ignore[misc]
        assert (
            backbone.pos_embed.requires_grad is not fixed
            and torch.equal(backbone.pos_embed, before) is not fixed
        )
        places = backbone.pos_embed[0, -36:].view(6, 6, 16)
        if fixed:
            apart = (places - places[2, 3]).norm(dim=2)
            nearest = {divmod(int(i), 6) for i in apart.flatten().argsort()[1:5]}
            assert nearest == {(1, 3), (3, 3), (2, 2), (2, 4)}
            assert not backbone.pos_embed[0, :-36].any(), "a class token has no place"


# -- what they have in common
# ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED)
def test_constant_outputs_give_the_loss_called_chance(name: str) -> None:
    objective = made(name)
    chance = objective.chance(12)
    if name == "mae":  # what does not depend on the image: the mean patch
        wanted = torch.randn(12, 3, 48)
        wanted = (wanted - wanted.mean(2, keepdim=True)) / wanted.std(2, keepdim=True)
        outputs = [torch.zeros(12, 3, 48), wanted]
    else:
        outputs = [torch.full((12, 8), 0.0 if name == "lejepa" else 1.0)] * {
            "lejepa": 5,
            "vicreg": 2,
            "barlow": 2,
        }.get(name, 4)
    found = objective.criterion(outputs, HERE).item()
    if name == "byol":  # nothing is less: their rank alone tells
        assert found == pytest.approx(0, abs=1e-6) and chance == math.inf
    else:
        assert found == pytest.approx(chance, rel=1e-4)


@pytest.mark.parametrize("name", ["byol", "mocov3"])
def test_the_target_follows_and_takes_no_gradient(name: str) -> None:
    objective = made(name)
    views = [torch.randn(12, 3, 32, 32) for _ in range(2)]
    objective(views, HERE).backward()
    parts = objective.parts
    assert all(
        value.grad is None
        for part in ("target_backbone", "target_head")
        for value in parts[part].parameters()
    )
    assert all(
        value.grad is not None
        for part in ("backbone", "head", "predictor")
        for value in parts[part].parameters()
    )
    before = copy.deepcopy(parts)
    with torch.no_grad():
        for value in [*parts["backbone"].parameters(), *parts["head"].parameters()]:
            value.add_(1)
    objective.after_step(Position(3, 10))
    momentum = 1 - (1 - 0.9) * (math.cos(math.pi * 3 / 9) + 1) / 2  # Grill et al. 2020, section 3.2
    for part in ("backbone", "head"):
        for now, old, own in zip(
            parts[f"target_{part}"].parameters(),
            before[f"target_{part}"].parameters(),
            parts[part].parameters(),
            strict=True,
        ):
            torch.testing.assert_close(now, momentum * old + (1 - momentum) * own)
    assert objective.exported == "backbone"


@pytest.mark.parametrize("name", ["vicreg", "barlow", "byol", "mocov3", "lejepa"])
def test_outputs_keep_the_order_of_the_views(name: str) -> None:
    objective = made(name).eval()
    views = [
        torch.randn(8, 3, size, size)
        for size in ((32, 32, 16, 16, 16) if name == "lejepa" else (32, 32))
    ]
    parts = objective.parts
    with torch.no_grad():
        got = objective.project(views, HERE)
        expected = [parts["head"](parts["backbone"](view)) for view in views]
        if "predictor" in parts:
            expected = [
                *(parts["target_head"](parts["target_backbone"](view)) for view in views),
                *map(parts["predictor"], expected),
            ]
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_mocov3_keeps_the_patches_of_a_vit_as_they_are() -> None:
    model = timm.create_model("test_vit", num_classes=0, img_size=64)
    SMALL["mocov3"].objective(model, 64, SMALL["mocov3"])  # type: ignore[misc]
    still = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert still == {"patch_embed.proj.weight", "patch_embed.proj.bias"}


# -- recipes
# ---------------------------------------------------------------------------------------------------------------------------------


def on_paper(name: str, n: int) -> pretrain.Recipe:
    (found,) = registry.method(name).recipes("dermoscopy", "paper", n, "task")  # type: ignore[misc]
    return found  # type: ignore[no-any-return]


#: batch, epochs, rate at the full batch, epochs of warm-up, weight decay
PAPERS = {
    "vicreg": (2048, 1000, 0.2 * 8, 10, 1e-6),
    "barlow": (2048, 1000, 0.2 * 8, 10, 1e-6),
    "byol": (4096, 1000, 0.2 * 16, 10, 1.5e-6),
    "mocov3": (4096, 300, 1.5e-4 * 16, 40, 0.1),
    "lejepa": (256, 100, 5e-4, 1, 0.05),
    "mae": (4096, 800, 1.5e-4 * 16, 40, 0.05),
}


@pytest.mark.parametrize("name", NAMED)
def test_recipes_on_paper(name: str) -> None:
    one, n = on_paper(name, 10_000), 10_000
    batch, epochs, rate, warmup, decay = PAPERS[name]
    full_views = 2 + 6 * (98 / 224) ** 2 if name == "lejepa" else 1 if name == "mae" else 2
    assert one.batch == batch and one.batch / one.accumulate == 256
    assert one.views == pytest.approx(epochs * n * full_views, abs=1)
    assert (one.lr, one.warmup * epochs, one.weight_decay) == (
        pytest.approx(rate),
        pytest.approx(warmup),
        (decay, decay),
    )
    assert one.optimiser == ("lars" if name in ("vicreg", "barlow", "byol") else "adamw")
    expected = {
        "vicreg": {
            "invariance": 25,
            "variance": 25,
            "covariance": 1,
            "hidden": 8192,
            "width": 8192,
        },
        "barlow": {"redundancy": 0.0051, "hidden": 8192, "width": 8192},
        "byol": {"hidden": 4096, "width": 256, "momentum": 0.996},
        "mocov3": {"temperature": 0.2, "hidden": 4096, "width": 256, "momentum": 0.99},
        "lejepa": {"normality": 0.05, "hidden": 2048, "width": 128, "directions": 1024},
        "mae": {"masked": 0.75, "width": 512, "depth": 8, "heads": 16, "positions": "fixed"},
    }
    assert one.hyper == expected[name]


def test_rates_of_biases_and_betas() -> None:
    """Barlow Twins' biases and norms learn at 0.0048 where weights learn at 0.2; MAE's AdamW has
    (0.9, 0.95). Neither stands in other settings."""
    objective = Objective(
        {"backbone": nn.Linear(2, 2)}, lambda v, p: [], lambda o, p: torch.zeros(()), lambda b: 0.0
    )
    one = on_paper("barlow", 10_000)
    optimiser = make_optimiser(one, objective)
    assert set_rates(optimiser, one, Position(99, 10_000)) == pytest.approx(1.6)
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([1.6, 0.0048 * 8])
    assert make_optimiser(on_paper("mae", 10_000), objective).defaults["betas"] == (0.9, 0.95)
    stated = [name for name in NAMED if {"betas", "bias_lr"} & set(on_paper(name, 100).settings())]
    assert stated == ["barlow", "mae"]
    assert not {"betas", "bias_lr"} & set(
        registry.method("simclr").recipes("", "quick", 100, "task")[0].settings()
    )  # type: ignore[misc]


@pytest.mark.parametrize("name", NAMED)
def test_they_stand_by_name_alone(name: str) -> None:
    assert not registry.method(name).default and "arXiv" in registry.method(name).citation


# -- whom MAE serves
# -------------------------------------------------------------------------------------------------------------------------

ASKED = ("run", "--task", "derm", "--data", "phantom", "--labels", "100", "--seeds", "1")


def test_mae_is_refused_for_what_is_no_plain_vit(
    medbench: Medbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medbench(*ASKED, "--methods", "mae", "--out", str(tmp_path / "out")) == 2
    said = capsys.readouterr().err
    assert (
        "Method 'mae' cannot serve 'derm' with tf_efficientnet_lite0: it is not a plain ViT" in said
        and "Traceback" not in said
        and said.endswith(". Next: medbench run --task derm\n")
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("architecture", "size", "why"),
    [
        ("vit_small_patch16_224", 224, ""),
        ("vit_base_patch16_clip_224", 224, ""),
        ("deit_small_distilled_patch16_224", 224, "not a plain ViT"),
        ("vit_base_patch16_siglip_224", 224, "not a plain ViT"),
        ("swin_tiny_patch4_window7_224", 224, "not a plain ViT"),
        ("xcit_small_12_p8_224", 224, "not a plain ViT"),
        ("resnet18", 224, "not a plain ViT"),
        ("vit_small_patch16_224", 72, "72 pixels do not divide into patches of 16"),
        ("vit_small_patch32_224", 32, "32 pixels do not divide into patches of 32"),
    ],
)
def test_which_encoders_mae_serves(architecture: str, size: int, why: str) -> None:
    method = registry.method("mae")
    asked = encoders.Encoder(
        architecture, architecture, "", size, (0.5,) * 3, (0.5,) * 3, "bicubic"
    )
    found = method.refuses(Split([], *(np.array([]),) * 4), asked)  # type: ignore[misc]
    assert why in found and bool(why) == bool(found)
