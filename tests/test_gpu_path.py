"""What a GPU is asked to do, counted on one that is pretended.

No loop waits for it, and its numbers are the CPU's.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightly.loss import NTXentLoss, VICRegLoss
from lightly.utils.lars import LARS as LightlysLARS
from torch import nn

from medbench.images import augment, batching
from medbench.images.augment import fused
from medbench.models import encoders, features, logistic, neighbours
from medbench.models.finetune import MODERN
from medbench.models.finetune import loop as finetuning
from medbench.models.forward_pass import Division
from medbench.models.fusion import FusionRecipe, fit_predict
from medbench.models.fusion.draw_state import DrawState
from medbench.models.logistic import lbfgs, spaces
from medbench.models.pretrain import Position, checkpointing, looks, loop
from medbench.models.pretrain.lars import LARS
from medbench.protocols import finetune, knn, linear
from medbench.schema import Network, Train
from medbench.stats import splits
from medbench.system import transfer
from medbench.system.ahead import one_ahead
from tests.fakes.pretended_gpu import FUSED, Counts, OnGpu, pretended_gpu
from tests.fakes.pretraining import GROUPS, HALF, PIXELS, SMALL, plain_encoder, plain_vit, train

ENCODER = replace(encoders.encoder(encoders.EMBEDDED, 32), size=16, mean=HALF, std=HALF)
GPU = torch.device("cuda", 0)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class Pack:
    array = PIXELS

    def __len__(self) -> int:
        return len(PIXELS)


def steps_counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Counts]:
    """What each call of a function of `owner` asks of the pretended GPU that is there."""
    real, found = getattr(owner, name), []

    def counted(*args: Any, **kwargs: Any) -> Any:
        counts.clear()
        try:
            return real(*args, **kwargs)
        finally:
            kept = Counts()
            kept.of, kept.places = counts.of.copy(), counts.places.copy()
            found.append(kept)

    monkeypatch.setattr(owner, name, counted)
    counts = _there[-1]
    return found


_there: list[Counts] = []


@pytest.fixture
def gpu() -> Iterator[Counts]:
    with pretended_gpu() as counts:
        _there.append(counts)
        yield counts
        _there.pop()


# -- embedding
# -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_embedding_waits_for_nothing(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BATCH", 8)
    net, index = plain_encoder().eval(), np.arange(40)
    own = np.concatenate(
        list(features.forward(plain_encoder().eval(), Pack(), index, ENCODER, "cpu", precision))
    )
    with pretended_gpu() as counts:
        found = []
        for i, values in enumerate(
            features.forward(net, Pack(), index, ENCODER, "cuda", precision)
        ):
            found.append(values)
            if i == 0:
                counts.clear()
        assert counts.waits == 0, counts.told()
        assert counts.of["late"] == 4 and counts.of["bytes to the GPU"] <= 3 * 8 * 16 * 16 * 3
    assert np.array_equal(np.concatenate(found), own)


def test_autocast_rounds_the_weights_once_a_pass(
    gpu: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "BATCH", 8)
    kernels = []
    for values in features.forward(
        plain_encoder().eval(), Pack(), np.arange(32), ENCODER, "cuda", "bf16"
    ):
        kernels.append(gpu.of["kernels"])
        gpu.clear()
        assert values.dtype == np.float32
    # a convolution and a linear layer have two tensors each, which would be rounded once more
    assert kernels[1] == kernels[2] <= 13


def test_rows_that_are_computed_are_read_by_all_cores(
    gpu: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged images take milliseconds each, and a GPU takes thousands a second."""
    monkeypatch.setattr(batching, "cores", lambda: 5)
    together = threading.Barrier(5)

    class Damaged:
        shape, computed = PIXELS[:40].shape, True

        def __getitem__(self, index: np.ndarray) -> np.ndarray:
            together.wait(5)
            return 255 - PIXELS[index]

    found = [block.cpu() for block in batching.blocks(Damaged(), np.arange(40), 4, GPU)]
    assert torch.equal(torch.cat(found), torch.from_numpy(255 - PIXELS[:40]))


