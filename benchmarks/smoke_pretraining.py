"""Smoke study with in-domain pretraining: every method once, at the quick budget, which shows the machinery and not the method.

    medbench run benchmarks/smoke_pretraining.py
"""

from medbench import Grid

GRID = Grid(tasks=("derm",), labels=("10", "100"), seeds=2, size=32, data="phantom")
