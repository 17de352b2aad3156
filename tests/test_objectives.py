"""The losses, schedules and views of SimCLR, SwAV, DINO and MICLe.

Against slow computations by hand, lightly's plain loop, the papers' numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.pretraining import DINO_HYPER, HALF, SMALL
from lightly.loss import DINOLoss, NTXentLoss, SwaVLoss
from lightly.models.modules.heads import SwaVPrototypes
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import CosineWarmupScheduler, cosine_schedule
from scipy.special import softmax
from torch import nn

from medbench.images.augment import Crop
from medbench.methods.dino import DINO
from medbench.methods.micle import MICLE
from medbench.methods.simclr import SIMCLR
from medbench.methods.swav import SWAV
from medbench.models.pretrain import (
    Position,
    Recipe,
    batch_order,
    batches,
    checkpointing,
    fitted,
    looks,
    loop,
    pretrain,
)
from medbench.models.pretrain.objective import Objective
from medbench.models.pretrain.optimizer import make_optimiser, set_rates
from medbench.schema import Method, registry
from medbench.schema.methods import QUICK_VIEWS


def encoder() -> nn.Module:
    """A small convolutional encoder, (B, 3, S, S) -> (B, 10), the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 5, 4, bias=False),
            nn.BatchNorm2d(6),
            nn.GELU(),
            nn.Conv2d(6, 10, 3, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


def made(name: str) -> Objective:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return SMALL[name].objective(encoder(), 10, SMALL[name])  # type: ignore[misc]


def outputs(n: int, width: int, b: int = 8) -> list[torch.Tensor]:
    return list(
        torch.randn(n, b, width, generator=torch.Generator().manual_seed(2), dtype=torch.float32)
    )


def test_nt_xent_by_hand() -> None:
    a, b = outputs(2, 8)
    z = torch.cat([a, b]).double().numpy()
    total = 0.0
    for i in range(16):
        similarity = [
            z[i] @ z[j] / np.linalg.norm(z[i]) / np.linalg.norm(z[j]) / 0.1 for j in range(16)
        ]
        others = [np.exp(s) for j, s in enumerate(similarity) if j != i]
        total -= np.log(np.exp(similarity[(i + 8) % 16]) / sum(others))
    assert made("simclr").criterion([a, b], Position(0, 10)).item() == pytest.approx(
        total / 16, rel=1e-5
    )


def sinkhorn(scores: np.ndarray) -> np.ndarray:
    """(B, K) scores -> (B, K) codes.

    Clusters of equal size, Caron et al. 2020, equation 3, three iterations, epsilon 0.05.
    """
    q = np.exp(scores / 0.05)
    for _ in range(3):
        for k in range(q.shape[1]):
            q[:, k] /= q[:, k].sum() * q.shape[1]
        for i in range(len(q)):
            q[i] /= q[i].sum() * len(q)
    return q * len(q)


@pytest.mark.parametrize("step", [0, 6])
def test_swapped_prediction_by_hand(step: int) -> None:
    """Also with a full queue: step 6 of 10 lies behind `queue_from`."""
    objective = made("swav")
    queue = objective.parts["queue"]
    old = nn.functional.normalize(torch.stack(outputs(2, 8, 16)).flip(1), dim=2)
    queue.push(old)
    prototypes = objective.parts["prototypes"].weight.detach().double().numpy()
    np.testing.assert_allclose(np.linalg.norm(prototypes, axis=1), 1, rtol=1e-6)
    out = outputs(5, 8)
    scores = []
    for view in out:
        z = view.double().numpy()
        scores.append(z / np.linalg.norm(z, axis=1, keepdims=True) @ prototypes.T)
    total = 0.0
    for large in range(2):
        together = (
            np.concatenate([scores[large], old[large].double().numpy() @ prototypes.T])
            if step
            else scores[large]
        )
        codes = sinkhorn(together)[:8]
        for other in range(5):
            if other != large:
                rows = [
                    -(codes[i] * np.log(softmax(scores[other][i] / 0.1))).sum() for i in range(8)
                ]
                total += np.mean(rows) / 4 / 2
    assert objective.criterion(out, Position(step, 10)).item() == pytest.approx(total, rel=1e-5)
    torch.testing.assert_close(
        queue.stored[:, :8], nn.functional.normalize(torch.stack(out[:2]), dim=2)
    )
    torch.testing.assert_close(queue.stored[:, 8:], old[:, :8])


def test_dino_by_hand() -> None:
    """Two calls: the second uses the centre that the first has moved, and a later teacher
    temperature."""
    objective = made("dino")
    centre = np.zeros(20)
    for step, temperature in ((0, 0.02), (3, 0.02 + 0.02 * 0.6)):
        out = outputs(7, 20)
        teacher, student = (torch.stack(part).double().numpy() for part in (out[:2], out[2:]))
        terms = [
            np.mean(
                [
                    -(
                        softmax((teacher[t, i] - centre) / temperature)
                        * np.log(softmax(student[s, i] / 0.1))
                    ).sum()
                    for i in range(8)
                ]
            )
            for t in range(2)
            for s in range(5)
            if s != t
        ]
        assert objective.criterion(out, Position(step, 10)).item() == pytest.approx(
            np.mean(terms), rel=1e-4
        )
        centre = 0.9 * centre + 0.1 * teacher.mean((0, 1))
        np.testing.assert_allclose(
            objective.parts["loss"].center.flatten().numpy(), centre, rtol=1e-4, atol=1e-6
        )


def test_dino_with_a_deeper_head_and_a_batch_in_parts() -> None:
    recipe = SMALL["dino"].having(hyper={**DINO_HYPER, "layers": 4}, accumulate=2)
    assert recipe.objective is not None
    with torch.random.fork_rng(devices=[]):
        objective = recipe.objective(encoder(), 10, recipe)
    head, loss = objective.parts["head"], objective.parts["loss"]
    assert [tuple(layer.weight.shape) for layer in head.layers if isinstance(layer, nn.Linear)] == [
        (16, 10),
        (16, 16),
        (16, 16),
        (8, 16),
    ]
    assert [type(layer) for layer in head.layers[1::2]] == [nn.GELU] * 3
    loss.center.fill_(1.0)
    for _ in range(2):  # the parts of one batch
        objective.criterion([torch.zeros(8, 20)] * 7, Position(0, 10))
    torch.testing.assert_close(loss.center, torch.full_like(loss.center, 0.9))


def test_a_look_moves_neither_centre_nor_queue() -> None:
    for name in ("swav", "dino"):
        objective = made(name).eval()
        before = {key: value.clone() for key, value in objective.state_dict().items()}
        views = [torch.randn(8, 3, size, size) for size in (32, 32, 16, 16, 16)]
        with torch.no_grad():
            objective(views, Position(6, 10))
        assert all(torch.equal(value, before[key]) for key, value in objective.state_dict().items())


@pytest.mark.parametrize("name", ["simclr", "swav", "dino"])
def test_outputs_keep_the_order_of_the_views(name: str) -> None:
    objective = made(name).eval()
    views = [
        torch.randn(8, 3, size, size)
        for size in ((32, 32) if name == "simclr" else (32, 32, 16, 16, 16))
    ]
    with torch.no_grad():
        got = objective.project(views, Position(0, 10))
        parts = objective.parts
        expected = [parts["head"](parts["backbone"](view)) for view in views]
        if name == "dino":
            expected = [
                parts["teacher_head"](parts["teacher_backbone"](view)) for view in views[:2]
            ] + expected
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["simclr", "swav", "dino"])
def test_constant_outputs_give_the_loss_called_chance(name: str) -> None:
    objective = made(name)
    width = 20 if name == "dino" else 8
    out = [torch.ones(8, width)] * {"simclr": 2, "swav": 5, "dino": 7}[name]
    if name == "swav":
        with torch.no_grad():
            objective.parts["prototypes"].weight.fill_(8**-0.5)
    assert objective.criterion(out, Position(0, 10)).item() == pytest.approx(
        objective.chance(8), rel=1e-5
    )


