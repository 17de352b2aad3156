"""The pretraining loop: batches, pairs, resuming, several processes, collapse, what it leaves on
disk."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from fakes.pretraining import (
    BAGS,
    DINO_HYPER,
    GROUPS,
    HALF,
    INDEX,
    MULTI,
    NAMED,
    PIXELS,
    SMALL,
    N,
    plain_encoder,
    plain_vit,
    small,
    train,
    without_norm,
)
from torch import nn

from medbench.images import augment
from medbench.images.augment import Crop
from medbench.methods.dino import DINO
from medbench.methods.micle import MICLE
from medbench.methods.simclr import SIMCLR
from medbench.methods.supervised_adapted_bn import SUPERVISED_BN
from medbench.models import checkpoints, encoders, pretrain, weights
from medbench.models.pretrain import Position, Recipe, batch_order, batches, checkpointing, monitor
from medbench.models.pretrain.objective import Objective, fit_sizes
from medbench.schema import Encoder, Progress, Split, UserError
from medbench.system import process_group
from medbench.system.progress_listener import listening


def history(folder: Path) -> list[dict[str, Any]]:
    """Without times."""
    return [
        {k: v for k, v in line.items() if k != "seconds"}
        for line in json.loads((folder / "history.json").read_text())["steps"]
    ]


# -- batches and pairs
# -----------------------------------------------------------------------------------------------------------------------


def test_an_epoch_shows_each_image_once() -> None:
    table = batch_order.epoch(BAGS, GROUPS, 8, np.random.default_rng(0), paired=False)
    assert table.shape == (7, 8, 2)
    assert np.array_equal(table[..., 0], table[..., 1])
    assert len(np.unique(table[..., 0])) == 56


def test_pairs_come_from_two_images_of_one_bag_and_never_two_bags_of_a_group() -> None:
    rng = np.random.default_rng(0)
    bags = rng.integers(0, 120, 300).astype(str)  # of 1 to 7 images
    group_of = {bag: f"g{rng.integers(0, 50)}" for bag in np.unique(bags)}
    groups = np.array([group_of[bag] for bag in bags])
    size = Counter(bags)
    often: Counter[str] = Counter()
    for seed in range(20):
        table = batch_order.epoch(bags, groups, 16, np.random.default_rng(seed), paired=True)
        assert len(table) >= 3
        drawn = bags[table[..., 0]].ravel()
        assert len(np.unique(drawn)) == drawn.size  # each bag at most once an epoch
        often.update(drawn)
        for batch in table:
            assert len(set(groups[batch[:, 0]])) == 16
            for one, other in batch:
                assert bags[one] == bags[other] and one != other
    assert set(often) == {bag for bag in size if size[bag] > 1}  # none of them is always left out


def test_bags_of_one_image_come_in_only_where_the_others_fill_no_batch() -> None:
    """30 bags of two images and 70 of one, each of a group of its own."""
    bags = np.array([f"b{i}" for i in [*range(30), *range(100)]])
    for batch, share in ((30, 1.0), (31, None)):
        table = np.concatenate(
            [
                batch_order.epoch(bags, bags, batch, np.random.default_rng(seed), paired=True)
                for seed in range(40)
            ]
        )
        two = float((table[..., 0] != table[..., 1]).mean())
        assert two == share if share else two == pytest.approx(0.3, abs=0.03)


def test_all_pairs_of_a_bag_occur() -> None:
    seen = {
        tuple(
            batch_order.epoch(
                np.array(["a"] * 3), np.array(["a"] * 3), 1, np.random.default_rng(s), paired=True
            )[0, 0]
        )
        for s in range(60)
    }
    assert seen == {(i, j) for i in range(3) for j in range(3) if i != j}


def test_held_out_are_whole_groups_of_about_five_percent() -> None:
    groups = np.random.default_rng(1).integers(0, 300, 1000).astype(str)
    out = batch_order.monitored_part(groups)
    assert 0.03 * 1000 < out.sum() <= 50
    assert not set(groups[out]) & set(groups[~out])
    assert not batch_order.monitored_part(groups[:100]).any()


@pytest.mark.parametrize("paired", [False, True])
def test_views_of_shares_are_the_views_of_the_whole(paired: bool) -> None:
    data = batches.Data(PIXELS, INDEX, BAGS, GROUPS, None, HALF, HALF, 16)
    pairs = np.stack([np.arange(0, 16, 2), np.arange(1, 17, 2)], 1)
    generator = torch.Generator().manual_seed(3)
    crops = augment.simclr_views() if paired else MULTI
    whole = batches.views_of(data, crops, pairs, slice(0, 8), "cpu", generator, paired=paired)
    if not paired:
        images = torch.from_numpy(PIXELS[INDEX[pairs[:, 0]]])
        for one, other in zip(
            whole,
            augment.views(images, crops, 16, HALF, HALF, torch.Generator().manual_seed(3)),
            strict=True,
        ):
            assert torch.equal(one, other)
    for part in (slice(0, 3), slice(3, 8)):
        mine = batches.views_of(
            data, crops, pairs, part, "cpu", torch.Generator().manual_seed(3), paired=paired
        )
        for one, other in zip(mine, whole, strict=True):
            torch.testing.assert_close(one, other[part])


def test_a_pair_gives_one_view_of_each_image() -> None:
    """Views that change nothing.

    The first is the first image, the second the second, and rows of `index` are what is read.
    """
    data = batches.Data(PIXELS, INDEX, BAGS, GROUPS, None, (0.0,) * 3, (1.0,) * 3, 16)
    still = (Crop(2, scale=(1, 1), ratio=(1, 1), flip=0),)
    made = batches.views_of(
        data, still, np.array([[0, 1], [7, 7]]), slice(0, 2), "cpu", torch.Generator(), paired=True
    )
    for view, rows in zip(made, ([5, 12], [6, 12]), strict=True):
        np.testing.assert_allclose(
            view.permute(0, 2, 3, 1).mul(255).numpy(), PIXELS[rows], atol=0.01
        )


# -- resuming
# --------------------------------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def built(name: str) -> Callable[[], nn.Module]:
    return plain_vit if name == "mae" else plain_encoder


@pytest.mark.parametrize("name", ["micle", "swav", "dino", *NAMED])
def test_a_killed_pretraining_goes_on_with_the_same_trajectory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = (
        [small("simclr"), small("simclr", paired=True)]
        if name == "micle"
        else [small(name, steps=8, accumulate=2)]
    )
    whole = train(tmp_path / "whole", recipes, built(name))
    calls: list[int] = []
    monkeypatch.setattr(checkpointing.CheckpointWriter, "due", lambda self: len(calls) % 3 == 1)

    def stop(progress: Progress) -> None:
        assert progress.unit == "views" and progress.detail.startswith("loss ")
        calls.append(progress.done)
        if len(calls) in (2, 5, 6, 9):
            raise Killed

    for _ in range(4):
        with pytest.raises(Killed), listening(stop):
            train(tmp_path / "killed", recipes, built(name))
    assert (tmp_path / "killed" / "checkpoint.pth").exists()
    with listening(stop):
        resumed = train(tmp_path / "killed", recipes, built(name))
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    assert not (tmp_path / "killed" / "checkpoint.pth").exists()


def test_a_finished_one_is_returned_at_once_and_torch_s_generator_is_untouched(
    tmp_path: Path,
) -> None:
    before = torch.random.get_rng_state()
    first = train(tmp_path, [small("simclr")])
    assert torch.equal(before, torch.random.get_rng_state())
    seen = torch.initial_seed()

    def never() -> nn.Module:
        raise AssertionError("built again")

    again = train(tmp_path, [small("simclr")], never)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert seen == torch.initial_seed()


def test_another_seed_is_another_training(tmp_path: Path) -> None:
    one, same, other = (
        train(tmp_path / str(i), [small("simclr")], seed=seed) for i, seed in enumerate((0, 0, 1))
    )
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    assert not torch.equal(one["4.weight"], other["4.weight"])


# -- several processes
# -----------------------------------------------------------------------------------------------------------------------


def quiet_encoder() -> nn.Module:
    """Without dropout, whose draws differ from process to process."""
    return nn.Sequential(*list(plain_encoder())[:-1])


def shared_recipes() -> dict[str, list[Recipe]]:
    paired = small("simclr", steps=5, paired=True, clip=1.0)
    return {
        "micle": [small("simclr", steps=5), paired],
        "swav": [small("swav", steps=8, accumulate=2).having(objective=without_norm("swav"))],
        "dino": [small("dino", steps=6)],
        **{
            name: [
                small(name, steps=5, accumulate=2).having(objective=without_norm(name), lr=0.005)
            ]
            for name in NAMED
        },
    }


def one_of_two(rank: int, folder: str) -> None:
    warnings.simplefilter("error", FutureWarning)
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    for name, recipes in shared_recipes().items():
        train(Path(folder, name), recipes, plain_vit if name == "mae" else quiet_encoder)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    """Without batch norm.

    With it each CPU process normalises by its own half of the batch, so that the curves part.
    """
    two = tmp_path / "two"
    two.mkdir()
    torch.multiprocessing.spawn(one_of_two, (str(two),), nprocs=2)
    for name, recipes in shared_recipes().items():
        alone = train(tmp_path / name, recipes, plain_vit if name == "mae" else quiet_encoder)
        curves = [
            [line["loss"] for line in history(folder / name) if "loss" in line]
            for folder in (tmp_path, two)
        ]
        assert len(curves[0]) == sum(
            max(1, int(r.views / r.views_an_image(16) / r.batch)) for r in recipes
        )
        np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)
        shared = torch.load(two / name / "weights.pth", weights_only=True)
        for key, value in alone.items():
            torch.testing.assert_close(shared[key], value, rtol=1e-3, atol=1e-4)
        assert json.loads((two / name / "history.json").read_text())["processes"] == 2


# -- gradients
# -------------------------------------------------------------------------------------------------------------------------------


def squared(backbone: nn.Module, dim: int, recipe: Recipe) -> Objective:
    """A loss that is a mean over images, so that parts of a batch add up to the whole."""
    project = lambda views, position: [backbone(torch.cat(list(views)))]
    return Objective(
        {"backbone": backbone},
        project,
        lambda outputs, position: outputs[0].pow(2).mean(),
        lambda batch: np.inf,
    )


def test_accumulated_parts_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    recipe = small("simclr", optimiser="sgd", clip=1.0, weight_decay=(0.1, 0.1)).having(
        objective=squared, crops=(Crop(scale=(1, 1), flip=0),)
    )
    one, four = (
        train(tmp_path / str(n), [recipe.having(accumulate=n)], quiet_encoder) for n in (1, 4)
    )
    for key, value in one.items():
        torch.testing.assert_close(four[key], value, rtol=1e-4, atol=1e-6)


def test_frozen_layers_and_kept_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    # a norm of zeros would stop the gradient
    start = timm.create_model("test_resnet", num_classes=0, zero_init_last=False)
    before = {key: value.clone() for key, value in start.state_dict().items()}

    def again() -> nn.Module:
        model = timm.create_model("test_resnet", num_classes=0)
        model.load_state_dict(before)
        return model

    after = train(tmp_path, [small("simclr", steps=2, freeze_norm=True, frozen=0.5)], again)
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    names = [name for name, _ in start.named_parameters()]
    still, moving = names[: round(len(names) / 2)], names[round(len(names) / 2) :]
    assert not changed & set(still)
    assert set(moving) <= changed
    assert not any("running" in name for name in changed)
    timm.create_model("test_resnet", num_classes=0).load_state_dict(after, strict=True)


def test_bf16_trains_and_leaves_float32(tmp_path: Path) -> None:
    found = train(tmp_path, [small("dino")], precision="bf16")
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert all(
        torch.isfinite(torch.tensor([line["loss"] for line in history(tmp_path) if "loss" in line]))
    )


# -- the watch
# -------------------------------------------------------------------------------------------------------------------------------


def test_effective_rank() -> None:
    rng = np.random.default_rng(0)
    for shape in ((30, 12), (12, 30)):
        x = rng.normal(size=shape)
        values = np.linalg.svd(x / np.linalg.norm(x, axis=1, keepdims=True), compute_uv=False)
        share = values / values.sum()
        assert monitor.effective_rank(torch.tensor(x)) == pytest.approx(
            np.exp(-(share * np.log(share)).sum()), rel=1e-6
        )
    assert monitor.effective_rank(torch.eye(7)) == pytest.approx(7)
    assert monitor.effective_rank(torch.ones(9, 5) * torch.rand(9, 1)) == pytest.approx(1, abs=1e-4)


def test_a_small_bank_does_not_vote_as_a_whole() -> None:
    """20 of 20 are all of them: each query then had the same vote, and an AUC of 0.5."""
    rng = np.random.default_rng(0)
    labels = np.arange(20) % 2
    features = rng.normal(size=(20, 8)) + 4 * labels[:, None]
    assert monitor.knn_auc(features, labels, features + 0.1, labels) == 1
    assert monitor.SMALLEST_BANK == 5 * monitor.NEIGHBOURS


def test_the_end_of_a_pretraining_says_the_loss_of_chance_and_on_how_many_images() -> None:
    from medbench.run.pretrain_only import _watched

    looks = [{"stage": 0, "knn_auc": auc, "knn_images": 21} for auc in (0.5, 0.75)]
    steps = [{"stage": 0, "loss": loss, "chance": 3.178} for loss in (3.4, 3.2, 3.2)]
    said = _watched([looks[0], *steps, looks[1]])
    assert said == (
        "; loss 3.267 (chance 3.178, learnt nothing yet)"
        "; kNN AUC on 21 held-out training images 0.500 at first, 0.750 at last"
    )
    assert _watched([{"stage": 0, "loss": 3.0, "chance": 3.178}]) == "; loss 3.000 (chance 3.178)"
    assert _watched([{"stage": 0, "loss": 3.0}]) == ""
    assert "not defined at first" in _watched([{"stage": 0, "knn_auc": None}])


def test_knn_auc_against_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    labels, other = rng.integers(0, 3, 200), rng.integers(0, 3, 90)
    bank, queries = (rng.normal(size=(len(y), 6)) + np.eye(6)[y] for y in (labels, other))
    votes = (
        KNeighborsClassifier(monitor.NEIGHBOURS, metric="cosine")
        .fit(bank, labels)
        .predict_proba(queries)
    )
    assert monitor.knn_auc(bank, labels, queries, other) == pytest.approx(
        roc_auc_score(other, votes, multi_class="ovr")
    )
    many, few = np.eye(3)[labels], np.eye(3)[other]
    assert monitor.knn_auc(bank, many, queries, few) == pytest.approx(
        roc_auc_score(other, votes, multi_class="ovr")
    )
    few[:, 1] = np.nan  # not known of any query: left out
    kept = np.mean([roc_auc_score(other == c, votes[:, c]) for c in (0, 2)])
    assert monitor.knn_auc(bank, many, queries, few) == pytest.approx(kept)
    assert monitor.knn_auc(bank, labels, queries, np.zeros(90, int)) is None


def collapsing(backbone: nn.Module, dim: int, recipe: Recipe) -> Objective:
    """A planted defect: the loss asks for the same output from every image."""
    made = squared(backbone, dim, recipe)
    made.criterion = lambda outputs, position: (
        (outputs[0] - torch.linspace(-3, 3, dim)).pow(2).mean()
    )
    return made


def test_a_collapse_ends_the_training_with_a_reason(tmp_path: Path) -> None:
    done: list[float] = []
    recipe = small("simclr", steps=400).having(objective=collapsing, lr=0.1)
    hear = listening(lambda progress: done.append(progress.done / progress.total))
    with hear, pytest.raises(monitor.Collapsed, match="all embeddings point one way at step"):
        train(tmp_path, [recipe], quiet_encoder)
    assert done[-1] < 0.5
    assert not (tmp_path / "weights.pth").exists()
    assert history(tmp_path)[-1]["rank"] < monitor.NEAR_ONE


@pytest.mark.parametrize("stages", ["paired", "both"])
def test_a_collapse_in_either_stage_of_micle_is_seen(stages: str, tmp_path: Path) -> None:
    """Of paired images as of others, and in a second stage whose first one was sound."""
    paired = small("simclr", steps=400, paired=True).having(objective=collapsing, lr=0.1)
    recipes = [paired] if stages == "paired" else [small("simclr"), paired]
    with pytest.raises(monitor.Collapsed, match="all embeddings point one way at step"):
        train(tmp_path, recipes, quiet_encoder)
    assert history(tmp_path)[-1]["stage"] == len(recipes) - 1


def one_way(objective: Any) -> Any:
    """A planted defect: beside the method's own loss, every image is asked for one vector."""

    def made(backbone: nn.Module, dim: int, recipe: Recipe) -> Objective:
        found: Objective = objective(backbone, dim, recipe)
        project = found.project

        def pulled(views: Any, position: Position) -> list[torch.Tensor]:
            outputs = project(views, position)
            vectors = backbone(views[0])
            wanted = torch.linspace(-3, 3, vectors.shape[1])
            found.criterion = lambda outputs, position: (
                (vectors - wanted).pow(2).mean() + 0 * sum(out.sum() for out in outputs)
            )
            return outputs

        found.project = pulled
        return found

    return made


