"""Which of the encoders that people ask for.

Twelve of the Hugging Face hub on public images, at 224 px and 1, 10 and 100 % of the labels.

    medbench fetch benchmarks/encoders.py --data FOLDER        # where a network is: weights, and the data that take no account
    medbench run benchmarks/encoders.py --data FOLDER --plan   # what it costs on this machine
    medbench run benchmarks/encoders.py --data FOLDER
    medbench table runs/encoders --cols task,labels
    medbench compare runs/encoders

Three are trained on the labels of ImageNet, four without labels or on captions of the web, five on
medical images. Three are gated (DINOv3, MedSigLIP, UNI): accept the terms on their pages, then `hf
auth login`. `pip install 'medbench[hf,open-clip]'` brings what reads them.

Hardware: a GPU. Never run yet, for want of a network, so no number is expected here and no time was
measured. The weights are about 10 GB, four bytes a parameter, the text towers of CLIP, MedSigLIP
and BiomedCLIP with them. Each image is embedded once for an encoder, whatever the budgets: 357,875
images of five data sets, nine tenths of them patches of PCam. `--task` leaves some out. `--plan`
tries each encoder on this machine and says how long all of it will take.

What it can tell: images are 224 px for all encoders, cropped as each repository's config says
(`--crop squash`: the whole image for all); MedSigLIP was trained at 448 and RAD-DINO at 518, and
their own size may do better (`--size 448`, a line of its own). The readout is each repository's own
(`pool`). What an encoder has seen of a data set stands on the table where it
is known: RETFound saw EyePACS, RAD-DINO the films of NIH.
"""

from medbench import Grid

GRID = Grid(
    tasks=("derm", "endoscopy", "pneumonia", "retina", "lymph"),
    encoders=(
        "hf-hub:timm/resnet50.tv_in1k",
        "hf-hub:timm/convnext_base.fb_in22k_ft_in1k",
        "hf-hub:timm/vit_base_patch16_224.augreg_in21k",
        "hf:facebook/dinov2-base",
        "hf:facebook/dinov2-with-registers-base",
        "hf:facebook/dinov3-vitb16-pretrain-lvd1689m",
        "hf:openai/clip-vit-base-patch16",
        "hf:microsoft/rad-dino",
        "hf:google/medsiglip-448",
        "open_clip:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        "hf-hub:MahmoodLab/UNI",
        "hf-hub:bitfount/RETFound_MAE",
    ),
    size=224,
)
