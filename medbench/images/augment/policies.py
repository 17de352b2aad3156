"""Kinds of random view, and the sets of them that the papers train on.

Every number has its source; what no source states is said to be ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

# of them Nielsen et al. 2023 flip all but histology upside down, too
_NO_UP = ("dermoscopy", "histology", "cytology", "endoscopy")

#: Views that SimCLR can be trained on: by the images' modality, or those that Azizi et al. 2021
#: chose for one of their tasks.
RECIPES = ("modality", "dermatology", "chest")


@dataclass(frozen=True)
class Crop:
    """One kind of random view, `count` of them an image. Probabilities are named `_p`.

    size: side, as a share of the encoder's. scale: share of the image's area, uniform. ratio: width
    / height, log-uniform. Both are drawn together until the crop fits the image, as in torchvision,
    so that crops of nearly the whole image are rare. flip, vertical_flip: probabilities. rotation:
    degrees, uniform in +-rotation. jitter: brightness, contrast, saturation and hue as in
    torchvision's ColorJitter. blur_sigma: uniform, in pixels where the full view has `made_for` of
    them, at other sizes in proportion: two pixels of 64 would leave little of what two of 224
    leave. blur_kernel: share of the side. perspective: distortion as in torchvision.
    """

    count: int = 1
    size: float = 1.0
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    # a rotated or distorted image is always sampled bilinearly
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    flip: float = 0.5
    vertical_flip: float = 0.0
    rotation: float = 0.0
    rotation_p: float = 1.0
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_p: float = 0.8
    gray_p: float = 0.0
    blur_p: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_kernel: float = 0.1
    solarise_p: float = 0.0
    perspective: float = 0.0
    perspective_p: float = 0.5
    made_for: int = 224

    def pixels(self, encoder_size: int) -> int:
        """Return the side (px) of the view for an encoder of this size.

        A multiple of 16 and at least 32, but for the full size, which is kept.

        >>> Crop().pixels(100), Crop(size=96 / 224).pixels(224), Crop(size=96 / 224).pixels(64)
        (100, 96, 32)
        """
        return (
            encoder_size if self.size == 1 else max(32, 16 * round(self.size * encoder_size / 16))
        )


def simclr_views(modality: str = "", recipe: str = RECIPES[0]) -> tuple[Crop, ...]:
    """Return SimCLR's two views (Chen et al. 2020; google-research/simclr, data_util.py).

    One `Crop`, of two views. Azizi et al. 2021 use the same for skin images. On X-ray as Azizi et
    al.: jitter at half strength, rotation of up to 45 degrees, no blur. modality: the task's.
    recipe: one of `RECIPES`: by the modality, or theirs for skin or for chest whatever the images
    are.
    """
    skin = Crop(2, jitter=(0.8, 0.8, 0.8, 0.2), gray_p=0.2, blur_p=0.5)
    if recipe == "dermatology":
        return (skin,)
    if recipe == "chest" and modality != "x-ray":  # in colour: their list has no grey
        return (replace(skin, rotation=45.0, jitter=(0.4, 0.4, 0.4, 0.1), gray_p=0.0, blur_p=0.0),)
    return _for(modality, skin)


def swav_views(modality: str = "") -> tuple[Crop, ...]:
    """Return two large and six small views of SwAV.

    Caron et al. 2020; facebookresearch/swav, src/multicropdataset.py and its scripts. The blur's
    kernel has 23 pixels at either size. On X-ray, what `simclr_views` does there: ours, the paper
    has none.
    """
    large = Crop(
        2,
        1.0,
        (0.14, 1.0),
        interpolation="bilinear",
        jitter=(0.8, 0.8, 0.8, 0.2),
        gray_p=0.2,
        blur_p=0.5,
        blur_kernel=23 / 224,
    )
    return _for(
        modality,
        large,
        replace(large, count=6, size=96 / 224, scale=(0.05, 0.14), blur_kernel=23 / 96),
    )


def dino_views(modality: str = "") -> tuple[Crop, ...]:
    """Return DINO's two large views and eight small ones, as three kinds of `Crop`.

    Caron et al. 2021; facebookresearch/dino, main_dino.py, DataAugmentationDINO. Blurred with p = 1
    (first large view), 0.1 (second) and 0.5 (small ones); the second large view is solarised with p
    = 0.2. Its blur is Pillow's, which has no kernel size: here SimCLR's. modality: the task's; for
    "x-ray" with the jitter, rotation and no blur of `simclr_views`, and without solarisation, which
    is ours: the paper has no X-ray images.
    """
    first = Crop(1, 1.0, (0.4, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), gray_p=0.2, blur_p=1.0)
    second = replace(first, blur_p=0.1, solarise_p=0.2)
    return _for(
        modality,
        first,
        second,
        replace(first, count=8, size=96 / 224, scale=(0.05, 0.4), blur_p=0.5),
    )


def byol_views(modality: str = "") -> tuple[Crop, ...]:
    """Return two views of BYOL, which Barlow Twins, VICReg and MoCo v3 take over.

    Two kinds of `Crop`. Grill et al. 2020, appendix B. Blurred with p = 1 and 0.1, the second
    solarised with p = 0.2. Their codes blur with Pillow or torchvision, at various kernel sizes:
    here SimCLR's. On X-ray as `dino_views`.
    """
    first = Crop(1, 1.0, (0.08, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), gray_p=0.2, blur_p=1.0)
    return _for(modality, first, replace(first, blur_p=0.1, solarise_p=0.2))


def lejepa_views(modality: str = "") -> tuple[Crop, ...]:
    """Return two large and six small views of LeJEPA.

    Balestriero and LeCun 2025; rbalestr-lab/lejepa, README.md. On X-ray as `dino_views`.
    """
    large = Crop(
        2, 1.0, (0.3, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), gray_p=0.2, blur_p=0.5, solarise_p=0.2
    )
    return _for(modality, large, replace(large, count=6, size=98 / 224, scale=(0.05, 0.3)))


def mae_views(modality: str = "") -> tuple[Crop, ...]:
    """Return MAE's one view (He et al. 2022; facebookresearch/mae, main_pretrain.py).

    Crop with resize and flip alone, whatever the modality.
    """
    return (Crop(1, 1.0, (0.2, 1.0)),)


def nielsen2023_views() -> tuple[Crop, ...]:
    """Return two large and five small views of Nielsen et al. 2023.

    They are made for blood cells, endoscopy and dermoscopy (IPMI-ICNS-UKE/sparsam), from
    sparsam/data_augmentation.py and configs/dino_config.yml: made for 256 pixels; the blur's kernel
    has 11 pixels at either size.
    """
    first = Crop(
        1,
        1.0,
        (0.5, 1.0),
        interpolation="bilinear",
        vertical_flip=0.5,
        rotation=180,
        jitter=(0.4, 0.4, 0.2, 0.1),
        gray_p=0.2,
    )
    first = replace(
        first,
        made_for=256,
        blur_p=1.0,
        blur_sigma=(0.1, 5.0),
        blur_kernel=11 / 256,
        perspective=0.5,
        perspective_p=0.75,
    )
    second = replace(first, blur_p=0.1, solarise_p=0.2, perspective_p=0.5)
    small = replace(
        first,
        count=5,
        size=96 / 256,
        scale=(0.1, 0.5),
        blur_p=0.5,
        blur_kernel=11 / 96,
        perspective_p=0.5,
    )
    return first, second, small


def finetune_views(modality: str = "") -> tuple[Crop, ...]:
    """Return one gentle view, of what Azizi et al. 2021 list for fine-tuning.

    Crop with resize, flips, rotation and colour. Strengths are ours. Blur, which they list too, is
    left out: at small sizes it takes what the diagnosis rests on. Upside down only where there is
    no up.
    """
    gentle = Crop(scale=(0.5, 1.0), rotation=15, rotation_p=0.5, jitter=(0.2, 0.2, 0.1, 0.02))
    gentle = replace(gentle, vertical_flip=0.5 if modality in _NO_UP else 0.0)
    return (replace(gentle, jitter=(0.2, 0.2, 0.0, 0.0)),) if modality == "x-ray" else (gentle,)


def truong2021_views(modality: str = "") -> tuple[Crop, ...]:
    """Return one view of Truong et al. 2021: a crop of 224 of 256 pixels, and flips.

    In place of flips, a rotation by modality; patches of histology are flipped alone. Which
    modality has which, and how far it turns, is NOT STATED. Ours: films turn by 10 degrees, for a
    mirrored chest is none; the others flip, upside down where there is no up. The crop is cut from
    an image of the encoder's size, where theirs is cut from one of 256 pixels.
    """
    side = 1.0 if modality == "histology" else 224 / 256
    view = Crop(
        scale=(side**2, side**2),
        ratio=(1, 1),
        interpolation="bilinear",
        vertical_flip=0.5 if modality in _NO_UP else 0.0,
    )
    return (replace(view, flip=0.0, rotation=10.0) if modality == "x-ray" else view,)


def _for(modality: str, *crops: Crop) -> tuple[Crop, ...]:
    """Return the kinds unchanged, but on X-ray as `simclr_views` says of Azizi et al. 2021.

    A grey image stays grey.
    """
    if modality != "x-ray":
        return crops
    return tuple(
        replace(
            crop, rotation=45.0, jitter=(0.4, 0.4, 0.0, 0.0), gray_p=0.0, blur_p=0.0, solarise_p=0.0
        )
        for crop in crops
    )
