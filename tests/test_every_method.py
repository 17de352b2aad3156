"""Contracts over the registry of methods, and one small run of all of them through the command
line."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medbench import Grid, Store
from medbench.methods.simclr import SIMCLR
from medbench.models import pretrain
from medbench.models.finetune import MODERN
from medbench.models.pretrain import recipe
from medbench.protocols import finetune
from medbench.report import leaderboard
from medbench.run import planning, prepare
from medbench.schema import Encoder, UserError, fingerprint, registry
from medbench.schema.methods import BUDGETS
from medbench.system import process_group
from medbench.system.file_names import as_file_name

Medbench = Callable[..., int]
SMALL = ("--size", "32", "--labels", "100", "--seeds", "1")
SMALLEST = ("--encoder", "test_resnet.r160_in1k")  # of timm's


@pytest.fixture
def few_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medbench.schema.methods.QUICK_VIEWS", 260)


@pytest.fixture
def bagged(tmp_path: Path) -> Path:
    """A CSV of 60 training and 24 test images of three kinds, two images a lesion, one lesion a
    patient."""
    rng = np.random.default_rng(0)
    (tmp_path / "bagged").mkdir()
    lines = ["path,label,group,bag,split"]
    for i in range(84):
        kind, part = i // 2 % 3, "train" if i < 60 else "test"
        pixels = rng.integers(0, 190, (36, 36, 3)) + np.eye(3, dtype=int)[kind] * 40
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "bagged" / f"{i}.png")
        lines.append(f"{i}.png,{'abc'[kind]},p{i // 2},l{i // 2},{part}")
    (tmp_path / "bagged" / "list.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "bagged" / "list.csv"


@pytest.mark.parametrize("method", registry.methods().values(), ids=lambda method: method.name)
def test_every_method_says_what_it_is(method: registry.Method) -> None:
    assert method.title and method.sources and method.version >= 1
    assert (method.fusion is None) == (method.weights is not None) == (method.encoder is not None)
    if method.fusion:
        assert all(
            registry.method(member.method).fusion is None for member in method.fusion.members
        )
    if method.recipes:
        for budget, source in product(BUDGETS, set(method.sources) - {"imagenet"}):
            try:
                stages = method.recipes("dermoscopy", budget, 5_000, source)
            except UserError:
                if budget != "paper":  # of that a method may say that no paper has one
                    raise
            else:
                json.dumps([stage.settings() for stage in stages])  # the fingerprint's part


def test_methods_are_compared_at_equal_views() -> None:
    for budget in ("quick", "standard"):
        views = {
            name: sum(
                stage.views
                for stage in registry.method(name).recipes("", budget, 5_000, "imagenet+task")
            )  # type: ignore[misc]
            for name, method in registry.methods().items()
            if method.recipes and name != "supervised-bn"
        }
        assert len(set(views.values())) == 1, views


@pytest.mark.usefixtures("few_views")
def test_all_methods_in_one_run(
    bagged: Path, medbench: Medbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of each default method, the fusion from its members' features.

    A second run does nothing; weights load strictly into timm.
    """
    out = tmp_path / "out"
    assert medbench("run", "--task", f"folder:{bagged}", *SMALL, "--out", str(out)) == 0
    rows = list(Store(out).rows().values())
    assert {row.cell.method for row in rows} == {
        name
        for name, method in registry.methods().items()
        if method.default and "timm" in method.encoders
    }
    for row in rows:
        assert row.metrics["auc"]["value"] is not None
    by = {row.cell.method: row for row in rows}
    (stage, paired) = by["micle"].provenance["pretraining"][0]["stages"]
    assert (
        not stage["paired"]
        and paired["paired"]
        and by["micle"].provenance["pretraining"][0]["pairs_from_two_images"] == 1.0
    )
    assert (
        "- micle: 100.0 % of its pairs are two images of one bag"
        in (out / "leaderboard.md").read_text()
    )
    assert np.array(by["dvme"].provenance["protocol"]["attention"]).shape == (3, 3)
    assert by["dvme"].cost["pretrain_seconds"] == pytest.approx(
        sum(by[m].cost["pretrain_seconds"] for m in ("simclr", "swav", "dino")), abs=0.2
    )
    assert "list.csv (training part)" in " ".join(by["simclr"].provenance["trained_on"])
    notes = " ".join(map(str, leaderboard.notes(leaderboard.leaderboards(Store(out))[0])))
    assert "Quick pretraining (4,000 views) shows" in notes
    assert "One pretraining or initialisation of" in notes

    monkeypatch.setattr(
        "medbench.models.pretrain.pretrain", lambda *_, **__: pytest.fail("it was trained before")
    )
    before = (out / "rows.jsonl").read_text()
    assert medbench("run", "--task", f"folder:{bagged}", *SMALL, "--out", str(out)) == 0
    assert (out / "rows.jsonl").read_text() == before


