"""Smoke study: the whole path from drawn images to a leaderboard, without pretraining.

medbench run benchmarks/smoke.py
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
