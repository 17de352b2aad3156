"""Smoke study with in-domain pretraining: every method once, at the quick budget, which shows the machinery and not the method.

    medbench run benchmarks/smoke_pretraining.py

Some minutes on two cores. It has no committed reference: a training makes other weights with another number of threads, and how far that moves
a metric has not been measured (benchmarks/repeatability.py would, in as many runs).
"""

from medbench import Grid

GRID = Grid(tasks=("derm",), labels=("10", "100"), seeds=2, data="phantom")
