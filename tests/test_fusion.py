"""The DVME head against a forward pass written by hand, timm's attention and brute force.

Its training against planted answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax

from medbench.models.fusion import TRUONG2021, attention_head, draw_state, fit_predict, head, loop
from medbench.run import execution, planning
from medbench.schema import Grid, Kind, Scores, UserError, registry
from medbench.stats import metrics, splits

SMALL = replace(TRUONG2021, width=16, epochs=8)
PAPER = (2048, 2048, 1536)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("classes", "weights"), [(2, 3_676_162), (5, 3_677_701)])
def test_the_parameter_count_is_the_papers(classes: int, weights: int) -> None:
    assert count(head(PAPER, classes, tokens="none")) == weights
    # query, key, value; projection and its bias
    assert count(head(PAPER, classes, tokens="scalar")) == weights + 3 + 2
    assert count(head(PAPER, classes, tokens="source")) == weights + 4 * 512**2 + 512


def by_hand(
    state: dict[str, np.ndarray], sources: list[np.ndarray], tokens: str, width: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Logits (B, outputs) and the whole attention (B, t, t), image by image, from listing 1 of the
    paper."""
    k, outputs, maps = len(sources), [], []
    for b in range(len(sources[0])):
        one = np.concatenate(
            [
                x[b] @ state[f"project.{i}.weight"][0] + state[f"project.{i}.bias"][0, 0]
                for i, x in enumerate(sources)
            ]
        )
        if tokens != "none":
            t = one.reshape(k * width, 1) if tokens == "scalar" else one.reshape(k, width)
            q, key, v = np.split(t @ state["attend.qkv.weight"][0], 3, axis=1)
            weights = softmax(q @ key.T / math.sqrt(t.shape[1]), axis=-1)
            one = (
                weights @ v @ state["attend.proj.weight"][0] + state["attend.proj.bias"][0, 0]
            ).reshape(-1)
            maps.append(weights)
        normal = (one - one.mean()) / np.sqrt(one.var() + 1e-5) * state["gain"][0, 0] + state[
            "shift"
        ][0, 0]
        hidden = np.maximum(normal @ state["hidden.weight"][0] + state["hidden.bias"][0, 0], 0)
        outputs.append(hidden @ state["classify.weight"][0] + state["classify.bias"][0, 0])
    return np.stack(outputs), np.stack(maps) if maps else None


def random_head(
    tokens: str, dims: tuple[int, ...] = (5, 7, 3), width: int = 6, n: int = 9
) -> tuple[attention_head.Head, list[torch.Tensor]]:
    """Every parameter drawn, gain and shift too, so that none can be forgotten."""
    generator = torch.Generator().manual_seed(1)
    model = attention_head.Head(dims, 4, tokens, width, 0.2).double().eval()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model, [torch.randn(n, d, generator=generator, dtype=torch.float64) for d in dims]


