"""HAM10000 at 64 px: what in-domain pretraining, fusion and plain ImageNet weights are worth at 1, 10 and 100 % of the labels.

    medbench run benchmarks/derm.py --data FOLDER          # FOLDER holds ham10000/; `medbench data list derm` says how to get it
    medbench plot runs/derm --kind curves --format png --width page
    medbench compare runs/derm

Without the images the same command runs on drawn ones and says so; the numbers below are of the real ones. Hardware and time: one CPU core,
about 25 minutes with the pretrainings: five more than with the three draws of results/derm, for 20 of 1 % and 10 of 10 % (half as many of a
trained head).

Expected, AUC of supervised weights at 1, 10, 100 %: about .71 (sd .02 over draws), .81 (sd .01), .87; random weights .67, .76, .82. No
single method that saw 4,000 views of the training part is shown to beat the supervised weights that it started from; three of them side by
side (`concat`) do, with all labels, by .018 [.011, .025]. Images of 200 x 150 pixels: not comparable with published scores.
"""

from medbench import Grid

GRID = Grid(
    tasks=("derm",),
    methods=("random", "supervised", "simclr", "swav", "dino", "micle", "dvme", "dvme-concat", "concat"),
    size=64,
)
