"""The cells of a unit, with their fingerprints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medbench.data.evaluation_sets import EvaluationSet
from medbench.run.division import Division
from medbench.run.draw_counts import number_of_draws, number_of_initialisations
from medbench.run.ingredients import identity, ingredients, touched
from medbench.run.units import Unit
from medbench.run.validation import judges_fusions
from medbench.schema import ALL, Cell, Grid, PlannedCell, Protocol, fingerprint
from medbench.schema.ingredients import raised


def cells_of_unit(
    unit: Unit,
    first: Unit,
    protocols: list[Protocol],
    division: Division,
    targets: Sequence[EvaluationSet],
    grid: Grid,
) -> tuple[tuple[PlannedCell, ...], dict[str, dict[str, Any]]]:
    """Return a unit's cells in the order of work, and setting -> its identity.

    first: the unit of the first pretraining seed, which names the setting that all of them share.
    """
    data, encoder = unit.data, unit.encoder
    common = (
        data.task.name,
        data.data,
        unit.method.name,
        unit.source,
        encoder.name,
        encoder.readout,
        encoder.size,
        unit.pretrain_seed,
    )
    cells = []
    settings: dict[str, dict[str, Any]] = {}
    for protocol in protocols:
        own_head = unit.method.own_head
        if own_head and not judges_fusions(protocol):
            continue  # a person who named both was refused, see `validation`
        own, shared = (ingredients(one, protocol) for one in (unit, first))
        made_by = {
            (str(budget), target.name): touched(unit, protocol, str(budget), target)
            for budget in division.divided
            for target in targets
        }
        seeded = protocol.seeded or own_head
        trains = protocol.needs == "features" and any(
            part.recipes for part in unit.members or (unit,)
        )
        for (budget, seed), (_, wanted) in division.subsets.items():
            if seed >= number_of_draws(
                grid.seeds, len(division.subsets[budget, 0][0]), protocol, unit.method
            ):
                continue  # another line has more of them
            apart = division.touched(unit, protocol, budget, seed)
            for own_seed in (
                range(number_of_initialisations(grid.seeds)) if budget == ALL and seeded else [seed]
            ):
                for target in targets:
                    cell = Cell(*common, protocol.name, str(budget), own_seed, target.name)
                    touches = made_by[str(budget), target.name]
                    anew = trains and target.apart  # as in `prepare.features_key`
                    of_cell, of_line = (
                        target.setting(fingerprint(s, "trained") if anew else s)
                        for s in (
                            fingerprint(*made_of.values(), *raised({**touches, **of_draw}))
                            for made_of, of_draw in ((own, apart), (shared, {}))
                        )
                    )
                    cells.append(
                        PlannedCell(
                            cell,
                            fingerprint(cell.identity(), of_cell),
                            wanted,
                            of_line,
                            target.file,
                        )
                    )
                    settings.setdefault(
                        of_line, identity(shared, touches, data.task.stated_version)
                    )
    return tuple(cells), settings
