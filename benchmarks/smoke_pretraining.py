"""Smoke study with in-domain pretraining: every method of the default set once, at the quick budget, which shows the machinery and not the method.

    medbench run benchmarks/smoke_pretraining.py
    medbench check benchmarks/smoke_pretraining.py --against results/smoke-pretraining/rows.jsonl --explain

Two to three minutes on two cores (125 to 185 s of CPU time). 32 px: a quarter of the pixels of 64. Expected AUC at all
labels: micle .79, dvme .78, simclr .77, swav .73, dino and supervised .71, random .58.

Another number of threads or other vector units round otherwise, and training makes more of it. Between six environments (with crops 1; one and two
threads; AVX-512, AVX2, SSE4) AUC lay apart by up to .034 for dvme, .018 for swav and micle, .016 for simclr, less than .0001 for dino,
random and supervised. Twice that is the tolerance (results/smoke-pretraining/repeatability.json): the smallest drop in AUC that turns red
is .07 for dvme, .03 to .04 for swav, micle and simclr, .0003 for the others.

It sees a training of simclr, micle or dino that does nothing (their AUC at all labels would be supervised's), a changed view, loss or
schedule where it costs that much, and every change of data, split, budget or version, which are compared exactly. It does not see swav that
does nothing (.02), a small loss of quality, or dvme's calibration (ECE from .06 to .40 in equal runs). Six environments are few: on a machine
unlike these a red cell of dvme, swav, micle or simclr alone may be chance; its rows then belong into the spread (--measure).

    python benchmarks/repeatability.py benchmarks/smoke_pretraining.py results/smoke-pretraining
"""

from medbench import Grid

GRID = Grid(tasks=("derm",), labels=("10", "100"), seeds=2, size=32, data="phantom")
