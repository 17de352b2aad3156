"""Contracts over the registry of protocols, of features and of pixels.

What `fitting.py` and the tables rely on.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medbench.run import fitting
from medbench.schema import KINDS, Bags, Kind, Protocol, Train, registry
from medbench.stats import metrics

CASES = [
    (protocol, kind)
    for protocol in registry.protocols().values()
    if protocol.needs == "features"
    for kind in protocol.kinds
]


def pool(kind: Kind, n: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Features (n, 6) with signal, labels of that kind with every class in the first ten, number of
    classes."""
    rng = np.random.default_rng(0)
    classes = 2 if kind == "binary" else 3
    if kind == "multilabel":
        labels = (np.arange(n)[:, None] // np.array([1, 2, 4]) % 2).astype(float)
        signal = labels.copy()
        labels[3, 1] = np.nan
    else:
        labels = np.arange(n) % classes
        signal = np.eye(classes)[labels]
    return (
        np.hstack(
            [signal + rng.normal(0, 0.7, signal.shape), rng.normal(size=(n, 6 - signal.shape[1]))]
        ).astype(np.float32),
        labels,
        classes,
    )


def bags(features: np.ndarray) -> Bags:
    """Cases of one to three images, their rows mixed, each with its own noise."""
    rng = np.random.default_rng(3)
    case = rng.permutation(np.repeat(np.arange(len(features)), 1 + np.arange(len(features)) % 3))
    return Bags(
        (features[case] + rng.normal(0, 0.3, (len(case), features.shape[1]))).astype(np.float32),
        case,
    )


def training(
    protocol: Protocol,
    features: np.ndarray,
    labels: np.ndarray,
    kind: Kind,
    classes: int,
    **more: Any,
) -> Train:
    """Of images, or of cases where the protocol judges those."""
    groups = np.arange(len(labels)).astype(str)
    if not protocol.cases:
        return Train(features, labels, groups, kind, classes, **more)
    whole = bags(features)
    return Train(whole.images, labels, groups, kind, classes, case=whole.case, **more)


def taken(protocol: Protocol, features: np.ndarray, rows: np.ndarray) -> Any:
    """What the protocol is shown of the examples at `rows`, in that order: of cases all images."""
    if not protocol.cases:
        return features[rows]
    whole = bags(features)
    kept = np.flatnonzero(np.isin(whole.case, rows))[::-1]
    place = np.argsort(rows)[np.searchsorted(np.sort(rows), whole.case[kept])]
    return Bags(whole.images[kept], place)


@pytest.mark.parametrize(
    ("protocol", "kind"), CASES, ids=lambda value: getattr(value, "name", value)
)
def test_every_protocol_keeps_its_word(protocol: Protocol, kind: Kind) -> None:
    features, labels, classes = pool(kind, 90)
    train = training(protocol, features[:60], labels[:60], kind, classes, seeds=(0, 1))
    shown = features[60:]
    draws = [np.arange(60), np.arange(24)]
    half = np.random.default_rng(1).permutation(30)[:15]
    answers = list(
        protocol.evaluate(
            train,
            {"all": taken(protocol, shown, np.arange(30)), "half": taken(protocol, shown, half)},
            draws,
        )
    )
    assert len(answers) == len(draws)
    for answer, draw in zip(answers, draws, strict=True):
        scores, alone = answer["all"], answer["half"]
        assert (
            metrics.score(labels[60:], scores.probabilities, scores.decisions, kind).values["auc"]
            > 0.6
        ), "it learns"
        np.testing.assert_allclose(
            alone.probabilities,
            scores.probabilities[half],
            atol=1e-5,
            err_msg="an image's score is its own",
        )
        np.testing.assert_array_equal(alone.decisions, scores.decisions[half])
        json.dumps([dict(scores.chosen), dict(scores.extra)], allow_nan=False)
        if scores.held_out is not None:
            assert (
                len(set(scores.held_out.index.tolist())) == len(scores.held_out.index) <= len(draw)
            )
            assert scores.held_out.probabilities.shape == (
                len(scores.held_out.index),
                scores.probabilities.shape[1],
            )


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [  # attention is trained, for seconds: one kind of task each time, all with the slow tests
        pytest.param(
            *case,
            marks=[pytest.mark.slow] * (case[0].name == "case-attention" and case[1] != "binary"),
        )
        for case in CASES
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_draw_gives_the_same_bits_whatever_is_solved_beside_it(
    protocol: Protocol, kind: Kind
) -> None:
    """A run that was killed between two draws solves the others alone, one that asks for more draws
    solves them beside new ones."""
    features, labels, classes = pool(kind, 240)
    train = training(protocol, features, labels, kind, classes)
    rng = np.random.default_rng(0)
    draws = [np.sort(rng.permutation(240)[:n]) for n in (60, 62, 58, 60, 150, 61)]
    shown = {"all": taken(protocol, features, np.arange(0, 240, 2))}
    every = list(protocol.evaluate(train, shown, draws))
    trained = protocol.cases and protocol.seeded  # each draw by itself, half a second
    for missing in ([1, 3],) if trained else ([0], [1, 3], [5, 4, 3, 2, 1]):
        for i, answer in zip(
            missing, protocol.evaluate(train, shown, [draws[i] for i in missing]), strict=True
        ):
            then, now = every[i]["all"], answer["all"]
            assert (now.chosen, now.extra) == (then.chosen, then.extra)
            np.testing.assert_array_equal(now.probabilities, then.probabilities)
            np.testing.assert_array_equal(now.decisions, then.decisions)
            assert (now.held_out is None) == (then.held_out is None)
            if now.held_out is not None and then.held_out is not None:
                np.testing.assert_array_equal(now.held_out.index, then.held_out.index)
                np.testing.assert_array_equal(
                    now.held_out.probabilities, then.held_out.probabilities
                )


PIXELS = [protocol for protocol in registry.protocols().values() if protocol.needs != "features"]


def short(protocol: Protocol) -> Any:
    """The protocol in three steps of eight images."""
    recipe = protocol.evaluate.keywords["recipe"]  # type: ignore[attr-defined]
    return partial(
        protocol.evaluate, recipe=replace(recipe, steps=3, epochs=0, batch=8, evaluations=1)
    )


@pytest.mark.parametrize(
    "protocol",
    [  # the others are of the same loop, and each is trained for seconds
        pytest.param(protocol, marks=[pytest.mark.slow] * (protocol.name != "finetune"))
        for protocol in PIXELS
    ],
    ids=lambda protocol: protocol.name,
)
def test_every_protocol_of_pixels_keeps_its_word(
    protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image's score is its own, a draw gives the same bits whatever is trained beside it, and
    what was trained already is not trained again."""
    if protocol.package:
        pytest.importorskip(protocol.package[0])
    from fakes.finetuning import LABELS, NETWORK, job, pictures, vit

    from medbench.models.finetune.loop import FineTuning

    network = replace(NETWORK, build=vit) if "adapters" in protocol.settings else NETWORK
    labels, classes = LABELS["multiclass"]
    places = [tmp_path / name for name in ("first", "second", "alone")]
    train = job(labels[:40], "multiclass", classes, tmp_path, network=network)
    shown, evaluate = pictures(labels[:12], seed=1), short(protocol)
    half = np.random.default_rng(1).permutation(12)[:6]
    draws = [np.arange(40), np.arange(24)]
    both = replace(train, seeds=[0, 1], folders=places[:2])
    answers = list(evaluate(both, {"all": shown, "half": shown[half]}, draws))
    for answer in answers:
        scores, alone = answer["all"], answer["half"]
        np.testing.assert_allclose(alone.probabilities, scores.probabilities[half], atol=1e-5)
        np.testing.assert_array_equal(alone.decisions, scores.decisions[half])
        np.testing.assert_allclose(scores.probabilities.sum(1), 1, atol=1e-5)
        json.dumps([dict(scores.chosen), dict(scores.extra)], allow_nan=False)
    (second,) = evaluate(replace(train, seeds=[1], folders=places[2:]), {"all": shown}, draws[1:])
    monkeypatch.setattr(FineTuning, "_step", None)
    again = list(evaluate(both, {"all": shown}, draws))
    for one, other in ((second, answers[1]), *zip(again, answers, strict=True)):
        assert one["all"].chosen == other["all"].chosen
        np.testing.assert_array_equal(one["all"].probabilities, other["all"].probabilities)


@pytest.mark.parametrize(
    "protocol", registry.protocols().values(), ids=lambda protocol: protocol.name
)
def test_every_protocol_says_what_it_is(protocol: Protocol) -> None:
    assert (
        protocol.title
        and protocol.version >= 1
        and protocol.kinds
        and set(protocol.kinds) <= set(KINDS)
    )
    json.dumps(dict(protocol.settings))  # the fingerprint's part


def test_probabilities_that_do_not_sum_to_one_are_refused() -> None:
    """A protocol that gives what a softmax takes, or one-against-rest scores, fails its cells and
    says for which image."""
    good = np.array([[0.2, 0.8], [0.5, 0.5]], np.float16)
    bad = good + np.array([[0.0], [0.1]])
    fitting._check_sums(good, "binary", "mine on test")
    fitting._check_sums(bad, "multilabel", "mine on test")
    with pytest.raises(
        ValueError,
        match=r"mine on test gives 1 of 2 images probabilities that do not sum to 1: image 1 1\.2",
    ):
        fitting._check_sums(bad, "binary", "mine on test")
