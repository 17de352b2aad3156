"""HAM10000 at 64 px: the probe, low-rank adapters and full fine-tuning of a ViT that DINO pretrained
there from random weights.

    medbench run benchmarks/lora.py --data FOLDER          # FOLDER holds ham10000/; `medbench data list derm` says how to get it
    medbench run benchmarks/lora.py --labels 100 --seeds 1 --data FOLDER
    medbench run benchmarks/lora.py --methods random --source auto --data FOLDER

Three commands: 10 % of the labels; all of them, one draw; the control, the same network as drawn.
What is compared, and what was fixed before the test part was read, stands in
`benchmarks/evidence.md`. It needs `medbench[lora]`. Images of 200 x 150 pixels: not comparable with
published scores.
"""

from medbench import Grid

GRID = Grid(
    tasks=("derm",),
    encoders=("test_vit",),  # timm's smallest plain ViT
    methods=("dino",),
    source="task",
    pretrain="standard",
    protocols=("linear", "lora", "finetune"),
    labels=("10",),
    seeds=3,
    size=64,
)
