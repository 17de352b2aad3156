"""HAM10000 at 64 px: what 200,000 views of in-domain pretraining bring over the supervised weights
that it started from.

    medbench run benchmarks/derm_standard.py --data FOLDER          # FOLDER holds ham10000/; `medbench data list derm` says how to get it
    medbench compare runs/derm_standard --against supervised

What is compared, and what was fixed before the test part was read, stands in
`benchmarks/evidence.md`. Time: about 17 minutes of one quiet CPU core a pretraining. Images of 200
x 150 pixels: not comparable with published scores.
"""

from medbench import Grid

GRID = Grid(
    tasks=("derm",),
    methods=("random", "supervised", "simclr", "micle", "dino", "swav", "concat"),
    labels=("1", "10", "100"),
    pretrain="standard",
    size=64,
)
