"""Nielsen et al. 2023 (Bioengineering 10(8):895): in-domain DINO features under classical classifiers, 1 to 1,000 labels a class.

Their figure of balanced accuracies, beside ours, for ISIC 2019 (isic2019), HyperKvasir (endoscopy) and bone marrow cells (marrow):

    BASELINE="--methods supervised --weights= --protocols finetune-nielsen2023"
    OURS="--methods dino-nielsen2023 --weights= --source imagenet+task --pretrain paper"
    ENDOSCOPY="--task endoscopy --labels 1/class,5/class,10/class,25/class,50/class,100/class,250/class,500/class,800/class,all"

    medbench run benchmarks/nielsen2023.py                                       # their published weights, frozen
    medbench run benchmarks/nielsen2023.py $BASELINE                             # their DL baseline
    python benchmarks/published.py nielsen2023 isic2019 runs/nielsen2023
    medbench table runs/nielsen2023 --metric balanced_accuracy --rows labels --cols task,protocol

    medbench run benchmarks/nielsen2023.py --weights nielsen-endo $ENDOSCOPY
    medbench run benchmarks/nielsen2023.py $BASELINE $ENDOSCOPY
    medbench run benchmarks/nielsen2023.py --task marrow --weights nielsen-bm
    medbench run benchmarks/nielsen2023.py --task marrow $BASELINE

    medbench run benchmarks/nielsen2023.py $OURS                                 # pretrained here, by their recipe
    python benchmarks/claims.py runs/nielsen2023                                 # what they claim of an order; the literature's values

Pretrained here it starts where theirs did, from the supervised ImageNet XCiT on [-1, 1], for 500 epochs, 5 % of the images left out to
watch on; on the training part alone, theirs on 44,107 images of ISIC 2020 and HyperKvasir's unlabelled ones, too. Where you have them, add
`--unlabelled isic2019=isic2020 --unlabelled endoscopy=hyperkvasir`. `medbench data list isic2019` says how to get the images; the weights
are fetched from Zenodo (193 MB each, SHA-256 checked).

Hardware: a GPU. Time: not measured, this study was never run for want of the data. Expected on ISIC, balanced accuracy, read off the figure
(spread NOT FOUND, nor the number of repeats): SVM .425, .617, .726 at 10, 100, 1,000 a class; their supervised baseline .283, .480, .658.
On bone marrow SVM .560, .724, .696, baseline .313, .561, .645. Their second figure, of the classes with 250 training
images alone, is no grid of ours: `published.py nielsen2023 isic2019-250+` prints theirs; `marrow-recall` has each class of bone marrow beside ours.

Where this departs from the paper:
- Splits. Theirs of ISIC is by image, so that lesions stand on both sides; ours keeps lesions whole. Their published weights were trained on
  their training images, some of which are in our test part (without labels): every table says what the weights have seen. Their lists of
  HyperKvasir share 2,628 of 2,666 test images with training and are not used: ours are the official folds. Whether the scores of their
  figure come from those lists was NOT FOUND, nor was their list for bone marrow.
- With fewer images than 5 a class, where their nearest neighbours raise an error, all images vote in ours.
- SVM decisions are the decision function's: with argmax of calibrated probabilities, as in their script, a few labels a class fail.
- Their baseline and their last layer see several crops with perspective, any rotation and blur, on [-1, 1]; ours the suite's views, on the scale
  of the checkpoint. They take 5,000 steps whatever the budget; theirs 500 epochs at most (500 steps where 70 % of the images fill no second
  batch), and stops early. They lower the rate on a plateau of the held-out score; theirs on one of the training loss.
- Images are squashed to 256 px bicubic; theirs by nearest neighbour.
"""

from medbench import Grid

GRID = Grid(
    tasks=("isic2019",),
    methods=("given",),
    protocols=("svm", "knn-nielsen2023", "logreg", "last-layer-nielsen2023"),
    encoders=("xcit_small_12_p8_224.fb_dist_in1k",),
    labels=(
        "1/class",
        "5/class",
        "10/class",
        "25/class",
        "50/class",
        "100/class",
        "250/class",
        "500/class",
        "1000/class",
        "all",
    ),
    weights="nielsen-isic",
    size=256,
    seeds=3,
)