@pytest.mark.parametrize(
    "name",
    [  # the watch is one for all: two heads and MAE's own network, the others with the slow tests
        pytest.param(name, marks=[pytest.mark.slow] * (name not in ("simclr", "swav", "mae")))
        for name in ("simclr", "swav", "dino", *NAMED)
    ],
)
def test_a_collapse_is_seen_whatever_the_method(name: str, tmp_path: Path) -> None:
    """The watch looks at the encoder's vectors, those of MAE's visible patches among them."""
    build = plain_vit if name == "mae" else quiet_encoder
    recipe = small(name, steps=300).having(objective=one_way(SMALL[name].objective), lr=0.05)
    with pytest.raises(monitor.Collapsed, match="all embeddings point one way at step"):
        train(tmp_path, [recipe], build)
    assert not (tmp_path / "weights.pth").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_a_sound_start_is_no_collapse(name: str, tmp_path: Path) -> None:
    """On images that show something.

    A loss whose least value is that of constant outputs (BYOL) is not taken for one that is stuck
    at it.
    """
    few = torch.from_numpy(PIXELS[:, :3, :3]).permute(0, 3, 1, 2).float()
    smooth = (
        nn.functional.interpolate(few, size=16, mode="bilinear").permute(0, 2, 3, 1).byte().numpy()
    )
    train(tmp_path, [small(name, steps=300, batch=32).having(lr=0.005)], built(name), smooth)


