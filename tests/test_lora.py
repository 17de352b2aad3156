"""Low-rank adapters: how few weights they train, what memory they take, that the merged network is
the adapted one, and which encoders are refused."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.finetuning import LABELS, NETWORK, SIZE, Tiny, job, pictures, vit
from torch import nn

from medbench import Grid
from medbench.models.finetune import adapters, loop
from medbench.protocols import finetune
from medbench.protocols.finetune import evaluate
from medbench.protocols.lora import LORA, RECIPE
from medbench.run.planning import plan
from medbench.schema import Scores, Train, UserError

needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="peft is an extra: medbench[lora]"
)
FEW = replace(RECIPE, steps=10, epochs=0, evaluations=2, rates=(1e-3, 3e-3))


def cnn() -> nn.Module:
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return timm.create_model("resnet10t", num_classes=0).eval()


def trained(
    build: Callable[[], nn.Module], folder: Path, n: int = 120, recipe: Any = FEW, **changes: Any
) -> tuple[Train, Mapping[str, Scores]]:
    labels, classes = LABELS["multiclass"]
    network = replace(NETWORK, build=build)
    train = job(labels[:n], "multiclass", classes, folder, network=network, **changes)
    (found,) = evaluate(
        train, {"all": pictures(labels[:40], seed=1)}, [np.arange(n)], recipe=recipe
    )
    return train, found


@needs_peft
@pytest.mark.parametrize("build", [vit, cnn])
def test_the_merged_network_is_the_adapted_one_and_few_weights_learn(
    build: Callable[[], nn.Module], tmp_path: Path
) -> None:
    labels, classes = LABELS["multiclass"]
    train = job(labels, "multiclass", classes, tmp_path, network=replace(NETWORK, build=build))
    everything = np.arange(len(labels))
    work = loop.FineTuning(
        train, train.network, FEW, everything, everything[:0], 0, tmp_path, finetune.linear_layer
    )  # type: ignore[arg-type]
    ranks = work.ranks()
    assert 1 <= len(ranks) <= 2 and set(ranks) < set(RECIPE.adapters)
    before = build().state_dict()
    state = work.train(1e-3, 1.0, ranks[0])
    assert state.best.keys() == {
        name for name in state.best if "lora_" in name or name.startswith("head.")
    }, "what stays is not copied"
    net = work.start(ranks[0])
    learn = adapters.numbers(weight for weight in net.parameters() if weight.requires_grad)
    told = adapters.told(net, ranks[0])
    assert told["trained"] == learn and told["share"] <= 0.02 and told["memory_of_full"] <= 0.4
    plain = adapters.numbers(build().parameters()) + adapters.numbers(net.head.parameters())
    assert told["memory_of_full"] == pytest.approx((told["weights"] + 3 * learn) / (4 * plain))
    net.load_state_dict(state.best, strict=False)
    net.eval()
    images = torch.randn(4, 3, SIZE, SIZE)
    with torch.inference_mode():
        adapted = net(images)
        merged = adapters.merged(net)(images)
        start = work.start()(images)
    torch.testing.assert_close(merged, adapted, atol=1e-5, rtol=0)
    assert (adapted - start).abs().max() > 1e-3, "it has learned"
    assert net.encoder.state_dict().keys() == before.keys(), "a plain network again"
    kept = [
        name for name, value in net.encoder.state_dict().items() if torch.equal(value, before[name])
    ]
    assert 0 < len(kept) < len(before)


@needs_peft
def test_a_row_says_what_was_trained_and_a_killed_run_goes_on_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank and rate are searched on the held-out fifth.

    Killed inside the search, the run ends with the same scores.
    """
    _, whole = trained(vit, tmp_path / "whole")
    scores = whole["all"]
    assert len(scores.chosen["searched"]) == 4 and scores.chosen["rank"] in RECIPE.adapters
    assert scores.extra["adapters"]["rank"] == scores.chosen["rank"] and scores.held_out is not None
    assert (scores.decisions == LABELS["multiclass"][0][:40]).mean() > 0.9
    monkeypatch.setattr(loop, "EVERY", 0.0)
    real, steps = loop.FineTuning._step, []

    def killed(self: loop.FineTuning, *arguments: Any) -> None:
        steps.append(self)
        if len(steps) == 7:
            raise KeyboardInterrupt
        real(self, *arguments)

    monkeypatch.setattr(loop.FineTuning, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(vit, tmp_path / "killed")
    _, again = trained(vit, tmp_path / "killed")
    np.testing.assert_array_equal(again["all"].probabilities, scores.probabilities)
    assert len(steps) < 2 * (4 * 2 + 10), "what was done is not done again"


@needs_peft
def test_an_image_is_scored_by_itself_and_few_images_take_the_rule(tmp_path: Path) -> None:
    labels, classes = LABELS["multiclass"]
    train = job(labels[:12], "multiclass", classes, tmp_path, network=replace(NETWORK, build=vit))
    images = pictures(labels[:30], seed=1)
    half = np.random.default_rng(0).permutation(30)[:15]
    (found,) = evaluate(train, {"all": images, "half": images[half]}, [np.arange(12)], recipe=FEW)
    np.testing.assert_allclose(
        found["half"].probabilities, found["all"].probabilities[half], atol=1e-5
    )
    assert found["all"].held_out is None and found["all"].chosen["rate"] == FEW.rates[1]


@needs_peft
def test_an_encoder_that_adapters_do_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    """Rank 1 of a network of 8 and 12 channels is more than 2 % of it.

    One of linear layers alone has no place for an adapter.
    """
    with pytest.raises(
        UserError,
        match=r"Adapters of rank 1 and the head are \d+\.\d % of the .* weights of this encoder: more than 2 %",
    ):
        trained(Tiny, tmp_path)

    def layers() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 4)).eval()

    with pytest.raises(UserError, match="'lora' finds no layer for an adapter in Sequential"):
        trained(layers, tmp_path)
    with pytest.raises(UserError, match="in MultiheadOnly: it has neither"):
        adapters.adapted_layers(MultiheadOnly())


class MultiheadOnly(nn.Module):
    """torch's own attention reads the weights of its output layer past the layer, and an adapter on
    it would never be asked."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)


def test_without_peft_the_plan_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "peft" else real(name, *more),
    )
    with pytest.raises(
        UserError,
        match=r"Protocol 'lora' needs peft, which is not installed. Next: pip install 'medbench\[lora\]'",
    ):
        plan(Grid(data="phantom", protocols=("lora",)))
    assert LORA.needs == "images" and LORA.settings["adapters"] == (1, 2, 4, 8)
