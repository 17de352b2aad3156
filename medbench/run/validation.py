"""What a grid asks for by name.

Every entry and option is looked up and checked here, before any image is looked for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from typing import Any

from medbench.data.unlabelled import POOLS
from medbench.images.augment import RECIPES
from medbench.models import encoders
from medbench.models.stated import stated
from medbench.run import study
from medbench.run.command_line import asking
from medbench.run.kept_weights import check_keeps
from medbench.schema import (
    AUTO,
    CASE,
    IMAGE,
    OPTIONS,
    Budget,
    Encoder,
    Grid,
    Method,
    Note,
    Protocol,
    Task,
    UserError,
    parse_budget,
    registry,
    user_path,
)
from medbench.schema.methods import BUDGETS, FEWEST_VIEWS, MOST_VIEWS, stated_views
from medbench.stats.added_metrics import try_added
from medbench.system.precision import PRECISIONS

_KINDS = {
    **{"timm": "a timm encoder", "weights": "weights of your own", "hub": "an encoder of the hub"},
    **{"function": "an encoder of your own", "features": "given features"},
}


@dataclass(frozen=True, eq=False)
class ResolvedGrid:
    """The entries that a grid asks for by name, each once, in the order of their names.

    notes: which methods are left out for one of several encoders.
    """

    tasks: list[Task]
    methods: list[Method]
    protocols: list[Protocol]
    budgets: list[Budget]
    notes: list[Note]


def resolve_grid(grid: Grid) -> ResolvedGrid:
    """Resolve the names and options of a grid.

    Raises UserError for a name or an option that is none, and for entries that cannot serve each
    other.
    """
    check_options(grid)
    protocols = [registry.protocol(name) for name in _distinct("protocol", grid.protocols)]
    _check_packages(protocols)
    if grid.keep_weights:
        check_keeps(protocols)
    _check_by(protocols, grid)
    budgets, methods = budgets_of(grid), _methods(grid)
    pairs = product(_distinct("encoder", grid.encoders), _distinct("readout", grid.readouts))
    notes = _check_encoders(
        [encoder_of(name, readout, grid) for name, readout in pairs], methods, grid
    )
    _check_fusions(methods, protocols, named=bool(grid.methods))
    return ResolvedGrid(_tasks(grid, protocols), methods, protocols, budgets, notes)


def check_options(grid: Grid) -> None:
    """Check the options of a grid.

    Raises UserError for a wrong type, a number out of range or an unknown option value.
    """
    study.check_types(grid, "Grid")
    if not grid.corruptions and grid.levels != Grid().levels:
        raise UserError(
            "--levels is only for --corruptions.", then="medbench run --corruptions all"
        )
    if (
        grid.data not in (None, "phantom")
        and not grid.shifts
        and all(task.startswith("folder:") for task in grid.tasks)
        and not any(word.rpartition("=")[2] in POOLS for word in grid.unlabelled)
    ):
        raise UserError(
            f"--data {grid.data} says nothing of a folder of your own, which --task names.",
            then="leave --data out",
        )
    for name, what, words in (
        ("seeds", "seeds", [AUTO]),
        ("pretrain_seeds", "pretraining seeds", []),
    ):
        number = getattr(grid, name)
        if number not in words and not 1 <= number <= 1000:
            allowed, then = [*words, "1 to 1000"], asking(**{name: getattr(Grid, name)})
            raise UserError(
                f"The number of {what}, {number}, is out of range.", allowed=allowed, then=then
            )
    if grid.pretrain not in BUDGETS:
        views = stated_views(grid.pretrain)
        if views is None or not FEWEST_VIEWS <= views <= MOST_VIEWS:
            what = f"Unknown pretraining budget '{grid.pretrain}'."
            named = [m for m in registry.methods().values() if m.name in grid.methods]
            lacking = () if all(map(registry.has_paper, named)) else ("paper",)
            allowed = [
                *(one for one in BUDGETS if one not in lacking),
                f"a number of views from {FEWEST_VIEWS} to {MOST_VIEWS}",
            ]
            near = str(min(max(views, FEWEST_VIEWS), MOST_VIEWS)) if views else Grid.pretrain
            raise UserError(what, allowed=allowed, given=grid.pretrain, then=asking(pretrain=near))
    if unknown := [name for name in grid.augmentations if name not in RECIPES]:
        what = f"Unknown augmentation '{unknown[0]}'."
        raise UserError(what, allowed=RECIPES, given=unknown[0], then=asking(augmentations=RECIPES))
    if grid.precision not in PRECISIONS:
        raise UserError(
            f"Unknown precision '{grid.precision}'.", allowed=PRECISIONS, given=grid.precision
        )
    if grid.target not in ("test", "val"):
        what = f"Unknown part '{grid.target}' to score on."
        raise UserError(what, allowed=["test", "val"], given=grid.target, then=asking(target="val"))
    if grid.by not in (IMAGE, CASE):
        raise UserError(
            f"Unknown unit '{grid.by}'.", allowed=[IMAGE, CASE], given=grid.by, then=asking(by=CASE)
        )
    _check_division(grid)
    if not 0 <= grid.frames <= 1000:
        raise UserError(
            f"The number of frames, {grid.frames}, is out of range.",
            allowed=["1 to 1000"],
            then=asking(frames=8),
        )
    if grid.target == "val" and (grid.shifts or grid.corruptions):
        flag = OPTIONS["target"].flag
        raise UserError(
            f"A shift is measured against the test part, not with {flag} val.",
            then=asking(target=Grid.target),
        )


def _check_division(grid: Grid) -> None:
    """Check a division of the images.

    Raises UserError for what can be none.
    """
    asked = [name for name in ("hold_out_by", "split_by_date") if getattr(grid, name)]
    if len(asked) > 1:
        raise UserError(
            "--hold-out-by and --split-by-date each say which images are the test part.",
            then="run one after the other",
        )
    if asked and grid.target != "test":
        raise UserError(
            f"{OPTIONS[asked[0]].flag} leaves no {grid.target} part.",
            allowed=["test"],
            then=asking(target="test"),
        )
    if grid.split_by_date:
        try:
            date.fromisoformat(grid.split_by_date)
        except ValueError:
            raise UserError(
                f"'{grid.split_by_date}' is not a day.",
                allowed=["2024-01-31"],
                then="medbench run --split-by-date 2024-01-31",
            ) from None


def _check_packages(protocols: Sequence[Protocol]) -> None:
    """Check that the packages of the protocols are installed.

    Raises UserError.
    """
    for protocol in protocols:
        if protocol.package and importlib.util.find_spec(protocol.package[0]) is None:
            package, extra = protocol.package
            raise UserError(
                f"Protocol '{protocol.name}' needs {package}, which is not installed.",
                then=f"pip install 'medbench[{extra}]'",
            )


def _check_by(protocols: Sequence[Protocol], grid: Grid) -> None:
    """Check that no protocol that judges cases is in a run by image.

    Raises UserError.
    """
    judging = [protocol.name for protocol in protocols if protocol.cases]
    if judging and grid.by != CASE:
        what = f"Protocol '{judging[0]}' judges all images of a case together, and this run is by image."
        raise UserError(what, then=asking(protocols=tuple(judging), by=CASE))


def budgets_of(grid: Grid) -> list[Budget]:
    """Parse the label budgets of a grid, each once.

    Raises UserError for a text that is none, and for a grid without any.
    """
    return [parse_budget(text) for text in _distinct("label budget", grid.labels)]


def encoder_of(name: str, readout: str, grid: Grid, *, phantom: bool = False) -> Encoder:
    """Return the encoder of that name and readout, with what the grid states of it.

    Raises UserError as `models.encoders.encoder`.
    """
    # "" is none, where a study has its own
    own: dict[str, Any] = {"weights": user_path(grid.weights)} if grid.weights else {}
    said = stated(grid.mean, grid.std, grid.interpolation, grid.trained_on, grid.crop)
    return encoders.encoder(name, grid.size, readout=readout, phantom=phantom, stated=said, **own)


def _methods(grid: Grid) -> list[Method]:
    """Return the methods that a user named, or all that have the source."""
    named = grid.methods or [
        method.name for method in registry.methods().values() if method.default
    ]
    views = _distinct("augmentation", grid.augmentations)
    methods = _augmented([registry.method(name) for name in dict.fromkeys(named)], views)
    having = [
        method for method in methods if grid.source == "auto" or grid.source in method.sources
    ]
    without = [method for method in methods if method not in having]
    if without and (grid.methods or not having):
        what = (
            f"Method '{without[0].name}' has no source"
            if grid.methods
            else "No method has the source"
        )
        sources = [
            source for method in without[: 1 if grid.methods else None] for source in method.sources
        ]
        raise UserError(
            f"{what} '{grid.source}'.", allowed=dict.fromkeys(["auto", *sources]), given=grid.source
        )
    _check_augmentations(having, grid)
    return having


def _augmented(methods: Sequence[Method], views: Sequence[str]) -> list[Method]:
    """Return the methods; one that has a choice of random views, once for each of these."""
    made = [
        [method.augmented(method, one) for one in views] if method.augmented else [method]
        for method in methods
    ]
    return list({method.name: method for each in made for method in each}.values())


def _check_augmentations(methods: Sequence[Method], grid: Grid) -> None:
    """Raise UserError for views that no method of the run is trained on."""
    trained = {method.name.partition(":")[2] for method in methods}
    unused = [views for views in grid.augmentations if views not in {*Grid.augmentations, *trained}]
    if unused:
        what = f"No method of this run is trained on the views '{unused[0]}' that {OPTIONS['augmentations'].flag} asks for."
        allowed = [method.name for method in registry.methods().values() if method.augmented]
        raise UserError(
            what,
            allowed=allowed,
            then=asking(methods=tuple(allowed[-1:]), augmentations=grid.augmentations),
        )


def _check_encoders(every: Sequence[Encoder], methods: Sequence[Method], grid: Grid) -> list[Note]:
    """Say which methods are left out for one of several encoders.

    Methods that a person named, as they cannot serve it. Raises UserError for an encoder without
    images to damage, for a named method that serves none of them, and for an encoder that no method
    serves.
    """
    given = next((encoder for encoder in every if encoder.kind == "features"), None)
    if given and grid.corruptions:
        what = f"Corruptions need images, and {given.name} holds features alone: nothing can be damaged."
        raise UserError(
            what, then="run it without --corruptions, or with the encoder itself (FILE.py:NAME)"
        )
    notes: list[Note] = []
    for encoder in every:
        wrong = [method for method in methods if encoder.kind not in method.encoders]
        useless = [
            method for method in wrong if all(other.kind not in method.encoders for other in every)
        ]
        if wrong and grid.methods and (useless or len(wrong) == len(methods)):
            allowed = [
                method.name
                for method in registry.methods().values()
                if encoder.kind in method.encoders
            ]
            what = f"Method '{(useless or wrong)[0].name}' cannot serve '{encoder.name}', {_KINDS[encoder.kind]}."
            then = (
                "name one of these, too"
                if len(every) > 1
                else f"run it without {OPTIONS['methods'].flag}"
            )
            raise UserError(what, allowed=allowed, then=then)
        if len(wrong) == len(methods):
            raise UserError(
                f"No method with that source can serve '{encoder.name}'.",
                then=f"run it without {OPTIONS['source'].flag}",
            )
        if wrong and grid.methods:
            names = ", ".join(method.name for method in wrong)
            notes.append(
                Note("left out", f"{names}: left out for {encoder.name}, {_KINDS[encoder.kind]}")
            )
    return notes


def judges_fusions(protocol: Protocol) -> bool:
    """Return whether a protocol can judge a fusion with a head of its own.

    With its members frozen under the head, or trained with it.
    """
    return protocol.name.startswith(("linear", "finetune"))


def _check_fusions(
    methods: Sequence[Method], protocols: Sequence[Protocol], *, named: bool
) -> None:
    """Refuse a fusion that trains a head of its own under another classifier.

    It has no one feature matrix for it.
    """
    wrong = [protocol.name for protocol in protocols if not judges_fusions(protocol)]
    allowed = [
        protocol.name for protocol in registry.protocols().values() if judges_fusions(protocol)
    ]
    for method in methods if named else ():
        if method.own_head and wrong:
            what = f"Method '{method.name}' trains its own head over its members' features: protocol '{wrong[0]}' has nothing to fit."
            raise UserError(
                what,
                allowed=allowed,
                then=f"medbench run --methods {method.name} --protocols linear,finetune",
            )


def _tasks(grid: Grid, protocols: Sequence[Protocol]) -> list[Task]:
    """Return the tasks of those names.

    Raises UserError for one that is not there, that a protocol cannot serve, or whose name stands
    twice.
    """
    found: list[Task] = []
    for name in _distinct("task", grid.tasks):
        task = registry.task(name, **grid.reading)
        _check_protocols(task, protocols)
        try_added(task.kind)
        if task.name in (other.name for other in found):
            raise UserError(
                f"Two tasks of this run are called '{task.name}'.",
                then="rename one of the folders, or run them one by one",
            )
        found.append(task)
    return found


def _check_protocols(task: Task, protocols: Sequence[Protocol]) -> None:
    for protocol in protocols:
        if task.kind not in protocol.kinds:
            allowed = [p.name for p in registry.protocols().values() if task.kind in p.kinds]
            raise UserError(
                f"Protocol '{protocol.name}' does not serve '{task.name}', a {task.kind} task.",
                allowed=allowed,
            )


def _distinct(what: str, names: tuple[str, ...]) -> list[str]:
    if not names:
        raise UserError(f"No {what} was given.", then="leave the option out for its default")
    return list(dict.fromkeys(names))
