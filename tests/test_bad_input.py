"""Whatever a person gets wrong: one clear line, exit code 2, nothing written."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.results import ABOUT, fill, make

from medbench import Store
from medbench.schema import DiskError, no_such_path, parsed
from medbench.tasks.folder import csv_listing

PROVENANCE = {"weights": "w", "trained_on": [], "precision": "fp32", "target": "t"}
Medbench = Callable[..., int]


@pytest.fixture
def refused(
    medbench: Medbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """refused("run", ...) -> the one line on standard error, after checking the exit code and that
    no result was written."""

    def call(*arguments: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert medbench(*arguments) == 2
        captured = capsys.readouterr()
        # less the progress lines
        lines = [line for line in captured.err.splitlines() if not re.match(r" *\d+\.\d s  ", line)]
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("medbench: ")
        assert captured.out == ""
        assert sorted(tmp_path.rglob("*")) == before, "nothing may be written"
        return lines[0].removeprefix("medbench: ")

    return call


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--task", "drem"],
            r"re:Unknown task 'drem'\. Allowed: .*Did you mean 'derm'\? Next: medbench list tasks",
        ),
        (
            ["--methods", "supervized"],
            r"re:Unknown method 'supervized'\. Allowed: .*micle.*Did you mean 'supervised'\? Next: medbench list methods",
        ),
        (
            ["--protocols", "liner"],
            r"re:Unknown protocol 'liner'\. Allowed: .*knn.*Did you mean 'linear'\? Next: medbench list protocols",
        ),
        (
            ["--encoder", "resnet_50"],
            r"re:Unknown encoder 'resnet_50'\. Allowed: .*Did you mean 'resnet50'\? Next: medbench list encoders",
        ),
        (["--task", ""], "The name of a task is empty. Next: medbench list tasks"),
        (["--encoder", ""], "No encoder was given. Next: leave the option out for its default"),
        (
            ["--task", ".."],
            r"re:'\.\.' is a path, not the name of a task\. Next: medbench run --task 'folder:\.\.'",
        ),
        (["--encoder", "a, b/e.py:net"], "a, b/e.py does not exist."),
        (["--encoder", "resnet50.tv_in1k, b/e.py:net"], "b/e.py does not exist."),
        (["--encoder", "features:a, b.npz"], "a, b.npz does not exist."),
        (
            ["--encoder", "mine.py"],
            r"re:'mine\.py' names no function\. Next: medbench run --encoder mine\.py:NAME",
        ),
        (
            ["--encoder", "resnet18"],
            r"re:Encoder 'resnet18' has 7 checkpoints: say which .*resnet18\.tv_in1k.*Next: medbench run --encoder NAME.TAG",
        ),
        (
            ["--labels", "0"],
            r"re:Label budget '0' is not understood\. Allowed: a percentage above 0 and up to 100 .*Next: medbench run --labels 1,10,100",
        ),
        (
            ["--labels", "1,101"],
            r"re:Label budget '101' is not understood\. Allowed: a percentage above 0 and up to 100",
        ),
        (
            ["--labels", "abc"],
            r"re:Label budget 'abc' is not understood\. Allowed: a percentage above 0 and up to 100",
        ),
        (["--labels", ""], "No label budget was given. Next: leave the option out for its default"),
        (
            ["--seeds", "0"],
            "The number of seeds, 0, is out of range. Allowed: auto, 1 to 1000. Next: medbench run --seeds auto",
        ),
        (
            ["--seeds", "atuo"],
            "--seeds 'atuo' is not a number. Allowed: auto, 1 to 1000. Did you mean 'auto'? Next: --seeds auto",
        ),
        (
            ["--pretrain-seeds", "-2"],
            "The number of pretraining seeds, -2, is out of range. Allowed: 1 to 1000. Next: medbench run --pretrain-seeds 1",
        ),
        (
            ["--methods", ","],
            "--methods ',' names nothing. Next: leave --methods out for its default",
        ),
        (
            ["--corruptions", ""],
            "--corruptions '' names nothing. Next: leave --corruptions out for its default",
        ),
        (["--data", ""], "--data is empty. Next: give it a value, or leave --data out"),
        ([""], r"re:'' is not a study, which is a Python file with a constant GRID"),
        (
            ["--methods", "dvme:random@+supervised"],
            r"re:'random@' in 'random@\+supervised' is not a member\. Allowed: swav\+dino",
        ),
        (
            ["--size", "7"],
            "Image size 7 is out of range. Allowed: 32 to 1024 pixels. Next: medbench run --size 112",
        ),
        (
            ["--precision", "fp8"],
            "Unknown precision 'fp8'. Allowed: fp32, tf32, bf16. Did you mean 'fp32'?",
        ),
        (
            ["--on", "tset"],
            "Unknown part 'tset' to score on. Allowed: test, val. Did you mean 'test'? Next: medbench run --on val",
        ),
        (
            ["--source", "tasks"],
            r"re:No method has the source 'tasks'\. Allowed: auto, .*Did you mean 'task'\?",
        ),
        (
            ["--pretrain", "fast"],
            "Unknown pretraining budget 'fast'. Allowed: quick, standard, paper, a number of views from 1000 to 1000000000. Next: medbench run "
            "--pretrain quick",
        ),
        (["--pretrain", "500"], r"re:.*budget '500'.* Next: medbench run --pretrain 1000$"),
        *(
            (["--pretrain", views], f"re:Unknown pretraining budget '{views}'.* from 1000 to ")
            for views in ("999", "5e4", "05000", "1000000001")
        ),
        (
            ["--methods", "dvme", "--protocols", "knn"],
            "Method 'dvme' trains its own head over its members' features: protocol 'knn' has nothing to fit. Allowed: "
            "finetune, finetune-truong2021, finetune-truong2021-oversampled, linear-truong2021, linear-truong2021-oversampled, "
            "finetune-nielsen2023, linear. Next: medbench run --methods dvme --protocols linear,finetune",
        ),
        (
            ["--methods", "dvme:swav+dyno"],
            r"re:Unknown method 'dyno'\. Allowed: .*Did you mean 'dino'\?",
        ),
        (["--methods", "dvme:swav"], r"re:'swav' does not name two different members\."),
        (
            ["--source", "imagenet", "--methods", "random"],
            "Method 'random' has no source 'imagenet'. Allowed: auto, none.",
        ),
        (
            ["--ordinal"],
            "--ordinal describes a folder of your own; task 'derm' is what it is. Next: medbench run --task derm",
        ),
        (
            ["--task", "folder:x", "--data", "y"],
            "--data y says nothing of a folder of your own, which --task names. Next: leave --data out",
        ),
        (
            ["--device", "cuda:7"],
            r"re:Device 'cuda:7' is not there\. Allowed: auto, cpu.*Next: --device cpu",
        ),
        (
            ["--levels", "anything"],
            "--levels is only for --corruptions. Next: medbench run --corruptions all",
        ),
        (
            ["--protocols", "finetune", "--keep-weights", "--engine", "ray"],
            "re:--keep-weights keeps files in the cache of the machine that trains.*Next: leave --keep-weights out",
        ),
        (["--methods", "x" * 5000], r"re:Unknown method 'x{79}\.\.\.x{18}'\. Allowed: "),
        (["--data", "x" * 5000], r"re:'x{80}' cannot be a path: .{,160}$"),
        (
            ["--labels", "1 " * 5000],
            r"re:Label budget '[1 ]{3400,3600} \.\.\. [1 ]*' is not understood\. Allowed: a percentage above 0 and up to 100",
        ),
        (["--device", "gpu"], r"re:Device 'gpu' is not there\. Allowed: auto, cpu"),
        (
            ["--data", "nowhere"],
            r"re:--data nowhere is not a folder\. Next: --data phantom, or medbench data list derm",
        ),
        (
            ["--data", "."],
            r"re:--data \. does not hold HAM10000: it has no folder ham10000, .*\. Next: --data phantom, or medbench data list derm",
        ),
        (["--task", "folder:nowhere"], r"re:nowhere does not exist: no 'nowhere' in "),
    ],
)
def test_run_refuses(refused: Callable[..., str], arguments: list[str], line: str) -> None:
    given = refused("run", *arguments)
    if line.startswith("re:"):
        assert re.match(line.removeprefix("re:"), given), given
    else:
        assert given == line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--task", "folder:~nosuchuser/x"], "'~nosuchuser/x' cannot be a path"),
        (["--data", "~nosuchuser/x"], "'~nosuchuser/x' cannot be a path"),
        (["--encoder", "features:~nosuchuser/x.npz"], "'~nosuchuser/x.npz' cannot be a path"),
        (["--task", "folder:" + "x" * 300], "cannot be a path: "),
    ],
)
def test_what_cannot_be_a_path(
    refused: Callable[..., str], arguments: list[str], line: str
) -> None:
    assert line in refused("run", *arguments)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["predict", "model", "images"], "Missing option '--out'. Next: medbench predict -h"),
        (["predict", "."], "Missing argument 'images'. Next: medbench predict -h"),
        (["tabel", "x"], "No such command 'tabel'. Did you mean 'table'? Next: medbench -h"),
        (["table", "x" * 5000], "xxx"),
        (["data", "nosuch"], "No such command 'nosuch'. Next: medbench data -h"),
        (["run", "--lables", "1"], "No such option: --lables"),
        (["run", "a", "b\x1b[2J"], "Got unexpected extra argument"),
        (["export", ".", "--out", "m", "--seed", "9" * 5000 + "x"], "Invalid value for '--seed': "),
    ],
)
def test_words_that_no_command_takes_are_one_line(
    refused: Callable[..., str], arguments: list[str], line: str, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "images").mkdir()
    said = refused(*arguments)
    assert said.startswith(line) and re.search("Next: (medbench|fix) ", said) and len(said) < 400


def test_without_a_command_the_help_is_shown(
    medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medbench() in (0, 2)  # by the version of what reads the words
    assert "Usage: medbench [OPTIONS] COMMAND" in "".join(capsys.readouterr())


def test_split_refuses_what_run_refuses(refused: Callable[..., str]) -> None:
    assert "The number of seeds, 0, is out of range" in refused(
        "data", "split", "derm", "--seeds", "0"
    )
    assert "No label budget was given" in refused("data", "split", "derm", "--labels", ",")


def test_list_refuses(refused: Callable[..., str]) -> None:
    wanted = "Cannot list 'task'. Allowed: tasks, methods, protocols, encoders, checkpoints. Did you mean 'tasks'? Next: medbench list tasks"
    assert refused("list", "task") == wanted


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["doctor", "--size", "64"],
            "Without --encoder the machine is examined, and no other option applies. Next: medbench doctor --encoder NAME ...",
        ),
        (
            ["merge", "results", "--out", ""],
            "A file or folder is named by an empty text. Next: give it a name, or leave the option out",
        ),
        (
            ["compare", "results", "--permutations", "99999999999"],
            "A margin lies from 0 to 1 and permutations from 0 to 100,000; given 0.01 and 99999999999.",
        ),
        (
            ["doctor", "--encoder", "resnet18.tv_in1k", "--data", "/no/such/folder"],
            "--data is only for --task. Next: medbench doctor --encoder resnet18.tv_in1k --task NAME --data /no/such/folder",
        ),
        (
            ["pretrain", "--seed", "-1"],
            "--seed -1 is out of range. Allowed: 0 to 999. Next: medbench pretrain --seed 0",
        ),
        (
            ["data", "show", "derm", "--out", "a.jpg"],
            "--out writes a PNG file, not 'a.jpg'. Next: --out a.png",
        ),
        (
            ["shortcuts", "derm", "--columns", ","],
            "--columns ',' names nothing. Next: leave --columns out for its default",
        ),
    ],
)
def test_options_that_do_not_apply_or_say_nothing(
    refused: Callable[..., str], arguments: list[str], line: str
) -> None:
    assert refused(*arguments) == line


def test_table_refuses_a_folder_without_a_plan(refused: Callable[..., str], tmp_path: Path) -> None:
    assert refused("table", str(tmp_path)).endswith(
        "is not a results folder: it has no plan.json. Next: medbench run --out FOLDER"
    )


def test_a_folder_that_does_not_exist_is_said_so_and_only_folders_are_suggested(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report.png").touch()
    place = tmp_path / "repor"
    # the absolute path is in the message once as given, once as where it would lie
    said = (
        f"{place} does not exist: no 'repor' in {tmp_path}. Allowed: report. Did you mean 'report'?"
        " Next: name a folder that medbench run has written"
    )
    for name in "abcdefgh":
        (tmp_path / f"other-{name}").mkdir()
    for command in (["table"], ["compare"], ["status"], ["merge", "--out", "c"]):
        assert refused(*command, str(place)).endswith(said), command
    assert said.partition(" Next")[0] in refused("advise", str(place))


def test_an_empty_folder(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (
        "empty holds no class folders. Next: put the images of each class into a folder"
        in refused("run", "--task", f"folder:{tmp_path}/empty")
    )


def test_corrupt_images_among_good_ones_are_all_named(
    refused: Callable[..., str], folder: Path
) -> None:
    (folder / "train" / "mel" / "train3.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    file = folder / "test" / "nv" / "test1.png"
    file.write_bytes(file.read_bytes()[:200])
    line = refused("run", "--task", f"folder:{folder}", "--size", "32", "--methods", "random")
    assert "train/mel/train3.png" in line
    assert "test/nv/test1.png" in line


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (
            ["train/nv/none.png,a"],
            r"1 of 7 images do not exist in .*: train/nv/none\.png\. Next: fix their paths",
        ),
        (
            ["train/nv/" + "x" * 300 + ".png,a"],
            r"images\.csv line 8: 'train/nv/x+\.\.\.' is longer than a file's name can be",
        ),
        (
            ["train/nv/train9.png,c\x1b[2J", "train/nv/train8.png,c\x1b[2J"],
            r"The name 'c\\x1b\[2J' holds control characters\. Next: rename",
        ),
    ],
)
def test_a_csv_that_is_wrong(
    refused: Callable[..., str], folder: Path, rows: list[str], line: str
) -> None:
    """As a command says it; what else is refused of a CSV is in `test_folder`."""
    good = [f"train/nv/train{i}.png,{'ab'[i % 2]}" for i in range(6)]
    (folder / "images.csv").write_text("\n".join(["path,label", *good, *rows]))
    assert re.search(line, refused("run", "--task", f"folder:{folder}/images.csv"))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "list.csv needs the columns path and label (or label:NAME, several); it is empty."),
        (
            b"PK\x03\x04" + bytes(99),
            "list.csv is not a CSV file, but a zip archive, as Excel's workbooks are. Next: save it as CSV UTF-8",
        ),
        (
            b"<!DOCTYPE html><html></html>",
            "list.csv is not a CSV file, but a web page: a download went wrong. Next: save it as CSV UTF-8",
        ),
    ],
)
def test_a_csv_that_is_another_file(
    refused: Callable[..., str], tmp_path: Path, content: bytes, line: str
) -> None:
    (tmp_path / "list.csv").write_bytes(content)
    assert refused("run", "--task", "folder:list.csv") == line
    if content:
        assert refused("audit", "--images", "list.csv") == line
        assert refused("predict", ".", "list.csv", "--out", "p.csv") == line


@pytest.mark.parametrize(
    "arguments",
    [
        ("audit", "folder:{}/images.csv", "--fast", "--groups", "{}/images.csv"),
        ("audit", "folder:{}/images.csv", "--csv", "new.csv", "--json", "./new.csv"),
        ("audit", "--images", "{}/images.csv", "--json", "{}/images.csv"),
        ("validate", "model", "{}/images.csv", "--out", "{}/images.csv"),
    ],
)
def test_what_a_command_reads_is_not_written_over(
    refused: Callable[..., str], folder: Path, arguments: tuple[str, ...]
) -> None:
    (folder / "images.csv").write_text("path,label\ntrain/nv/train0.png,a\n")
    said = refused(*(word.replace("{}", str(folder)) for word in arguments))
    assert "is named twice in this command" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("table", "{}", "--format", "csv", "--out", "{}/rows.jsonl"),
        ("compare", "{}", "--json", "{}/plan.json"),
        ("check", "--rows", "{}", "--against", "{}", "--json", "{}/rows.jsonl"),
        ("check", "--rows", "{}", "--against", "{}", "--junit", "{}/judged.jsonl"),
    ],
)
def test_records_of_results_are_not_written_over(
    refused: Callable[..., str], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    for name in ("plan.json", "rows.jsonl", "judged.jsonl"):
        (tmp_path / name).write_text("{}\n")
    said = refused(*(word.replace("{}", str(tmp_path)) for word in arguments))
    assert "is a record of results, which would be lost. Next: name another file" in said


def test_a_csv_may_open_with_blank_lines_and_its_columns_need_names(
    refused: Callable[..., str], folder: Path
) -> None:
    rows = [f"train/nv/train{i}.png;{'ab'[i % 2]}" for i in range(6)]
    (folder / "images.csv").write_text("\n\npath;label\n" + "\n\n".join(rows))
    assert len(csv_listing.read_csv(folder / "images.csv").ids) == 6
    (folder / "images.csv").write_text("path;label;;\n" + ";;\n".join(rows))
    assert (
        refused("run", "--task", f"folder:{folder}/images.csv")
        == "images.csv has two columns without a name."
    )


def test_a_link_to_nothing_is_no_image_that_may_be_left_out(
    refused: Callable[..., str], folder: Path
) -> None:
    (folder / "train" / "nv" / "annexed.png").symlink_to("/nowhere/object")
    assert "annexed.png is a link to nothing. Next: fetch what it names (git annex get" in refused(
        "run", "--task", f"folder:{folder}"
    )


def make_csv(folder: Path, *, leak: bool) -> Path:
    """Both parts hold both classes; groups of two images, torn between the parts if leak."""
    lines = ["path,label,group,split"]
    for part, n in (("train", 12), ("test", 6)):
        for name in ("mel", "nv"):
            lines += [
                f"{part}/{name}/{part}{i}.png,{name},{'' if leak else part}{name}{i // 2},{part}"
                for i in range(n)
            ]
    (folder / "images.csv").write_text("\n".join(lines))
    return folder / "images.csv"


def test_a_group_in_two_parts(
    refused: Callable[..., str],
    medbench: Medbench,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = f"folder:{make_csv(folder, leak=True)}"
    arguments = ["run", "--task", task, "--size", "32", "--methods", "random", "--labels", "100"]
    assert re.search(
        r"group 'mel0' is in both train and test \(6 such groups\): .*--allow-leak",
        refused(*arguments),
    )
    assert medbench(*arguments, "--allow-leak") == 0
    assert "LEAK: 6 groups are in both train and test" in capsys.readouterr().out
    assert medbench("table", "runs/folder-images.csv") == 0
    assert "LEAK" in capsys.readouterr().out
    assert "LEAK" in Path("runs/folder-images.csv/leaderboard.md").read_text()


def test_a_class_missing_from_the_test_part(
    refused: Callable[..., str],
    medbench: Medbench,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.rmtree(folder / "test" / "nv")
    arguments = [
        "run",
        "--task",
        f"folder:{folder}",
        "--size",
        "32",
        "--methods",
        "random",
        "--labels",
        "100",
    ]
    assert re.search(
        r"The test part of 'folder:mine' has no image of class 'nv' \(1 of 3.*--allow-partial",
        refused(*arguments),
    )
    assert medbench(*arguments, "--allow-partial") == 0
    assert "AUC is the mean over 2 of 3 classes" in capsys.readouterr().out
    (row,) = Store(Path("runs/folder-mine")).rows().values()
    assert row.metrics["auc"]["classes"] == 2


def test_one_image_with_two_labels_is_found_by_its_content(
    refused: Callable[..., str], folder: Path
) -> None:
    shutil.copy(folder / "train" / "nv" / "train0.png", folder / "train" / "mel" / "copy.png")
    line = refused("run", "--task", f"folder:{folder}", "--size", "32")
    what, _, then = line.partition(". All: ")
    assert (
        what
        == "1 image has two labels, byte for byte the same file: 'train/mel/copy.png' (mel) and 'train/nv/train0.png' (nv)"
    )
    file, _, then = then.partition(" Next: ")
    assert (
        then
        == "fix the labels or remove these images, or run with --allow-leak, which marks every table"
    )
    assert Path(file.rstrip(".")).read_text().splitlines()[1:] == [
        "1,train/mel/copy.png,train,train/mel/copy.png,mel",
        "1,train/nv/train0.png,train,train/nv/train0.png,nv",
    ]


def test_of_many_images_with_two_labels_ten_are_shown_and_all_listed(
    refused: Callable[..., str], folder: Path
) -> None:
    for i in range(12):
        shutil.copy(
            folder / "train" / "nv" / f"train{i}.png", folder / "train" / "mel" / f"copy{i}.png"
        )
    line = refused("run", "--task", f"folder:{folder}", "--size", "32")
    assert (
        line.startswith("12 images have two labels")
        and line.count("(mel)") == line.count("(nv)") == 10
    )
    file = re.search(r"All: (\S+\.csv)\. Next: ", line)
    assert file
    rows = list(csv.DictReader(Path(file[1]).read_text().splitlines()))
    assert len(rows) == 24 and {row["image"] for row in rows} == set(map(str, range(1, 13)))


def test_one_image_in_two_parts_is_found_by_its_content(
    refused: Callable[..., str],
    medbench: Medbench,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(folder / "train" / "nv" / "train0.png", folder / "test" / "nv" / "copy.png")
    arguments = [
        "run",
        "--task",
        f"folder:{folder}",
        "--size",
        "32",
        "--methods",
        "random",
        "--labels",
        "100",
    ]
    assert "are the same image in two parts (1 such image)" in refused(*arguments)
    assert medbench(*arguments, "--allow-leak") == 0
    assert "LEAK: 1 image is in two parts, byte for byte" in capsys.readouterr().out


def test_two_tasks_of_one_name(refused: Callable[..., str], folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "other" / "mine")
    line = refused(
        "run",
        "--task",
        f"folder:{folder}",
        "--task",
        f"folder:{tmp_path}/other/mine",
        "--size",
        "32",
    )
    assert line.startswith("Two tasks of this run are called 'folder:mine'.")


def test_an_output_folder_that_cannot_be_written(
    refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    line = refused(
        "run",
        "--task",
        f"folder:{folder}",
        "--size",
        "32",
        "--methods",
        "random",
        "--out",
        f"{tmp_path}/file/out",
    )
    assert re.search(
        r"file/out cannot be written: .*/file: Not a directory\. Next: medbench run --out FOLDER",
        line,
    )


def test_an_output_folder_is_tried_before_anything_is_planned(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    """`refused` takes one line alone: no note on the phantom stands before it."""
    (tmp_path / "file").write_text("")
    assert "file/out cannot be written" in refused(
        "run", "--data", "phantom", "--out", f"{tmp_path}/file/out"
    )
    assert "file/out cannot be written" in refused(
        "pretrain", "--data", "phantom", "--out", f"{tmp_path}/file/out"
    )
    (tmp_path / "runs").write_text("")
    assert refused("run", "--data", "phantom").startswith("runs/TASK cannot be written: ")


def test_ctrl_c_says_so_wherever_it_falls(
    medbench: Medbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medbench.run.planning.plan", interrupted)
    assert medbench("run", "--data", "phantom") == 130
    assert (
        capsys.readouterr().err
        == "medbench: stopped. The same command goes on with what was finished.\n"
    )


def test_a_cache_that_cannot_be_written(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDBENCH_CACHE", f"{tmp_path}/file/cache")
    assert re.search(r"cache folder .* \(MEDBENCH_CACHE\) cannot be written", refused("run"))


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("plan.json", b"hello", r"plan\.json is not a plan of this medbench"),
        (
            "plan.json",
            b'{"cells": [], "tasks": {}}',
            r"holds no cell: its plan is empty\. Next: medbench run --out ",
        ),
        ("plan.json", {"tasks": {}}, r"plan\.json is not a plan of this medbench"),
        (
            "plan.json",
            {"tasks": {"t|T|test": ABOUT | {"metric": "sharpness"}}},
            r"plan\.json is not a plan .*kind and metric are",
        ),
        (
            "plan.json",
            {"tasks": {"t|T|test": ABOUT | {"parts": {}}}},
            r"plan\.json is not a plan of this medbench \(parts lacks test\)",
        ),
        (
            "plan.json",
            b"[" * 100_000,
            r"plan\.json is not a plan of this medbench \(it is nested too deeply\)",
        ),
        (
            "plan.json",
            {"tasks": {"t|T|test": ABOUT | {"classes": []}}},
            r"plan\.json is not a plan .*classes are not texts",
        ),
        (
            "plan.json",
            {"tasks": {"t|T|test": ABOUT | {"classes": ["a", "b\x1b[2J"]}}},
            r"plan\.json .*hold control characters",
        ),
        (
            "rows.jsonl",
            b"[" * 100_000 + b"\n",
            r"rows\.jsonl, line 1, is not JSON \(it is nested too deeply\)",
        ),
        ("rows.jsonl", b"null\n", r"rows\.jsonl, line 1, is not a record of medbench"),
        ("rows.jsonl", {"fingerprint": 3}, r"rows\.jsonl, line 1, is not a record of medbench"),
        (
            "rows.jsonl",
            {"metrics": {"auc": {"value": "high", "low": None, "high": None}}},
            r"rows\.jsonl, line 1, is not a record of medbench.*auc value is 'high'",
        ),
        (
            "rows.jsonl",
            {"provenance": {}},
            r"rows\.jsonl, line 1, is not a record of medbench \(provenance lacks weights\)\. Next: remove that",
        ),
        (
            "rows.jsonl",
            {"metrics": {"auc": {"value": 2**70, "low": None, "high": None}}},
            r"rows\.jsonl, line 1, is not a record of medbench \(a metric is beyond 1e\+09\)",
        ),
        (
            "rows.jsonl",
            {"cost": {}},
            r"rows\.jsonl, line 1, is not a record of medbench \(cost lacks seconds\)",
        ),
        (
            "rows.jsonl",
            {"metrics": {}},
            r"rows\.jsonl, line 1, is not a record of medbench \(metrics lacks auc\)",
        ),
        (
            "rows.jsonl",
            {"n_labels": None},
            r"rows\.jsonl, line 1, is not a record of medbench \(n_labels is None\)",
        ),
        (
            "rows.jsonl",
            {"provenance": PROVENANCE | {"parts": "all"}},
            r"rows\.jsonl, line 1, .* \(provenance parts is 'all'\)",
        ),
        (
            "rows.jsonl",
            {"chosen": {"penalty": float("nan")}},
            r"rows\.jsonl, line 1, is not JSON \(NaN is not a number of JSON\)",
        ),
        (
            "rows.jsonl",
            {"chosen": {"penalty": "\ud800"}},
            r"rows\.jsonl, line 1, is not JSON \(it holds half of a character\)",
        ),
        ("rows.jsonl", None, r"rows\.jsonl: Is a directory\. Next: fix that"),
        (
            "scores",
            b"",
            r"scores/\w+\.npz is damaged, or not medbench's \(DamagedArchive: .*Next: copy the folder anew, or delete that file",
        ),
        ("scores", b"hello", r"scores/\w+\.npz is damaged"),
        ("scores", None, r"scores/\w+\.npz is damaged, or not medbench's \(IsADirectoryError"),
    ],
)
def test_a_results_folder_that_is_damaged(
    refused: Callable[..., str],
    tmp_path: Path,
    name: str,
    content: bytes | dict[str, object] | None,
    line: str,
) -> None:
    """content: of the file in place of its own.

    Fields of its record (of the first line) that are changed; None: a folder stands there.
    """
    folder = tmp_path / "results"
    store = Store(folder)
    store.create()
    fill(store, [make("a", "10%", 0, 0.8), make("b", "10%", 0, 0.7)])
    file = folder / name if name != "scores" else sorted((folder / "scores").iterdir())[0]
    if isinstance(content, dict):
        first, *others = (
            file.read_text().splitlines() if name == "rows.jsonl" else [file.read_text()]
        )
        content = "\n".join([json.dumps(parsed(first) | content), *others, ""]).encode()
    file.unlink()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    assert re.search(line, refused("table", str(folder)))


def test_a_cache_that_fills_up_ends_the_run(
    medbench: Medbench,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The next unit would find it full too: no cell has failed."""

    def full(*arguments: object, **more: object) -> None:
        raise DiskError("it needs 10 MB of disk space and has 1 MB.")

    monkeypatch.setattr("medbench.run.job_steps.unit_features", full)
    assert (
        medbench(
            "run",
            "--task",
            f"folder:{folder}",
            "--size",
            "32",
            "--methods",
            "random,supervised",
            "--out",
            "out",
        )
        == 2
    )
    assert "medbench: it needs 10 MB of disk space and has 1 MB." in capsys.readouterr().err
    assert not Path("out/failed.jsonl").exists()