class Narrow(nn.Module):
    """Has memory for 16 images."""

    def __init__(self, fits: int = 16):
        super().__init__()
        self.fits, self.seen = fits, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(x))
        if len(x) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return x.mean((2, 3))


def test_a_batch_that_does_not_fit_is_halved_and_that_is_noted(tmp_path: Path) -> None:
    net = Narrow()
    made = features.extract_features(
        Pack(), lambda: net, ENCODER, "k", tmp_path, device="cpu", precision="fp32"
    )
    plain = np.concatenate(
        list(features.forward(Narrow(99), Pack(), np.arange(len(PIXELS)), ENCODER, "cpu", "fp32"))
    )
    np.testing.assert_allclose(made.array, plain, rtol=1e-5, atol=1e-6)
    # from the image at hand on, and never more again
    assert net.seen == [65, 33, 17, 9, 9, 9, 9, 9, 9, 9, 2]
    assert made.made_with is not None and made.made_with["images_at_a_time"] == 9
    other = features.extract_features(
        Pack(), lambda: Narrow(99), ENCODER, "o", tmp_path, device="cpu", precision="fp32"
    )
    assert other.made_with is not None and "images_at_a_time" not in other.made_with
    with pytest.raises(torch.OutOfMemoryError):
        list(features.forward(Narrow(0), Pack(), np.arange(8), ENCODER, "cpu", "fp32", Division()))


def test_rows_are_copied_once_whatever_their_order(tmp_path: Path) -> None:
    array = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3)
    for index in (np.arange(1, 4), np.array([3, 1, 1]), np.array([-1]), np.array([], int)):
        for device in ("cpu", "cuda"):
            with pretended_gpu():
                assert np.array_equal(
                    batching.rows_read(array, index, device == "cuda").numpy(), array[index]
                )


def test_small_tensors_travel_together(gpu: Counts) -> None:
    given = [
        torch.arange(5),
        torch.rand(2, 3),
        torch.tensor([True, False, True]),
        torch.empty(0),
        torch.rand(1, dtype=torch.float64),
    ]
    gpu.clear()
    there = transfer.sent(given, GPU)
    assert gpu.of["copies to the GPU"] == 1 and gpu.waits == 0, gpu.told()
    for one, other in zip(given, there, strict=True):
        assert (
            isinstance(other, OnGpu) and torch.equal(other.cpu(), one) and other.dtype == one.dtype
        )
    assert transfer.sent(given, torch.device("cpu"))[1] is given[1]


# -- views
# ---------------------------------------------------------------------------------------------------------------------------------

KINDS = {
    "simclr": augment.simclr_views(),
    "dino": augment.dino_views(),
    "nielsen2023": augment.nielsen2023_views(),
}
KINDS |= {"x-ray": augment.simclr_views("x-ray"), "finetune": augment.finetune_views("dermoscopy")}


# fused, of all views of a batch
KERNELS = {"simclr": 45, "dino": 140, "nielsen2023": 140, "x-ray": 20, "finetune": 35}
SLOW = ("simclr", "nielsen2023", "x-ray")


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in KINDS]
)
def test_views_of_a_gpu_take_one_copy_and_are_the_cpus(name: str, fuse: bool, gpu: Counts) -> None:
    crops, sources = KINDS[name], [torch.from_numpy(PIXELS[:6]), torch.from_numpy(PIXELS[6:12])]
    drawing = generator()
    drawn = [augment.draw_parameters(crop, 6, drawing) for crop in crops for _ in range(crop.count)]
    make = lambda images, fuse: augment.finished(
        images, drawn, crops, 32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), fuse=fuse
    )
    own, there = make(sources, False), [one.to("cuda") for one in sources]
    make(there, fuse)  # constants of the device
    gpu.clear()
    made = make(there, fuse)
    assert gpu.waits == 0 and gpu.of["copies to the GPU"] == 1, gpu.told()
    assert gpu.of["kernels"] <= (KERNELS[name] if fuse else 205 * len(crops))
    for one, other in zip(own, made, strict=True):
        assert other.is_contiguous(memory_format=torch.channels_last)
        apart = (one - other.cpu()).abs()
        # where two channels are nearly equal, hue may jump
        assert apart.mean() < 1e-5 and apart.flatten().quantile(0.999) < 1e-3