def test_a_loss_that_never_leaves_chance_or_is_no_number_is_a_collapse() -> None:
    steps = list(range(1, 400))
    stuck, falling = [np.log(15)] * 399, list(np.log(15) - np.linspace(0, 1, 399))
    ranks = [9.0] * 399
    monitor.check_collapse(
        steps[:240], stuck[:240], ranks[:240], np.log(15), warmup=50, planned=400
    )
    monitor.check_collapse(steps, falling, ranks, np.log(15), warmup=50, planned=400)
    with pytest.raises(monitor.Collapsed, match=r"2\.708, for 200 steps"):
        monitor.check_collapse(steps, stuck, ranks, np.log(15), warmup=50, planned=400)
    # DINO's teacher of `paper` is still where it began
    monitor.check_collapse(steps, stuck, ranks, np.log(15), warmup=50, planned=13_685)
    monitor.check_collapse(
        steps[:200], falling[:200], [1.01] * 200, 5.0, warmup=50, planned=400
    )  # a network whose first embeddings point one way may still learn
    with pytest.raises(monitor.Collapsed, match="one way at step 250"):
        monitor.check_collapse(
            steps[:250], falling[:250], [1.01] * 250, 5.0, warmup=50, planned=400
        )
    with pytest.raises(monitor.Collapsed, match="one way at step 20"):
        monitor.check_collapse(
            steps[:20], falling[:20], [9.0] * 15 + [1.01] * 5, 5.0, warmup=50, planned=400
        )
    with pytest.raises(monitor.Collapsed, match="the loss is nan at step 3"):
        monitor.check_collapse(
            [1, 2, 3], [1, 1, float("nan")], [9.0] * 3, 2.7, warmup=0, planned=400
        )


