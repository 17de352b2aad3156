"""What a person sees while a run works.

The leaderboard so far, and a bar for each stage with the time left.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from rich import progress as bars
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from medbench.cli.plain_output import own_stream
from medbench.schema import Progress, printable, told
from medbench.system.progress_listener import listening

if TYPE_CHECKING:
    from medbench.run.cost_estimate import Cost
    from medbench.run.labelled_subsets import Subset
    from medbench.run.plans import Plan
    from medbench.run.store import Store
    from medbench.run.time_left import TimeLeft
    from medbench.run.units import Unit
    from medbench.schema import Cell, PlannedCell, Row

SILENCE = 30.0  # seconds after which a log hears how far a stage is
EACH = 100  # rows of a run that a log hears of one by one; of more, one in so many seconds:
APART = 30.0


class PlainConsole(Console):
    """A console that writes its own control characters and spells out those in what it is given."""

    @property
    def file(self) -> IO[str]:
        """The stream that is written to."""
        return own_stream(super().file)

    @file.setter
    def file(self, new: IO[str]) -> None:
        self._file = new

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield rich's segments; those of a given text with control characters spelled out."""
        for segment in super().render(renderable, options):
            known = segment.control or segment.text.isprintable()
            yield segment if known else segment._replace(text=printable(segment.text, kept="\n"))


class Screen:
    """Show what is reported inside `with Screen(...) as screen`.

    Each row of a run is shown with on_row=screen.row. On a terminal everything is drawn in place.
    Elsewhere (a CI log) each stage prints when it begins and ends, and twice a minute in between;
    each row of a small run is a line, of a large one the first of each line of the leaderboard and
    a row now and then; each failure is. log=False: there are no such lines, of what takes seconds.
    left: gives what tells how long the run still takes. number: of a row, in words.
    """

    def __init__(
        self,
        cells: int = 0,
        table: Callable[[], Sequence[RenderableType]] = list,
        *,
        log: bool = True,
        left: Callable[[], TimeLeft | None] = lambda: None,
        number: Callable[[Any], str] = lambda row: "",
    ):
        self.console = PlainConsole(stderr=True)
        self.live = self.console.is_terminal
        self.log = log
        self.hearing = ExitStack()
        self.bars = bars.Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            TimeElapsedColumn(),
            _LeftColumn(),
            console=self.console,
        )
        self.stages: dict[str, TaskID] = {}
        self.table = table
        self.shown: Sequence[RenderableType] = ()
        self.next_table = 0.0
        self.start = self.last_line = self.last_row = time.perf_counter()
        self.cells = cells
        self.done = 0
        self.make_left, self.number = left, number
        self.left: TimeLeft | None = None
        self.lines: set[object] = set()  # of the leaderboard, that have a row
        if cells:
            self.overall = self.bars.add_task("cells", total=cells, unit="", left="")
        self.failures = _Failures(self._say)
        self.display = Live(
            console=self.console, refresh_per_second=4, transient=True, get_renderable=self._render
        )

    def __enter__(self) -> Screen:
        logging.getLogger("medbench").addHandler(self.failures)
        self.left = self.make_left()  # here, where what it finds damaged is told
        if self.live:
            self.display.start()
        self.hearing.enter_context(listening(self.stage))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hearing.close()
        if self.live:
            self.display.stop()
        logging.getLogger("medbench").removeHandler(self.failures)

    def stage(self, progress: Progress) -> None:
        """Show how far a stage is."""
        name, done, total = progress.stage, progress.done, progress.total
        if self.left:
            self.left.heard(progress)
            self.bars.update(self.overall, left=self._time_left())
        if name not in self.stages:
            if done >= total:
                return  # it was finished before: nothing to show
            self.stages[name] = self.bars.add_task(name, total=total, unit=progress.unit)
            self._line(f"{name}: {total} {progress.unit}")
        elif done >= total and not self.bars.tasks[self.stages[name]].finished:
            self._line(f"{name}: done {progress.detail}".rstrip())
        elif done < total and time.perf_counter() - self.last_line > SILENCE:
            self._line(
                f"{name}: {done} of {total} {progress.detail}".rstrip()
                + self._time_left(", ", " left in all")
            )
        self.bars.update(
            self.stages[name], completed=done, description=f"{name} {progress.detail}".rstrip()
        )

    def row(self, row: Row) -> None:
        """Report a finished cell."""
        self.done += 1
        if self.left:
            self.left.row(row)
        self.bars.update(self.overall, completed=self.done, left=self._time_left())
        now = time.perf_counter()
        line = replace(row.cell, seed=0)
        opens = line not in self.lines and len(self.lines) < EACH
        self.lines.add(line)
        if (
            self.cells <= EACH
            or opens
            or self.done in (1, self.cells)
            or now - self.last_row > APART
        ):
            self.last_row = now
            number = self.number(row)
            said = f"row {self.done}/{self.cells} {row.cell}{f': {number}' if number else ''}"
            self._line(said + (self._time_left(", ", " left") if self.done < self.cells else ""))
        if self.live and time.perf_counter() > self.next_table:
            began = time.perf_counter()
            self.shown = self.table()
            spent = time.perf_counter() - began
            self.next_table = began + 20 * spent  # a large leaderboard must not slow the run down

    def _time_left(self, before: str = "", after: str = "") -> str:
        """Of the run, in words; "" where it is not known."""
        seconds = self.left.seconds() if self.left else None
        return "" if seconds is None else f"{before}{_spell(seconds)}{after}"

    def _render(self) -> RenderableType:
        return Group(*self.shown, self.bars)

    def _say(self, text: str) -> None:
        if self.live:  # above the bars
            self.console.print(Text(text))
        self._line(text)

    def _line(self, text: str) -> None:
        if self.log and not self.live:
            self.last_line = time.perf_counter()
            print(f"{self.last_line - self.start:7.1f} s  {text}", file=sys.stderr, flush=True)


