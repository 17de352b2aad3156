"""A user's own code: an edit makes new features and rows, prose does not."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.results import study

from medbench import Grid, UserError
from medbench.images.corruptions import catalogue, transforms
from medbench.models import features
from medbench.report import leaderboard
from medbench.run import planning
from medbench.run.merge import merge
from medbench.run.store import Store
from medbench.schema import own_code, registry
from medbench.stats import added_metrics, metrics

METHOD = """
from medbench import Method
from medbench.methods.simclr import SIMCLR  # whose constant stays that file's
from medbench.schema import Weights

def weights(encoder, source, pretrain_seed, cache_dir):
    return Weights("own-trial", "0" * 64, (), None)

def encoder(encoder, weights, pretrain_seed):
    from medbench.methods._own_helper import POWER
    return lambda images: images.flatten(1) ** POWER

MINE = Method("own-trial", 1, "Mine", ("none",), weights=weights, encoder=encoder)
"""
PROTOCOL = """
from medbench import Protocol
MINE = Protocol("own-trial", 1, "Mine", ("binary", "multiclass"), lambda train, targets, draws: iter(()), False)
"""
TASK = """
from dataclasses import replace
from medbench.tasks.derm import DERM
MINE = replace(DERM, name="own-trial")
"""


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """put(kind, file, text): a file in the folder of its kind, of which the registry knows anew."""
    for kind in registry.SHIPPED:
        package = importlib.import_module(f"medbench.{kind}")
        (tmp_path / kind).mkdir()
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / kind)])

    def write(kind: str, file: str, text: str) -> None:
        (tmp_path / kind / file).write_text(text)
        sys.modules.pop(f"medbench.{kind}.{file.removesuffix('.py')}", None)
        importlib.invalidate_caches()
        registry._collect.cache_clear()

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield write
    for file in tmp_path.glob("*/*.py"):
        sys.modules.pop(f"medbench.{file.parent.name}.{file.stem}", None)
    registry._collect.cache_clear()


def test_every_file_that_is_named_as_shipped_is_there_and_known_by_its_version() -> None:
    for kind, files in registry.SHIPPED.items():
        folder = Path(str(importlib.import_module(f"medbench.{kind}").__file__)).parent
        assert all((folder / f"{n}.py").exists() or (folder / n).is_dir() for n in files.split()), (
            kind
        )
    for entry in (registry.method("simclr"), registry.method("dvme:swav+dino")):
        assert entry.stated_version == entry.version
    assert {entry.code for entry in registry.tasks().values() if entry.name == "derm"} == {""}


@pytest.mark.parametrize(
    ("kind", "text"), [("tasks", TASK), ("methods", METHOD), ("protocols", PROTOCOL)]
)
def test_an_edit_of_a_users_entry_is_another_entry(
    kind: str, text: str, put: Callable[..., None]
) -> None:
    def version(code: str) -> int | str:
        put(kind, "own_trial.py", code)
        found: Any = getattr(registry, kind)()["own-trial"]
        return found.stated_version

    put("methods", "_own_helper.py", "POWER = 1\n")
    first = version(text)
    assert str(first).partition(" ")[2].startswith("of code ")
    assert version(f'"""Mine."""\n\n# why\n{text}') == first
    assert version(text.replace("MINE =", "MORE = 1\nMINE =")) != first
    assert version(text.replace(", 1,", ", 2,")) != first or kind == "tasks"
    if kind == "methods":  # a helper of the same folder that is imported inside a function
        put("methods", "_own_helper.py", "POWER = 2\n")
        assert version(text) != first
        assert registry.module_of("methods", "simclr").__name__ == "medbench.methods.simclr"
        assert registry.method("simclr").code == ""


def test_an_edit_makes_new_features_and_new_cells_of_its_own_alone(
    put: Callable[..., None], tmp_path: Path
) -> None:
    def planned(method: str, protocol: str) -> tuple[set[str], set[str], str]:
        put(
            "methods",
            "own_trial.py",
            method.replace("from medbench.methods.simclr import SIMCLR", ""),
        )
        put("protocols", "own_trial.py", protocol)
        grid = Grid(
            methods=("supervised", "own-trial"),
            protocols=("knn", "own-trial"),
            labels=("10",),
            seeds=1,
            data="phantom",
            source="auto",
        )
        plan = planning.plan(grid)
        unit = next(unit for unit in plan.units if unit.method.name == "own-trial")
        key = features.feature_key(
            "pack", unit.encoder, unit.weights, unit.method, unit.precision, "cpu"
        )
        own = {p.fingerprint for p in plan.cells if "own-trial" in (p.cell.method, p.cell.protocol)}
        return own, {p.fingerprint for p in plan.cells} - own, key

    put("methods", "_own_helper.py", "POWER = 1\n")
    before = planned(METHOD, PROTOCOL)
    after = planned(METHOD.replace("** POWER", "** (POWER + 1)"), PROTOCOL)
    assert len(before[0]) == 3 and before[1] and before[1] == after[1]
    assert len(before[0] & after[0]) == 1, "supervised under the own protocol stays"
    assert before[2] != after[2]
    other = planned(METHOD, PROTOCOL.replace("iter(())", "iter([])"))
    assert len(before[0] & other[0]) == 1, "the own method under knn stays"


def test_what_two_runs_share_is_told_apart_by_the_version(put: Callable[..., None]) -> None:
    """`medbench table` and `check` say of older rows what moved."""
    from medbench.schema.ingredients import differences

    then, now = {"method": ["1 of code ab", "x"]}, {"method": ["1 of code cd", "x"]}
    assert [str(one) for one in differences(then, now)] == [
        "method version 1 of code ab -> 1 of code cd"
    ]


def test_a_users_corruption_is_known_by_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(transforms.KINDS) >= set(catalogue.SHIPPED.split())
    own = catalogue.Corruption("salt", "salt", (0.1,) * 5)
    shipped = catalogue.Corruption("noise", "gaussian_noise", (0.1,) * 5)
    before = own.identity(1), shipped.identity(1)
    monkeypatch.setattr(catalogue, "_code_of_transforms", lambda: "another")
    assert own.identity(1) != before[0] and shipped.identity(1) == before[1]


def negatives(hits: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return metrics.ratio(hits[0, 0], support[0, 0])


def positives(hits: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return metrics.ratio(hits[0, 1], support[0, 1])


def test_a_metric_that_is_added_later_is_computed_of_saved_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = study(tmp_path / "out")

    def shown(of: Store) -> dict[str, tuple[float, float, float]]:
        (board,) = leaderboard.leaderboards(of)
        leaderboard.known_metric([board], "found_share")
        found = {line.name + line.cell.labels: line.summary("found_share") for line in board.lines}
        return {name: (one.mean, one.low, one.high) for name, one in found.items()}

    def add(function: Callable[..., np.ndarray]) -> None:
        made = metrics.Metric("found_share", "found_share", of_counts=function)
        monkeypatch.setitem(metrics.METRICS, "found_share", made)

    with pytest.raises(UserError, match="Unknown metric 'found_share'"):
        shown(store)
    add(negatives)
    first = shown(store)
    row = next(iter(store.rows().values()))
    target, scores = store.target(row.provenance["target"]), store.scores(row)
    by_hand = (scores["decisions"][target["labels"] == 0] == 0).mean()
    value, _ = added_metrics.added_values(["found_share"], target, scores, 200)["found_share"]
    assert value == pytest.approx(by_hand)
    assert all(low < mean < high for mean, low, high in first.values())
    assert "| found_share" in leaderboard.markdown(store)
    add(positives)
    monkeypatch.setattr(metrics, "_code_behind", lambda function: "edited")
    assert shown(store) != first
    merged = tmp_path / "shared"
    merge([store.folder], merged, predictions=False)
    assert "found_share: 6 of 6 lines lack it" in leaderboard.markdown(Store(merged))
    with pytest.raises(UserError, match="were made before found_share, or by other code"):
        shown(Store(merged))
    # rows of a metric that is no longer there are shown without it
    monkeypatch.delitem(metrics.METRICS, "found_share")
    assert "found_share" not in leaderboard.markdown(store)


def test_a_row_keeps_the_code_of_an_added_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    from medbench import stats
    from medbench.stats.row_metrics import row_metrics

    added = metrics.Metric("found_share", "found_share", of_counts=negatives)
    monkeypatch.setitem(metrics.METRICS, "found_share", added)
    labels = np.array([0, 1, 0, 1])
    weights = stats.group_weights(labels, 20)
    values, _ = row_metrics(labels, np.full((4, 2), 0.5), labels, "binary", weights)
    assert values["found_share"]["code"] == added.code and "code" not in values["accuracy"]
    assert added_metrics.stale("binary", values) == []
    assert added_metrics.stale("binary", {**values, "found_share": {"code": "x"}}) == [
        "found_share"
    ]


class FoundShare:
    """A metric that is an object, and writes into what it is given."""

    def __call__(self, hits: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        support[support < 1000] = 1000
        return np.clip(hits[0, 1] / support[0, 1], 0, 1)


@pytest.mark.parametrize("function", [FoundShare(), partial(positives)])
def test_an_added_metric_changes_no_other_and_need_not_be_a_plain_function(
    function: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 2, 40), rng.dirichlet(np.ones(2), 40)
    given = labels, p, p.argmax(1), "binary", rng.integers(0, 3, (40, 5))
    before = metrics.score(*given).values  # type: ignore[arg-type]
    added = metrics.Metric("found_share", "found_share", of_counts=function)
    monkeypatch.setitem(metrics.METRICS, "found_share", added)
    after = metrics.score(*given).values  # type: ignore[arg-type]
    assert added.code
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda hits, support, predicted: 0.5, r"gave \(\) of float64 for 3 resamples"),
        (lambda hits, support, predicted: hits, r"gave \(\d, 2, 3\) of float64 for 3"),
        (lambda hits, support, predicted: None, "gave NoneType for 3"),
        (lambda hits, support, predicted: [0.5] * 3, "gave list for 3"),
        (lambda hits, support, predicted: np.full(3, 1.5), r"gave 1\.5 for 3"),
        (lambda hits, support, predicted: np.array(["a"] * 3), r"gave \(3,\) of <U1"),
        (lambda hits, support, predicted: hits[9], "failed: IndexError: index 9"),
        (lambda hits: hits, "failed: TypeError"),
    ],
)
def test_the_author_of_a_metric_is_told_file_and_line_at_plan_time(
    function: Callable[..., Any], said: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = metrics.Metric("wrong", "wrong", of_counts=function)
    monkeypatch.setitem(metrics.METRICS, "wrong", wrong)
    with pytest.raises(
        UserError, match=rf"test_own_code\.py, line \d+: metric 'wrong' {said}"
    ) as told:
        added_metrics.try_added(kind)
    assert "fix that file" in str(told.value) and "\n" not in str(told.value)


def test_the_code_that_a_file_imports_is_found_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    texts = {
        "mine.py": "from . import nothing\ndef f():\n"
        "    import older_than_3\n    from ends_at_once.inner import x\n    from bare_folder.deep.maths import y\n",
        "older_than_3.py": "print 'hello'\n",
        "ends_at_once/__init__.py": "raise RuntimeError('it ran')\n",
        "ends_at_once/inner.py": "from .beside import z\n",
        "ends_at_once/beside.py": "",
        "bare_folder/deep/maths.py": "y = 1\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = own_code.imported(tmp_path / "mine.py")
    assert sorted(file.relative_to(tmp_path).as_posix() for file in found) == sorted(
        set(texts) - {"mine.py"}
    )
    first = own_code.code_hash(found)
    (tmp_path / "older_than_3.py").write_text("print 'there'\n")
    assert own_code.code_hash(found) != first


def test_an_entry_that_several_files_import_from_a_helper_is_there(
    put: Callable[..., None],
) -> None:
    put("protocols", "_own_helper.py", PROTOCOL)
    for name in ("own_first.py", "own_second.py"):
        put("protocols", name, "from medbench.protocols._own_helper import MINE\n")
    assert registry.protocols()["own-trial"].code
    assert registry.module_of("protocols", "own-trial").__name__.endswith("own_first")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ndef (\n", r"own_trial\.py, line 2: it cannot be imported: SyntaxError"),
        ("x = 1\n\n1 / 0\n", r"own_trial\.py, line 3: it cannot be imported: ZeroDivisionError"),
        (
            PROTOCOL.replace("own-trial", "knn"),
            r"own_trial\.py each hold a protocol named 'knn'",
        ),
    ],
)
def test_an_entry_that_cannot_be_read_is_named_by_file_and_line(
    text: str, said: str, put: Callable[..., None]
) -> None:
    put("protocols", "own_trial.py", text)
    with pytest.raises(UserError, match=said) as told:
        registry.protocols()
    assert "\n" not in str(told.value)


FAILING = """
from medbench import Protocol