def test_fused_steps_are_the_plain_ones() -> None:
    """Each by itself, where rounding has not added up."""
    view = torch.rand(5, 3, 8, 8, generator=generator())
    crop = replace(augment.simclr_views()[0], jitter_p=1.0)
    from medbench.images.augment import colour, prepared

    given = prepared.prepared(augment.draw_parameters(crop, 5, generator()), crop, 8, 8)
    given |= prepared.masks(given, 5, 4)
    for step in range(4):
        plain = colour.blend(view, given[f"matrix {step}"], given[f"fade {step}"])
        for i, turn in zip(
            given.get(f"hue {step}", ()), given.get(f"turns {step}", ()), strict=True
        ):
            plain[i] = colour.shift_hue(plain[i : i + 1], turn[None])[0]
        made = fused.colour_step(
            view, given[f"matrix {step}"], given[f"fade {step}"], given[f"all turns {step}"]
        )
        torch.testing.assert_close(made, plain, atol=2e-5, rtol=0)
    chosen = torch.tensor([1.0, 0, 1, 0, 0])
    assert torch.equal(fused.gray_step(view, chosen)[1], view[1])
    torch.testing.assert_close(
        fused.gray_step(view, chosen)[0], colour.grayed(view[:1])[0].expand(3, 8, 8)
    )
    last = fused.last_step(view, chosen, torch.zeros(3), torch.ones(3))
    assert torch.equal(last[0], colour.solarised(view[0])) and torch.equal(last[1], view[1])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU by g++")
def test_fused_steps_compile_to_few_kernels_without_a_break() -> None:
    """As on a GPU, but by C++: each reduction ends a kernel.

    Batches of another size take the same ones.
    """
    from torch._inductor import metrics

    from medbench.images.augment import geometry, prepared

    crop = replace(augment.nielsen2023_views()[0], rotation_p=0.5)
    made, function_kernels = {}, {}
    for n in (6, 9):
        view = torch.rand(n, 3, 16, 16, generator=generator())
        given = prepared.prepared(augment.draw_parameters(crop, n, generator()), crop, 16, 16)
        given |= prepared.masks(given, n, 4)
        chosen, three = torch.ones(n), torch.rand(3)
        asked = {
            fused.colour_step: (view, given["matrix 0"], given["fade 0"], given["all turns 0"]),
            fused.gray_step: (view, chosen),
            fused.last_step: (view, chosen, three, three + 1),
            geometry.filters: (given["box"], given["flip"], 16, 16, "bicubic"),
            geometry.grid: (given["across"], given["down"], given["homography"]),
        }
        for function, arguments in asked.items():
            if function not in made:
                metrics.reset()
                made[function] = torch.compile(function, dynamic=True, fullgraph=True)
            found = made[function](*arguments)
            if n == 6:
                function_kernels[function.__name__] = metrics.generated_cpp_vec_kernel_count
            torch.testing.assert_close(found, function(*arguments), atol=1e-5, rtol=1e-4)
    assert function_kernels == {name: FUSED[name] for name in function_kernels}


