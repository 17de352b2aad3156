"""How long cells take that no row tells of: tried on drawn features, or counted in passes.

What learns from features is fitted as in a run to normal noise about a centre of each class, at
the plan's own draws, scored, and not saved. Once one protocol has taken `MOST` seconds larger
budgets are told from the last that was tried. What trains on pixels says itself how many views it
trains on, of which some are tried, and how many images it embeds.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from medbench.models.features import Features
from medbench.run.fitting import PendingFit, fit_and_score, pending_fits
from medbench.run.prepare import network
from medbench.run.run_context import RunContext
from medbench.run.units import Unit
from medbench.schema import PlannedCell, Protocol, told
from medbench.system.contained_exit import exits_are_errors

log = logging.getLogger("medbench")
_BLOCK = 4096  # images whose drawn features are made at once
#: Seconds of trials of one protocol after which nothing larger is tried, and draws of a budget.
MOST, DRAWS = 3.0, 5
#: A fit takes as the images of its draw to this power: benchmarks/speed/time_left.py measures it.
GROWTH = 0.8
#: The centres' distance in deviations of the noise: an AUC of two classes of about .8.
APART = 1.2


def of_features(
    context: RunContext, unit: Unit, todo: Iterable[PlannedCell], widths: Sequence[int]
) -> dict[PlannedCell, float]:
    """Return the seconds of a unit's cells that learn from features: cell -> seconds.

    Tried on drawn features, for the task's own images. widths: of the features of the unit, or of
    each member. A protocol that fails is left out, with a line in the log.
    """
    plan = context.plan
    sets = _own_sets(context, unit)
    own = [one for one in todo if one.target in sets]
    features = [_drawn(unit, width) for width in widths]
    found: dict[PlannedCell, float] = {}
    for name in dict.fromkeys(planned.cell.protocol for planned in own):
        protocol = plan.protocols[name]
        if protocol.needs == "features":
            fits = pending_fits(unit, [one for one in own if one.cell.protocol == name])
            with surviving(name):
                found.update(_tried(context, unit, protocol, fits, features))
    return found


@contextmanager
def surviving(name: str, level: int = logging.INFO) -> Iterator[None]:
    """Log a failure inside, and go on: how long that takes is then not known.

    name: what is tried, in words. level: of the line.
    """
    try:
        with exits_are_errors():
            yield
    except Exception as error:
        log.log(level, "%s could not be tried: %s", name, " ".join(told(error).split())[:500])


def _own_sets(context: RunContext, unit: Unit) -> set[str]:
    """Return the files of the scored sets that are a part of the task's own images."""
    return {target.file for target in context.plan.targets_of(unit.data) if not target.apart}


def _tried(
    context: RunContext,
    unit: Unit,
    protocol: Protocol,
    fits: Iterable[PendingFit],
    features: Sequence[Features],
) -> dict[PlannedCell, float]:
    """Budget after budget, the smallest first."""
    budgets: dict[str, list[PendingFit]] = defaultdict(list)
    for fit in sorted(fits, key=lambda fit: fit.first.n_requested):
        budgets[fit.first.cell.labels].append(fit)
    found: dict[PlannedCell, float] = {}
    began, last = time.perf_counter(), (0, 0.0)
    for together in budgets.values():
        size = together[0].first.n_requested
        if time.perf_counter() - began < MOST or not last[0]:
            tried = together[:DRAWS]
            if not last[0]:  # what a protocol imports, it imports once
                _fit(context, unit, protocol, tried[:1], features)
            start = time.perf_counter()
            _fit(context, unit, protocol, tried, features)
            last = size, (time.perf_counter() - start) / sum(len(fit.missing) for fit in tried)
        seconds = last[1] * (size / last[0]) ** GROWTH
        found.update({planned: seconds for fit in together for planned in fit.missing})
    return found


def _fit(
    context: RunContext,
    unit: Unit,
    protocol: Protocol,
    fits: Sequence[PendingFit],
    features: Sequence[Features],
) -> None:
    for _, rows in fit_and_score(context, unit, protocol, fits, features):
        for _ in rows:
            pass


def _drawn(unit: Unit, width: int) -> Features:
    """Features of all images of a task that hold as much of the classes as an encoder's might."""
    labels = np.concatenate([split.labels for split in unit.data.parts.values()])
    rng, classes = np.random.default_rng(0), len(unit.data.task.classes)
    centres = rng.standard_normal((classes, width), np.float32) * APART / np.sqrt(2 * width)
    array = rng.standard_normal((len(labels), width), np.float32)
    for start in range(0, len(labels), _BLOCK):  # of the largest tasks the whole takes gigabytes
        some = labels[start : start + _BLOCK]
        which = np.nan_to_num(some) if some.ndim > 1 else np.eye(classes)[some.astype(int)]
        array[start : start + _BLOCK] += which.astype(np.float32) @ centres.astype(np.float32)
    return Features(array, 0.0, None, None)


def of_pixels(
    context: RunContext,
    unit: Unit,
    todo: Iterable[PlannedCell],
    image: float,
) -> dict[PlannedCell, float]:
    """Return the seconds of the cells of a unit that train on pixels and say in how many passes.

    image: seconds of one that is embedded.
    """
    plan, data = context.plan, unit.data
    scored = {target.file: len(target.split) for target in plan.targets_of(data)}
    # protocol -> seconds of a view that is trained on; None: it cannot be tried
    views: dict[str, float | None] = {}
    found: dict[PlannedCell, float] = {}
    for fit in pending_fits(unit, list(todo)):
        protocol = plan.protocols[fit.first.cell.protocol]
        if protocol.passes is None or protocol.trial is None:
            continue
        trained, embedded = protocol.passes(len(plan.draw(fit.first.cell)))
        if trained and protocol.name not in views:
            views[protocol.name] = None
            with surviving(protocol.name):
                views[protocol.name] = protocol.trial(
                    network(unit), data.task.kind, len(data.task.classes), context.device
                )
        view = views[protocol.name] if trained else 0.0
        if view is None:
            continue
        seconds = view * trained + image * embedded
        for planned in fit.missing:
            found[planned] = image * scored[planned.target]
        found[fit.missing[0]] += seconds
    return found
