"""Smoke study of the protocols that smoke.py leaves out: fine-tuning, a layer trained on random views, the classifiers of Nielsen et al. 2023.

    medbench run benchmarks/smoke_protocols.py
    medbench check benchmarks/smoke_protocols.py --against results/smoke-protocols/rows.jsonl --explain

About a minute on two cores (70 s of CPU time), most of it two fine-tunings. Two classes (lymph) and five (retina), about a hundred labels. Expected
AUC, lymph and retina: finetune .74 and .74, logreg .71 and .62, linear-truong2021 .67 and .69, svm .67 and .65, knn-nielsen2023 .63 and .62.

It sees another grid of rates in a fine-tuning, another C of an SVM or a logistic regression, other views, another number of neighbours: each is
planted in tests/test_check_slow.py.

    python benchmarks/repeatability.py benchmarks/smoke_protocols.py results/smoke-protocols
"""

from medbench import Grid

GRID = Grid(
    tasks=("lymph", "retina"),
    methods=("supervised",),
    protocols=("finetune", "linear-truong2021", "svm", "logreg", "knn-nielsen2023"),
    labels=("10",),
    seeds=1,
    size=32,
    data="phantom",
)
