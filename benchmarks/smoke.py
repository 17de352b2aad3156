"""Smoke study: from drawn images to a leaderboard on each kind of task, without pretraining.

Its numbers say that the machinery works, nothing else.

    medbench run benchmarks/smoke.py
    medbench check benchmarks/smoke.py --against results/smoke/rows.jsonl --explain

About a minute on two cores (62 to 73 s of CPU time), no data, no download, no GPU. Seven classes
(derm), five findings (chest), five grades (retina), two classes (lymph). 48 px: a phantom is drawn
at 64, where resizing would be left out. `svm` and `logreg`, which take no findings, and fine-tuning
have a study of their own, smoke_protocols.py.

Expected at all labels by linear and by knn: AUC .88 and .85 on derm, .76 and .70 on chest, .84 and
.79 on lymph; weighted kappa .71 and .65 on retina. How far equal runs lie apart stands in
results/smoke/repeatability.json. What a change meant to move is accepted with `--update` in the
second line, and the spread is measured anew by

    python benchmarks/repeatability.py benchmarks/smoke.py results/smoke
"""

from medbench import Grid

GRID = Grid(
    tasks=("derm", "chest", "retina", "lymph"),
    methods=("supervised",),
    protocols=("linear", "knn"),
    labels=("1", "10", "100"),
    seeds=2,
    size=48,
    data="phantom",
)