def judge(train, targets, draws):
    for draw in draws:
        yield {"test": draw.nothing}

MINE = Protocol("own-trial", 1, "Mine", ("binary", "multiclass"), judge, False)
"""


def test_what_fails_in_a_users_entry_while_it_runs_is_named_by_its_line(
    put: Callable[..., None],
    folder: Path,
    mine: str,
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    put("protocols", "own_trial.py", FAILING)
    words = ["--encoder", mine, "--protocols", "own-trial", "--labels", "100", "--seeds", "1"]
    out = tmp_path / "out"
    assert medbench("run", "--task", f"folder:{folder}", *words, "--out", str(out)) == 3
    printed = " ".join(capsys.readouterr().out.split())
    assert "Fix what it names; the same command tries again" in printed
    assert "(own_trial.py, line 6)" in printed
    (reason,) = Store(out).failures().values()
    assert reason.startswith("AttributeError: ") and reason.endswith("(own_trial.py, line 6)")


def test_a_loss_of_ones_own_that_is_no_number_later_on_is_told_with_its_file(
    put: Callable[..., None],
    folder: Path,
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first batch of it, which is tried at plan time, is sound."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text()
    (text,) = re.findall(
        r"`medbench/methods/rotation\.py`\n\n```python\n(.*?)^```", page, re.S | re.M
    )
    sound, nan = (
        "cross_entropy(logits",
        "(1 if position.step < 3 else math.nan) * cross_entropy(logits",
    )
    assert text.count(sound) == 1 and text.count("batch=64") == 1
    put("methods", "rotation.py", text.replace(sound, nan).replace("batch=64", "batch=8"))
    words = ["--methods", "rotation", "--encoder", "test_resnet.r160_in1k", "--size", "32"]
    words += [
        "--source",
        "task",
        "--pretrain",
        "1000",
        "--protocols",
        "knn",
        "--labels",
        "100",
        "--seeds",
        "1",
    ]
    out = tmp_path / "out"
    assert medbench("run", "--task", f"folder:{folder}", *words, "--out", str(out)) == 3
    (reason,) = Store(out).failures().values()
    assert re.match(r"Collapsed: the loss is nan at step \d+.* \(rotation\.py, line \d+\)$", reason)
    assert "Fix what it names; the same command tries again" in capsys.readouterr().out
