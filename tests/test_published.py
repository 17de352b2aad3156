"""Results that are passed on without predictions.

The same tables, verdicts, curves and page, and nothing of a single image. And those that are
committed: their tables, and the README's, are what their rows give.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes.results import study

from medbench import Store
from medbench.report import html, leaderboard
from medbench.report.compare import sentences
from medbench.run.merge import merge

ROOT = Path(__file__).parents[1]
COMMITTED = sorted(file.parent for file in (ROOT / "results").glob("*/plan.json"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return study(tmp_path_factory.mktemp("whole") / "out", tasks=2)


@pytest.fixture(scope="module")
def shared(whole: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("shared") / "out"
    assert merge([whole.folder], folder, predictions=False) == (18, 18)
    return Store(folder)


def test_the_tables_and_verdicts_are_the_same(whole: Store, shared: Store) -> None:
    # what a line finds of its worst class needs predictions
    of_images = " linear at 100%, the best, finds "
    kept = [line for line in leaderboard.markdown(whole).splitlines() if of_images not in line]
    last = re.compile(r" [^|]+ \|$")
    wide = next(line.count("|") for line in kept if "worst recall" in line)
    kept = [last.sub("", line) if line.count("|") == wide else line for line in kept]
    assert list(filter(None, leaderboard.markdown(shared).splitlines())) == list(filter(None, kept))
    assert leaderboard.markdown(whole).count(of_images) == 2, "of each task"
    assert sentences([shared], None, 0.01) == [
        line for line in sentences([whole], None, 0.01) if of_images not in line
    ]


def test_nothing_of_a_single_image_is_left(shared: Store) -> None:
    assert not list((shared.folder / "targets").iterdir())
    for file in (shared.folder / "scores").iterdir():
        with np.load(file) as arrays:
            assert set(arrays) == {"metrics", "resamples"}


def test_the_page_leaves_out_what_needs_predictions(whole: Store, shared: Store) -> None:
    both = [html.build_page([store]) for store in (whole, shared)]
    assert ['id="classes"' in markup for markup in both] == [True, False]
    assert all(
        f'id="{part}"' in both[1] for part in ("answer", "leaderboard", "curves", "verdicts")
    )


@pytest.mark.parametrize(
    "command",
    [
        ("clinical",),
        ("plot", "--kind", "reliability"),
        ("plot", "--kind", "confusion"),
        ("compare", "--permutations", "100"),
    ],
)
def test_what_needs_predictions_says_so(
    command: tuple[str, ...],
    shared: Store,
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert medbench(command[0], str(shared.folder), *command[1:]) == 2
    said = capsys.readouterr().err.strip()
    assert "holds no predictions of single images" in said and "\n" not in said


@pytest.mark.parametrize("command", [("report",), ("plot", "--format", "svg")])
def test_a_damaged_file_is_not_taken_for_one_that_was_left_out(
    command: tuple[str, ...],
    whole: Store,
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(whole.folder, tmp_path / "out")
    (folder / "targets" / "target0.npz").write_bytes(b"half of it")
    assert medbench(command[0], str(folder), *command[1:]) == 2
    assert "target0.npz is damaged" in capsys.readouterr().err


def test_what_can_be_drawn_is_drawn(
    shared: Store, tmp_path: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert medbench("plot", str(shared.folder), "--format", "svg", "--out", str(tmp_path)) == 0
    assert {file.stem for file in tmp_path.iterdir()} == {
        "curves",
        "heatmap",
        "cd",
        "cost",
        "forest-task0-T-test",
        "forest-task1-T-test",
    }


def test_a_shared_folder_can_be_merged_again(shared: Store, tmp_path: Path) -> None:
    other = study(tmp_path / "other", methods=("dino",))
    assert merge([shared.folder, other.folder], tmp_path / "all") == (21, 21)
    joined = Store(tmp_path / "all")
    assert sum("probabilities" in joined.arrays(row) for row in joined.rows().values()) == 3


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_the_committed_tables_are_what_the_committed_rows_give(
    folder: Path, tmp_path: Path
) -> None:
    copy = Store(shutil.copytree(folder, tmp_path / folder.name))
    leaderboard.write(copy)
    assert (copy.folder / "leaderboard.md").read_text() == (folder / "leaderboard.md").read_text()
    was, now = (pd.read_csv(where / "leaderboard.csv") for where in (folder, copy.folder))
    # other vector units add up in another order
    pd.testing.assert_frame_equal(was, now, rtol=1e-9, atol=1e-12)


def test_the_answers_and_the_table_of_the_readme_are_those_of_the_committed_rows(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (ROOT / "README.md").read_text()
    prose = " ".join(readme.replace("\n>", " ").split())
    folder = str(ROOT / "results" / "derm-standard")
    words = ["--rows", "method", "--cols", "labels", "--metric", "auc", "--format", "markdown"]
    assert medbench("table", folder, *words) == 0
    shown = capsys.readouterr().out
    against = next(
        line[2:] for line in shown.splitlines() if line.startswith("- Against supervised")
    )
    assert against in prose, f"paste it from medbench table {folder} {' '.join(words)}"
    table = shown[shown.index("| method |") :].split("\n\n", 1)[0]
    assert table in readme, "paste the table of derm-standard, by the same command"
    assert medbench("compare", folder) == 0
    answer, *others = capsys.readouterr().out.splitlines()
    saved = [
        line.strip()
        for line in others
        if " to equal supervised at 100%" in line and not line.strip().startswith("supervised")
    ]
    assert saved and all(line in prose for line in saved), "paste what the methods save"
    assert answer in prose, "paste the first line of medbench compare results/derm-standard"
    few = str(ROOT / "results" / "derm-standard-few")
    assert medbench("compare", few, "--against", "supervised") == 0
    ahead = re.findall(r"simclr .* is better than supervised: (\S+) ", capsys.readouterr().out)
    assert f"by {ahead[0]}, {ahead[1]} and {ahead[2]} AUC, each significant" in prose


def test_the_readme_s_verdicts_on_other_methods_and_classifiers(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    def verdicts(study: str, against: str, *only: str) -> set[tuple[str, ...]]:
        folder = str(ROOT / "results" / f"derm-{study}")
        assert medbench("compare", folder, "--against", against, *only) == 0
        decided = r"^\s+(\S+): (\S+) (?:\(these weights\) )?is (better|worse) than"
        return set(re.findall(decided, capsys.readouterr().out, re.MULTILINE))

    assert {one for one in verdicts("standard-others", "supervised") if one[2] == "better"} == {
        ("1%", "vicreg", "better"),
        ("1%", "lejepa", "better"),
        ("10%", "vicreg", "better"),
    }
    assert verdicts("112", "supervised") == {
        ("1%", "simclr", "better"),
        ("10%", "simclr", "better"),
    }
    assert {
        one for one in verdicts("standard-fusion", "simclr") if one[1] in ("concat", "dvme")
    } == {
        ("1%", "dvme", "worse"),
        ("10%", "dvme", "worse"),
    }
    assert not {one for one in verdicts("standard-classical", "supervised") if one[2] == "worse"}
    for protocol in ("linear", "knn", "svm", "logreg"):
        found = verdicts("standard-classical", "supervised", "--only", f"protocol={protocol}")
        assert {(labels, "simclr", "better") for labels in ("1/class", "10/class")} <= found


def test_a_baseline_of_several_protocols_is_a_family_within_each(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What `--only protocol=...` prints, protocol after protocol, and under the same p values."""
    folder = str(ROOT / "results" / "derm-standard-finetune")

    def told(*options: str) -> list[str]:
        assert medbench("compare", folder, "--against", "supervised", *options) == 0
        lines = capsys.readouterr().out.splitlines()
        return [line for line in lines if line.startswith("  10%")]

    assert told() == told("--only", "protocol=finetune") + told("--only", "protocol=linear") != []
    file = tmp_path / "pairs.json"
    assert told("--json", str(file))
    families = [one["family"] for one in json.loads(file.read_text(encoding="utf-8"))]
    assert [family.rpartition(" ")[2] for family in families] == ["(finetune)", "(linear)"]


def test_a_paper_table_says_of_the_ece_what_must_be_known_where_it_is_shown() -> None:
    boards = leaderboard.leaderboards(Store(ROOT / "results" / "kinds"))
    shown = {
        metric: [
            note
            for note in leaderboard.pivot(boards, metric=metric).sentences
            if note.startswith("ECE")
        ]
        for metric in ("accuracy", "ece")
    }
    assert not shown["accuracy"] and len(shown["ece"]) == 1


@pytest.mark.parametrize("name", ["cases", "lora_memory"])
def test_tables_of_the_protocols_page_are_what_their_script_printed(name: str) -> None:
    printed = (ROOT / "benchmarks" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    table = [line for line in printed if line.startswith("|")]
    assert len(table) > 3
    page = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    assert "\n".join(table) in page


def test_adapters_take_at_most_two_fifths_of_the_memory_of_full_fine_tuning() -> None:
    """Weights, gradients and Adam's state, of the tensors themselves."""
    text = (ROOT / "benchmarks" / "lora_memory.txt").read_text(encoding="utf-8")
    lines = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    assert len(lines) >= 4
    for line in lines:
        assert float(line[4]) <= 0.4 and float(line[3].replace("%", "")) <= 2.0
