"""What only happens on a GPU, held against the CPU: pytest -m gpu -n 0 -W default.

MEDBENCH_TEST_DEVICE=cpu tries the tests themselves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from medbench.images import augment, batches
from medbench.images.augment import fused
from medbench.methods.dino import DINO
from medbench.methods.micle import MICLE
from medbench.methods.simclr import SIMCLR
from medbench.methods.supervised_adapted_bn import SUPERVISED_BN
from medbench.methods.swav import SWAV
from medbench.models import encoders, features, pretrain
from medbench.models.finetune import MODERN, NIELSEN2023, TRUONG2021, FineTuneRecipe
from medbench.models.finetune import loop as finetuning
from medbench.models.fusion import FusionRecipe, fit_predict
from medbench.models.logistic import spectrum
from medbench.models.pretrain import Recipe, checkpointing
from medbench.protocols import finetune, knn, linear
from medbench.run import execution
from medbench.schema import Grid, Network, Progress, Train
from medbench.system.progress_listener import listening

pytestmark = pytest.mark.gpu
DEVICE = os.environ.get("MEDBENCH_TEST_DEVICE", "cuda")
HALF = (0.5,) * 3
SIZE, N = 32, 240
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 255, (N, 8, 8, 3), np.uint8).repeat(4, 1).repeat(4, 2)
GROUPS = np.repeat(np.arange(N // 2), 2).astype(str)
CLASSES = RNG.integers(0, 3, N)
LABELS = (RNG.random((N, 3)) < 0.4).astype(float)
ENCODER = replace(encoders.encoder(encoders.EMBEDDED, SIZE), mean=HALF, std=HALF)


@pytest.fixture(autouse=True)
def _there() -> None:
    if DEVICE != "cpu" and not torch.cuda.is_available():
        pytest.skip("no GPU")


class Pack:
    array = PIXELS

    def __len__(self) -> int:
        return N


def build() -> torch.nn.Module:
    """With norms that let a residual network's blocks through.

    Drawn at random, its last ones are zero.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net: torch.nn.Module = timm.create_model("test_resnet", num_classes=0).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(
                module.weight, 0.5, 1.0, generator=torch.Generator().manual_seed(1)
            )
    return net


def stopping_at(share: float) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if 0.98 * progress.total > progress.done >= share * progress.total:
            raise KeyboardInterrupt

    return stop


# -- embedding
# -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "off"), [("fp32", 2e-5), ("tf32", 5e-3), ("bf16", 3e-2)])
def test_features_are_the_cpus(precision: str, off: float) -> None:
    if DEVICE == "cpu" and precision == "tf32":
        pytest.skip("a CPU rounds nothing")
    embed = lambda device, how: np.concatenate(
        list(features.forward(build(), Pack(), np.arange(N), ENCODER, device, how))
    )
    own, there = embed("cpu", "fp32"), embed(DEVICE, precision)
    error = np.linalg.norm(own - there) / np.linalg.norm(own)
    print(f"\n{precision}: {error:.1e}")
    assert error < off