def test_a_look_at_held_out_images_costs_the_training_nothing(tmp_path: Path) -> None:
    """Enough images for some to be held out: rank, kNN and held-out loss are there, and the weights
    are those of a run without labels."""
    pixels = np.random.default_rng(0).integers(0, 255, (400, 16, 16, 3), np.uint8)
    names = np.arange(400).astype(str)
    labels = np.random.default_rng(1).integers(0, 3, 400)
    found = []
    for labelled in (labels, None):
        folder = tmp_path / str(labelled is None)
        args = (
            pixels,
            np.arange(400),
            names,
            names,
            labelled,
            plain_encoder,
            HALF,
            HALF,
            16,
            [small("dino")],
        )
        found.append(
            torch.load(
                pretrain.pretrain(*args, seed=0, folder=folder, device="cpu"), weights_only=True
            )
        )
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())
    looks = [line for line in history(tmp_path / "False") if "look_rank" in line]
    assert [line["step"] for line in looks] == [0, 2, 4, 6]
    assert all(line["held_out_loss"] > 0 and 0 <= line["knn_auc"] <= 1 for line in looks)
    assert sum("from_two_images" in line for line in history(tmp_path / "False")) == 0


def test_share_of_pairs_from_two_images_is_recorded(tmp_path: Path) -> None:
    train(tmp_path, [small("simclr", paired=True)])
    assert {line["from_two_images"] for line in history(tmp_path) if "loss" in line} == {1.0}


