"""The order of an ordinal folder's classes: numbers, usual scales, what a person says, and a
refusal to guess."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medbench import Grid
from medbench.run import planning
from medbench.run.command_line import command
from medbench.schema import UserError
from medbench.tasks.folder.class_order import by_degree, by_name

Medbench = Callable[..., int]
GRADES = ("none", "mild", "moderate", "severe", "proliferative")


@pytest.mark.parametrize(
    "right",
    [
        GRADES,
        ("No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR"),
        ("No DR", "Mild NPDR", "Moderate NPDR", "Severe NPDR", "PDR"),
        ("NonDemented", "VeryMildDemented", "MildDemented", "ModerateDemented"),
        ("normal", "low-grade dysplasia", "high-grade dysplasia"),
        ("no finding", "mild", "moderate"),
        ("low", "intermediate", "high"),
        ("Normal", "Early AMD", "Intermediate AMD", "Late AMD"),
        ("NILM", "ASC-US", "LSIL", "HSIL", "SCC"),
        ("well differentiated", "moderately differentiated", "poorly differentiated"),
        ("1 - No DR", "2 - mild", "3 - NPDR", "10 - ADED"),
        ("1 mild", "2 moderate", "3 severe"),
        ("0", "2", "10"),
        ("grade 2", "grade 10", "grade 11"),
        ("Grade I", "Grade II", "Grade III", "Grade IV", "Grade V", "Grade IX"),
        ("stage 0", "stage I", "stage II", "stage IIIA", "stage IIIB"),
        ("normal", "CIN1", "CIN2", "CIN3"),
        ("HER2 0", "HER2 1+", "HER2 2+", "HER2 3+"),
        ("BI-RADS 1", "BI-RADS 4a", "BI-RADS 4b", "BI-RADS 5"),
        ("0-1", "1", "1-2", "2", "2-3", "3"),
        ("<5", "5-10", ">10"),
        ("density A", "density B", "density C", "density D"),
    ],
)
def test_numbers_and_usual_scales_are_known_in_whichever_order_they_come(
    right: tuple[str, ...],
) -> None:
    for seed in range(5):
        assert by_degree(random.Random(seed).sample(right, len(right))) == right


@pytest.mark.parametrize(
    "classes",
    [
        ("benign", "malignant", "normal"),
        ("cat", "dog", "eel"),
        ("low", "normal", "high"),  # of blood, or of a grade?
        ("none", "mild", "late"),
        ("mild", "slight", "severe"),  # two words of one level
        ("grade 1", "stage 2", "level 3"),
        ("normal", "grade 0", "grade 1"),
        ("A", "B", "D"),
        ("0 severe", "1 mild", "2 none"),  # numbers against words
    ],
)
def test_nothing_is_guessed(classes: tuple[str, ...]) -> None:
    with pytest.raises(
        UserError,
        match=r"The order of the classes .* cannot be told: .* Next: say it, from least to most: --order ",
    ):
        by_degree(classes)


def test_a_word_that_is_no_word_of_the_others_scale_is_named() -> None:
    """A slip of the pen among five grades.

    The example that is shown keeps the order of the others, and says that it is an example.
    """
    said = "No retinopathy, Mild, Severe, Proliferative are of a scale, and moderat is not a word of it"
    with pytest.raises(UserError) as caught:
        by_degree(("Mild", "moderat", "Proliferative", "No retinopathy", "Severe"))
    assert said in str(caught.value) and str(caught.value).endswith(
        "'No retinopathy,Mild,Severe,Proliferative,moderat', in your order"
    )
    with pytest.raises(
        UserError,
        match=r"no scale that medbench knows\. Next: .* --order cat,dog,eel, in your order",
    ):
        by_degree(("dog", "cat", "eel"))


def test_an_order_that_is_named_comes_before_what_is_known() -> None:
    assert by_degree(("mild", "None", "x y"), ("x y", "none", "MILD")) == ("x y", "None", "mild")
    assert by_degree(GRADES, GRADES[::-1]) == GRADES[::-1]
    for order, what in (
        (
            ("none", "midl"),
            r"--order names 'midl', which is not a class\. Allowed: .*Did you mean 'mild'\?",
        ),
        (("none", "mild", "None"), r"--order names 'none' twice"),
        (
            ("severe", "none"),
            r"--order leaves out mild, moderate, proliferative: .*--order severe,none,mild,moderate,proliferative",
        ),
    ):
        with pytest.raises(UserError, match=what):
            by_degree(GRADES, order)


def test_classes_that_are_not_ordered_stand_as_they_did() -> None:
    assert by_name(GRADES) == tuple(sorted(GRADES))
    assert by_name(("10", "9", "1.5")) == ("1.5", "9", "10")


@pytest.fixture
def graded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A folder of 40 noise images a class, a shade each."""
    monkeypatch.chdir(tmp_path)

    def make(*classes: str) -> str:
        rng = np.random.default_rng(0)
        for c, name in enumerate(classes):
            (tmp_path / "eyes" / name).mkdir(parents=True)
            for i in range(12):
                Image.fromarray((rng.integers(0, 60, (24, 24, 3)) + 30 * c).astype(np.uint8)).save(
                    tmp_path / "eyes" / name / f"{i}.png"
                )
        return "folder:eyes"

    return make