# -- pretraining
# ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in ("swav", "dino") else pytest.mark.slow) for n in SMALL],
)
def test_a_step_of_a_pretraining_waits_for_nothing(
    name: str, tmp_path: Path, gpu: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = SMALL[name]
    monkeypatch.setattr(looks, "look", lambda training, step: None)
    steps = steps_counted(monkeypatch, loop, "_step")
    cost = recipe.batch * recipe.views_an_image(16)
    made = train(
        tmp_path,
        [
            recipe.having(
                views=int(4 * cost) + 1,
                clip=0.5,
                optimiser="lars" if name == "swav" else "adamw",
                lr=0.01,
            )
        ],
        plain_vit if name == "mae" else plain_encoder,
        device="cuda",
    )
    assert len(steps) == 4
    for counts in steps[1:]:
        assert counts.waits == 0, counts.told()
    # pixels, some read ahead, and what was drawn
    assert sum(counts.of["copies to the GPU"] for counts in steps) <= 2 * 4 + 2
    assert all(value.isfinite().all() for value in made.values() if value.is_floating_point())


def test_a_resumed_pretraining_waits_for_nothing(
    tmp_path: Path, gpu: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = SMALL["simclr"].having(views=24 * 16, lr=0.01)
    monkeypatch.setattr(looks, "look", lambda training, step: None)
    monkeypatch.setattr(checkpointing, "SAVE_EVERY", -1.0)
    real = loop._step

    def killed(training: Any, step: int, *args: Any) -> torch.Tensor:
        if step == 21:
            raise KeyboardInterrupt
        return real(training, step, *args)

    monkeypatch.setattr(checkpointing.CheckpointWriter, "due", lambda self: True)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, [recipe], device="cuda")
    steps = steps_counted(monkeypatch, loop, "_step")
    train(tmp_path, [recipe], device="cuda")
    assert len(steps) == 4  # of 24, a checkpoint after the 20th
    assert all(counts.waits == 0 for counts in steps[1:]), steps[-1].told()


@pytest.mark.parametrize("decay", [1e-2, 0.0])
def test_lars_takes_lightlys_steps_bit_for_bit(decay: float) -> None:
    nets = [plain_encoder().train(False) for _ in range(2)]
    for net in nets:
        net[0].bias.data.zero_()
    makers = (LARS, LightlysLARS)
    both = [
        make([{"params": list(net.parameters()), "weight_decay": decay}], lr=0.3, momentum=0.9)
        for make, net in zip(makers, nets, strict=True)
    ]
    for step in range(4):
        x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(step))
        for net, optimiser in zip(nets, both, strict=True):
            optimiser.zero_grad()
            net(x).square().sum().backward()
            net[4].bias.grad = None if step == 0 else torch.zeros_like(net[4].bias)
            optimiser.step()
    for one, other in zip(*(net.state_dict().values() for net in nets), strict=True):
        assert torch.equal(one, other)
    assert both[0].state_dict()["state"].keys() == both[1].state_dict()["state"].keys()


