"""The studies in benchmarks/.

Every command in a header plans, and together they give every published cell that a table is printed
beside.
"""

from __future__ import annotations

import json
import re
import runpy
import shlex
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import pytest
from trees import chest, others, skin

from medbench.models import checkpoints, weights
from medbench.run import planning
from medbench.run import study as studies
from medbench.schema import OPTIONS, Encoder, Grid, Mark, UserError, Weights, registry

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PAPERS = ("azizi2021", "nielsen2023", "truong2021")
TREES = {
    "aptos": others.make_aptos,
    "pcam-kaggle": others.make_pcam_kaggle,
    "BM_cytomorphology_data": others.make_matek,
    "hyperkvasir": others.make_hyperkvasir,
    "nih": chest.make_nih_expert,
    "NIH": chest.make_nih,
    "kermany": chest.make_kermany,
    "chexpert": chest.make_chexpert,
    "isic2019": skin.make_isic,
    "scin": skin.make_scin,
}
FIELDS = {option.flag: name for name, option in OPTIONS.items()}


def study(name: str) -> tuple[Grid, str]:
    found = studies.load_study(str(BENCHMARKS / f"{name}.py"))
    return found.grid, found.text


def commands(name: str) -> Iterator[Grid]:
    """The grid of every `medbench run` in a study's header, and of those with the shell words that
    it defines."""
    whole, text = study(name)
    words = {key: value.strip('"') for key, value in re.findall(r"^    (\w+)=(.+)$", text, re.M)}
    lines = [
        line.strip()
        for line in text.splitlines()
        if line.startswith(f"    medbench run benchmarks/{name}.py")
    ]
    assert lines
    for line in lines:
        for key, value in words.items():
            line = line.replace(f"${key}", value)
        options = [
            part for word in shlex.split(line, comments=True)[3:] for part in word.split("=")
        ]
        changes: dict[str, object] = {}
        for option, value in zip(options[::2], options[1::2], strict=True):
            name = FIELDS[option]
            if isinstance(getattr(Grid(), name), tuple):
                changes[name] = tuple(value.split(","))
            elif name != "data":
                changes[name] = int(value) if name == "size" else value
        yield replace(whole, **changes)  # type: ignore[arg-type]


def encoders(asked: Grid) -> list[str]:
    """As cells name them."""
    return [f"{name}:{asked.weights}" if asked.weights else name for name in asked.encoders]


@pytest.fixture
def data(tmp_path: Path) -> str:
    for name, make in TREES.items():
        make(tmp_path / "data" / name)
    return str(tmp_path / "data")