def test_a_killed_embedding_goes_on(tmp_path: Path) -> None:
    given: Any = (Pack(), build, ENCODER)
    whole = features.extract_features(*given, "a", tmp_path, device=DEVICE, precision="fp32").array
    with pytest.raises(KeyboardInterrupt), listening(stopping_at(features.BATCH / N)):
        features.extract_features(*given, "b", tmp_path, device=DEVICE, precision="fp32")
    again = features.extract_features(*given, "b", tmp_path, device=DEVICE, precision="fp32").array
    np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_halved() -> None:
    class Greedy(torch.nn.Module):
        """Asks for more than the GPU has, but for few images."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 40:
                torch.empty(1 << 50, dtype=torch.uint8, device=x.device)
            return x.mean((2, 3))

    found = np.concatenate(
        list(features.forward(Greedy(), Pack(), np.arange(N), ENCODER, DEVICE, "fp32"))
    )
    want = (PIXELS.astype(np.float64).mean((1, 2)) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(found, want, atol=1e-4)


@pytest.mark.parametrize("index", [np.arange(N), RNG.permutation(N)], ids=["in order", "at random"])
def test_readers_are_ready_on_the_device(index: np.ndarray) -> None:
    """Many small batches, each of which would show a buffer that was written too soon."""
    found = torch.cat([batch.cpu() for batch in batches(Pack(), index, 8, DEVICE, HALF, HALF)])
    want = (torch.from_numpy(PIXELS[index]).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)


# -- probes
# --------------------------------------------------------------------------------------------------------------------------------


def task(
    kind: str, n: int = 700, d: int = 96, c: int = 7
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, d)).astype(np.float32)
    groups = np.arange(n).astype(str)
    if kind == "multilabel":
        y = (x[:, :c] + rng.normal(size=(n, c)) > 1).astype(float)
        y[rng.random((n, c)) < 0.05] = np.nan
        return x, y, groups, c
    c = 2 if kind == "binary" else c
    labels = rng.integers(0, c, n)
    x[np.arange(n), labels] += 1.5
    return x, labels, groups, c


@pytest.mark.parametrize("kind", ["multiclass", "binary", "multilabel", "ordinal"])
@pytest.mark.parametrize("protocol", [linear.evaluate, knn.knn])
def test_probes_are_the_cpus(protocol: Any, kind: Any) -> None:
    x, y, groups, c = task(kind)
    draws = [np.arange(40), np.arange(100, 160), np.arange(300), np.arange(700)]
    answers = [
        list(protocol(Train(x, y, groups, kind, c, device), {"t": x}, draws))
        for device in ("cpu", DEVICE)
    ]
    for one, other in zip(*answers, strict=True):
        choice = lambda scores: {
            name: value for name, value in scores.chosen.items() if name in ("penalty", "k")
        }
        assert choice(one["t"]) == choice(other["t"])
        np.testing.assert_allclose(
            other["t"].probabilities, one["t"].probabilities, rtol=0, atol=2e-6
        )


def test_many_draws_of_many_labels() -> None:
    """cuSOLVER's batched eigensolver refuses more than some 32,000 matrices
    (mujocolab/mjlab#732)."""
    x, y, groups, c = task("multilabel", 400, 64, 14)
    draws = [np.sort(np.random.default_rng(seed).permutation(400)[:40]) for seed in range(20)]
    assert (
        len(
            list(
                linear.evaluate(Train(x, y, groups, "multilabel", c, DEVICE), {"t": x[:10]}, draws)
            )
        )
        == 20
    )


@pytest.mark.parametrize(("n", "many"), [(1, 40_000), (7, 20_000), (64, 40), (560, 1)])
def test_bases_are_orthonormal(n: int, many: int) -> None:
    x = torch.randn(
        many, n, n + 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).to(DEVICE)
    given = x @ x.mT
    values, basis = spectrum.eigh(given)
    one = torch.eye(n, dtype=torch.float64, device=DEVICE)
    assert float((basis.mT @ basis - one).abs().max()) < spectrum.ORTHONORMAL
    torch.testing.assert_close((basis * values[:, None]) @ basis.mT, given, atol=1e-8, rtol=1e-8)


# -- views and training
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("modality", ["dermoscopy", "x-ray"])
@pytest.mark.parametrize("name", ["simclr", "swav", "dino", "finetune", "nielsen2023"])
def test_views_are_the_cpus(name: str, modality: str, fuse: bool) -> None:
    crops = (
        augment.nielsen2023_views()
        if name == "nielsen2023"
        else getattr(augment, f"{name}_views")(modality)
    )
    drawing = torch.Generator().manual_seed(0)
    drawn = [
        augment.draw_parameters(crop, 32, drawing) for crop in crops for _ in range(crop.count)
    ]
    images = torch.from_numpy(PIXELS[:32])
    own, there = (
        augment.finished([images.to(device)], drawn, crops, 64, HALF, HALF, fuse=fuse)
        for device in ("cpu", DEVICE)
    )
    for one, other in zip(own, there, strict=True):
        apart = (one - other.cpu()).abs()
        # where two channels are nearly equal, hue may jump
        assert apart.mean() < 1e-5 and apart.flatten()[::7].quantile(0.999) < 1e-3


def test_kernels_are_fused() -> None:
    if DEVICE == "cpu":
        pytest.skip("a CPU's views are made one operation after the other")
    assert fused.can_fuse(torch.device(DEVICE, 0))


def recipes(method: Any, budget: str = "quick", steps: int = 12) -> list[Recipe]:
    found = []
    for recipe in method.recipes("dermoscopy", budget, N, "imagenet+task"):
        if recipe.objective is not None:
            hyper = dict(recipe.hyper)
            if "prototypes" in hyper:
                hyper |= {
                    "prototypes": 64,
                    "hidden": 64,
                    **({"queue": 32} if "queue" in hyper else {}),
                }
            views = round(steps * 32 * recipe.views_an_image(SIZE))
            recipe = recipe.having(
                batch=32, accumulate=min(recipe.accumulate, 2), views=views, hyper=hyper
            )
        found.append(recipe)
    return found


def train(
    folder: Path, given: list[Recipe], device: str = DEVICE, precision: str = "fp32"
) -> list[float]:
    data = (PIXELS, np.arange(N), GROUPS, GROUPS, CLASSES, build, HALF, HALF, SIZE, given)
    pretrain.pretrain(*data, seed=0, folder=folder, device=device, precision=precision)
    steps = json.loads((folder / "history.json").read_text())["steps"]
    return [step["loss"] for step in steps if step.get("loss") is not None]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("budget", ["quick", "paper"])
@pytest.mark.parametrize("method", [SIMCLR, SWAV, DINO, MICLE, SUPERVISED_BN], ids=lambda m: m.name)
def test_each_method_trains(method: Any, budget: str, precision: str, tmp_path: Path) -> None:
    losses = train(tmp_path / "a", recipes(method, budget), precision=precision)
    assert np.isfinite(losses).all()
    weights = torch.load(tmp_path / "a" / "weights.pth", weights_only=True)
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())
    build().load_state_dict(weights)


