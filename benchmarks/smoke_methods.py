"""Smoke study of the methods that are run by name alone: LeJEPA, VICReg, Barlow Twins, BYOL, MoCo v3 and MAE, from random weights, at the quick budget.

    medbench run benchmarks/smoke_methods.py
    medbench check benchmarks/smoke_methods.py --against results/smoke-methods/rows.jsonl --explain

timm's test ViT, which is small (64 channels, 6 blocks), at 64 px: MAE needs a ViT, and 16 tokens of which it sees 4.

    python benchmarks/repeatability.py benchmarks/smoke_methods.py results/smoke-methods
"""

from medbench import Grid

GRID = Grid(
    tasks=("derm",),
    methods=("lejepa", "vicreg", "barlow", "byol", "mocov3", "mae"),
    source="task",
    encoders=("test_vit",),
    labels=("100",),
    seeds=1,
    size=64,
    data="phantom",
)