# -- the loop against a plain one
# ------------------------------------------------------------------------------------------------------------


def plain_simclr(
    parts: nn.ModuleDict,
) -> tuple[Callable[..., torch.Tensor], Callable[..., None], Callable[..., None]]:
    criterion = NTXentLoss(temperature=0.1)

    def loss(views: list[torch.Tensor], step: int) -> torch.Tensor:
        z = parts["head"](parts["backbone"](torch.cat(views)))
        return criterion(z[:8], z[8:])

    return loss, lambda step: None, lambda step: None


def crops_of(net: nn.Module, views: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([net(torch.cat(views[:2])), net(torch.cat(views[2:]))])


def plain_swav(
    parts: nn.ModuleDict,
) -> tuple[Callable[..., torch.Tensor], Callable[..., None], Callable[..., None]]:
    """lightly's own prototypes and freezing; the queue as a plain list."""
    criterion = SwaVLoss(temperature=0.1, sinkhorn_iterations=3, sinkhorn_epsilon=0.05)
    own = SwaVPrototypes(8, 12, n_steps_frozen_prototypes=2)
    own.heads[0].weight, own.heads[0].bias = parts["prototypes"].weight, None
    queue: list[list[torch.Tensor]] = [[], []]

    def loss(views: list[torch.Tensor], step: int) -> torch.Tensor:
        own.normalize()
        unit = [
            nn.functional.normalize(z, dim=1)
            for z in parts["head"](crops_of(parts["backbone"], views)).chunk(5)
        ]
        scores = [own(z, step) for z in unit]
        stored = [own(torch.cat(q[-2:][::-1]), step).detach() for q in queue] if step >= 5 else None
        for q, z in zip(queue, unit, strict=False):
            q.append(z.detach())
        return criterion(scores[:2], scores[2:], stored)[0]

    return loss, lambda step: None, lambda step: None


def plain_dino(
    parts: nn.ModuleDict,
) -> tuple[Callable[..., torch.Tensor], Callable[..., None], Callable[..., None]]:
    criterion = DINOLoss(20)
    head = parts["head"]
    head.freeze_last_layer = 3

    def loss(views: list[torch.Tensor], step: int) -> torch.Tensor:
        with torch.no_grad():
            teacher = list(
                map(parts["teacher_head"], parts["teacher_backbone"](torch.cat(views[:2])).chunk(2))
            )
        student = list(head(crops_of(parts["backbone"], views)).chunk(5))
        return criterion(teacher, student, teacher_temp=0.02 + 0.02 * min(1, step / 5))

    def after(step: int) -> None:
        momentum = cosine_schedule(step, 10, 0.9, 1)
        update_momentum(parts["backbone"], parts["teacher_backbone"], momentum)
        update_momentum(head, parts["teacher_head"], momentum)

    return loss, head.cancel_last_layer_gradients, after


PLAIN = {"simclr": plain_simclr, "swav": plain_swav, "dino": plain_dino}


@pytest.mark.parametrize("name", list(PLAIN))
def test_ten_steps_equal_a_plain_lightly_loop_on_the_same_views(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[torch.Tensor]] = []
    start: dict[str, Any] = {}
    real = loop.views_of
    monkeypatch.setattr(loop, "views_of", lambda *a, **k: seen.append(real(*a, **k)) or seen[-1])
    monkeypatch.setattr(looks, "look", lambda training, step: None)

    def objective(backbone: nn.Module, dim: int, recipe: Recipe) -> Objective:
        made = SMALL[name].objective(backbone, dim, recipe)  # type: ignore[misc]
        start.update({key: value.clone() for key, value in made.state_dict().items()})
        return made

    # lightly freezes prototypes before clipping, the loop after it, as the DINO code does
    clip = 0.5 if name != "swav" else None
    recipe = SMALL[name].having(
        objective=objective,
        views=round(SMALL[name].views_an_image(64) * 80),
        lr=0.01,
        warmup=0.2,
        weight_decay=(0.1, 0.1),
        clip=clip,
    )
    pixels = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8)
    names = np.arange(40).astype(str)
    args = (pixels, np.arange(40), names, names, None, encoder, HALF, HALF, 64, [recipe])
    pretrain(*args, seed=0, folder=tmp_path, device="cpu")
    ours = [line["loss"] for line in json.loads((tmp_path / "history.json").read_text())["steps"]]

    plain = made(name)
    plain.load_state_dict(start)
    parts = plain.train().parts
    loss_of, cancel, after = PLAIN[name](parts)
    moving = [p for p in plain.parameters() if p.requires_grad]
    many, one = ([p for p in moving if (p.ndim > 1) == decays] for decays in (True, False))
    optimiser = torch.optim.AdamW(
        [{"params": many, "weight_decay": 0.1}, {"params": one, "weight_decay": 0}], lr=0.01
    )
    scheduler = CosineWarmupScheduler(optimiser, 2, 10, end_value=0.0)
    theirs = []
    for step, views in enumerate(seen):
        loss = loss_of(views, step)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in moving if p.grad is not None], clip or float("inf"))
        cancel(step)
        optimiser.step()
        scheduler.step()
        after(step)
        theirs.append(loss.item())
    assert len(ours) == len(theirs) == 10
    np.testing.assert_allclose(ours, theirs, rtol=2e-5)


