"""Attention maps between sources as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure


def attention_picture(maps: Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """Draw maps side by side, as figure F1 of Truong et al. 2021.

    Rows attend to columns, every value printed to two decimals, one scale from 0 to 1. maps: title
    -> (k, k) float, rows sum to 1. names: of the k sources. Darker is more, so that the figure can
    be read in grey.
    """
    import matplotlib
    import seaborn
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    k, across = len(names), min(len(maps), 4)
    down = -(-len(maps) // across)
    side = 0.75 * k + 0.6
    with matplotlib.rc_context({"font.size": 9, "svg.hashsalt": "medbench"}):
        figure = Figure(figsize=(across * side + 1.6, down * (side + 0.7)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(down, across, squeeze=False)
        for i, (place, (title, values)) in enumerate(zip(axes.flat, maps.items(), strict=False)):
            options = {
                "vmin": 0,
                "vmax": 1,
                "cmap": "Greys",
                "square": True,
                "cbar": False,
                "linewidths": 0.5,
                "linecolor": "0.6",
            }
            seaborn.heatmap(
                values,
                annot=True,
                fmt=".2f",
                xticklabels=names,
                yticklabels=names if i % across == 0 else False,
                ax=place,
                **options,
            )
            place.set_title(title, pad=8)
            place.tick_params(length=0)
            place.tick_params(axis="y", rotation=0)
        for place in axes.flat[len(maps) :]:
            place.set_visible(False)
        figure.supxlabel("is attended to", size="medium")
        figure.supylabel("attends", size="medium")
        figure.colorbar(axes.flat[0].collections[0], ax=axes, shrink=0.8, label="attention")
    return figure