def test_a_table_of_a_folder_that_cannot_be_written(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "results")
    store.create()
    fill(store, [make("a", "10%", 0, 0.8)])
    monkeypatch.setattr("os.access", lambda place, mode: mode != os.W_OK)
    line = refused("table", str(store.folder))
    assert re.search(
        r"leaderboard\.md cannot be written: .*Permission denied\. Next: medbench table .*results --format terminal",
        line,
    )


def test_an_output_that_lacks_characters(
    medbench: Medbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = io.BytesIO()
    stream = io.TextIOWrapper(pipe, "ascii")
    monkeypatch.setattr("sys.stdout", stream)
    assert medbench("data", "list") == 0
    stream.flush()
    stream.detach()
    assert b"\\u" in pipe.getvalue()


def test_streams_that_a_caller_closed(medbench: Medbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert medbench("list", "tasks") == 0
    assert medbench("list", "nosuch") == 2


def test_what_only_looks_at_the_cache_needs_none(
    medbench: Medbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDBENCH_CACHE", f"{tmp_path}/file/cache")
    for arguments in (["data", "list"], ["list", "checkpoints"], ["cache"], ["doctor"]):
        assert medbench(*arguments) == 0


def test_a_cache_without_a_home(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDBENCH_CACHE", "~nosuchuser/cache")
    assert (
        refused("cache")
        == "'~nosuchuser/cache' cannot be a path: Could not determine home directory."
    )


def test_no_disk_space(
    refused: Callable[..., str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "shutil.disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, 100)
    )
    line = refused("run", "--task", f"folder:{folder}", "--size", "32", "--methods", "random")
    assert re.search(r"needs .* of disk space and has 0\.0 MB\. Next: set MEDBENCH_CACHE", line)


def test_a_disk_that_fills_up_while_results_are_written(
    medbench: Medbench,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "rows.jsonl")

    monkeypatch.setattr(Store, "add", full)
    assert medbench("run", "--task", f"folder:{folder}", "--size", "32", "--methods", "random") == 2
    assert (
        "medbench: rows.jsonl: No space left on device. Next: fix that, then run again"
        in capsys.readouterr().err
    )


def test_what_is_not_there_is_said_beside_what_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("report", "secret"):
        (tmp_path / name).mkdir()
    is_dir = Path.is_dir

    def asked(place: Path) -> bool:
        if place.name == "secret":
            raise PermissionError(13, "Permission denied", str(place))
        return is_dir(place)

    monkeypatch.setattr(Path, "is_dir", asked)
    said = str(no_such_path("repor", tmp_path / "repor", asked))
    assert said.endswith("Allowed: report. Did you mean 'report'?")