def scaled(parameters: list[nn.Parameter], decay: float) -> None:
    """LARC without clipping, as main_swav.py has it.

    Each gradient, decay included, is a thousandth of its parameter's length; none is left out.
    """
    for p in parameters:
        if p.grad is None or not p.norm() or not p.grad.norm():
            continue
        rate = 0.001 * p.norm() / (p.grad.norm() + decay * p.norm() + 1e-8)
        p.grad.add_(p, alpha=decay).mul_(rate)


def swapped(
    parts: nn.ModuleDict, views: list[torch.Tensor], queue: list[torch.Tensor]
) -> torch.Tensor:
    """The loss of main_swav.py for a batch of 8; queue.

    The 16 newest embeddings of each large view, used once they are 16.
    """
    unit = nn.functional.normalize(parts["head"](crops_of(parts["backbone"], views)), dim=1).chunk(
        len(views)
    )
    weight = parts["prototypes"].weight
    scores = [z @ weight.T for z in unit]
    loss = torch.zeros(())
    for large in range(2):
        together = (
            torch.cat([queue[large] @ weight.T, scores[large]])
            if len(queue[large]) == 16
            else scores[large]
        )
        codes = torch.from_numpy(sinkhorn(together.detach().double().numpy())[-8:]).float()
        queue[large] = torch.cat([unit[large].detach(), queue[large]])[:16]
        others = [other for other in range(len(views)) if other != large]
        loss = (
            loss
            - sum((codes * (scores[o] / 0.1).log_softmax(1)).sum(1).mean() for o in others)
            / len(others)
            / 2
        )
    return loss


