"""A method: an encoder, its weights, and how it got them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from medbench.schema.errors import check_choices
from medbench.schema.grid import fingerprint
from medbench.schema.ingredients import later, stated
from medbench.schema.own_code import stated_version
from medbench.schema.protocols import Scores, Train
from medbench.schema.split import Split

if TYPE_CHECKING:
    import numpy as np
    import torch

#: How an encoder's output becomes one vector: its own pooling, the class token, the mean over
#: patches or positions, both concatenated, the class tokens of the last four blocks concatenated
#: (facebookresearch/dino, eval_linear.py, for ViT-S).
READOUTS = ("pool", "cls", "mean", "cls+mean", "last4")

#: What an encoder's weights were trained on; "given": by its user.
SOURCES = ("imagenet", "task", "imagenet+task", "none", "given")
#: What an encoder can be, see `Encoder`.
EncoderKind = Literal["timm", "weights", "hub", "function", "features"]
#: Of an in-domain pretraining. quick: seconds, shows the machinery. standard: a gentle adaptation.
#: paper: batch, epochs and schedule that a paper or its authors' code states, as each method's file
#: says.
BUDGETS = ("quick", "standard", "paper")
#: Views of a quick pretraining, whatever the task's size: about 30 s for the embedded encoder at 64
#: px on two cores.
QUICK_VIEWS = 4_000
#: Views of a standard one, and what it sees of a small task: 50 epochs of two views.
STANDARD_VIEWS, STANDARD_VIEWS_AN_IMAGE = 200_000, 100
#: A budget may also be a number of views: the standard recipe, as long as it says.
FEWEST_VIEWS, MOST_VIEWS = 1_000, 10**9


def stated_views(budget: str) -> int | None:
    """Return the views that a budget states as a number, None of a name of BUDGETS."""
    return int(budget) if re.fullmatch("[1-9][0-9]{0,18}", budget) else None


def is_quick(budget: str | None) -> bool:
    """Return whether a pretraining saw so few views that it shows the machinery alone.

    budget: "quick", or a number of views that is at most QUICK_VIEWS; None: there was no
    pretraining.
    """
    views = stated_views(budget or "")
    return budget == "quick" or (views is not None and views <= QUICK_VIEWS)


def budgeted(budget: str, n_images: int) -> int:
    """Return the views of a quick or standard pretraining on n_images.

    QUICK_VIEWS of "quick"; else STANDARD_VIEWS_AN_IMAGE for each image, STANDARD_VIEWS at most.
    They are the same for every method.
    """
    return (
        QUICK_VIEWS
        if budget == "quick"
        else min(STANDARD_VIEWS, STANDARD_VIEWS_AN_IMAGE * n_images)
    )


@dataclass(frozen=True)
class Encoder:
    """A network at one image size with its preprocessing, or features that somebody else computed.

    kind "timm": an architecture with the preprocessing of its named checkpoint, the same for every
    method, so that all see the same pixels. "weights": the same with a checkpoint file of the
    user's. "hub": a repository of the Hugging Face hub; its architecture is the repository, its
    checkpoint the commit. "function": a user's own, FILE.py:NAME. "features": a file of ids and
    vectors; it has no size and no preprocessing.
    """

    # as in the cell: "tf_efficientnet_lite0", "resnet50.tv_in1k", "hf:OWNER/NAME",
    # "mine.py:resnet", "features:mine.npz"
    name: str
    architecture: str
    checkpoint: str  # the pretrained tag, "" where timm has none
    size: int  # pixels, both sides
    mean: tuple[float, float, float]  # of values in [0, 1]
    std: tuple[float, float, float]
    interpolation: str  # "bicubic" | "bilinear"
    readout: str = "pool"
    kind: EncoderKind = "timm"
    file: Path | None = None  # of a user's own; not part of the identity: its content is
    # as a user's own function, the hub's table or `--trained-on` states
    trained_on: tuple[str, ...] = ()
    # what a reader must know of where its preprocessing comes from, and of what is done otherwise
    said: str = later("")
    # what becomes of an image that is no square, see `images.cropping`
    crop: str = later("squash")

    @property
    def form(self) -> tuple[int, str, str]:
        """Return what decides the pixels of a pack: size, interpolation, crop."""
        return self.size, self.interpolation, self.crop

    def identity(self) -> dict[str, Any]:
        """Return what can change a feature, beyond the weights."""
        return {
            name: value
            for name, value in stated(self).items()
            if name not in ("file", "trained_on", "said")
        }


@dataclass(frozen=True)
class Weights:
    """Name the weights that an encoder gets. They are known before any work.

    Attributes
    ----------
    name : str
        What tables call them.
    sha256 : str
        Hash of the file, or of the description of weights that are drawn.
    trained_on : tuple of str
        Data sets whose images they have seen.
    file : path or None
        None where they are drawn, not read.
    layout : str
        Of the file, see `checkpoints`; "" is timm's own, "encoder" timm's names without a
        classifier.
    mean, std, interpolation
        The preprocessing that the weights were trained with, where it is not the encoder's.
    budget : str or None
        Of the pretraining on the task's images, one of BUDGETS; None where there was none.
    members : tuple of str
        The names of a fusion's weights.
    state : str
        Which of its state dicts is taken, where a file offers more than one. It is part of the
        identity, as `sha256` is.
    """

    name: str
    sha256: str
    trained_on: tuple[str, ...]
    file: Path | None  # None: drawn, not read
    layout: str = ""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: str | None = None
    budget: str | None = None
    members: tuple[str, ...] = ()
    state: str = ""

    @property
    def identity(self) -> str:
        """The hash that tells these weights from others: of their file.

        Where the file offered a choice of state dicts, of that choice, too.
        """
        return fingerprint(self.sha256, self.state) if self.state else self.sha256


@dataclass(frozen=True)
class Member:
    """One part of a fusion: a method, and where it is not the fusion's its encoder and readout."""

    method: str
    encoder: str | None = None
    readout: str | None = None