# -- encoders and beginnings
# -----------------------------------------------------------------------------------------------------------------


def test_a_vit_takes_small_crops_as_timm_s_dynamic_size_does() -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=0, img_size=64).eval()
    dynamic = timm.create_model(
        "test_vit", num_classes=0, img_size=64, dynamic_img_size=True
    ).eval()
    dynamic.load_state_dict(model.state_dict())
    large, few = torch.randn(2, 3, 64, 64), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(large)
        assert fit_sizes(model, [64, 32], "cpu") == before.shape[1]
        torch.testing.assert_close(model(large), before)
        torch.testing.assert_close(model(few), dynamic(few))


def test_an_encoder_that_takes_one_size_alone_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4))
    assert fit_sizes(model, [64, 64], "cpu") == 4
    with pytest.raises(UserError, match="does not take crops of 64, 32 pixels"):
        fit_sizes(model, [64, 32], "cpu")


def test_a_vit_goes_through_dino_and_loads_into_timm(tmp_path: Path) -> None:
    build = lambda: timm.create_model("test_vit", num_classes=0, img_size=64)
    recipe = Recipe(SMALL["dino"].objective, MULTI, 40, 8, lr=0.01, hyper=DINO_HYPER)
    pixels = PIXELS.repeat(4, 1).repeat(4, 2)
    file = pretrain.pretrain(
        pixels,
        INDEX,
        BAGS,
        GROUPS,
        None,
        build,
        HALF,
        HALF,
        64,
        [recipe],
        seed=0,
        folder=tmp_path,
        device="cpu",
    )
    build().load_state_dict(torch.load(file, weights_only=True), strict=True)


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    one = np.zeros(3).astype(str)
    with pytest.raises(UserError, match="3 training images in 1 groups are too few"):
        pretrain.pretrain(
            PIXELS,
            INDEX[:3],
            one,
            one,
            None,
            plain_encoder,
            HALF,
            HALF,
            16,
            [small("simclr", paired=True)],
            seed=0,
            folder=tmp_path,
            device="cpu",
        )