SHORT = ("--methods", "random", "--labels", "100", "--size", "32", "--seeds", "1", "--no-audit")


def test_the_order_is_on_the_first_screen_of_a_plan_and_of_a_run(
    graded: Callable[..., str], medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    task = graded(*GRADES)
    for more in (["--plan"], []):
        assert medbench("run", "--task", task, "--ordinal", *SHORT, *more) == 0
        first = next(
            line for line in capsys.readouterr().err.splitlines() if "folder:eyes: " in line
        )
        assert (
            first
            == "folder:eyes: order of the classes: none < mild < moderate < severe < proliferative"
        )
    assert "none < mild < moderate" in Path("runs/folder-eyes/leaderboard.md").read_text()


def test_words_without_a_scale_are_refused_before_anything_is_read(
    graded: Callable[..., str], medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    task = graded("leicht", "mittel", "schwer")
    for name in ("run", "audit", "data show"):
        given = ["--task", task, *SHORT] if name == "run" else [task]
        assert medbench(*name.split(), *given, "--order", "leicht,mittel,heavy") == 2
        assert (
            "--order names 'heavy', which is not a class. Allowed: leicht, mittel, schwer"
            in "".join(capsys.readouterr())
        )
    assert medbench("run", "--task", task, "--ordinal", *SHORT) == 2
    assert (
        "The order of the classes leicht, mittel, schwer cannot be told" in capsys.readouterr().err
    )
    assert medbench("run", "--task", task, "--order", "leicht,mittel,schwer", *SHORT, "--plan") == 0
    assert "order of the classes: leicht < mittel < schwer" in capsys.readouterr().err
    assert medbench("run", "--order", "a,b,c", "--plan") == 2
    assert (
        "--order describes a folder of your own; task 'derm' is what it is."
        in capsys.readouterr().err
    )


def test_an_order_is_part_of_the_identity_where_it_changes_the_order(
    graded: Callable[..., str],
) -> None:
    grid = Grid(
        tasks=(graded("low", "medium", "high"),),
        methods=("random",),
        labels=("100",),
        seeds=1,
        size=32,
        audit=False,
        ordinal=True,
    )

    def planned(**more: object) -> list[str]:
        return [cell.fingerprint for cell in planning.plan(Grid(**{**vars(grid), **more})).cells]  # type: ignore[arg-type]

    assert (
        planned()
        == planned(order=("low", "medium", "high"))
        == planned(order=("low", "medium", "high"), ordinal=False)
    )
    assert planned() != planned(order=("low", "high", "medium"))
    assert planned() != planned(ordinal=False)


def test_a_printed_command_keeps_the_names_of_classes() -> None:
    grid = Grid(tasks=("folder:/home/ann/eyes",), order=("0/1", "1/2", "2/2"), labels=("5/class",))
    assert (
        command(grid)
        == "medbench run --task folder:eyes --labels 5/class --seeds auto --order 0/1,1/2,2/2"
    )