def test_a_killed_pretraining_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing.CheckpointWriter, "due", lambda self: True)
    given = recipes(DINO, steps=60)
    whole = train(tmp_path / "a", given)
    with pytest.raises(KeyboardInterrupt), listening(stopping_at(0.5)):
        train(tmp_path / "b", given)
    # a GPU adds in no fixed order
    np.testing.assert_allclose(train(tmp_path / "b", given)[-1], whole[-1], rtol=2e-2)


def one_of_two(rank: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    for name, method in (("simclr", SIMCLR), ("swav", SWAV), ("dino", DINO)):
        train(
            Path(folder, name),
            [r.having(freeze_norm=False) for r in recipes(method)],
            device="cuda:0",
        )
    torch.distributed.destroy_process_group()


def test_two_processes_on_one_gpu_have_the_loss_of_one(tmp_path: Path) -> None:
    """NCCL wants a GPU a process.

    Gloo carries CUDA tensors too: synchronised norms, gathers, centre and queue, with batch norm in
    training.
    """
    if DEVICE == "cpu":
        pytest.skip("norms are synchronised on GPUs alone")
    two = tmp_path / "two"
    two.mkdir()
    torch.multiprocessing.spawn(one_of_two, (str(two),), nprocs=2)
    for name, method in (("simclr", SIMCLR), ("swav", SWAV), ("dino", DINO)):
        alone = train(tmp_path / name, [r.having(freeze_norm=False) for r in recipes(method)])
        steps = json.loads((two / name / "history.json").read_text())["steps"]
        np.testing.assert_allclose(
            [s["loss"] for s in steps if s.get("loss") is not None], alone, rtol=2e-2
        )


def fit(
    folder: Path, recipe: FineTuneRecipe, kind: Any = "multiclass", precision: str = "fp32"
) -> np.ndarray:
    network = Network(build, None, SIZE, HALF, HALF, "dermoscopy", precision)
    given = Train(
        PIXELS,
        CLASSES if kind == "multiclass" else LABELS,
        GROUPS,
        kind,
        3,
        DEVICE,
        seeds=[0],
        folders=[folder],
        network=network,
    )
    (answer,) = finetune.evaluate(given, {"t": PIXELS[:60]}, [np.arange(N)], recipe=recipe)
    return answer["t"].probabilities


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
@pytest.mark.parametrize("recipe", [MODERN, TRUONG2021, NIELSEN2023], ids=lambda r: r.name)
def test_each_fine_tuning_trains(
    recipe: FineTuneRecipe, kind: str, precision: str, tmp_path: Path
) -> None:
    assert np.isfinite(
        fit(tmp_path, replace(recipe, steps=10, epochs=0.1, evaluations=2), kind, precision)
    ).all()


def test_a_killed_fine_tuning_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "EVERY", -1.0)
    recipe = replace(MODERN, steps=12, epochs=0.1, rates=(1e-4,))
    whole = fit(tmp_path / "a", recipe)
    with pytest.raises(KeyboardInterrupt), listening(stopping_at(0.5)):
        fit(tmp_path / "b", recipe)
    np.testing.assert_allclose(fit(tmp_path / "b", recipe), whole, atol=2e-2)


@pytest.mark.parametrize("tokens", ["source", "scalar", "none"])
def test_fusions_are_the_cpus(tokens: Any) -> None:
    rng = np.random.default_rng(2)
    sources = [rng.normal(size=(N, d)).astype(np.float32) for d in (40, 64)]
    short = FusionRecipe("short", epochs=3, rates=(1e-3,))
    data = (sources, CLASSES, GROUPS, "multiclass", 3, {"t": sources}, [np.arange(N)], [0])
    own, there = (
        next(iter(fit_predict(*data, tokens=tokens, device=device, recipe=short)))
        for device in ("cpu", DEVICE)
    )
    np.testing.assert_allclose(there[0]["t"].probabilities, own[0]["t"].probabilities, atol=5e-3)


def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr("medbench.schema.methods.QUICK_VIEWS", 1_000)
    grid = Grid(
        tasks=("derm",), data="phantom", labels=("5/class", "100"), seeds=2, size=32, precision="bf16", protocols=("linear", "knn"),
        methods=("random", "supervised", "simclr", "swav", "supervised-bn", "concat"), corruptions=("blur",), levels=("3",), audit=False,
    )  # fmt: skip
    store = execution.run(grid, tmp_path / "r", device=DEVICE)
    assert store.failures() == {}
    row = next(iter(store.rows().values()))
    assert DEVICE == "cpu" or row.cost["peak_gpu_memory_mb"] > 0
    fusing = replace(grid, methods=("dvme", "dvme-concat"), protocols=("linear",))
    assert execution.run(fusing, tmp_path / "r", device=DEVICE).failures() == {}
