"""Azizi et al. 2021 (ICCV, arXiv:2101.05224): SimCLR and MICLe in-domain, from ImageNet weights or not, fine-tuned on 10 to 100 % of the
labels.

The three scenarios that they compare, and the supervised baseline, gathered in runs/azizi2021:

    medbench run benchmarks/azizi2021.py                                            # ImageNet, then in-domain: SimCLR, MICLe
    medbench run benchmarks/azizi2021.py --source task                              # in-domain alone
    medbench run benchmarks/azizi2021.py --source imagenet --methods simclr,supervised      # ImageNet alone
    medbench run benchmarks/azizi2021.py --augmentations chest,dermatology                  # their ablation of the views, each on both tasks
    medbench run benchmarks/azizi2021.py --source imagenet --methods supervised --encoder resnetv2_50x1_bit.goog_in21k      # BiT, 21k classes
    medbench run benchmarks/azizi2021.py --protocols linear                                 # their appendix: linear evaluation
    medbench run benchmarks/azizi2021.py --task chexpert --shift nih14                      # unchanged on another hospital's
    medbench shift runs/azizi2021                                                           # what is lost there
    medbench clinical runs/azizi2021                                                        # CheXpert finding by finding
    python benchmarks/claims.py runs/azizi2021                                              # what they claim of an order
    medbench compare runs/azizi2021
    medbench table runs/azizi2021 --rows method,source --cols task,labels
    medbench table runs/azizi2021 --metric accuracy --rows method,source --cols task,labels # top-1, as their dermatology

`medbench data list` says how to get SCIN and CheXpert; SimCLR's ImageNet checkpoint is fetched by name.

Hardware: a GPU at least (100 epochs of SimCLR over CheXpert's training part; `--task scin --pretrain standard` is far less). Time: not
measured, this study was never run for want of the data. Expected: the paper's abstract gives +6.7 points of top-1 accuracy on dermatology
and +1.1 points of mean AUC on CheXpert over the supervised baseline, best against best; MICLe adds 1.18 points of top-1 with a ResNet-50
(4x), which reaches 68.81 % (reported second-hand); with 20 to 30 % of the labels MICLe reaches baselines trained with all. Its tables, and
any spread, were NOT FOUND.

Where this departs from the paper:
- Their dermatology images (27 classes, 454,295 images) are private: SCIN stands in, people's own photographs, up to three a case. Absolute
  numbers cannot agree. Their split of CheXpert and what they do with uncertain labels are NOT FOUND: here the official validation images
  are the test part, and uncertain labels are left out of the loss and the score (`--task chexpert:ones`, `chexpert:zeros` read them).
- ResNet-50; theirs are ResNet-50 (4x) and ResNet-152 (2x), for which no checkpoint of timm's fits.
- Pretraining sees the training part alone; theirs a larger pool without labels. Rates and epochs are NOT FOUND: `paper` takes the defaults
  of the authors' later code (google-research/medical-ai-research-foundations). Of its batch of 512 (1,024 on chest radiographs in the paper,
  as Truong et al. report) the loss compares 256 images at a time, and is the mean of both directions, there the sum.
- MICLe's two stages see together what SimCLR sees alone. It pairs the images of CheXpert's studies, too; theirs is told of dermatology alone,
  on cases with several images. Bags of one image are left out of the second stage here, too, where the others fill a batch; else they give
  two views of it: their rule is NOT FOUND. What share of the pairs are two images stands under the table.
- Views are those of SimCLR's code for skin, and without grey and blur, at half the jitter and turned by up to 45 degrees for chest films; crops are
  drawn as by torchvision, theirs by TensorFlow, whose crops have another distribution of areas.
- A pretraining leaves 5 % of the training images out (whole patients, up to 1,000 images) to watch itself on; its steps are counted on all of
  them, so that the others are seen 1.05 times as often as its epochs say. Theirs is NOT FOUND.
- A fraction of the labels is no plain random share, as theirs probably is: every draw begins with an image of each class, and takes whole patients
  in proportion to the classes. So in small fractions rare classes are more frequent than among all images, and with several labels an image
  those with many of them. `medbench data split TASK --labels 10` counts; at 100 % nothing of this is left.
- Fine-tuning is the suite's own, its rate searched, at 224 px; theirs is NOT FOUND. Shift of dermatology to
  a second clinic has no open counterpart; their values of shift, of linear evaluation, of BiT and of each finding are NOT FOUND.
"""

from medbench import Grid

GRID = Grid(
    tasks=("scin", "chexpert"),
    methods=("simclr", "micle"),
    protocols=("finetune",),
    encoders=("resnet50.tv_in1k",),
    labels=("10", "20", "30", "50", "70", "90", "100"),
    source="imagenet+task",
    pretrain="paper",
    seeds=3,
)
