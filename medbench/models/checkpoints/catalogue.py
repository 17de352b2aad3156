"""The official checkpoints.

Where each lies, how its file is laid out, how it saw its images, and whose images they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medbench.schema import UserError

Three = tuple[float, float, float]
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# facebookresearch/swav, eval_linear.py and multicropdataset.py: .228, not .229
SWAV = IMAGENET[0], (0.228, 0.224, 0.225)
# google-research/simclr, issues 12 and 15: no normalisation beyond [0, 1]
ZERO_ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
# IPMI-ICNS-UKE/sparsam, utils.py: clamped to [0, 1], then 2 x - 1
PLUS_MINUS_ONE = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

META = "https://dl.fbaipublicfiles.com"
SIMCLR = "Chen et al. 2020, arXiv:2002.05709"
SWAV_PAPER = "Caron et al. 2020, arXiv:2006.09882"
DINO_PAPER = "Caron et al. 2021, arXiv:2104.14294"
NIELSEN = "Nielsen et al. 2023, Bioengineering 10(8):895"


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint of one encoder.

    encoder: what `--encoder` takes for it. sha256: of the file, all 64 digits or the first ones, ""
    where nobody published it: then the first one seen is recorded and enforced. url: "" where there
    is nothing to download as it is; `note` says what to do. interpolation: None where its source
    does not say. official: the one that `auto` means for its method and architecture.
    """

    name: str
    method: str
    encoder: str
    file: str
    url: str
    layout: str
    mean: Three
    std: Three
    interpolation: str | None
    trained_on: tuple[str, ...]
    citation: str
    sha256: str = ""
    size: int | None = None  # bytes
    official: bool = False
    note: str = ""

    @property
    def architecture(self) -> str:
        """The network's name in timm, without a checkpoint's tag."""
        return self.encoder.partition(".")[0]


def _entry(
    name: str,
    method: str,
    encoder: str,
    url: str,
    layout: str,
    pixels: tuple[Three, Three],
    citation: str,
    **more: Any,
) -> Checkpoint:
    values = {
        "interpolation": None,
        "trained_on": ("ImageNet-1k",),
        "file": url.rpartition("/")[2],
        **more,
    }
    return Checkpoint(
        name,
        method,
        encoder,
        url=url,
        layout=layout,
        mean=pixels[0],
        std=pixels[1],
        citation=citation,
        **values,
    )


def _simclr(epochs: int, run: str) -> Checkpoint:
    """VISSL's model zoo. The digits behind the folder's name are a run's, not a hash."""
    folder = f"{META}/vissl/model_zoo/simclr_rn50_{epochs}ep_simclr_8node_resnet_16_07_20.{run}"
    url = f"{folder}/model_final_checkpoint_phase{epochs - 1}.torch"
    return _entry(
        f"simclr-rn50-vissl-{epochs}ep",
        "simclr",
        "resnet50",
        url,
        "vissl",
        IMAGENET,
        SIMCLR,
        official=epochs == 1000,
    )


def _dino(name: str, encoder: str, stem: str) -> Checkpoint:
    """Files of facebookresearch/dino, hubconf.py.

    Its eval_linear.py resizes by interpolation=3, bicubic.
    """
    url = f"{META}/dino/{stem}_pretrain/{stem}_pretrain.pth"
    return _entry(
        name,
        "dino",
        encoder,
        url,
        "plain",
        IMAGENET,
        DINO_PAPER,
        interpolation="bicubic",
        official=True,
    )


def _supervised(name: str, encoder: str, file: str) -> Checkpoint:
    """torchvision's.

    The digits at the end of the name start the file's SHA-256, as torch.hub demands.
    """
    url, digits = (
        f"https://download.pytorch.org/models/{file}",
        file.removesuffix(".pth").rpartition("-")[2],
    )
    note = "`supervised` takes timm's own copy of it from the Hugging Face hub"
    return _entry(
        name,
        "supervised",
        encoder,
        url,
        "plain",
        IMAGENET,
        "torchvision",
        interpolation="bilinear",
        sha256=digits,
        note=note,
    )


