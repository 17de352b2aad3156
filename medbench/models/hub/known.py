"""Complete what repositories do not say themselves.

Keyword arguments that JSON cannot hold, or that a config leaves out, and whose images the weights
have seen. Each of the eight entries of KEYWORDS was compared with public code that builds the
network; no page of a repository was looked at. `--trained-on` comes before the table. A repository
that is not here is built as its config says, and is trained on "unknown".

Not here: Prov-GigaPath, Kaiko's and Lunit's, whose config says all; Phikon, Hibou, Midnight, which
transformers reads; CONCH, MUSK, KEEP and GPFM, which bring code of their own; CTransPath, whose stem
is a class of its page, which no package has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

UNKNOWN = ("unknown",)
T = TypeVar("T")
#: Of timm's architecture, by repository. One of CLASSES stands for the class.
CLASSES = ("timm.layers.SwiGLUPacked", "torch.nn.SiLU")
_PACKED = dict(zip(("mlp_layer", "act_layer"), CLASSES, strict=True))
_SCALED = {"init_values": 1e-5}
KEYWORDS: dict[str, dict[str, Any]] = {
    "paige-ai/Virchow": _PACKED,
    "paige-ai/Virchow2": _PACKED,
    "bioptimus/H0-mini": _PACKED,
    "MahmoodLab/UNI2-h": {
        **_PACKED,
        **_SCALED,
        **{
            "img_size": 224,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
        },
        **{"no_embed_class": True, "reg_tokens": 8, "dynamic_img_size": True},
    },
    "MahmoodLab/UNI": {**_SCALED, "dynamic_img_size": True},
    "bioptimus/H-optimus-0": {**_SCALED, "dynamic_img_size": False},
    "bioptimus/H-optimus-1": {**_SCALED, "dynamic_img_size": False},
    "Wangyh/mSTAR": {**_SCALED, "dynamic_img_size": True},
}
#: What a reader must know of a repository whose config is not what its authors do.
REMARKS: dict[str, str] = {
    "Wangyh/mSTAR": "its authors' code resizes the shorter side to 224 and normalises as for ImageNet, "
    "whatever its config says: --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --crop center:1",
}
#: By repository, in the names that this project's tasks have for the same data.
TRAINED_ON: dict[str, tuple[str, ...]] = {
    "timm/resnet50.tv_in1k": ("ImageNet-1k",),
    "timm/convnext_base.fb_in22k_ft_in1k": ("ImageNet-22k", "ImageNet-1k"),
    "timm/vit_base_patch16_224.augreg_in21k": ("ImageNet-21k",),
    "bitfount/RETFound_MAE": ("ImageNet-1k", "MEH-MIDAS", "EyePACS"),
    "microsoft/rad-dino": ("MIMIC-CXR", "CheXpert", "NIH ChestX-ray14", "PadChest", "BRAX"),
    "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224": ("PMC-15M",),
    "facebook/dinov2-small": ("LVD-142M",),
    "facebook/dinov2-base": ("LVD-142M",),
    "facebook/dinov2-with-registers-small": ("LVD-142M",),
    "facebook/dinov2-with-registers-base": ("LVD-142M",),
    "facebook/dinov3-vits16-pretrain-lvd1689m": ("LVD-1689M",),
    "facebook/dinov3-vitb16-pretrain-lvd1689m": ("LVD-1689M",),
    "openai/clip-vit-base-patch16": ("WIT-400M",),
    "paige-ai/Virchow2": ("3.1 million slides of MSKCC",),
    "MahmoodLab/UNI": ("Mass-100K",),
    "MahmoodLab/UNI2-h": ("350,000 slides of Mass General Brigham",),
}


def trained_on(repository: str) -> tuple[str, ...]:
    """Return the data sets that an encoder was trained on, as the table says; else UNKNOWN.

    repository: OWNER/NAME.
    """
    return _of(TRAINED_ON, repository) or UNKNOWN


def remark(repository: str) -> str:
    """Return what the table says of a config, "" where nothing."""
    return _of(REMARKS, repository) or ""


def _of(table: Mapping[str, T], repository: str) -> T | None:
    # the hub does not tell upper from lower case
    return next(
        (value for name, value in table.items() if name.lower() == repository.lower()), None
    )


def keywords(repository: str) -> dict[str, Any]:
    """Return what timm's architecture is called with, classes as texts."""
    return dict(_of(KEYWORDS, repository) or {})


def with_classes(words: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments with the classes themselves in place of their texts."""
    import timm
    import torch

    layers: Any = timm.layers
    classes = dict(zip(CLASSES, (layers.SwiGLUPacked, torch.nn.SiLU), strict=True))
    return {
        word: classes.get(value, value) if isinstance(value, str) else value
        for word, value in words.items()
    }