def test_batch_statistics_alone(tmp_path: Path) -> None:
    """`supervised-bn`: means of each batch norm's inputs over the training images.

    Nothing else moves.
    """
    (recipe,) = SUPERVISED_BN.recipes("", "quick", N, "imagenet+task")  # type: ignore[misc]
    torch.manual_seed(0)
    start = timm.create_model("test_resnet", num_classes=0)
    weights_before = {key: value.clone() for key, value in start.state_dict().items()}

    def build() -> nn.Module:
        model = timm.create_model("test_resnet", num_classes=0)
        model.load_state_dict(weights_before)
        return model.eval()

    found = train(tmp_path, [recipe], build)
    assert {key for key, value in found.items() if not torch.equal(value, weights_before[key])} == {
        key for key in found if "running" in key or "num_batches" in key
    }
    model = build()
    inputs: list[torch.Tensor] = []
    first = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    first.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    images = torch.from_numpy(PIXELS[INDEX]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        model((images - 0.5) / 0.5)
    name = next(key for key in found if key.endswith("running_mean"))
    torch.testing.assert_close(found[name], inputs[0].mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    split = Split([], *(np.array([]),) * 4)
    assert SUPERVISED_BN.refuses is not None
    assert SUPERVISED_BN.refuses(split, encoders.encoder("tf_efficientnet_lite0")) == ""
    vit = Encoder("test_vit", "test_vit", "", 64, HALF, HALF, "bicubic")
    assert "no batch norm" in SUPERVISED_BN.refuses(split, vit)


def test_micle_needs_a_bag_of_two() -> None:
    assert MICLE.refuses is not None
    split = Split([], *(np.array(["a", "b", "c"]),) * 4)
    encoder = encoders.encoder("tf_efficientnet_lite0")
    assert "nothing to pair" in MICLE.refuses(split, encoder)
    assert (
        MICLE.refuses(
            Split([], split.ids, split.labels, split.groups, np.array(["a", "a", "c"])), encoder
        )
        == ""
    )


def test_beginnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoders.encoder("tf_efficientnet_lite0")
    assert SIMCLR.weights is not None
    assert SIMCLR.weights(encoder, "imagenet+task", 0, tmp_path) == weights.supervised(
        encoder, tmp_path
    )
    zero, one = (SIMCLR.weights(encoder, "task", seed, tmp_path) for seed in (0, 1))
    assert zero.sha256 != one.sha256
    assert (zero.file, zero.trained_on) == (None, ())
    with pytest.raises(
        UserError, match="No official dino checkpoint is listed for encoder 'tf_efficientnet_lite0'"
    ):
        DINO.weights(encoder, "imagenet", 0, tmp_path)  # type: ignore[misc]
    asked: list[str] = []
    monkeypatch.setattr(
        checkpoints,
        "default_checkpoint",
        lambda method, architecture: f"{method} for {architecture}",
    )
    monkeypatch.setattr(
        checkpoints, "weights", lambda checkpoint, cache_dir: asked.append(checkpoint) or one
    )
    for source in ("imagenet", "imagenet+task"):
        assert DINO.weights(encoder, source, 0, tmp_path) == one  # type: ignore[misc]
    assert asked == ["dino for tf_efficientnet_lite0"] * 2


def test_positions_count_from_nothing_to_less_than_all() -> None:
    assert (Position(0, 4).share, Position(3, 4).share) == (0, 0.75)


# -- several GPUs, as far as it can be seen without one


def test_synchronised_norms_keep_their_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda module, **options: module)
    net = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = net(images)
        after = checkpointing.DistributedContext(0, 2).wrap(net, "cuda:0").eval()(images)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in net.modules())
    assert torch.equal(before, after)