def _nielsen(data: str, trained_on: tuple[str, ...], sha256: str, note: str = "") -> Checkpoint:
    """DINO from supervised ImageNet weights (distilled). Hashes: the repository's Git LFS pointers.

    Its images were resized to 256 px by nearest neighbour; medbench resamples as the encoder's own
    checkpoint does.
    """
    url = f"https://zenodo.org/records/10391339/files/pretrained_{data}.pt"
    seen = ("ImageNet-1k", *trained_on)
    encoder = "xcit_small_12_p8_224.fb_dist_in1k"
    size = 192_903_987
    return _entry(
        f"nielsen-{data}",
        "dino",
        encoder,
        url,
        "sparsam",
        PLUS_MINUS_ONE,
        NIELSEN,
        trained_on=seen,
        sha256=sha256,
        size=size,
        note=note,
    )


CHECKPOINTS: tuple[Checkpoint, ...] = (
    _simclr(1000, "afe428c7"),
    _simclr(800, "7e8feed1"),
    _simclr(400, "36b338ef"),
    _simclr(200, "a816c0ef"),
    _simclr(100, "8edb093e"),
    _entry(
        "simclr-rn50-google",
        "simclr",
        "resnet50",
        "",
        "simclr-google",
        ZERO_ONE,
        SIMCLR,
        file="resnet50-1x.pth",
        note="download storage.cloud.google.com/simclr-gcs/checkpoints/ResNet50_1x.zip and convert it with github.com/tonylins/simclr-converter: "
        "python convert.py ResNet50_1x/model.ckpt-225206 resnet50-1x.pth",
    ),
    _entry(
        "swav-rn50-800ep",
        "swav",
        "resnet50",
        f"{META}/deepcluster/swav_800ep_pretrain.pth.tar",
        "swav",
        SWAV,
        SWAV_PAPER,
        interpolation="bilinear",  # eval_linear.py: torchvision's default
        official=True,
    ),
    _entry(
        "swav-rn50-vissl",
        "swav",
        "resnet50",
        f"{META}/vissl/model_zoo/swav_in1k_rn50_800ep_swav_8node_resnet_27_07_20.a0a6b676/model_final_checkpoint_phase799.torch",
        "vissl",
        IMAGENET,
        SWAV_PAPER,
    ),
    _dino("dino-vits8", "vit_small_patch8_224.dino", "dino_deitsmall8"),
    _dino("dino-vits16", "vit_small_patch16_224.dino", "dino_deitsmall16"),
    _dino("dino-rn50", "resnet50", "dino_resnet50"),
    _dino("dino-xcit-s12-8", "xcit_small_12_p8_224.fb_in1k", "dino_xcit_small_12_p8"),
    _supervised("supervised-rn50-tv", "resnet50.tv_in1k", "resnet50-0676ba61.pth"),
    _supervised("supervised-rn50-tv2", "resnet50.tv2_in1k", "resnet50-11ad3fa6.pth"),
    _supervised("supervised-rn50-vissl", "resnet50.tv_in1k", "resnet50-19c8e357.pth"),
    _nielsen(
        "bm",
        ("BM cytomorphology",),
        "4c641d055dd4046a19af823d4cfdf93ad8e6c6efe5d97655916bded39d951695",
    ),
    _nielsen(
        "endo",
        ("HyperKvasir",),
        "60019de4803f7bab705a55b1da1d108489fcf190d66a1f1d5b5a0d1a5328681c",
        "its published test list shares 2,628 of 2,666 images with its training list",
    ),
    _nielsen(
        "isic",
        ("ISIC 2019", "ISIC 2020", "HAM10000"),  # HAM10000 is a part of ISIC 2019
        "fa413bfc9ded18b2e6c4ee674ee3754d9beb2a91f2915d69a7b2ffcb35618e89",
    ),
)


def default_checkpoint(method: str, architecture: str) -> Checkpoint | None:
    """Return the checkpoint that `auto` means for a method and a timm architecture.

    None where nobody published one.
    """
    found = [
        entry
        for entry in CHECKPOINTS
        if entry.official and (entry.method, entry.architecture) == (method, architecture)
    ]
    return found[0] if found else None


def checkpoint_named(name: str) -> Checkpoint:
    """Return the checkpoint of that name. Raises UserError with the nearest match."""
    by_name = {entry.name: entry for entry in CHECKPOINTS}
    if name not in by_name:
        raise UserError(
            f"Unknown checkpoint '{name}'.",
            allowed=by_name,
            given=name,
            then="medbench list checkpoints",
        )
    return by_name[name]