@dataclass(frozen=True)
class Method:
    """State how an encoder got its weights. A file in `methods/` holds one as a constant.

    Attributes
    ----------
    name, version, title
        The version is part of every fingerprint: raise it where a row can change.
    sources : tuple of str
        `imagenet`, `task`, `imagenet+task` or `none`. The first is what `auto` means where no
        official checkpoint is listed.
    weights : callable
        weights(encoder, source, pretrain_seed, cache_dir) -> Weights, at plan time. It may
        download. It raises UserError.
    encoder : callable
        encoder(encoder, weights, pretrain_seed) -> a module in eval mode that maps
        (B, 3, H, W) float32 to (B, D) float32.
    seeded : bool
        Whether `pretrain_seed` changes the weights.
    recipes : callable or None
        recipes(modality, budget, n_images, source) -> the stages (`models.pretrain.Recipe`) of a
        pretraining on the task's training images, which starts from `weights`. None where nothing
        is trained. It is not asked for where the source is `imagenet`.
    refuses : callable or None
        refuses(pool, encoder) -> why it cannot serve these training images with this encoder, or
        "".
    fusion : Fusion or None
        Its members and its head, instead of weights of its own and a linear layer.
    augmented : callable or None
        augmented(method, "chest") -> this method with these random views, called `simclr:chest`. It
        raises UserError. None where there is no choice of views.
    default : bool
        Whether it is among the methods of a run that names none.
    encoders : tuple of str
        The kinds of encoder that it can serve.
    """

    name: str
    version: int
    title: str
    # the first is what `auto` means where no official checkpoint is listed
    sources: tuple[str, ...]
    weights: Callable[[Encoder, str, int, Path], Weights] | None = None
    encoder: Callable[[Encoder, Weights, int], torch.nn.Module] | None = None
    seeded: bool = False  # does pretrain_seed change the weights?
    recipes: Callable[[str, str, int, str], tuple[Any, ...]] | None = None
    refuses: Callable[[Split, Encoder], str] | None = None
    fusion: Fusion | None = None
    augmented: Callable[[Method, str], Method] | None = None
    default: bool = True  # among the methods of a run that names none
    encoders: tuple[str, ...] = ("timm",)  # the kinds of encoder it can serve
    citation: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    # hash of the file that holds it, where medbench does not ship it; the registry fills it in
    code: str = ""

    def __post_init__(self) -> None:
        entry = f"Method '{self.name}'"
        check_choices(entry, "sources", self.sources, SOURCES)
        check_choices(entry, "encoders", self.encoders, get_args(EncoderKind))

    @property
    def stated_version(self) -> int | str:
        """What its identity says of it: the version, and the code of a user's own file."""
        return stated_version(self.version, self.code)

    @property
    def own_head(self) -> bool:
        """Whether the method is a fusion that trains a head of its own over frozen features."""
        return self.fusion is not None and self.fusion.evaluate is not None


@dataclass(frozen=True)
class Fusion:
    """A method that joins the frozen features of several others.

    It joins them by a trained head (Truong et al. 2021) or side by side. choose("swav+dino") -> the
    same method with other members; raises UserError. evaluate: as a protocol's, for the protocol
    `linear`; `Train.widths` says which columns are whose. None: every protocol judges the columns
    of all members as it judges those of one encoder. head(widths, outputs) -> nn.Module, (B,
    sum(widths)) -> (B, outputs): what `finetune` trains together with the members. None: a linear
    layer, as for one encoder.
    """

    members: tuple[Member, ...]
    choose: Callable[[str], Method]
    evaluate: (
        Callable[
            [Train, Mapping[str, np.ndarray], Sequence[np.ndarray]], Iterator[dict[str, Scores]]
        ]
        | None
    ) = None
    head: Callable[[Sequence[int], int], torch.nn.Module] | None = None
