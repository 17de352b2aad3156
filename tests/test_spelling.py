"""Names that are one, spelled in two ways: the rule, and what each column does with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medbench.audit.dataset import checks
from medbench.data import part_checks, reader_answers
from medbench.schema import UserError, alike, registry
from medbench.stats.metadata_levels import is_blank

ONE = [
    *[
        ("007", "7"),
        ("7.0", "7"),
        ("+7", "7"),
        ("7,0", "7"),
        ("1.0e+05", "100000"),
        ("１２", "12"),
        ("−1", "-1"),
        ("'007", "7"),
    ],
    *[
        ("P7", "p 7"),
        ("P-7", "P_7"),
        ("P007", "P7"),
        ("site1-07", "site1-7"),
        ("2020-01-02", "2020-1-2"),
    ],
    *[
        ("café", "cafe\u0301"),
        ("a\u200bb", "ab"),
        ("nv\ufeff", "nv"),
        ("A  B", "a b"),
        ("a\u00a0b", "a b"),
        ("Straße", "STRASSE"),
    ],
    *[
        ("А7", "A7"),
        ("РАК", "рак"),
        ("no-finding", "no_finding"),
        ("Smith, John", "smith john."),
        ("(7)", "7"),
        ("#7", "7"),
        ('="007"', "7"),
        ("P.7", "p/7"),
        ("P:7", "P7"),
        ("P|7", "P\\7"),
        ("PAT\u0130ENT 1", "patient 1"),
        ("HAST\u0131N", "hastin"),
        ("1\u202f234", "1234"),
        ("a\u034fb", "ab"),
        ("a\u3164b", "ab"),
        ("a\u2800b", "a b"),
        ("nv\x00", "nv"),
    ],
]
TWO = [
    *[
        ("7", "-7"),
        ("7", "70"),
        ("1-1", "11"),
        ("1 11", "11 1"),
        ("1.05", "1.5"),
        ("x1.05", "x1.5"),
        ("1e5", "100000"),
    ],
    *[
        ("HER2+", "HER2-"),
        ("<5", ">5"),
        ("+", "-"),
        ("T1a", "T1b"),
        ("a01b1", "a1b01"),
        ("café", "cafe"),
        ("", "0"),
        ("z -1", "z 1"),
        ("#", "0"),
        ("1.2", "12"),
        ("1/2", "1-2"),
        ("1 23", "123"),
        ("1:2", "12"),
        ("C#", "C"),
    ],
    *[("12345678901234567890", "12345678901234567891"), ("1.2.840", "1.2.84")],
]


@pytest.mark.parametrize(("one", "other"), ONE)
def test_one_name_in_two_spellings(one: str, other: str) -> None:
    assert alike([one, other])


@pytest.mark.parametrize(("one", "other"), TWO)
def test_two_names(one: str, other: str) -> None:
    assert not alike([one, other])


def test_every_pair_is_named_once_and_hashes_do_not_collide() -> None:
    assert alike(["8", "7", "007", "7.0", "8"]) == [("007", "7"), ("007", "7.0")]
    rng = np.random.default_rng(0)
    hashes = {"".join(rng.choice(list("0123456789abcdef"), 8)) for _ in range(5000)}
    assert alike(hashes) == []


def test_words_for_no_value() -> None:
    assert all(
        map(
            is_blank,
            [
                "",
                " ",
                "\u200b",
                "NaN",
                "<NA>",
                "#N/A",
                "None",
                "n/a",
                "NULL",
                "NaT",
                "#REF!",
                ".",
                "-1.#IND",
                "\\N",
                "\u3164",
                "pd.NA",
                "n.a.",
            ],
        )
    )
    assert not any(map(is_blank, ["none", "0", "no", "unknown", "-"]))


# columns of a table of one's own


@pytest.fixture
def clinic(tmp_path: Path) -> Callable[..., str]:
    """Write images and a table of 40 rows from functions of the row's number.

    Gives the task's name.
    """

    def made(header: str, row: Callable[[int], str], n: int = 40) -> str:
        rng = np.random.default_rng(0)
        for i in range(n):
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / f"{i}.png")
        (tmp_path / "t.csv").write_text(
            "\n".join([header, *(f"{i}.png,{row(i)}" for i in range(n))]), encoding="utf-8"
        )
        return f"folder:{tmp_path / 't.csv'}"

    return made


SECOND: list[Callable[[int], str]] = [
    lambda p: f"{p:03d}",
    lambda p: f"{p}.0",
    lambda p: f"{p}\u200b",
    lambda p: f"0{p}",
]


@pytest.mark.parametrize("second", SECOND)
def test_patients_in_two_spellings_are_refused_and_never_joined(
    second: Callable[[int], str],
    clinic: Callable[..., str],
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two rows a patient, the second spelled otherwise.

    Before: twice the patients, on both sides of the split, without a word.
    """
    task = clinic(
        "path,label,group",
        lambda i: f"{'ab'[i // 2 % 2]},{second(i // 2 + 1) if i % 2 else i // 2 + 1}",
    )
    command = (
        "run",
        "--task",
        task,
        "--size",
        "32",
        "--labels",
        "all",
        "--methods",
        "random",
        "--plan",
    )
    assert medbench(*command) == 2
    said = capsys.readouterr().err
    assert "20 groups look like another one that is spelled otherwise" in said
    assert (
        "spell each group in one way; let different ones differ by more than spaces, case, signs and zeros, or run with --allow-leak"
        in said
    )
    assert medbench(*command, "--allow-leak") == 0


