"""Plans: one check of the parts for every task, canonical cells, fingerprints that move with
whatever can change a result."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medbench import Grid, UserError
from medbench.data import part_checks, reader_answers, task_data
from medbench.models import encoders
from medbench.run import execution, labelled_subsets, planning, units
from medbench.schema import Mark, Scores, Split, Task, registry

BASE = Task(
    "t",
    1,
    "T",
    "multiclass",
    ("a", "b", "c"),
    "T",
    load=lambda root: {},
    find=lambda root: None,
    groups="patient",
)


def part(labels: list[int] | np.ndarray, groups: list[str]) -> Split:
    n = len(labels)
    return Split(
        [None] * n, np.arange(n).astype(str), np.array(labels), np.array(groups), np.array(groups)
    )  # type: ignore[list-item]


def check(parts: dict[str, Split], task: Task = BASE, **allowed: bool) -> list[Mark]:
    return part_checks.check_parts(
        task, parts, "test", **{"allow_leak": False, "allow_partial": False, **allowed}
    )


def test_good_parts_have_no_mark() -> None:
    assert (
        check({"train": part([0, 1, 2], ["p", "q", "r"]), "test": part([0, 1, 2], ["s", "s", "t"])})
        == []
    )


def test_a_group_in_two_parts() -> None:
    parts = {
        "train": part([0, 1, 2], ["p", "q", "r"]),
        "val": part([0], ["q"]),
        "test": part([0, 1, 2], ["s", "q", "r"]),
    }
    with pytest.raises(
        UserError,
        match=r"patient 'q' is in both train and val \(1 such patient\): .*--allow-leak",
    ):
        check(parts)
    marks = [
        Mark("leak", "1 patient is in both train and val"),
        Mark("leak", "2 patients are in both train and test"),
        Mark("leak", "1 patient is in both val and test"),
    ]
    assert check(parts, allow_leak=True) == marks


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_class_missing_from_a_part(missing: str) -> None:
    labels = {"train": [0, 1, 2], "test": [0, 1, 2]}
    labels[missing] = [0, 2, 2]
    parts = {
        name: part(values, [name + str(i) for i in range(3)]) for name, values in labels.items()
    }
    with pytest.raises(
        UserError,
        match=rf"The {missing} part of 't' has no image of class 'b' \(1 of 3 classes\)\..*--allow-partial",
    ):
        check(parts)
    assert check(parts, allow_partial=True) == [
        Mark("absent", f"no image of b in the {missing} part")
    ]


def test_a_label_that_is_always_the_same_in_a_part() -> None:
    task = replace(BASE, kind="multilabel", classes=("x", "y"))
    train = part(np.array([[1.0, 0.0], [0.0, 1.0]]), ["p", "q"])
    test = part(np.array([[1.0, 1.0], [1.0, 0.0], [np.nan, 0.0]]), ["r", "s", "t"])
    with pytest.raises(
        UserError, match="The test part of 't' has no image of class 'x', or none without it"
    ):
        check({"train": train, "test": test}, task)
    assert check({"train": train, "test": test}, task, allow_partial=True) == [
        Mark("absent", "no image of x in the test part")
    ]


def cells(**changes: object) -> dict[tuple[object, ...], str]:
    """(method, labels, seed) -> fingerprint of the default plan on the phantom with these
    changes."""
    planned = planning.plan(replace(Grid(data="phantom"), **changes)).cells  # type: ignore[arg-type]
    return {(p.cell.method, p.cell.labels, p.cell.seed): p.fingerprint for p in planned}


def test_a_task_whose_groups_nobody_knows_says_so() -> None:
    (mark,) = task_data._whose(replace(BASE, groups=None))
    assert mark.text.startswith("groups unknown: ")
    assert task_data._whose(replace(BASE, groups="patient")) == ()


def test_the_author_of_a_method_is_told_what_weights_gave(tmp_path: Path) -> None:
    method = replace(registry.method("supervised"), name="mine", weights=lambda *_: "nonsense")
    found = encoders.encoder("tf_efficientnet_lite0", 64)
    with pytest.raises(
        UserError,
        match=r"test_grid\.py, line \d+: weights of 'mine' gave str\. Allowed: a medbench\.Weights",
    ):
        units.starting_weights(method, found, 0, Grid(), tmp_path)


def test_the_author_of_a_task_is_told_what_load_gave(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"line \d+: t: the train part has labels that are not 0 to 2"
    ):
        reader_answers.tidy(BASE, "train", part([1, 2, 3], ["x", "y", "z"]))
    several = replace(BASE, kind="multilabel", classes=("x", "y"))
    for value in (2, -1, 0.5):
        marked = replace(part([0, 1], ["x", "y"]), labels=np.array([[0, 1], [value, np.nan]]))
        with pytest.raises(UserError, match=r"labels that are not 1, 0 or NaN\. Allowed: \(N, 2\)"):
            reader_answers.tidy(several, "train", marked)
    wrong = replace(
        BASE,
        load=lambda root: {"training": part([0, 1], ["x", "y"]), "test": part([0], ["z"])},
        find=lambda root: root,
    )
    with pytest.raises(UserError, match=r"t: load gives training, test\. Allowed: train and test"):
        task_data.open_task(wrong, Grid(data=str(tmp_path)), tmp_path, [])


WRITTEN = """
import numpy as np
from medbench import Split
from medbench.tasks._reading import divide

