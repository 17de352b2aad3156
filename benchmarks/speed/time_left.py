"""When does a newcomer see a number, and is the time left that a run tells right? The README's
first command, step by step.

    uv run python benchmarks/speed/time_left.py            # about five minutes of two quiet cores
    uv run python benchmarks/speed/time_left.py --quick    # 1 and 10 % of the labels, 500 views

Its clock counts the CPU seconds of this process, on one thread, so that what else the machine does
is not measured. Printed are the seconds to the first row and to the first board of two methods; the
time left that was told against the time that was taken, after each tenth of the run; and the three
ratios that `medbench/run/time_left.py` takes where a kind of work has no speed yet.

Expected: told within 30 % of taken from the first 10 % of the run on. Measured on 2026-12-01 (two
cores of an EPYC, Zen 4, which eight others kept busy): first row after 15 s, the first of a second
method after 22 s, all after 237 s; a view of a pretraining took 4.2 to 5.6 images embedded, a cell
of DVME's head 18, 22 and 9 of the probe's at 1, 10 and 100 %, all of them 15. It was taken for 8
then: told were 0.97, 0.90, 0.75, 0.43 and 0.91 of what was taken.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
from collections import Counter
from pathlib import Path

from medbench.run import execution, planning
from medbench.run.store import Store
from medbench.run.time_left import TimeLeft
from medbench.schema import Grid, Progress, Row, methods
from medbench.system.progress_listener import listening


def cpu() -> float:
    """User + system seconds of this process and of those that it has ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Told:
    """What a run said while it worked.

    said: (when, time left) at each report. rows: (when, method).
    """

    def __init__(self, left: TimeLeft):
        self.left = left
        self.said: list[tuple[float, float | None]] = []
        self.rows: list[tuple[float, str]] = []

    def stage(self, progress: Progress) -> None:
        self.left.heard(progress)
        self.said.append((cpu(), self.left.seconds()))

    def row(self, row: Row) -> None:
        self.left.row(row)
        self.said.append((cpu(), self.left.seconds()))
        self.rows.append((cpu(), row.cell.method))

    def report(self, end: float) -> None:
        second = next(when for when, method in self.rows if method != self.rows[0][1])
        print(
            f"first row after {self.rows[0][0]:.1f} s, the first of a second method after {second:.1f} s, all after {end:.1f} s",
            flush=True,
        )
        for share in (0.1, 0.25, 0.5, 0.75, 0.9):
            when, told = next(one for one in self.said if one[0] >= share * end)
            taken = end - when
            shown = (
                "nothing" if told is None else f"{told:.0f} s, {told / taken:.2f} of what it took"
            )
            print(f"after {100 * share:.0f} %: {taken:.0f} s were left; told were {shown}")
        self.where(end)
        speeds, image = self.left.speeds, self.left.speeds.one(("embed",))
        assert image is not None, "something was embedded"
        print(f"an image embedded: {1000 * image:.2f} ms. Of it takes a view of")
        for kind in dict.fromkeys(
            stage.kind for stage in self.left.stages.values() if stage.kind[0] == "train"
        ):
            print(f"  {kind[1]}: {(speeds.one(kind) or 0) / image:.1f}")
        for kind in dict.fromkeys(self.left.kinds.values()):
            print(
                f"  a cell of {kind.method} {kind.protocol} {kind.labels}: {speeds.one(('fit', *kind)):.3f} s"
            )

    def where(self, end: float) -> None:
        """Say which kinds of work the seconds went to, the longest first."""
        spent: Counter[str] = Counter()
        for kind, seconds in self.left.speeds.seconds.items():
            match kind:
                case ("embed",):
                    spent["embedding"] += seconds
                case ("train", method, _):
                    spent[f"pretraining {method}"] += seconds
                case ("begin", what):
                    spent[f"before a {what} is first heard of"] += seconds
                case ("fit", str(method), bool(), _, str(protocol), *_):
                    spent[f"fitting and scoring {protocol} of {method}"] += seconds
        spent["reading, drawing, packing, planning, writing"] = end - sum(spent.values())
        for what, seconds in spent.most_common():
            print(f"  {seconds:6.1f} s  {100 * seconds / end:4.1f} %  {what}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--views", type=int, help="of a pretraining; default: as shipped")
    asked = parser.parse_args()
    quick = asked.quick
    methods.QUICK_VIEWS = asked.views or (500 if quick else methods.QUICK_VIEWS)
    grid = Grid(
        tasks=("derm",), labels=("1", "10") if quick else ("1", "10", "100"), data="phantom"
    )
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MEDBENCH_CACHE"] = str(Path(scratch, "cache"))
        import torch

        torch.set_num_threads(1)
        plan = planning.plan(grid)
        store = Store(Path(scratch, "out"))
        told = Told(TimeLeft(plan, store, "cpu", clock=cpu))
        with listening(told.stage):
            execution.execute(plan, store, device="cpu", on_row=told.row)
        told.report(cpu())


if __name__ == "__main__":
    main()