def test_the_mark_of_what_was_allowed_stands_once(clinic: Callable[..., str]) -> None:
    task = registry.task(
        clinic("path,label,group", lambda i: f"{'ab'[i // 2 % 2]},{'P' if i % 2 else 'p '}{i // 2}")
    )
    parts = {
        name: reader_answers.tidy(task, name, part) for name, part in task.load(Path()).items()
    }
    (mark,) = [
        m
        for m in part_checks.check_parts(task, parts, "test", allow_leak=True, allow_partial=True)
        if "spelled" in m.text
    ]
    assert str(mark).startswith(
        "LEAK: 20 groups look like another one that is spelled otherwise: 'P0' and 'p 0', "
    )


def test_bags_are_compared_too(clinic: Callable[..., str]) -> None:
    task = registry.task(
        clinic(
            "path,label,group,bag",
            lambda i: f"{'ab'[i // 4 % 2]},g{i // 4},g{i // 4}-{'L' if i % 2 else 'l'}{i // 2 % 2}",
        )
    )
    parts = {
        name: reader_answers.tidy(task, name, part) for name, part in task.load(Path()).items()
    }
    with pytest.raises(
        UserError,
        match="20 bags look like another one that is spelled otherwise: 'g0-L0' and 'g0-l0'",
    ):
        part_checks.check_spellings(task, parts.values(), allow_leak=False)


def test_ids_of_images_are_no_patients(tmp_path: Path) -> None:
    for i in range(1, 21):
        for c, name in (("a", f"{i}"), ("b", f"{i:03d}")):
            (tmp_path / "d" / c).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (i, ord(c), 0)).save(tmp_path / "d" / c / f"{name}.png")
    task = registry.task(f"folder:{tmp_path / 'd'}")
    assert (
        part_checks.check_spellings(task, list(task.load(Path()).values()), allow_leak=False) == []
    )


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("path,label,group", lambda i: f"{'ab'[i % 2]},<NA>", r"line 2 has no group \('<NA>'\)"),
        (
            "path,label,group",
            lambda i: f"{'ab'[i % 2]},{'unknown' if i == 3 else i}",
            r"line 5 has no group \('unknown'\)",
        ),
        (
            "path,label,group",
            lambda i: f"{'ab'[i % 2]},{'Anonymous' if i > 3 else i}",
            r"line 6 has no group \('Anonymous'\)",
        ),
        (
            "path,label,group",
            lambda i: f"{'ab'[i % 2]},1.2346E+1{i % 3}",
            r"the group '1\.2346E\+10' is a rounded number",
        ),
        (
            "path,label,group,bag",
            lambda i: f"{'ab'[i % 2]},p{i // 4},{i % 4}",
            r"the bag '0' stands in the groups 'p0' and 'p1'.*p1-0",
        ),
        ("path,label", lambda i: ["#N/A", "a"][i % 2], r"line 2 has no label \('#N/A'\)"),
        ("path,label", lambda i: ["None", "a"][i % 2], r"line 2 has no label \('None'\)"),
        ("path,label", lambda i: ["\u200b", "a"][i % 2], r"has no label"),
        ("path,label", lambda i: ["n\u00e9vus", "ne\u0301vus"][i % 2], r"look like one class"),
        (
            "path,label",
            lambda i: ["nv", "nv\u200b", "mel"][i % 3],
            r"The labels 'nv' and 'nv\\u200b' look like one class",
        ),
        (
            "path,label",
            lambda i: ["no  finding", "no finding", "mel"][i % 3],
            r"look like one class",
        ),
        (
            "path,label:a,label:A ",
            lambda i: f"{i % 2},0",
            r"The labels 'A' and 'a' look like one class",
        ),
        ("path,label,split", lambda i: f"{'ab'[i % 2]},train\u200b", r"Did you mean 'train'"),
    ],
)
def test_columns_that_are_refused(
    header: str, row: Callable[[int], str], message: str, clinic: Callable[..., str]
) -> None:
    with pytest.raises(UserError, match=message):
        registry.task(clinic(header, row))


def test_columns_are_found_in_every_spelling(clinic: Callable[..., str]) -> None:
    """Before: a header with an invisible character was metadata, and the patients were torn."""
    task = registry.task(clinic("path,label,Group\u200b", lambda i: f"{'ab'[i % 2]},p{i // 4}"))
    assert task.groups == "group"
    several = registry.task(clinic("path,label:a,Label: b", lambda i: f"{i % 2},{i // 2 % 2}"))
    assert several.classes == ("a", "b")


def test_values_that_are_missing_leave_a_column_of_numbers(clinic: Callable[..., str]) -> None:
    task = registry.task(
        clinic("path,label,age", lambda i: f"{'ab'[i % 2]},{['<NA>', '50', 'None', '#N/A'][i % 4]}")
    )
    ages = np.concatenate([part.meta["age"] for part in task.load(Path()).values()])
    assert ages.dtype == float
    assert np.isfinite(ages).sum() == 10


def test_an_audit_says_where_spellings_stand(clinic: Callable[..., str]) -> None:
    from medbench import images
    from medbench.audit import dataset

    name = clinic(
        "path,label,group", lambda i: f"{'ab'[i // 2 % 2]},{'P' if i % 2 else 'p'}{i // 2}"
    )
    subject = dataset.of_task(name, None, images.cache_folder())
    assert "LEAK: 20 groups look like another one" in subject.refused
    (found,) = checks.spellings(subject)
    assert (found.severity, found.count) == ("leak", 20)
