"""`fetch`: what a run needs from a network, before it goes where none is."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Annotated

import typer

from medbench.cli.grid_options import SWITCHES, VALUES, given_fields, takes_grid
from medbench.cli.options import app
from medbench.schema import Grid


@app.command("fetch")
@takes_grid("study", *VALUES, *SWITCHES)
def fetch_command(
    context: typer.Context,
    grid: Grid,
    study: Annotated[
        str | None, typer.Argument(help="Python file with a constant GRID, as for `run`.")
    ] = None,
) -> None:
    """Fetch all that a run will need: weights, files of the hub, public data.

    Then it runs without a network. Exit code 1: something by hand.
    """
    from medbench import images
    from medbench.cli import screen
    from medbench.models.hub import repository
    from medbench.run import fetching
    from medbench.run import study as studies

    chosen = studies.load_study(study, "medbench fetch FILE.py") if study is not None else None
    grid = chosen.but(grid, given_fields(context)) if chosen else grid
    with screen.Screen(), chosen.blamed() if chosen else nullcontext():
        found = fetching.fetch(grid, say=lambda line: print(line, file=sys.stderr))
    for one in found:
        size = f" ({one.bytes / 1e6:,.0f} MB)" if one.bytes else ""
        print(f"{one.name}: {one.place}{size}" if one.place else f"{one.name}: by hand.")
        print("".join(f"  {step}\n" for step in one.steps), end="")
    print(
        f"For a machine without a network, copy the cache {images.cache_folder()} (MEDBENCH_CACHE)",
        end="",
    )
    print(f" and the hub's, {repository.cache_folder()} (HF_HUB_CACHE); set HF_HUB_OFFLINE=1 there")
    if any(one.place is None for one in found):
        raise typer.Exit(1)