@pytest.mark.usefixtures("few_views")
def test_methods_that_are_named_make_rows(bagged: Path, medbench: Medbench, tmp_path: Path) -> None:
    """Each that pretrains and is not among the default ones.

    With a small encoder from random weights, as nothing is downloaded, MAE with a ViT; with the
    default one those that start from its weights alone.
    """
    named = {
        name for name, method in registry.methods().items() if method.recipes and not method.default
    } - {"mae"}
    adapted = {name for name in named if "task" not in registry.method(name).sources}
    drawn = named - adapted
    assert {"lejepa", "vicreg", "barlow", "byol", "mocov3"} <= drawn and adapted
    for methods, more in (
        (adapted, ()),
        (drawn, (*SMALLEST, "--source", "task")),
        ({"mae", "mocov3"}, ("--encoder", "test_vit.r160_in1k", "--source", "task")),
    ):
        out = tmp_path / "+".join(methods)
        assert (
            medbench(
                "run",
                "--task",
                f"folder:{bagged}",
                *SMALL,
                *more,
                "--methods",
                ",".join(methods),
                "--out",
                str(out),
            )
            == 0
        )
        rows = list(Store(out).rows().values())
        assert {row.cell.method for row in rows} == methods
        assert all(
            row.metrics["auc"]["value"] is not None and row.provenance["pretraining"]
            for row in rows
        )


