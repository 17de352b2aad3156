"""Everything that a run will need from a network, on a machine that has one.

Data sets, weights, files of the hub. Then it runs without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medbench import images
from medbench.data import manage
from medbench.data.roots import data_roots
from medbench.data.unlabelled import sources
from medbench.run.units import member_encoder, starting_weights
from medbench.run.validation import encoder_of, resolve_grid
from medbench.schema import Encoder, Grid, Method, Task, Weights, registry, user_path


@dataclass(frozen=True)
class Needed:
    """Something that a run needs.

    place: where it lies now; None: it is to be got by hand, as `steps` say.
    """

    name: str
    place: Path | None
    steps: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Return the size of a file, 0 of a folder, which may hold more than is needed."""
        return self.place.stat().st_size if self.place is not None and self.place.is_file() else 0


def fetch(grid: Grid, say: Callable[[str], None] = lambda line: None) -> list[Needed]:
    """Fetch what a grid needs and what is not here; return all that it needs.

    say: is called with a line before long work. No image is decoded and nothing is computed. Raises
    UserError where something cannot be had.
    """
    asked = resolve_grid(grid)
    cache_dir = images.cache_folder()
    found: dict[str, Needed] = {}
    for task in asked.tasks if grid.data != "phantom" else ():
        others = [registry.task(name) for name in grid.shifts if name in task.shifts]
        for one in (task, *others):
            if one.name not in found:
                found[one.name] = _data(one, grid, cache_dir, say)
        for name, place, _ in sources(
            grid, task.name, [other.name for other in asked.tasks], cache_dir
        ):
            found[f"{name}, unlabelled"] = Needed(f"{name}, unlabelled", place)
    for encoder in (
        encoder_of(name, readout, grid) for name in grid.encoders for readout in grid.readouts
    ):
        for method in asked.methods:
            if encoder.kind in method.encoders:
                for weights in _weights(method, encoder, grid, cache_dir):
                    if weights.file is not None:
                        found[weights.name] = Needed(weights.name, weights.file)
    return list(found.values())


def _data(task: Task, grid: Grid, cache_dir: Path, say: Callable[[str], None]) -> Needed:
    """Find a task's images, or download them."""
    named = f"{task.name}: {task.data}"
    roots = [user_path(grid.data)] if grid.data else data_roots(cache_dir)
    there = next((place for root in roots if (place := task.find(root))), None)
    if there is not None and (
        not task.downloads or any(manage.is_complete(task, root) for root in roots)
    ):
        return Needed(named, there)
    root = roots[0] if grid.data else cache_dir / "data"
    got = manage.get(task, root, cache_dir, say) or there
    complete = got is not None and (not task.downloads or manage.is_complete(task, root))
    return Needed(named, got) if complete else Needed(named, None, tuple(manage.steps(task, root)))


def _weights(method: Method, encoder: Encoder, grid: Grid, cache_dir: Path) -> Iterator[Weights]:
    """Give the weights that a method starts from with an encoder.

    For a fusion, those of its members.
    """
    if method.fusion:
        for member in method.fusion.members:
            yield from _weights(
                registry.method(member.method),
                member_encoder(member, encoder, phantom=False),
                grid,
                cache_dir,
            )
        return
    if encoder.kind == "features":
        return
    yield starting_weights(method, encoder, 0, grid, cache_dir)[1]
