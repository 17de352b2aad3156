"""Complete what repositories do not say themselves.

Keyword arguments that JSON cannot hold, and whose images the weights have seen. Written without a
network: no entry was compared with its repository's page yet. `--trained-on` comes before the
table. A repository that is not here is built as its config says, and is trained on "unknown".
"""

from __future__ import annotations

from typing import Any

UNKNOWN = ("unknown",)
#: Of timm's architecture, by repository. A text with a dot names a class, which is looked up in
#: timm and torch when the network is built.
_PACKED = {"mlp_layer": "timm.layers.SwiGLUPacked", "act_layer": "torch.nn.SiLU"}
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
    """As the table says, else "unknown"."""
    # the hub does not tell upper from lower case
    named = {name.lower(): data for name, data in TRAINED_ON.items()}
    return named.get(repository.lower(), UNKNOWN)


def keywords(repository: str) -> dict[str, Any]:
    """For timm's architecture, classes in place."""
    import timm
    import torch

    named = {name.lower(): words for name, words in KEYWORDS.items()}
    found = dict(named.get(repository.lower(), {}))
    layers: Any = timm.layers
    classes = {"timm.layers.SwiGLUPacked": layers.SwiGLUPacked, "torch.nn.SiLU": torch.nn.SiLU}
    return {
        word: classes.get(value, value) if isinstance(value, str) else value
        for word, value in found.items()
    }