@pytest.mark.parametrize("tokens", ["source", "scalar", "none"])
def test_forward_and_attention_agree_with_a_pass_by_hand(
    tokens: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sources = random_head(tokens)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    logits, whole = by_hand(state, [x.numpy() for x in sources], tokens, 6)
    np.testing.assert_allclose(model(sources).detach().numpy(), logits, atol=1e-6)
    if whole is None:
        with pytest.raises(ValueError, match="no attention"):
            model.attention(sources)
        return
    # two images at a time: blocks meet inside the batch
    monkeypatch.setattr(attention_head, "BLOCK", 2 * 18**2)
    found = model.attention(sources).numpy()
    side = whole.shape[1] // 3
    brute = np.zeros((9, 3, 3))
    for i in range(whole.shape[1]):
        for j in range(whole.shape[1]):
            brute[:, i // side, j // side] += whole[:, i, j] / side
    np.testing.assert_allclose(found, brute, atol=1e-12)
    np.testing.assert_allclose(found.sum(2), 1, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 6, 8])
def test_self_attention_is_timms_with_one_head(dim: int) -> None:
    from timm.models.vision_transformer import Attention

    theirs, ours = Attention(dim, num_heads=1).double(), attention_head.SelfAttention(dim).double()
    for name in ("qkv", "proj"):
        getattr(ours, name).weight.data = getattr(theirs, name).weight.data.T[None].contiguous()
    ours.proj.bias.data = theirs.proj.bias.data[None, None]
    tokens = torch.randn(4, 10, dim, dtype=torch.float64)
    torch.testing.assert_close(ours(tokens[None])[0], theirs(tokens))


class Planted:
    """Images of `classes` kinds; source 0 knows the class, the others are noise.

    `fit` scores 300 further images.
    """

    def __init__(
        self,
        n: int,
        classes: int = 3,
        dims: tuple[int, ...] = (24, 24, 24),
        signal: float = 0.7,
        seed: int = 0,
    ):
        rng = np.random.default_rng(seed)
        self.n, self.classes = n, classes
        total = n + 300
        self.labels = np.arange(total) % classes
        centres = rng.normal(size=(classes, dims[0])) * signal
        self.sources = [rng.normal(size=(total, d)).astype(np.float32) for d in dims]
        self.sources[0] += centres[self.labels].astype(np.float32)
        self.groups = np.arange(total).astype(str)

    def fit(
        self,
        draws: list[np.ndarray],
        *,
        which: tuple[int, ...] = (0, 1, 2),
        kind: Kind = "multiclass",
        seed: int = 0,
        **options: object,
    ) -> list[tuple[Scores, np.ndarray | None]]:
        options = {"recipe": SMALL, **options}
        seeds = list(range(seed, seed + len(draws)))
        sources, test = (
            [self.sources[i][: self.n] for i in which],
            [self.sources[i][self.n :] for i in which],
        )
        labels, groups = self.labels[: self.n], self.groups[: self.n]
        found = fit_predict(
            sources, labels, groups, kind, self.classes, {"test": test}, draws, seeds, **options
        )  # type: ignore[arg-type]
        return [(scores["test"], attention) for scores, attention in found]

    def auc(self, scores: Scores) -> float:
        found = metrics.score(
            self.labels[self.n :], scores.probabilities, scores.decisions, "multiclass"
        ).values["auc"]
        return float(found)


@pytest.mark.parametrize("tokens", ["source", "scalar"])
def test_the_informative_source_is_found_among_noise(tokens: str) -> None:
    """The scalar reading's scores find it.

    Its map cannot: a token's weight follows from its value, and all sources have one scale.
    """
    planted, draw = Planted(300), [np.arange(300)]
    [(fused, attention)] = planted.fit(draw, tokens=tokens, recipe=replace(SMALL, epochs=30))
    alone = [planted.auc(planted.fit(draw, which=(i,))[0][0]) for i in range(3)]
    assert planted.auc(fused) > np.mean(alone) + 0.1 and max(alone[1:]) < 0.6
    assert attention is not None
    np.testing.assert_allclose(attention.sum(1), 1, atol=1e-5)
    attended = attention.mean(0)
    if tokens == "source":
        assert attended[0] > max(attended[1:]) + 0.02
    else:
        np.testing.assert_allclose(attention, 1 / 3, atol=0.02)


def test_the_scalar_map_follows_scale_before_anything_is_learnt() -> None:
    noise = [torch.randn(16, 64, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    noise[2] *= 30
    maps = []
    for seed in range(20):  # about one head in ten leans by less
        torch.manual_seed(seed)
        maps.append(
            attention_head.Head((64, 64, 64), 2, "scalar", width=32, dropout=0.2)
            .attention(noise)
            .mean((0, 1))
        )
    attended = torch.stack(maps).mean(0)
    assert attended[2] > 0.5 and abs(attended[0] - attended[1]) < 0.05


def test_a_draw_gives_the_same_bits_whatever_is_trained_beside_it() -> None:
    planted, rng = Planted(400), np.random.default_rng(3)
    draws = [rng.permutation(400)[:n] for n in (60, 61, 62, 12, 200)]
    every = planted.fit(draws)
    for first, last in ((1, 5), (3, 4), (2, 3)):
        for (a, a_map), (b, b_map) in zip(
            planted.fit(draws[first:last], seed=first), every[first:last], strict=True
        ):
            np.testing.assert_array_equal(a.probabilities, b.probabilities)
            np.testing.assert_array_equal(a_map, b_map)
            assert a.chosen == b.chosen


def test_the_seed_alone_decides() -> None:
    planted = Planted(100)
    draw = np.arange(60)
    torch.manual_seed(5)
    [(first, _)] = planted.fit([draw], seed=1)
    state = torch.get_rng_state()
    [(again, _)] = planted.fit([draw], seed=1)
    [(other, _)] = planted.fit([draw], seed=2)
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    assert np.abs(first.probabilities - other.probabilities).max() > 1e-3
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers are used


def test_an_images_score_does_not_depend_on_the_others() -> None:
    planted = Planted(100)
    [(whole, _)] = planted.fit([np.arange(60)])
    order = np.random.default_rng(0).permutation(300)[:150]
    planted.sources = [np.concatenate([x[:100], x[100:][order]]) for x in planted.sources]
    [(half, _)] = planted.fit([np.arange(60)])
    np.testing.assert_allclose(half.probabilities, whole.probabilities[order], atol=1e-6)


def test_early_stopping_scores_the_best_weights_not_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The validation score is planted: best at the third check.

    All weights are recorded at each check.
    """
    planted, seen = Planted(200), []
    values = iter([-3.0, -2.0, -1.0, -4.0, -1.0, -5.0, -6.0, -7.0])
    monkeypatch.setattr(draw_state.DrawState, "judge", lambda self, logits: next(values))
    original = loop._goes_on

    def watched(one: draw_state.DrawState, model: attention_head.Head, *rest: object) -> bool:
        seen.append([p.detach().clone() for p in model.parameters()])
        goes_on: bool = original(one, model, *rest)  # type: ignore[arg-type]
        finished.append(one)
        return goes_on

    finished: list[draw_state.DrawState] = []
    monkeypatch.setattr(loop, "_goes_on", watched)
    [(scores, _)] = planted.fit([np.arange(120)], recipe=replace(SMALL, rates=(1e-3,)))
    assert len(seen) == SMALL.epochs
    assert scores.chosen["validation"] == -1.0 and scores.chosen["steps"] == 3 * finished[0].steps
    assert all(torch.equal(a, b) for a, b in zip(finished[0].best, seen[2], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(finished[0].best, seen[-1], strict=True))
    model = attention_head.Head((24, 24, 24), 3, "source", SMALL.width, 0.2).eval()
    for parameter, value in zip(model.parameters(), seen[2], strict=True):
        parameter.data = value
    test = finished[0].standard([torch.from_numpy(x[200:]) for x in planted.sources])
    np.testing.assert_allclose(
        scores.probabilities, model(test).softmax(1).detach().numpy(), atol=1e-6
    )


def test_the_rate_that_is_behind_after_its_trial_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted = Planted(200)
    checks: Counter[float] = Counter()
    original = loop._goes_on

    def counted(one: draw_state.DrawState, *rest: object) -> bool:
        checks[one.rate] += 1
        goes_on: bool = original(one, *rest)  # type: ignore[arg-type]
        return goes_on

    monkeypatch.setattr(loop, "_goes_on", counted)
    recipe = replace(SMALL, trial=3)
    [(scores, _)] = planted.fit([np.arange(120)], recipe=recipe)
    (lost,) = set(recipe.rates) - {scores.chosen["rate"]}
    assert checks == {lost: 3, scores.chosen["rate"]: SMALL.epochs}
    [(alone, _)] = planted.fit(
        [np.arange(120)], recipe=replace(recipe, rates=(scores.chosen["rate"],))
    )
    np.testing.assert_array_equal(scores.probabilities, alone.probabilities)
    assert scores.chosen == alone.chosen


def test_patience_and_plateau_end_a_training() -> None:
    """Labels without any relation to the features: the loss cannot improve for long."""
    planted = Planted(200, signal=0.0)
    [(scores, _)] = planted.fit([np.arange(150)], recipe=replace(SMALL, epochs=50))
    best = scores.chosen["steps"] // math.ceil(120 / 64)
    assert scores.chosen["checks"] == best + SMALL.patience < 50


def test_the_validation_part_keeps_groups_whole_and_has_every_class() -> None:
    labels, groups = np.arange(150) % 3, np.repeat(np.arange(50), 3).astype(str)
    held = splits.validation_part(labels, groups, 0.2, "validation")
    assert not set(groups[held]) & set(groups[~held])
    assert held.sum() == 30 and set(labels[held]) == {0, 1, 2}
    # a class of one group stays among the training images
    rare = np.where(groups == "0", 3, labels)
    held = splits.validation_part(rare, groups, 0.2, "validation")
    assert held.any() and set(rare[held]) == {0, 1, 2} and set(rare[~held]) == {0, 1, 2, 3}
    # 18 images: too few
    assert not splits.validation_part(labels[:90], groups[:90], 0.2, "validation").any()
    # of a budget that asks for enough
    assert splits.validation_part(labels[:90], groups[:90], 0.2, "validation", requested=100).any()
    assert not splits.validation_part(labels, groups, 0.2, "validation", requested=99).any()
    # one group a class
    assert not splits.validation_part(labels, labels.astype(str), 0.2, "validation").any()


def test_one_image_a_class_and_a_class_without_any() -> None:
    planted = Planted(60, classes=4, signal=2.0)
    one_each, without = np.array([0, 1, 2, 3]), np.array([0, 1, 2, 4, 5, 6, 8, 9, 10])
    (few, _), (three, _) = planted.fit([one_each, without], recipe=replace(SMALL, width=256))
    assert few.chosen["rule"].startswith("fixed") and few.chosen["steps"] == SMALL.fixed_steps
    assert planted.auc(few) > 0.8
    assert (three.probabilities[:, 3] == 0).all() and (three.decisions != 3).all()
    for scores in (few, three):
        np.testing.assert_allclose(scores.probabilities.sum(1), 1, atol=1e-6)


def test_ordinal_and_binary() -> None:
    planted = Planted(200, classes=2)
    [(scores, _)] = planted.fit([np.arange(100)], kind="binary")
    assert scores.probabilities.shape == (300, 2) and scores.decisions.shape == (300,)
    assert planted.auc(scores) > 0.8
    ordered = Planted(200)
    a, b = (ordered.fit([np.arange(60)], kind=kind)[0][0] for kind in ("ordinal", "multiclass"))
    np.testing.assert_array_equal(a.probabilities, b.probabilities)


def multilabel(
    missing: Callable[[np.ndarray, np.random.Generator], None],
) -> tuple[Planted, np.ndarray]:
    planted = Planted(400, classes=3, signal=1.0)
    truth = np.column_stack([planted.labels == 0, planted.labels != 1, planted.labels == 2]).astype(
        float
    )
    planted.labels = truth.copy()
    missing(planted.labels, np.random.default_rng(2))
    return planted, truth[400:]


def test_multilabel_with_unknown_labels() -> None:
    def forget(labels: np.ndarray, rng: np.random.Generator) -> None:
        labels[rng.random(labels.shape) < 0.3] = np.nan
        # no negative is known
        labels[:, 2] = np.where(np.arange(len(labels)) % 9 == 0, 1.0, np.nan)

    planted, truth = multilabel(forget)
    [(scores, _)] = planted.fit([np.arange(300)], kind="multilabel")
    known = int((planted.labels[:300, 2] == 1).sum())
    assert scores.probabilities.shape == scores.decisions.shape == (300, 3)
    found = metrics.score(
        truth[:, :2], scores.probabilities[:, :2], scores.decisions[:, :2], "multilabel"
    ).values
    assert found["auc"] > 0.8
    np.testing.assert_allclose(scores.probabilities[:, 2], (known + 1) / (known + 2), rtol=1e-6)


def test_an_unknown_label_has_no_say() -> None:
    truth = torch.tensor([[[1.0, torch.nan], [0.0, 1.0]]])
    logits = torch.tensor([[[0.3, 99.0], [0.4, -0.5]]])
    expected = np.mean(
        [math.log1p(math.exp(-0.3)), math.log1p(math.exp(0.4)), math.log1p(math.exp(0.5))]
    )
    assert float(
        draw_state.losses(logits, truth, torch.ones(1, 2, dtype=torch.bool))
    ) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("batch", [8, 64])
def test_scalar_attention_never_holds_the_weights_of_a_batch(batch: int) -> None:
    """No tensor that a training step or a map makes is larger than the block, whatever the
    batch."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            for t in out if isinstance(out, tuple | list) else [out]:
                self.elements = max(self.elements, t.numel() if isinstance(t, torch.Tensor) else 0)
            return out

    model = head((4, 4, 4), 2, tokens="scalar")
    sources = [torch.randn(batch, 4) for _ in range(3)]
    with Largest() as step:
        model(sources).sum().backward()
    # far below one image's 1536 x 1536 a batch
    assert step.elements <= max(batch * 3 * 1536 * 8, 1536 * 512)
    with Largest() as mapped:
        model.attention(sources)
    assert 1536**2 <= mapped.elements <= attention_head.BLOCK


def test_bad_input_is_refused() -> None:
    planted = Planted(60)
    with pytest.raises(ValueError, match="'source', 'scalar' or 'none'"):
        planted.fit([np.arange(30)], tokens="words")
    with pytest.raises(ValueError, match="1 draws, 2 seeds"):
        list(
            fit_predict(
                planted.sources,
                planted.labels,
                planted.groups,
                "multiclass",
                3,
                {},
                [np.arange(9)],
                [0, 1],
            )
        )
    cut = {"test": [x[:, 1:] for x in planted.sources]}
    with pytest.raises(ValueError, match="test sources"):
        list(
            fit_predict(
                planted.sources,
                planted.labels,
                planted.groups,
                "multiclass",
                3,
                cut,
                [np.arange(9)],
                [0],
            )
        )
    planted.sources[1][70, 3] = np.inf
    with pytest.raises(
        UserError,
        match=r"test features of source 1 are not finite for 1 of 300 images \(first: image 10\)",
    ):
        planted.fit([np.arange(30)])


def test_a_feature_silent_on_the_subset_cannot_take_over() -> None:
    planted = Planted(100)
    [(before, _)] = planted.fit([np.arange(60)])
    planted.sources[1][:60, 0] = 1.0
    planted.sources[1][60:, 0] = 1e6
    [(after, _)] = planted.fit([np.arange(60)])
    assert planted.auc(after) > planted.auc(before) - 0.05


def noise_images(
    folder: Path, rng: np.random.Generator, labels: np.ndarray, train: int
) -> np.ndarray:
    """Names of images without content, listed with their labels in mine.csv.

    The first `train` are for training.
    """
    ids = np.array([f"{i}.png" for i in range(len(labels))])
    for name in ids:
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / name)
    lines = [
        f"{name},{'abc'[label]},{'train' if i < train else 'test'}"
        for i, (name, label) in enumerate(zip(ids, labels, strict=True))
    ]
    (folder / "mine.csv").write_text("\n".join(["path,label,split", *lines]))
    return ids


def test_a_run_over_one_informative_and_two_noise_members_finds_the_informative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole path, from files of features to the saved row.

    The fused score beats the members' mean, the saved map points at the first.
    """
    rng, labels = np.random.default_rng(1), np.arange(260) % 3
    ids = noise_images(tmp_path, rng, labels, train=160)
    centres = rng.normal(size=(3, 24))
    members = ("known", "noise1", "noise2")
    for name in members:
        features = rng.normal(size=(len(ids), 24)) + (centres[labels] if name == "known" else 0)
        np.savez(tmp_path / f"{name}.npz", ids=ids, features=features.astype(np.float32))
    monkeypatch.chdir(tmp_path)
    task, files = ("folder:mine.csv",), tuple(f"features:{name}.npz" for name in members)
    alone = execution.run(Grid(task, encoders=files, labels=("all",), seeds=1), tmp_path / "alone")
    fused = execution.run(
        Grid(
            task,
            methods=(f"dvme:{'+'.join(f'given@{f}' for f in files)}",),
            labels=("all",),
            seeds=1,
        ),
        tmp_path / "fused",
    )
    values = {row.cell.encoder: row.metrics["auc"]["value"] for row in alone.rows().values()}
    (row,) = fused.rows().values()
    assert list(values) == list(files) and max(values[files[1]], values[files[2]]) < 0.65
    assert row.metrics["auc"]["value"] > np.mean(list(values.values())) + 0.1
    saved = np.array(row.provenance["protocol"]["attention"]).mean(0)
    assert saved[0] > max(saved[1:]) + 0.02


def test_a_new_version_of_a_member_is_another_fusion(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Grid(
        tasks=(f"folder:{folder}",), size=32, methods=("dvme:supervised+random",), labels=("100",)
    )

    def fingerprints() -> set[str]:
        return {cell.fingerprint for cell in planning.plan(asked).cells}

    before = fingerprints()
    monkeypatch.setitem(registry.methods(), "random", replace(registry.method("random"), version=2))
    assert not before & fingerprints()


def test_a_fusions_row_tells_the_preprocessing_of_each_member(folder: Path, tmp_path: Path) -> None:
    asked = Grid(
        tasks=(f"folder:{folder}",),
        size=32,
        methods=("concat:random+random@test_resnet",),
        labels=("100",),
    )
    (row,) = execution.run(asked, tmp_path / "out").rows().values()
    ours, theirs = row.provenance["preprocessing"].split("; ")
    assert ours == "squash to 32 px bicubic, mean (0.5, 0.5, 0.5), std (0.5, 0.5, 0.5)"
    assert theirs.startswith("squash to 160 px")


def test_members_side_by_side_are_judged_as_one_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`concat` of two files gives the scores of the one file that holds both, by every protocol on
    features; all labels are one draw."""
    rng, labels = np.random.default_rng(2), np.arange(120) % 2
    ids = noise_images(tmp_path, rng, labels, train=80)
    parts = [
        (rng.normal(size=(len(ids), 6)) + 0.5 * labels[:, None]).astype(np.float32)
        for _ in range(2)
    ]
    for name, features in (
        ("one", parts[0]),
        ("two", parts[1]),
        ("both", np.concatenate(parts, axis=1)),
    ):
        np.savez(tmp_path / f"{name}.npz", ids=ids, features=features)
    monkeypatch.chdir(tmp_path)
    common = {
        "tasks": ("folder:mine.csv",),
        "labels": ("25", "all"),
        "seeds": 2,
        "protocols": ("linear", "knn", "svm"),
    }
    joined = Grid(methods=("concat:given@features:one.npz+given@features:two.npz",), **common)
    found = []
    for grid, out in (
        (joined, "joined"),
        (Grid(encoders=("features:both.npz",), **common), "both"),
    ):
        store = execution.run(grid, tmp_path / out)
        rows = {
            (row.cell.protocol, row.cell.labels, row.cell.seed): row
            for row in store.rows().values()
        }
        found.append({key: store.scores(row)["probabilities"] for key, row in rows.items()})
    assert list(found[0]) == list(found[1]) and len(found[0]) == 9
    for key, probabilities in found[0].items():
        np.testing.assert_allclose(probabilities, found[1][key], atol=1e-6)
