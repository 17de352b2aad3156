"""HAM10000 at 64 px: what in-domain pretraining, fusion and plain ImageNet weights are worth at 1,
10 and 100 % of the labels.

    medbench run benchmarks/derm.py --data FOLDER          # FOLDER holds ham10000/; `medbench data list derm` says how to get it
    medbench plot runs/derm --kind curves --format png --width page
    medbench compare runs/derm

Without the images the same command runs on drawn ones and says so; the numbers below are of the
real ones. Hardware and time: a share of two busy CPU cores, one thread: about 40 minutes, 14 of
them CPU, with the pretrainings (results/README.md).

Expected, AUC of supervised weights at 1, 10, 100 %: about .71 (sd .02 over 20 draws), .81 (sd .01
over 10), .87; random weights .66, .76, .82, worse at each budget. Of the methods that saw 4,000
views of the training part `micle` is better than the supervised weights that it started from at 1 %
(.016 [.008, .025]), `dino` is practically equal to them, and `simclr` and `swav` are not told from
them. Three of them side by side (`concat`) are better at each budget, by .013, .018 and .017.
Images of 200 x 150 pixels: not comparable with published scores.
"""

from medbench import Grid

GRID = Grid(
    tasks=("derm",),
    methods=(
        "random",
        "supervised",
        "simclr",
        "swav",
        "dino",
        "micle",
        "dvme",
        "dvme-concat",
        "concat",
    ),
    size=64,
)
