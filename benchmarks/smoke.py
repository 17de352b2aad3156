"""Smoke study: the whole path from drawn images to a leaderboard, without pretraining. Its numbers say that the machinery works, nothing else.

    medbench run benchmarks/smoke.py
    medbench check benchmarks/smoke.py --against results/smoke/rows.jsonl --explain

About a minute on two cores, no data, no download, no GPU. Expected, AUC at all labels: supervised .89 by linear, .86 by knn, .84 by svm; random
.53 to .58. How far equal runs lie apart stands in results/smoke/repeatability.json. What a change meant to move is accepted with `--update`
in the second line, and the spread is measured anew by

    python benchmarks/repeatability.py benchmarks/smoke.py results/smoke
"""

from medbench import Grid

GRID = Grid(
    tasks=("derm",),
    methods=("random", "supervised"),
    protocols=("linear", "knn", "svm"),
    labels=("1", "10", "100"),
    seeds=2,
    data="phantom",
)