class _LeftColumn(TimeRemainingColumn):
    """Of the run as it is measured; of a stage by its speed."""

    def render(self, task: bars.Task) -> Text:
        return Text(task.fields["left"]) if "left" in task.fields else super().render(task)


class _Failures(logging.Handler):
    """Tells in a line what failed, or was found damaged and is made anew.

    The log file beside the rows has the whole story.
    """

    def __init__(self, tell: Callable[[str], None]):
        super().__init__(logging.WARNING)
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.tell(" ".join(f"{record.getMessage()}{f': {told(error)}' if error else ''}".split()))


def _spell(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def of_run(
    plan: Plan, store: Store, todo: Sequence[PlannedCell], device: str, workers: int = 1
) -> Screen:
    """Build the screen of a run of these cells.

    The leaderboard so far, each row with its main metric, the time left. workers: processes here;
    0: elsewhere, where nobody hears how long a stage takes.
    """
    from medbench.report import leaderboard
    from medbench.run.time_left import TimeLeft
    from medbench.stats import number_format
    from medbench.stats.metrics import METRICS

    metric = {data.task.name: METRICS[data.task.metric] for data in plan.tasks}

    def number(row: Row) -> str:
        main = metric[row.cell.task]
        return f"{main.title} {number_format.number_text(row.metrics[main.name]['value'])}"

    return Screen(
        len(todo),
        lambda: leaderboard.terminal(store),
        left=lambda: TimeLeft(plan, store, device, workers=workers) if todo and workers else None,
        number=number,
    )


def show(parts: Sequence[RenderableType]) -> None:
    """Print tables and lines to standard output; a log file gets room for a whole line."""
    own_stream(sys.stdout).write(text(parts))
    sys.stdout.flush()


def text(parts: Sequence[RenderableType]) -> str:
    """Return what `show` prints."""
    console = PlainConsole()
    if not console.is_terminal:
        console = PlainConsole(width=140)
    with console.capture() as captured:
        for part in parts:
            console.print(part, markup=False, highlight=False)
    return captured.get()


def plan_table(costs: Sequence[Cost]) -> list[RenderableType]:
    """Draw the plan: what each unit will cost.

    Cells, images to embed, seconds at this machine's speed; and all of it. What all units share
    stands in the title.
    """
    alone = {
        cost.unit.weights.identity: cost.unit.method.name for cost in costs if not cost.unit.members
    }
    table = {
        "task": [cost.unit.data.task.name for cost in costs],
        "data": [cost.unit.data.data for cost in costs],
        "method": [cost.unit.method.name for cost in costs],
        "weights": [_weights(cost.unit, alone) for cost in costs],
        "encoder": [f"{cost.unit.encoder.name} {cost.unit.encoder.size} px" for cost in costs],
    }
    shared = [name for name in ("task", "data", "encoder") if len(set(table[name])) == 1]
    columns = {name: values for name, values in table.items() if name not in shared}
    title = f"plan: {', '.join(table[name][0] for name in shared)}" if shared else "plan"
    drawn = Table(title=Text(title), title_justify="left", show_footer=len(costs) > 1)
    for i, name in enumerate(columns):
        drawn.add_column(name, "" if i else "all", justify="left", overflow="fold")
    numbers = {
        "cells": [cost.cells for cost in costs],
        "missing": [cost.missing for cost in costs],
        "views to train": [cost.to_train for cost in costs],
        "images to embed": [cost.to_embed for cost in costs],
    }
    for name, counts in numbers.items():
        drawn.add_column(name, f"{sum(counts):,}", justify="right")
    seconds = [(cost.seconds or 0) + (cost.solve_seconds or 0) for cost in costs]
    unknown = [_unknown([cost]) for cost in costs]
    drawn.add_column("seconds", f"{sum(seconds):.0f}{_unknown(costs)}", justify="right")
    for i in range(len(costs)):
        counted = [f"{counts[i]:,}" for counts in numbers.values()]
        drawn.add_row(
            *(Text(values[i]) for values in columns.values()),
            *counted,
            f"{seconds[i]:.0f}{unknown[i]}",
        )
    return [drawn, _lines_table(costs)]


def _unknown(costs: Sequence[Cost]) -> str:
    """Say what seconds leave out."""
    lacks = {
        " + encoder": any(cost.seconds is None for cost in costs),
        " + solving": any(cost.solve_seconds is None for cost in costs),
    }
    return "".join(what for what, missing in lacks.items() if missing)


def _lines_table(costs: Sequence[Cost]) -> Table:
    """Draw what each line has: its draws, what it is scored on, and seconds.

    These are the seconds that its missing cells take, as long as like ones took.
    """
    made = Table(
        title=Text("lines; draws: labelled subsets of that many images"), title_justify="left"
    )
    several = len({cost.unit.data.task.name for cost in costs}) > 1
    for name in ([] if not several else ["task"]) + [
        "method",
        "encoder",
        "protocol",
        "labels",
        "images asked",
        "draws",
        "scored on",
        "seconds",
    ]:
        made.add_column(
            name, justify="right" if name in ("images asked", "draws", "seconds") else "left"
        )
    # -> its cells, and what each still takes
    lines: dict[tuple[str, ...], list[tuple[Cell, float | None]]] = {}
    for cost in costs:
        for planned in cost.unit.cells:
            c = planned.cell
            kind = (
                *([c.task] if several else []),
                c.method,
                c.encoder,
                c.protocol,
                c.labels,
                str(planned.n_requested),
            )
            lines.setdefault(kind, []).append((c, cost.solving.get(planned, 0.0)))
    for key, cells in lines.items():
        sets = list(dict.fromkeys(cell.target for cell, _ in cells))
        draws, pretrainings = (
            len({getattr(cell, name) for cell, _ in cells}) for name in ("seed", "pretrain_seed")
        )
        many = f"{draws} x {pretrainings} pretrainings" if pretrainings > 1 else str(draws)
        scored = sets[0] if len(sets) == 1 else f"{sets[0]} and {len(sets) - 1} more"
        known = [seconds for _, seconds in cells if seconds is not None]
        made.add_row(
            *map(Text, key),
            many,
            Text(scored),
            f"{sum(known):.0f}" if len(known) == len(cells) else "not known yet",
        )
    return made


def _weights(unit: Unit, alone: Mapping[str, str]) -> str:
    """Name a unit's weights.

    For a fusion, the names of its members, where all of them are units of their own. alone: weights
    -> such a unit's method.
    """
    names = [alone.get(member.weights.identity) for member in unit.members]
    return f"of {' + '.join(filter(None, names))}" if names and all(names) else unit.weights.name


def split_table(splits: Sequence[Subset]) -> list[RenderableType]:
    """Draw counts and hashes of parts and labelled subsets."""
    table = Table()
    for name in (
        "part",
        "labels",
        "seed",
        "images",
        "asked",
        "groups",
        "SHA-256 of the sorted ids",
    ):
        table.add_column(
            name, no_wrap=True, justify="left" if name in ("part", "labels") else "right"
        )
    for s in splits:
        table.add_row(
            s.part,
            s.labels or "all images",
            str(s.seed) if s.labels else "",
            str(len(s.ids)),
            str(s.requested),
            str(s.groups),
            s.sha256,
        )
    return [table]


def counts_table(counts: Mapping[str, Mapping[str, tuple[int, int | None]]]) -> Table:
    """Row name -> column name -> (number found, number expected or None): "6 of 9", or "6"."""
    table = Table()
    table.add_column("", no_wrap=True)
    for name in next(iter(counts.values())):
        table.add_column(name, justify="right")
    for name, row in counts.items():
        if name == list(counts)[-1]:
            table.add_section()
        table.add_row(
            Text(name),
            *(
                f"{found:,}" if expected is None else f"{found:,} of {expected:,}"
                for found, expected in row.values()
            ),
        )
    return table