@pytest.mark.parametrize("name", ["simclr", "vicreg"])
def test_losses_are_lightlys_bit_for_bit(name: str) -> None:
    views = [torch.randn(8, 5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    made = SMALL[name].objective(plain_encoder(), 8, SMALL[name])  # type: ignore[misc]
    lightlys = (
        NTXentLoss(0.1, gather_distributed=True)
        if name == "simclr"
        else VICRegLoss(25.0, 25.0, 1.0)
    )
    answers = []
    for loss in (lambda a, b: made.criterion([a, b], Position(0, 1)), lightlys):
        given = [view.clone().requires_grad_() for view in views]
        value = loss(*given)
        value.backward()
        answers.append([value.detach(), *(one.grad for one in given)])
    for one, other in zip(*answers, strict=True):
        assert torch.equal(one, other)


# -- fine-tuning
# ---------------------------------------------------------------------------------------------------------------------------


def fine_tuned(device: str, folder: Path, kind: Any = "multiclass") -> np.ndarray:
    rng = np.random.default_rng(0)
    labels = (
        rng.integers(0, 3, 60)
        if kind == "multiclass"
        else (rng.random((60, 3)) < 0.4).astype(float)
    )
    network = Network(plain_encoder, None, 16, HALF, HALF, "dermoscopy", "fp32")
    given = Train(
        PIXELS[5:], labels, GROUPS, kind, 3, device, seeds=[0], folders=[folder], network=network
    )
    recipe = replace(MODERN, steps=5, epochs=0.1, rates=(1e-3,), evaluations=1)
    (answer,) = finetune.evaluate(given, {"t": PIXELS[:20]}, [np.arange(60)], recipe=recipe)
    return answer["t"].probabilities


@pytest.mark.parametrize(
    ("kind", "memory"),
    [("multiclass", 1), pytest.param("multilabel", 140 << 30, marks=pytest.mark.slow)],
)
def test_a_step_of_a_fine_tuning_waits_for_nothing(
    kind: str, memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = fine_tuned("cpu", tmp_path / "cpu", kind)
    solved = []
    learn = linear.learn
    monkeypatch.setattr(linear, "learn", lambda x, *args: solved.append(x) or learn(x, *args))
    with pretended_gpu(memory) as counts:
        _there.append(counts)
        steps = steps_counted(monkeypatch, finetuning.FineTuning, "_step")
        found = fine_tuned("cuda", tmp_path / "cuda", kind)
        _there.pop()
    # the probe that training starts from is solved where the features are
    assert isinstance(solved[0], OnGpu)
    assert len(steps) == 5
    for one in steps[1:]:
        assert one.waits == 0, one.told()
        assert one.of["copies to the GPU"] <= 3
    np.testing.assert_allclose(found, own, atol=1e-3)


# -- probes
# --------------------------------------------------------------------------------------------------------------------------------


def task(kind: str, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 24)).astype(np.float32)
    if kind == "multilabel":
        return x, (x[:, :3] + rng.normal(size=(n, 3)) > 0.5).astype(float)
    y = rng.integers(0, 3, n)
    x[np.arange(n), y] += 1.5
    return x, y


@pytest.mark.parametrize("kind", ["multiclass", pytest.param("multilabel", marks=pytest.mark.slow)])
def test_an_iteration_of_the_solver_waits_for_nothing(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = task(kind)
    given = lambda device: Train(x, y, np.arange(120).astype(str), kind, 3, device)  # type: ignore[arg-type]
    (own,) = linear.evaluate(given("cpu"), {"t": x}, [np.arange(60)])
    monkeypatch.setitem(logistic.TOGETHER, "cuda", 1)
    with pretended_gpu() as counts:
        _there.append(counts)
        steps = steps_counted(monkeypatch, lbfgs, "_advance")
        (found,) = linear.evaluate(given("cuda"), {"t": x}, [np.arange(60)])
        _there.pop()
    assert len(steps) > 30
    for one in steps[1:]:  # the first makes constants of the device
        assert one.waits == 0, one.told()
    assert own["t"].chosen["penalty"] == found["t"].chosen["penalty"]
    np.testing.assert_allclose(found["t"].probabilities, own["t"].probabilities, atol=2e-6)


@pytest.mark.parametrize("look", [3, pytest.param(64, marks=pytest.mark.slow)])
def test_members_that_end_between_two_looks_keep_their_solutions(
    look: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU is asked every few iterations.

    Who has converged before stays where it was, in the coordinates of that time.
    """
    x, y = (torch.from_numpy(one) for one in task("multiclass"))
    values = torch.nn.functional.one_hot(y, 3).T[None].double()
    penalties, parts = (
        torch.tensor([1e-2, 1.0, 30.0], dtype=torch.float64),
        [torch.arange(70), torch.arange(40, 120)],
    )
    monkeypatch.setattr(lbfgs, "LOOK", look)
    solve = lambda device: logistic.fit(
        x.to(device),
        logistic.ClassTargets(
            values.to(device), torch.ones_like(values[:, :1]).to(device), softmax=True
        ),
        penalties.to(device),
        [part.to(device) for part in parts],
    )
    own = solve("cpu")
    with pretended_gpu():
        found = solve("cuda")
        assert torch.equal(found.iterations.cpu(), own.iterations)
        torch.testing.assert_close(found.weight.cpu(), own.weight, atol=1e-9, rtol=1e-9)
        assert float(found.gradient.max()) <= 1e-7


@pytest.mark.parametrize("framed", [0, 3])
def test_many_images_are_rotated_in_blocks(framed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.from_numpy(task("multiclass")[0])
    x[:, 5] = 7.0
    basis = spaces.eigenbasis(x, 1e-6)
    whole = spaces.rotate(x, torch.float64, 1e-6, basis, framed)
    monkeypatch.setattr(spaces, "LARGE", 0)
    monkeypatch.setattr(spaces, "BLOCK", 7 * 24)
    torch.testing.assert_close(spaces.eigenbasis(x, 1e-6).abs(), basis.abs(), atol=1e-4, rtol=0)
    parts = spaces.rotate(x, torch.float64, 1e-6, basis, framed)
    for name in ("given", "sample", "spread", "mean", "scale"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("twins", [False, True])
@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_neighbours_found_in_float32_are_those_of_float64(kind: str, twins: bool) -> None:
    """Where rounding could hide one, as among copies, all are compared in float64."""
    x, y = task(kind)
    if twins:
        x[:] = x[np.arange(120) // 60]
    names = np.arange(120).astype(str)
    answers = []
    for device in ("cpu", "cuda"):
        with pretended_gpu():
            answers += knn.knn(Train(x, y, names, kind, 3, device), {"t": x[:30]}, [np.arange(120)])  # type: ignore[arg-type]
    own, found = (answer["t"] for answer in answers)
    assert own.chosen["k"] == found.chosen["k"]
    np.testing.assert_allclose(found.probabilities, own.probabilities, atol=1e-6)


def test_a_choice_among_many_k_waits_no_more_often_than_among_few(gpu: Counts) -> None:
    """Features are sent twice, fetched are the losses, the votes at the best k, and the targets'."""
    for n in (120, 400):
        x, y = task("multiclass", n)
        given = Train(x, y, np.arange(n).astype(str), "multiclass", 3, "cuda")
        gpu.clear()
        (answer,) = knn.knn(given, {"t": x[:9]}, [np.arange(n)])
        assert gpu.waits == 7, gpu.told()
    assert answer["t"].chosen["rule"] != splits.UNDIVIDED


def test_few_neighbours_are_compared_in_float64(gpu: Counts) -> None:
    images = torch.nn.functional.normalize(
        torch.randn(500, 16, dtype=torch.float64, generator=generator()), dim=1
    ).to("cuda")
    barred = (torch.arange(500)[:40, None] == torch.arange(500)).to("cuda")
    found = neighbours._nearest_of_few(images[:40], images, 5, barred)
    assert found is not None and not (found[1].cpu()[:, :5] == torch.arange(40)[:, None]).any()
    near, who = torch.where(barred.cpu(), -torch.inf, images[:40].cpu() @ images.cpu().T).topk(5)
    assert torch.equal(found[1].cpu()[:, :5], who)
    torch.testing.assert_close(found[0].cpu()[:, :5], near, atol=1e-12, rtol=0)


# -- fusion
# --------------------------------------------------------------------------------------------------------------------------------


def test_batches_of_a_fused_head_wait_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """But at a check, whose answer says whether there is another batch."""
    x, y = task("multiclass", 200)
    recipe = FusionRecipe("short", epochs=2, rates=(1e-3,))
    waits: list[int] = []
    real = DrawState.next_batch

    def noted(state: DrawState) -> torch.Tensor:
        waits.append(counts.waits)
        return real(state)

    monkeypatch.setattr(DrawState, "next_batch", noted)
    answers = []
    for device in ("cpu", "cuda"):
        waits.clear()
        with pretended_gpu() as counts:
            data = ([x, x[:, :9]], y, np.arange(200).astype(str), "multiclass", 3)
            ((answer, _),) = fit_predict(
                *data,
                {"t": [x, x[:, :9]]},
                [np.arange(200)],
                [0],
                tokens="none",
                device=device,
                recipe=recipe,
            )
        answers.append(answer["t"])
    between = np.diff(waits)
    assert len(between) >= 5 and (between > 0).sum() == 1 < answers[1].chosen["checks"] + 1
    np.testing.assert_allclose(answers[1].probabilities, answers[0].probabilities, atol=1e-6)


# -- scoring
# -------------------------------------------------------------------------------------------------------------------------------


def test_the_next_draw_is_solved_while_one_is_scored() -> None:
    began = [threading.Event() for _ in range(4)]

    def solving() -> Iterator[int]:
        for i in range(3):
            began[i].set()
            yield i
        raise ValueError("the fourth")

    items = one_ahead(solving())
    for i in range(3):
        assert next(items) == i
        assert began[min(i + 1, 2)].wait(5)  # without being asked for
    with pytest.raises(ValueError, match="the fourth"):
        next(items)
    before = threading.active_count()
    items = one_ahead(iter(range(9)))
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    time.sleep(0.01)
    assert threading.active_count() == before