@pytest.fixture
def weights_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has fetched them: their names and whose images they saw, no files."""

    def official(entry: checkpoints.Checkpoint, cache_dir: Path) -> Weights:
        return Weights(
            entry.name,
            entry.name.rjust(64, "0"),
            entry.trained_on,
            None,
            entry.layout,
            entry.mean,
            entry.std,
        )

    def supervised(encoder: Encoder, cache_dir: Path) -> Weights:
        return Weights(encoder.name, encoder.name.rjust(64, "0"), ("ImageNet-1k",), None)

    monkeypatch.setattr(checkpoints, "weights", official)
    monkeypatch.setattr(weights, "supervised", supervised)


@pytest.mark.usefixtures("weights_at_hand")
@pytest.mark.parametrize("name", PAPERS)
def test_every_command_of_a_header_plans(name: str, data: str) -> None:
    for asked in commands(name):
        plan = planning.plan(replace(asked, data=data))
        assert {cell.cell.task for cell in plan.cells} == set(asked.tasks)
        views = ["" if one == "modality" else f":{one}" for one in asked.augmentations]
        chosen = {
            method + view
            for method in asked.methods
            for view in (views if registry.method(method).augmented else [""])
        }
        assert {cell.cell.method for cell in plan.cells} == chosen
        assert {cell.cell.encoder for cell in plan.cells} == set(encoders(asked))


def test_the_study_of_skin_lesions_plans_on_its_phantom() -> None:
    (asked,) = commands("derm")
    cells = [planned.cell for planned in planning.plan(asked).cells]
    assert {cell.data for cell in cells} == {"phantom"} and {cell.size for cell in cells} == {64}
    assert (
        [sum(cell.labels == labels for cell in cells) for labels in ("1%", "10%", "100%")]
        == [
            7 * 20 + 2 * 10,
            7 * 20 + 2 * 10,
            7 + 2 * 3,
        ]
    )  # a fusion with its own head costs more, so it has half of the draws, and seeds with all labels


@pytest.mark.parametrize("name", PAPERS)
def test_without_its_images_a_study_says_how_to_get_them(name: str, tmp_path: Path) -> None:
    asked, _ = study(name)
    with pytest.raises(UserError, match=rf"medbench data list {asked.tasks[0]}"):
        planning.plan(replace(asked, data=str(tmp_path)))


PUBLISHED = runpy.run_path(str(BENCHMARKS / "published.py"), run_name="published")


@pytest.mark.usefixtures("weights_at_hand")
@pytest.mark.parametrize("name", ["nielsen2023", "truong2021"])
def test_the_commands_give_every_published_cell(name: str, data: str) -> None:
    """Whoever runs them all can print every table in full."""
    parts = ("task", "method", "source", "encoder", "readout", "size", "protocol")
    given: set[tuple[str, ...]] = set()
    for asked in commands(name):
        made = {
            tuple(str(getattr(planned.cell, part)) for part in parts)
            for planned in planning.plan(replace(asked, data=data)).cells
        }
        given |= {
            (*cell, "100%" if labels == "all" else labels)
            for cell, labels in product(made, asked.labels)
        }
    missing = set()
    for row in PUBLISHED["rows"](PUBLISHED["PUBLISHED"]):
        key = tuple(row[part] for part in (*parts, "labels"))
        # others have no counterpart of ours
        if row["study"] == name and row["method"] and key not in given:
            missing.add(key)
    assert not missing


MARKS = {
    "half of it": [Mark("partial", "the first half alone")],
    "APTOS 2019": [Mark("remark", "patients are not known")],
}


def leaderboard(folder: Path, *lines: str) -> Path:
    folder.mkdir()
    head = (
        "task,data,method,source,encoder,readout,size,protocol,labels,target,metric,mean,sd,status"
    )
    (folder / "leaderboard.csv").write_text("\n".join([head, *lines]) + "\n")
    tasks = {
        f"{task}|{data}|{line.split(',')[9]}": {
            "marks": [asdict(mark) for mark in MARKS.get(data, [])]
        }
        for line in lines
        for task, data in [line.split(",")[:2]]
    }
    (folder / "plan.json").write_text(json.dumps({"cells": [], "tasks": tasks}))
    return folder


OURS = "retina,APTOS 2019,dino,imagenet,vit_small_patch8_224.dino,last4,224,linear-truong2021,n50,test,weighted_kappa,0.61,0.05,done"


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def call(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["published.py", *arguments])
        try:
            PUBLISHED["main"]()
        except SystemExit as left:
            return int(left.code or 0)
        return 0

    return call


def test_a_papers_table_stands_beside_ours(
    beside: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = OURS.replace("APTOS 2019", "phantom").replace("n50", "n100")
    part = OURS.replace("APTOS 2019", "half of it").replace("n50", "100%")
    on_val, unfinished = (
        OURS.replace("n50,test", "n200,val"),
        OURS.replace("n50", "n500").replace("done", "missing"),
    )
    folder = leaderboard(tmp_path / "run", OURS, drawn, part, on_val, unfinished)
    assert beside("truong2021", "B2", str(folder)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {
        "half of it: PARTIAL: the first half alone",
        "APTOS 2019: patients are not known",
    } <= set(lines)
    assert lines[0] == "truong2021, B2: retina, weighted_kappa; ours (published, printed)"
    assert lines[2] == "| labels | Random | Supervised ImageNet | SwAV | SimCLR | DINO |"
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in lines[4:]
        if line.startswith("|")
    ]
    assert [line[0] for line in cells] == ["n50", "n100", "n200", "n500", "100%"]
    assert [line[-1] for line in cells[:3]] == [
        "0.610 ± 0.050 (0.600 ± 0.069)",
        "0.610 ± 0.050 PHANTOM (0.689 ± 0.043)",
        "– (0.734 ± 0.024)",
    ]
    assert (
        cells[3][-1].startswith("– (") and cells[4][-1] == "0.610 ± 0.050 PARTIAL (0.779 ± 0.008)"
    )
    assert beside("truong2021", "B6", str(folder)) == 0
    printed = capsys.readouterr().out
    assert "* Random, n100: suspected misprint" in printed
    assert "Where this departs from the paper:\n- Test parts. PatchCam and APTOS" in printed, (
        "a table never stands without it"
    )
    assert beside("nielsen2023", "marrow", str(folder)) == 0
    printed = capsys.readouterr().out
    assert (
        "(0.278 *)" in printed
        and "* DINO, SVM, 1/class: marker hidden" in printed
        and "(0.700)" in printed
    )


def test_what_was_made_otherwise_does_not_stand_beside_a_papers_number(
    beside: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapted = OURS.replace("imagenet", "imagenet+task").replace("0.61", "0.99")
    folder = leaderboard(
        tmp_path / "run",
        OURS,
        adapted,
        OURS.replace("last4", "pool").replace("n50", "n100"),
        OURS.replace(",224,", ",112,"),
    )
    assert beside("truong2021", "B2", str(folder)) == 0
    printed = capsys.readouterr().out
    assert (
        "0.610 ± 0.050 (0.600 ± 0.069)" in printed
        and "– (0.689 ± 0.043)" in printed
        and "0.990" not in printed
    )
    for difference in (
        "source imagenet+task; the paper's is imagenet",
        "readout pool; the paper's is last4",
        "size 112; the paper's is 224",
    ):
        assert f"not shown: DINO with {difference}" in printed


def test_what_a_table_cannot_be_made_of_is_one_line(
    beside: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = leaderboard(tmp_path / "twice", OURS, OURS.replace("APTOS 2019", "phantom"))
    for arguments, message in [
        (("truong2021", "B9", str(folder)), "has no table 'B9': B1, B2"),
        (
            ("truong2021", "B2", str(tmp_path)),
            "has no leaderboard.csv: medbench run benchmarks/truong2021.py",
        ),
        (("truong2021", "B2", str(folder)), "dino at n50 stands there for APTOS 2019 and phantom"),
    ]:
        assert beside(*arguments) == 2
        assert message in capsys.readouterr().err


def test_a_number_is_doubtful_by_its_column_whatever_its_note_says() -> None:
    row = next(row for row in PUBLISHED["rows"](PUBLISHED["PUBLISHED"]) if not row["doubtful"])
    plain, marked = (
        PUBLISHED["table"]([{**row, "doubtful": word, "note": "suspected of nothing"}], {}, {})
        for word in ("", "yes")
    )
    assert (
        " *)" not in "".join(plain)
        and " *)" in "".join(marked)
        and marked[-1].endswith(": suspected of nothing")
    )


def test_the_second_figure_and_the_recalls_are_whole() -> None:
    """What was read off the figure of 250+ classes, and its lines across.

    Three columns of 21 printed recalls, of the task's own classes.
    """
    from medbench.schema import registry

    every = [
        row for row in PUBLISHED["rows"](PUBLISHED["PUBLISHED"]) if row["study"] == "nielsen2023"
    ]
    second = [row["table"] for row in every if row["table"].endswith("250+")]
    recalls = [row for row in every if row["table"] == "marrow-recall"]
    assert {table: second.count(table) for table in second} == {
        "marrow-250+": 37,
        "endoscopy-250+": 36,
        "isic2019-250+": 34,
    }
    assert len(recalls) == 63 and {row["metric"] for row in recalls} == {
        f"recall {name}" for name in registry.task("marrow").classes
    }
    svm = [float(row["value"]) for row in recalls if row["column"] == "DINO, SVM"]
    assert sum(svm) / 21 == pytest.approx(0.725, abs=0.001), (
        "its mean is the balanced accuracy of the first figure"
    )


def test_recalls_stand_beside_the_printed_ones(
    beside: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fakes.results import study as fake

    store = fake(tmp_path / "run")
    found = PUBLISHED["recalls"](store.folder)
    row = next(
        row
        for row in store.rows().values()
        if row.cell.labels == "100%" and row.cell.method == "supervised"
    )
    labels, decisions = (
        store.target(row.provenance["target"])["labels"],
        store.scores(row)["decisions"],
    )
    key = ("task0", "supervised", "net", "linear", "100%", "recall yes")
    assert (
        float(found[key][0]["mean"]) == pytest.approx((decisions[labels == 1] == 1).mean())
        and found[key][0]["sd"] == ""
    )
    printed = [
        {
            **found[key][0],
            "column": "X",
            "value": "0.5",
            "sd": "",
            "doubtful": "",
            "note": "",
            "metric": f"recall {name}",
        }
        for name in ("yes", "no")
    ]
    lines = PUBLISHED["table"](printed, found, PUBLISHED["marks"](store.folder))
    assert (
        lines[0] == "| metric | X |"
        and lines[2].startswith("| recall yes | ")
        and "(0.500)" in lines[2]
    )
    (tmp_path / "run" / "leaderboard.csv").write_text("status,target\n")
    assert beside("nielsen2023", "marrow-recall", str(store.folder)) == 0
    assert (
        "| recall NGS | – (0.730 ± 0.020) | – (0.710 ± 0.050) | – (0.650 ± 0.080) |"
        in capsys.readouterr().out
    )
    assert beside("nielsen2023", "isic2019-250+", str(store.folder)) == 0
    assert "| 50/class | – (0.521) |" in capsys.readouterr().out