def load(root):
    ids = np.array(["x", "y"])
    labels = np.array([0, 1])
    {line}
    return {{"train": Split(list(ids), ids, labels, ids, ids)}}
"""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "labels = {}['label']",
            r"mine\.py, line 9: load of 't' failed: KeyError: 'label'.* Next: fix that file",
        ),
        (
            "import pandas; pandas.DataFrame({'a': [1]})['label']",
            r"mine\.py, line 9: load of 't' failed: KeyError: 'label'",
        ),
        (
            "open(root / 'gone.csv')",
            r"mine\.py, line 9: load of 't' failed: FileNotFoundError: .*gone\.csv",
        ),
        ("return None", r"mine\.py, line 6: load gives NoneType\. Allowed: .*Split"),
        ("return {'train': ids}", r"mine\.py, line 6: load gives a ndarray as a part"),
        (
            "return {'train': Split(list(ids), ids, labels, ids, ids), 'test': None}",
            r"mine\.py, line 6: load gives a NoneType as a part",
        ),
        (
            "labels = np.array(['polyp', 'ulcer'])",
            r"mine\.py, line 6: t: the train part has labels that are not numbers \(.*polyp.*0 to 2",
        ),
        (
            "labels = np.eye(2)",
            r"mine\.py, line 6: t: the train part has labels of shape \(2, 2\)\. Allowed: \(N,\) whole numbers",
        ),
        ("labels = np.array([0.5, 1])", r"labels that are not 0 to 2"),
        (
            "labels = np.array([0])",
            r"mine\.py, line 6: t: the train part has 2 images but 1 labels",
        ),
        (
            "return divide(Split(list(ids), ids, labels[:1], ids, ids), 'key')",
            r"mine\.py, line 9: load of 't' failed: 2 images but 1 labels\. Next: fix that file",
        ),
        (
            "return divide(Split(list(ids), ids, labels, list('abc'), ids), 'key')",
            r"mine\.py, line 9: load of 't' failed: 2 images but 3 groups\.",
        ),
        (
            "return divide(Split(list(ids), ids, labels, ids, ids, {'age': [3]}), 'key')",
            r"mine\.py, line 9: load of 't' failed: 2 images but 1 age\.",
        ),
        ("ids = np.array(['x', 'x'])", r"mine\.py, line 6: t: the train part has an id twice"),
    ],
)
def test_what_fails_in_a_tasks_own_file_is_told_with_its_line(
    line: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(WRITTEN.format(line=line))
    task = replace(BASE, load=runpy.run_path(str(file))["load"])
    with pytest.raises(UserError, match=said) as caught:
        reader_answers.tidy(task, "train", reader_answers.loaded(task, tmp_path)["train"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"classes": ("a",)}, r"'t' is multiclass and has 1 class\. Allowed: 2 or more"),
        ({"kind": "binary", "classes": ("a",)}, r"'t' is binary and has 1 class\."),
        ({"kind": "binary"}, r"'t' is binary and has 3 classes\. Allowed: exactly 2 classes"),
        ({"kind": "multilabel", "classes": ()}, r"is multilabel and has 0 classes"),
        ({"classes": ("a", "b", "a")}, r"'t' names a class twice: a, b, a"),
    ],
)
@pytest.mark.parametrize("data", ["phantom", "real"])
def test_classes_that_cannot_be_told_apart_are_refused_before_any_image(
    about: dict[str, Any], said: str, data: str, tmp_path: Path
) -> None:
    task = replace(BASE, **about, phantom=dict, find=lambda root: root)
    where = data if data == "phantom" else str(tmp_path)
    with pytest.raises(UserError, match=said):
        task_data.open_task(task, Grid(data=where), tmp_path, [])


def test_a_reader_with_other_arguments_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"test_grid\.py, line \d+: load of 't' failed: TypeError: .*takes 0 positional arguments",
    ):
        reader_answers.loaded(replace(BASE, load=lambda: {}), tmp_path)  # type: ignore[arg-type]


def test_what_fails_in_medbench_itself_stays_a_traceback(tmp_path: Path) -> None:
    """A reader that calls our code, where that breaks: its author can mend nothing."""
    with pytest.raises(AttributeError):
        reader_answers.loaded(
            replace(BASE, load=lambda root: reader_answers.tidy(None, "train", None)), tmp_path
        )  # type: ignore[arg-type]


def test_one_subset_has_one_spelling_and_is_run_once() -> None:
    expected = [("1%", 0), ("1%", 1), ("5/class", 0), ("5/class", 1), ("100%", 0)]
    for labels in [
        ("1", "1.0%", "5/class", "100"),
        ("1%", "5/class", "all", "2000/class", "n99999"),
    ]:
        found = [
            (labels, seed)
            for method, labels, seed in cells(labels=labels, seeds=2, methods=("random",))
        ]
        assert found == expected


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        (
            "tasks",
            "derm",
            r"Grid\.tasks is 'derm'; it must be a tuple of texts, as tasks=\('derm',\)\.",
        ),
        (
            "labels",
            (1, 10),
            r"Grid\.labels is \(1, 10\); it must be a tuple of texts, as labels=\('1', '10'\)\.",
        ),
        ("seeds", "3", r"Grid\.seeds is '3'; it must be a whole number or 'auto'\."),
    ],
)
def test_a_grid_from_python_is_checked_as_a_studys_is(
    field: str, value: object, line: str, tmp_path: Path
) -> None:
    for call in (
        planning.plan,
        labelled_subsets.splits,
        lambda wrong: execution.run(wrong, str(tmp_path / "out")),
    ):
        with pytest.raises(UserError, match=line):
            call(replace(Grid(data="phantom"), **{field: value}))  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())


def test_a_plan_is_the_same_each_time() -> None:
    assert cells() == cells()


def test_more_seeds_and_budgets_leave_the_other_cells_as_they_are() -> None:
    few, many = cells(labels=("10",), seeds=1), cells(labels=("1", "10", "100"), seeds=3)
    assert few.items() <= many.items()


@pytest.mark.parametrize(
    "change",
    [
        {"size": 96},
        {"precision": "bf16"},
        {"target": "val"},
        {"encoders": ("test_resnet.r160_in1k",), "methods": ("random",)},
    ],
)
def test_what_can_change_a_result_changes_every_fingerprint(change: dict[str, object]) -> None:
    assert not set(cells().values()) & set(cells(**change).values())


@pytest.mark.parametrize("attribute", ["version", "settings"])
@pytest.mark.parametrize("kind", ["tasks", "methods", "protocols"])
def test_an_entrys_version_and_settings_are_in_the_fingerprint(
    kind: str, attribute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cells()
    entries = getattr(registry, kind)()
    for name, entry in dict(entries).items():
        value = entry.version + 1 if attribute == "version" else {**entry.settings, "new": 1}
        monkeypatch.setitem(entries, name, replace(entry, **{attribute: value}))
    assert not set(before.values()) & set(cells().values())


def test_methods_share_their_draws_and_data_is_named() -> None:
    plan = planning.plan(Grid(data="phantom", labels=("1",), seeds=2))
    by_method = {
        unit.method.name: [plan.draw(p.cell).tolist() for p in unit.cells] for unit in plan.units
    }
    assert by_method["random"] == by_method["supervised"]
    assert {p.cell.data for p in plan.cells} == {"phantom"}
    assert re.search(r"derm: HAM10000 was left aside .*PHANTOM", plan.notes[0].text)


def test_pretraining_seeds_are_one_line() -> None:
    asked = Grid(
        tasks=("derm",),
        methods=("random",),
        labels=("10",),
        seeds=2,
        pretrain_seeds=2,
        data="phantom",
    )
    planned = planning.plan(asked).cells
    assert len(planned) == len({cell.fingerprint for cell in planned}) == 4
    assert len({cell.setting for cell in planned}) == 1, (
        "they are averaged, so they share a setting"
    )
    first = planning.plan(replace(asked, pretrain_seeds=1)).cells
    assert first == planned[:2], "more pretraining seeds leave the first one's cells as they are"


def test_a_run_evaluates_the_protocol_that_was_planned(
    folder: Path, mine: str, tmp_path: Path
) -> None:
    """An option that reaches a protocol changes it in the plan.

    A run that looked it up by its name again would lose the option.
    """
    plan = planning.plan(
        Grid(
            tasks=(f"folder:{folder}",),
            encoders=(mine,),
            protocols=("knn",),
            labels=("100",),
            size=32,
        )
    )
    (knn,) = plan.protocols.values()

    def otherwise(*arguments: Any) -> Iterator[dict[str, Scores]]:
        for answer in knn.evaluate(*arguments):
            yield {
                name: replace(scores, chosen={"k": "as asked"}) for name, scores in answer.items()
            }

    store = execution.execute(
        replace(plan, protocols={"knn": replace(knn, evaluate=otherwise)}), tmp_path / "out"
    )
    assert [row.chosen["k"] for row in store.rows().values()] == ["as asked"]
