"""Attention maps between sources as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from medbench.plot.style import shaded

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure


def attention_picture(maps: Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """Maps side by side, as figure F1 of Truong et al. 2021: rows attend to columns, every value printed to two decimals, one scale from 0 to 1.

    maps: title -> (k, k) float, rows sum to 1. names: of the k sources. Darker is more, so that the figure can be read in grey.
    """
    import matplotlib
    from matplotlib.figure import Figure

    k, across = len(names), min(len(maps), 4)
    down = -(-len(maps) // across)
    side = 0.75 * k + 0.6
    with matplotlib.rc_context({"font.size": 9, "svg.hashsalt": "medbench"}):
        figure = Figure(figsize=(across * side + 1.6, down * (side + 0.7)), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False).ravel().tolist()
        grey = {"vmin": 0, "vmax": 1, "cmap": "Greys", "edgecolors": "0.6"}
        for i, (place, (title, values)) in enumerate(zip(axes, maps.items(), strict=False)):
            texts = [[f"{value:.2f}" for value in row] for row in values]
            mesh = shaded(place, values, texts, names, [] if i % across else names, gaps=0.5, size=9, **grey)
            place.set_aspect("equal")
            place.set_title(title, pad=8)
        for spare in axes[len(maps) :]:
            spare.set_axis_off()
        figure.supxlabel("is attended to", size="medium")
        figure.supylabel("attends", size="medium")
        figure.colorbar(mesh, ax=axes, shrink=0.8, label="attention")
    return figure