def without_bias() -> nn.Module:
    """`encoder` without the bias that the head's first norm takes away again.

    Its gradient is rounding alone, and LARC makes a step of it.
    """
    net = encoder()
    net[3].bias = None  # type: ignore[index]
    return net


def test_swav_on_paper_takes_the_steps_of_main_swav(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six steps at the peak rate: two with frozen prototypes, four with a full queue.

    Loss, and the weights at the end, norms among them.
    """
    seen: list[list[torch.Tensor]] = []
    start: dict[str, Any] = {}
    real = loop.views_of
    monkeypatch.setattr(loop, "views_of", lambda *a, **k: seen.append(real(*a, **k)) or seen[-1])
    monkeypatch.setattr(looks, "look", lambda training, step: None)
    (paper,) = SWAV.recipes("", "paper", 10_000, "task")  # type: ignore[misc]

    def objective(backbone: nn.Module, dim: int, recipe: Recipe) -> Objective:
        made = paper.objective(backbone, dim, recipe)
        start.update({key: value.clone() for key, value in made.state_dict().items()})
        return made

    hyper = {
        **paper.hyper,
        "hidden": 16,
        "width": 8,
        "prototypes": 12,
        "queue": 16,
        "frozen_until": 0.3,
    }
    views = round(paper.views_an_image(64) * 8 * 6)
    recipe = paper.having(
        objective=objective, hyper=hyper, batch=8, accumulate=1, views=views, final_lr=4.8
    )
    pixels = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8)
    names = np.arange(40).astype(str)
    args = (pixels, np.arange(40), names, names, None, without_bias, HALF, HALF, 64, [recipe])
    weights = torch.load(pretrain(*args, seed=0, folder=tmp_path, device="cpu"), weights_only=True)
    steps = json.loads((tmp_path / "history.json").read_text())["steps"]
    assert {line["lr"] for line in steps} == {4.8}

    plain = paper.objective(without_bias(), 10, recipe)
    plain.load_state_dict(start)
    parts, queue = plain.train().parts, [torch.zeros(0, 8)] * 2
    moving = list(plain.parameters())
    optimiser = torch.optim.SGD(moving, lr=4.8, momentum=0.9)
    theirs = []
    for step, views_ in enumerate(seen):
        with torch.no_grad():
            parts["prototypes"].weight.copy_(
                nn.functional.normalize(parts["prototypes"].weight, dim=1)
            )
        loss = swapped(parts, views_, queue)
        optimiser.zero_grad()
        loss.backward()
        if step < 2:
            parts["prototypes"].weight.grad = None
        with torch.no_grad():
            scaled(moving, 1e-6)
        optimiser.step()
        theirs.append(loss.item())
    assert len(theirs) == 6
    np.testing.assert_allclose([line["loss"] for line in steps], theirs, rtol=2e-5)
    for name, value in parts["backbone"].state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-6)


# -- numbers
# ---------------------------------------------------------------------------------------------------------------------------------


def rates(recipe: Recipe, steps: int) -> np.ndarray:
    """(steps, 2): learning rate, weight decay."""
    objective = Objective(
        {"backbone": nn.Linear(2, 2)}, lambda v, p: [], lambda o, p: torch.zeros(()), lambda b: 0.0
    )
    optimiser = make_optimiser(recipe, objective)
    return np.array(
        [
            (
                set_rates(optimiser, recipe, Position(s, steps)),
                optimiser.param_groups[0]["weight_decay"],
            )
            for s in range(steps)
        ]
    )


def test_simclr_on_paper() -> None:
    (recipe,) = SIMCLR.recipes("dermoscopy", "paper", 1000, "imagenet+task")  # type: ignore[misc]
    assert recipe.hyper == {"temperature": 0.1, "width": 128, "head_norm": True}
    assert (recipe.optimiser, recipe.momentum, recipe.batch, recipe.views) == (
        "lars",
        0.9,
        512,
        100 * 2 * 1000,
    )
    values = rates(recipe, 1000)
    # 0.3 for 256 images; warm-up is 10 of 100 epochs
    assert values[99, 0] == values[:, 0].max() == pytest.approx(0.6)
    assert values[-1, 0] == 0
    assert set(values[:, 1]) == {1e-6}


def test_swav_on_paper() -> None:
    (recipe,) = SWAV.recipes("", "paper", 10_000, "imagenet+task")  # type: ignore[misc]
    hyper = recipe.hyper
    assert (
        hyper["prototypes"],
        hyper["epsilon"],
        hyper["sinkhorn_iterations"],
        hyper["temperature"],
    ) == (3000, 0.05, 3, 0.1)
    assert (recipe.batch, hyper["width"]) == (4096, 128)
    assert recipe.scale_all and not any(
        method.recipes("", "paper", 100, "task")[0].scale_all for method in (SIMCLR, DINO)
    )  # type: ignore[misc]
    # images among which clusters are kept equal
    assert recipe.batch // recipe.accumulate + hyper["queue"] == 4096
    assert [(c.count, c.scale, c.pixels(224)) for c in recipe.crops] == [
        (2, (0.14, 1.0), 224),
        (6, (0.05, 0.14), 96),
    ]
    assert recipe.views == pytest.approx(800 * 10_000 * (2 + 6 * (96 / 224) ** 2), abs=1)
    values = rates(recipe, 8000)[:, 0]
    assert values[0] == pytest.approx(0.3 + (4.8 - 0.3) / 100)
    assert values[99] == values.max() == pytest.approx(4.8)  # 10 of 800 epochs
    assert values[-1] == pytest.approx(0.0048)


def test_dino_on_paper() -> None:
    """Nielsen et al. 2023 where their views fit, and elsewhere their schedules with DINO's
    views."""
    (recipe,) = DINO.recipes("cytology", "paper", 1000, "imagenet+task")  # type: ignore[misc]
    hyper = recipe.hyper
    assert [(c.count, c.scale, c.pixels(256)) for c in recipe.crops] == [
        (1, (0.5, 1), 256),
        (1, (0.5, 1), 256),
        (5, (0.1, 0.5), 96),
    ]
    assert (hyper["prototypes"], hyper["hidden"], hyper["width"], hyper["layers"]) == (
        65536,
        2048,
        256,
        4,
    )
    assert (hyper["momentum"], hyper["student_temperature"], hyper["centre_momentum"]) == (
        0.9995,
        0.1,
        0.9,
    )
    assert (recipe.batch, recipe.clip, recipe.clip_mode) == (256, 0.32, "agc")
    values = rates(recipe, 500)
    assert values[1, 0] == values[:, 0].max() == pytest.approx(0.0005)
    assert (values[0, 1], values[-1, 1]) == pytest.approx((0.04, 0.4))
    (elsewhere,) = DINO.recipes("x-ray", "paper", 1000, "imagenet+task")  # type: ignore[misc]
    assert [(c.count, c.scale) for c in elsewhere.crops] == [
        (1, (0.4, 1)),
        (1, (0.4, 1)),
        (8, (0.05, 0.4)),
    ]
    assert all(c.rotation == 45 and c.blur_p == 0 for c in elsewhere.crops)


LEARNING = [
    method
    for method in registry.methods().values()
    if method.recipes and method.name != "supervised-bn"
]


@pytest.mark.parametrize(
    "method",
    [method for method in LEARNING if method.name != "micle"],
    ids=lambda method: method.name,
)
def test_few_images_make_a_smaller_step_at_a_rate_in_proportion(method: Method) -> None:
    """The recipe says what the loop does: a row's settings are those of the training.

    Parts stay as large as the paper's batch has them.
    """
    assert method.recipes is not None
    (full,), (few,) = (method.recipes("", "paper", n, "task") for n in (10_000, 200))
    for name in ("lr", "final_lr", "warmup_lr"):
        assert getattr(few, name) / few.batch == pytest.approx(getattr(full, name) / full.batch)
    names = np.arange(200).astype(str)
    data = batches.Data(
        np.zeros((200, 8, 8, 3), np.uint8), np.arange(200), names, names, None, HALF, HALF, 8
    )
    (stage,) = loop.plan_stages(data, [few], checkpointing.DistributedContext(0, 1))
    assert stage.batch == few.batch == 190
    assert stage.batch / stage.parts >= min(190, full.batch // full.accumulate) / 2


def test_pairs_have_the_rate_of_the_batch_that_there_is() -> None:
    """1,600 images of 297 patients.

    Of 512 images a step at .6, patients allow 282 pairs, at .6 x 282 / 512. As settings and as
    steps.
    """
    groups = np.array([f"p{i % 297}" for i in range(1600)])
    single, paired = MICLE.recipes("dermoscopy", "paper", 1600, "task")  # type: ignore[misc]
    few = fitted(paired, groups, groups)
    most = len(set(groups[~batch_order.monitored_part(groups)]))
    assert (paired.batch, paired.lr) == (512, pytest.approx(0.6))
    assert (few.batch, few.lr) == (most // 2 * 2, pytest.approx(0.3 * few.batch / 256))
    assert (fitted(single, groups, groups), fitted(few, groups, groups)) == (single, few)
    data = batches.Data(
        np.zeros((1600, 8, 8, 3), np.uint8), np.arange(1600), groups, groups, None, HALF, HALF, 8
    )
    for asked in (paired, few):
        (stage,) = loop.plan_stages(data, [asked], checkpointing.DistributedContext(0, 1))
        assert (stage.batch, stage.parts, stage.recipe.lr) == (few.batch, few.accumulate, few.lr)
    names = np.array([f"p{i % 20}" for i in range(40)])
    quick = MICLE.recipes("dermoscopy", "quick", 40, "task")[1]  # type: ignore[misc]
    # of AdamW: ours, for every batch
    assert (fitted(quick, names, names).batch, fitted(quick, names, names).lr) == (20, quick.lr)
    many = np.arange(2000).astype(str)
    assert fitted(paired, many, many) == paired


@pytest.mark.parametrize("budget", ["quick", "standard", "paper"])
def test_micle_sees_no_more_than_simclr(budget: str) -> None:
    (whole,) = SIMCLR.recipes("dermoscopy", budget, 777, "imagenet+task")  # type: ignore[misc]
    first, second = MICLE.recipes("dermoscopy", budget, 777, "imagenet+task")  # type: ignore[misc]
    assert first.views + second.views <= whole.views
    assert (first.paired, second.paired) == (False, True)
    assert first.having(views=0) == whole.having(views=0) == second.having(views=0, paired=False)


def test_methods_see_equally_much() -> None:
    for budget in ("quick", "standard"):
        views = {
            sum(r.views for r in m.recipes("", budget, 500, "imagenet+task")) for m in LEARNING
        }  # type: ignore[misc]
        assert len(views) == 1
    assert sum(r.views for r in SIMCLR.recipes("", "quick", 9, "imagenet+task")) == QUICK_VIEWS  # type: ignore[misc]


@pytest.mark.parametrize(
    "method", [*LEARNING, registry.method("supervised-bn")], ids=lambda m: m.name
)
def test_settings_are_json_and_change_with_every_number(method: Any) -> None:
    texts = set()
    for budget in ("quick", "standard", "paper"):
        for recipe in method.recipes("dermoscopy", budget, 500, "imagenet+task"):
            for one in (
                recipe,
                recipe.having(lr=1.23),
                recipe.having(hyper={"a": 1}),
                recipe.having(crops=(Crop(7),)),
            ):
                texts.add(json.dumps(one.settings(), sort_keys=True, allow_nan=False))
    assert len(texts) >= 4
