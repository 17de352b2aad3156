"""Smoke study with in-domain pretraining: every method once, at the quick budget, which shows the machinery and not the method.

    medbench run benchmarks/smoke_pretraining.py
    medbench check benchmarks/smoke_pretraining.py --against results/smoke-pretraining/rows.jsonl --explain

Some minutes on two cores (170 s of CPU time). 32 px: pretraining takes a quarter of the time that it takes at 64.
"""

from medbench import Grid

GRID = Grid(tasks=("derm",), labels=("10", "100"), seeds=2, size=32, data="phantom")