TORCHRUN = {
    "WORLD_SIZE": "2",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29400",
}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"WORLD_SIZE": "8"}, "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT are not set"),
        ({**TORCHRUN, "LOCAL_RANK": "2"}, "LOCAL_RANK is 2, and this machine has 2 GPUs"),
        ({**TORCHRUN, "WORLD_SIZE": "many"}, "WORLD_SIZE is 'many'"),
        ({**TORCHRUN, "LOCAL_RANK": "-1"}, "LOCAL_RANK is '-1'"),
    ],
)
def test_surroundings_that_are_none_of_torchruns_are_told(
    given: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=re.escape(told)):
        process_group.join("cuda")


def test_each_process_binds_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        torch.distributed,
        "init_process_group",
        lambda backend, **options: given.update(backend=backend, **options),
    )
    monkeypatch.setattr(
        torch.distributed, "rendezvous", lambda where: iter([(torch.distributed.HashStore(), 1, 2)])
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: given.update(bound=device))
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    group = process_group.join("cuda")
    assert (group.device, group.rank, group.size) == ("cuda:1", 1, 2)
    assert isinstance(given.pop("store"), torch.distributed.PrefixStore)
    assert given == {
        "backend": "nccl",
        "device_id": torch.device("cuda:1"),
        "bound": "cuda:1",
        "rank": 1,
        "world_size": 2,
    }