@pytest.mark.slow
@pytest.mark.usefixtures("few_views")
def test_a_fusion_is_trained_end_to_end(
    bagged: Path, medbench: Medbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(MODERN, steps=4, epochs=0.1, rates=(1e-3,), batch=8)
    monkeypatch.setitem(
        registry.protocols(), "finetune", finetune._protocol("finetune", 1, "short", short)
    )
    papers = ("finetune-truong2021", "linear-truong2021-oversampled")
    for name in papers:
        true = registry.protocol(name)
        recipe = replace(true.evaluate.keywords["recipe"], steps=4, epochs=0.1, batch=8)  # type: ignore[attr-defined]
        monkeypatch.setitem(
            registry.protocols(), name, finetune._protocol(name, 1, "short", recipe)
        )
    fused, others, out = (
        "dvme:supervised+random",
        ("supervised", "concat:supervised+random"),
        str(tmp_path / "out"),
    )
    run = ("run", "--task", f"folder:{bagged}", *SMALL, "--out", out)
    assert medbench(*run, "--methods", ",".join((fused, *others)), "--protocols", "finetune") == 0
    assert medbench(*run, "--methods", fused, "--protocols", ",".join(papers)) == 0
    rows = list(Store(tmp_path / "out").rows().values())
    judged = {(row.cell.method, row.cell.protocol) for row in rows}
    assert judged == {*product((fused, *others), ("finetune",)), *product((fused,), papers)}
    assert all(
        row.chosen["rate"] == 1e-3 and row.metrics["auc"]["value"] is not None for row in rows
    )


@pytest.mark.usefixtures("few_views")
def test_what_several_processes_pretrained_is_not_taken_for_what_one_would(
    bagged: Path, medbench: Medbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run embeds weights of one process.

    Those of several have a place of their own, where they are found again.
    """
    trainings: list[Path] = []
    train = pretrain.pretrain
    monkeypatch.setattr(
        pretrain,
        "pretrain",
        lambda *args, **options: trainings.append(options["folder"]) or train(*args, **options),
    )
    alone = (
        "pretrain",
        "--task",
        f"folder:{bagged}",
        "--size",
        "32",
        *SMALLEST,
        "--source",
        "task",
        "--method",
        "simclr",
        "--out",
        str(tmp_path / "alone"),
    )
    with monkeypatch.context() as patch:
        patch.setattr(process_group, "join", lambda device: process_group.ProcessGroup("cpu", 0, 2))
        assert medbench(*alone) == 0
        assert medbench(*alone) == 0
    assert len(trainings) == 1
    assert (
        medbench(
            "run",
            "--task",
            f"folder:{bagged}",
            *SMALL,
            *SMALLEST,
            "--source",
            "task",
            "--methods",
            "simclr",
            "--out",
            str(tmp_path / "out"),
        )
        == 0
    )
    assert medbench(*alone) == 0
    assert len(set(trainings)) == len(trainings) == 2


@pytest.mark.usefixtures("few_views")
def test_pretrain_alone(
    bagged: Path,
    medbench: Medbench,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import timm

    monkeypatch.chdir(tmp_path)
    out = Path("runs", "pretrain", f"folder-{bagged.name}-simclr-chest")
    for views in ("chest,dermatology", "blurred"):
        assert medbench("pretrain", "--augmentations", views) == 2
        assert (
            f"Unknown augmentation '{views}'. Allowed: modality, dermatology, chest"
            in capsys.readouterr().err
        )
    assert (
        medbench(
            "pretrain",
            "--task",
            f"folder:{bagged}",
            "--size",
            "32",
            "--method",
            "simclr",
            "--augmentations",
            "chest",
        )
        == 0
    )
    said = capsys.readouterr().out
    assert (
        re.search(r" views( \(whole batches\))? in \d+ s, [\d.]+ a second", said)
        and (out / "history.json").exists()
    )
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    model.load_state_dict(torch.load(out / "simclr-chest.pth", weights_only=True), strict=True)
    for name in ("loss.png", "views.png"):
        with Image.open(out / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5
    (judging,) = re.findall("Judge it: medbench (.*)", said)
    assert (
        medbench(*shlex.split(judging), "--labels", "all", "--out", str(tmp_path / "judged")) == 0
    )
    (row,) = Store(tmp_path / "judged").rows().values()
    assert row.cell.method == "given" and (row.cell.encoder, row.cell.size) == (
        "tf_efficientnet_lite0:simclr-chest.pth",
        32,
    )
    assert medbench("pretrain", "--task", f"folder:{bagged}", "--method", "random") == 2
    assert "trains no encoder" in capsys.readouterr().err


def test_no_name_of_a_file_holds_what_windows_refuses() -> None:
    assert [
        as_file_name(name)
        for name in (
            "folder:moles",
            "simclr:chest",
            "dvme:swav+dino@vit/last4",
            'a<b>"c|d?e*f\\g',
            "moles. ",
        )
    ] == [
        "folder-moles",
        "simclr-chest",
        "dvme-swav+dino@vit-last4",
        "a-b--c-d-e-f-g",
        "moles",
    ]


def test_the_weights_identity_holds_everything_that_makes_them(
    bagged: Path, few_views: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sha(**changes: object) -> str:
        asked = replace(
            Grid(
                tasks=(f"folder:{bagged}",), methods=("simclr",), size=32, labels=("100",), seeds=1
            ),
            **changes,
        )  # type: ignore[arg-type]
        return planning.plan(asked).units[0].weights.sha256

    base = sha()
    assert base == sha(labels=("10",), seeds=2), "budgets and seeds of the labels change no weights"
    others = [
        sha(pretrain="standard"),
        sha(size=40),
        sha(source="task"),
        sha(methods=("swav",)),
        sha(precision="bf16"),
    ]
    assert len({base, *others}) == 6
    monkeypatch.setattr(recipe, "ADAPT_LR", 5e-4)
    assert sha() != base


@pytest.mark.slow
@pytest.mark.usefixtures("few_views")
def test_views_are_an_axis(bagged: Path, medbench: Medbench, tmp_path: Path) -> None:
    """Lines of their own, whose rows hold the views.

    A method without a choice stands there once.
    """
    out = tmp_path / "out"
    asked = ("--methods", "simclr,supervised", "--augmentations", "modality,chest,dermatology")
    assert medbench("run", "--task", f"folder:{bagged}", *SMALL, *asked, "--out", str(out)) == 0
    rows = {row.cell.method: row for row in Store(out).rows().values()}
    assert rows.keys() == {"simclr", "simclr:chest", "simclr:dermatology", "supervised"}
    turned = {
        name: row.provenance["pretraining"][0]["stages"][0]["crops"][0]["rotation"]
        for name, row in rows.items()
        if name != "supervised"
    }
    assert turned == {"simclr": 0, "simclr:chest": 45, "simclr:dermatology": 0}
    weights = {name: row.provenance["weights_sha256"] for name, row in rows.items()}
    assert weights["simclr"] == weights["simclr:dermatology"] != weights["simclr:chest"], (
        "the same views are trained on once"
    )
    assert medbench("table", str(out)) == 0
    assert "| simclr:chest |" in (out / "leaderboard.md").read_text()


def test_views_of_micle_and_a_name_that_says_them(bagged: Path) -> None:
    asked = Grid(
        tasks=(f"folder:{bagged}",),
        methods=("micle", "simclr:chest"),
        augmentations=("chest",),
        size=32,
        labels=("100",),
        seeds=1,
    )
    micle, simclr = planning.plan(asked).units
    assert (micle.method.name, simclr.method.name) == ("micle:chest", "simclr:chest")
    assert {
        crop.rotation for unit in (micle, simclr) for stage in unit.recipes for crop in stage.crops
    } == {45.0}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--augmentations", "chest,skin"), "Unknown augmentation 'skin'"),
        (
            ("--methods", "supervised,dino", "--augmentations", "chest"),
            "No method of this run is trained on the views 'chest'",
        ),
        (("--methods", "simclr:skin"), "Unknown augmentation 'skin' of simclr"),
        (
            ("--methods", "simclr", "--augmentations", "chest", "--source", "imagenet"),
            "Method 'simclr:chest' has no source 'imagenet'",
        ),
        (
            ("--augmentations", "chest", "--source", "imagenet"),
            "No method of this run is trained on the views 'chest'",
        ),
        (("--methods", "dino:chest"), "Unknown method 'dino:chest'"),
    ],
)
def test_views_that_cannot_be_chosen(
    arguments: tuple[str, ...], said: str, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medbench("run", "--task", "derm", "--data", "phantom", *arguments, "--plan") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("architecture", ["test_resnet", "resnet18", "regnetx_002", "resnetv2_18"])
def test_random_weights_have_their_residual_branches(architecture: str, tmp_path: Path) -> None:
    """As torchvision initialises them.

    A pretraining from random weights starts from timm's own, and other networks are as they were.
    """
    import timm

    random = registry.method("random")
    assert random.weights is not None and random.encoder is not None
    encoder = Encoder(architecture, architecture, "", 64, (0.5,) * 3, (0.5,) * 3, "bicubic")
    drawn = random.weights(encoder, "none", 3, tmp_path)
    assert drawn.sha256 not in (
        SIMCLR.weights(encoder, "task", 3, tmp_path).sha256,
        fingerprint("random", architecture, 64, 3),
    )  # type: ignore[misc]
    torch.manual_seed(3)
    wanted = timm.create_model(architecture, zero_init_last=False)
    wanted.reset_classifier(0)
    found = random.encoder(encoder, drawn, 3).state_dict()
    assert found.keys() == wanted.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.state_dict().items())
    assert all(bool(value.any()) for name, value in found.items() if name.endswith("weight"))
    plain = Encoder("test_vit", "test_vit", "", 64, (0.5,) * 3, (0.5,) * 3, "bicubic")
    assert random.weights(plain, "none", 3, tmp_path).sha256 == fingerprint(
        "random", "test_vit", 64, 3
    )


def test_a_fusion_shares_its_members_features(bagged: Path) -> None:
    asked = Grid(
        tasks=(f"folder:{bagged}",),
        methods=("simclr", "dvme:simclr+supervised"),
        size=32,
        labels=("100",),
        seeds=1,
    )
    single, fused = planning.plan(asked).units
    assert prepare.features_key(fused.members[0], "cpu") == prepare.features_key(single, "cpu")
    assert fused.cells[0].cell.source == "imagenet+task / imagenet"
