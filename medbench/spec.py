"""The words of medbench as frozen values. Imports nothing of the package, and nothing heavy.

A grid of (task x method x encoder x protocol x label budget x seed) goes in, rows come out: everything that crosses a file boundary is
defined here, so that a reader of one stage needs this file and that stage alone.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch

Kind = Literal["binary", "multiclass", "ordinal", "multilabel"]
KINDS: tuple[Kind, ...] = ("binary", "multiclass", "ordinal", "multilabel")
#: The metric that ranks methods on a task of this kind (names as in `metrics`).
PRIMARY: Mapping[Kind, str] = {"binary": "auc", "multiclass": "auc", "ordinal": "weighted_kappa", "multilabel": "auc"}
PARTS = ("train", "val", "test")
#: How images were taken, "" where nobody says: what a random view may do to an image depends on it (no blur on a chest film).
MODALITIES = ("", "dermoscopy", "x-ray", "fundus", "histology", "cytology", "endoscopy")


class UserError(Exception):
    """Something a person gave is wrong. One line: what was given, what is allowed, the nearest match, the next command. Exit code 2.

    >>> str(UserError("Unknown task 'drem'.", allowed=["derm", "folder:PATH"], given="drem", then="medbench list tasks"))
    "Unknown task 'drem'. Allowed: derm, folder:PATH. Did you mean 'derm'? Next: medbench list tasks"
    """

    def __init__(self, what: str, *, allowed: Iterable[str] = (), given: str | None = None, then: str | None = None):
        allowed = list(allowed)
        message = what
        if allowed:
            shown = allowed if len(allowed) <= 12 else [*allowed[:12], f"... ({len(allowed)} in all)"]
            message += f" Allowed: {', '.join(shown)}."
        near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.5) if given else []
        if near:
            message += f" Did you mean '{near[0]}'?"
        if then:
            message += f" Next: {then}"
        super().__init__(" ".join(message.split()))  # one line, whatever the parts held


@dataclass(frozen=True)
class Drawn:
    """An image that is computed instead of read: `draw(seed)` gives (H, W, 3) uint8, always the same pixels for the same `key`.

    `draw` is a module-level function, so that the workers that fill a pack can receive it. `key` is the image's content identity: it names
    the drawing's version and everything else that changes a pixel.
    """

    draw: Callable[[int], np.ndarray]
    seed: int
    key: str


Image = Path | Drawn


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a task: N images and what is known of each.

    images: N paths (or drawings). ids: (N,) str, unique, without personal data or folders.
    labels: (N,) int64 class index, or (N, C) float64 of 0, 1 and NaN (= uncertain) for `multilabel`.
    groups: (N,) str, what must not be torn (patient, else lesion or case). bags: (N,) str, images of one lesion or study.
    meta: column name -> (N,) array, kept for audits and subgroups, never given to a protocol.
    """

    images: Sequence[Image]
    ids: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    bags: np.ndarray
    meta: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: np.ndarray) -> Split:
        """The images at `index` (n,) int, in that order."""
        return Split(
            [self.images[i] for i in index],
            self.ids[index],
            self.labels[index],
            self.groups[index],
            self.bags[index],
            {name: column[index] for name, column in self.meta.items()},
        )


#: In `Shift.classes`: none of the other task's labels (a multi-label task's images without a finding).
NOTHING = ""


@dataclass(frozen=True)
class Shift:
    """How the labels of another data set read in a task's own words, so that a model of the task can be scored there unchanged.

    classes: the task's class -> the other's classes that mean it, or NOTHING; a class that only one side has is not named. note: a sentence
    on what differs beside the labels. shared_ids: ids and groups of both name the same things, so that an image or a lesion that both have
    is known by them.
    """

    classes: Mapping[str, tuple[str, ...]]
    note: str = ""
    shared_ids: bool = False


@dataclass(frozen=True)
class Download:
    """A file that a publisher gives to everybody, without an account, and where it belongs.

    url: http or https. to: in the task's folder: the file, or for an archive the folder that it is unpacked into ("": the task's folder itself).
    unpack: "zip", "tar" (compressed or not), "gzip" (one file, `to`), "": kept as it is. nested: zips inside are unpacked where they lie.
    md5, sha256: of what the url gives; where neither is published, the first SHA-256 seen is recorded and enforced. size: bytes of it.
    """

    url: str
    to: str = ""
    unpack: Literal["", "zip", "tar", "gzip"] = ""
    nested: bool = False
    md5: str = ""
    sha256: str = ""
    size: int | None = None


@dataclass(frozen=True)
class Official:
    """What the publisher counts, for `medbench data verify`. Keys: parts joined by a plus ("train+val", "test"), or "all".

    images: how many. classes: (C,) images of each class, in the order of the task's classes; positive images of each label.
    """

    images: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One medical classification problem. A file in `tasks/` holds one as a constant; the registry finds it.

    load(root) -> {"train" | "val" | "test": Split}; root is a folder that `find` returned. Raises UserError on data that is wrong.
    find(root) -> the folder that holds this task's data somewhere under root, or None.
    partial(root) -> what of the official download is missing there, "" where nothing is: a run needs --allow-partial, and every table says so.
    phantom() -> the same parts, drawn; None where a task has no stand-in.
    """

    name: str
    version: int
    title: str
    kind: Kind
    classes: tuple[str, ...]
    data: str  # the data set's name as a table shows it
    load: Callable[[Path], dict[str, Split]]
    find: Callable[[Path], Path | None]
    groups: str | None  # what a group is ("patient", "lesion"); None: not known, and every table says so
    bags: str | None = None
    modality: str = ""  # one of MODALITIES: random views are chosen by it
    n_images: int | None = None  # of the official data set; another count is marked on every table
    partial: Callable[[Path], str] | None = None
    phantom: Callable[[], dict[str, Split]] | None = None
    phantom_groups: str | None = None  # what a group of the phantom is, where it is not `groups`: a drawing knows whose it is
    folders: tuple[str, ...] = ()  # folder names tried under a data root, for messages
    get: str = ""  # how a person gets the data, one line
    downloads: tuple[Download, ...] = ()  # what `medbench data get` fetches
    steps: tuple[str, ...] = ()  # what a person does by hand, in order: where an account is needed, or no address is published
    registration: str = ""  # with whom, "" where none is needed
    gigabytes: float | None = None  # of the download, where published
    official: Official = Official()
    citation: str = ""
    licence: str = ""
    marks: tuple[str, ...] = ()  # what every table of this task must say
    settings: Mapping[str, Any] = field(default_factory=dict)  # options that change the task; part of the identity
    shifts: Mapping[str, Shift] = field(default_factory=dict)  # by the name of the task whose images they are

    @property
    def metric(self) -> str:
        return PRIMARY[self.kind]


@dataclass(frozen=True)
class TaskFamily:
    """Tasks that are made from an argument: `folder:PATH`. open(argument, **options) -> Task; raises UserError."""

    name: str
    usage: str
    title: str
    open: Callable[..., Task]


#: How an encoder's output becomes one vector: its own pooling, the class token, the mean over patches or positions, both concatenated,
#: the class tokens of the last four blocks concatenated (Caron et al. 2021, appendix A.2 of arXiv:2104.14294, linear evaluation of ViT-S).
READOUTS = ("pool", "cls", "mean", "cls+mean", "last4")


@dataclass(frozen=True)
class Encoder:
    """A network at one image size with its preprocessing, or features that somebody else computed.

    kind "timm": an architecture with the preprocessing of its named checkpoint, the same for every method, so that all see the same pixels.
    "weights": the same with a checkpoint file of the user's. "function": a user's own, FILE.py:NAME. "features": a file of ids and vectors;
    it has no size and no preprocessing.
    """

    name: str  # as in the cell: "tf_efficientnet_lite0", "resnet50.tv_in1k", "mine.py:resnet", "features:mine.npz"
    architecture: str
    checkpoint: str  # the pretrained tag, "" where timm has none
    size: int  # pixels, both sides
    mean: tuple[float, float, float]  # of values in [0, 1]
    std: tuple[float, float, float]
    interpolation: str  # "bicubic" | "bilinear"
    readout: str = "pool"
    kind: Literal["timm", "weights", "function", "features"] = "timm"
    file: Path | None = None  # of a user's own; not part of the identity: its content is
    trained_on: tuple[str, ...] = ()  # as a user's own function states

    def identity(self) -> dict[str, Any]:
        """What of it can change a feature, beyond the weights."""
        return {name: value for name, value in asdict(self).items() if name not in ("file", "trained_on")}


@dataclass(frozen=True)
class Weights:
    """Which weights an encoder gets, known before any work.

    sha256 is the identity: of the file, or of the description for weights that are drawn. trained_on: data sets whose images they have seen.
    layout: of the file, see `checkpoints`; "": timm's own, "encoder": timm's names without a classifier. mean, std, interpolation: the
    preprocessing that the weights were trained with, where it is not the encoder's.
    """

    name: str
    sha256: str
    trained_on: tuple[str, ...]
    file: Path | None  # None: drawn, not read
    layout: str = ""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: str | None = None


@dataclass(frozen=True)
class Member:
    """One part of a fusion: a method, with its own encoder and readout where it is not the fusion's."""

    method: str
    encoder: str | None = None
    readout: str | None = None


@dataclass(frozen=True)
class Method:
    """How an encoder got its weights. A file in `methods/` holds one as a constant.

    weights(encoder, source, pretrain_seed, cache_dir) -> Weights, at plan time; may download. Raises UserError.
    encoder(encoder, weights, pretrain_seed) -> nn.Module in eval mode, (B, 3, H, W) float32 -> (B, D) float32.
    recipes(modality, budget, n_images, source) -> the stages (`pretrain.Recipe`) of a pretraining on the task's n_images training images,
    which starts from `weights`; None: nothing is trained. It is not asked for where the source is `imagenet`.
    refuses(pool, encoder) -> why it cannot serve these training images with this encoder, "" where it can.

    A fusion has `members` instead of weights of its own, and `head` instead of a linear layer: see `Fusion`.
    """

    name: str
    version: int
    title: str
    sources: tuple[str, ...]  # the first is what `auto` means where no official checkpoint is listed
    weights: Callable[[Encoder, str, int, Path], Weights] | None = None
    encoder: Callable[[Encoder, Weights, int], torch.nn.Module] | None = None
    seeded: bool = False  # does pretrain_seed change the weights?
    recipes: Callable[[str, str, int, str], tuple[Any, ...]] | None = None
    refuses: Callable[[Split, Encoder], str] | None = None
    fusion: Fusion | None = None
    default: bool = True  # among the methods of a run that names none
    encoders: tuple[str, ...] = ("timm",)  # the kinds of encoder it can serve
    citation: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fusion:
    """A method that joins the frozen features of several others by a trained head (Truong et al. 2021, section 4).

    choose("swav+dino") -> the same method with other members; raises UserError.
    evaluate: as a protocol's, for the protocol `linear`; `Train.widths` says which columns are whose.
    head(widths, outputs) -> nn.Module, (B, sum(widths)) -> (B, outputs): what `finetune` trains together with the members.
    """

    members: tuple[Member, ...]
    choose: Callable[[str], Method]
    evaluate: Callable[[Train, Mapping[str, np.ndarray], Sequence[np.ndarray]], Iterator[dict[str, Scores]]]
    head: Callable[[Sequence[int], int], torch.nn.Module]


@dataclass(frozen=True, eq=False)
class Network:
    """What training end to end needs beside pixels.

    build() -> a fresh encoder with the unit's weights, (B, 3, S, S) normalised float -> (B, D), in eval mode. head(outputs) -> a fresh head
    over (B, D), or None: a linear layer. mean, std: of the pixels in [0, 1].
    """

    build: Callable[[], torch.nn.Module]
    head: Callable[[int], torch.nn.Module] | None
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    modality: str
    precision: str


@dataclass(frozen=True, eq=False)
class Train:
    """What a protocol may learn from: the labelled pool of one unit. labels and groups as in Split.

    features: (N, D) float32; (N, S, S, 3) uint8 pixels for a protocol that needs images, with the network they go into. widths: of each
    member's columns, for a fusion. seeds, folders: one for each draw; a folder keeps what a killed run needs to go on inside a cell.
    """

    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    kind: Kind
    n_classes: int
    device: str = "cpu"
    seeds: Sequence[int] = ()
    folders: Sequence[Path] = ()
    widths: tuple[int, ...] = ()
    network: Network | None = None
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Scores of n labelled images by models of the same settings that did not see them: for thresholds and calibration inside the subset.

    index: (n,) int64, positions in the draw, each once. probabilities: (n, C) float32 in [0, 1], C = 2 for binary; multi-label: NaN where the
    label could not be fitted without the image. The same images have often chosen a hyper-parameter, so that they are a little too
    good; no model was fitted to them.
    """

    index: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True, eq=False)
class Scores:
    """A protocol's answer on one target set of M images. Never a metric.

    probabilities: (M, C) float32 in [0, 1], C = 2 for binary. decisions: (M,) int64, or (M, C) 0/1 for multilabel: the protocol's own.
    chosen: hyper-parameters and how they were chosen. extra: anything else worth keeping beside the row (JSON values). held_out: of the
    labelled subset, the same for every target of a draw; None where nothing could be held out.
    """

    probabilities: np.ndarray
    decisions: np.ndarray
    chosen: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)
    held_out: HeldOut | None = None


@dataclass(frozen=True)
class Protocol:
    """How an encoder is judged. A file in `protocols/` holds one as a constant.

    evaluate(train, targets, draws) yields, draw after draw, {target name: Scores}. targets: name -> features (M, D), or pixels, without labels.
    draws: index arrays into the pool; all of a unit at once, so that they can be solved together. An image's score must not depend on
    the other images of its target.
    """

    name: str
    version: int
    title: str
    kinds: tuple[Kind, ...]
    evaluate: Callable[[Train, Mapping[str, np.ndarray], Sequence[np.ndarray]], Iterator[dict[str, Scores]]]
    seeded: bool  # does the result depend on the seed beyond the draw of the labelled subset?
    settings: Mapping[str, Any] = field(default_factory=dict)
    citation: str = ""
    needs: Literal["features", "images"] = "features"


@dataclass(frozen=True)
class Budget:
    """How many labels. `percent` of the pool, `per_class` images of each class, or `total` with equal numbers a class.

    >>> [str(parse_budget(s)) for s in ("1", "10%", "all", "5/class", "n50")]
    ['1%', '10%', '100%', '5/class', 'n50']
    """

    unit: Literal["percent", "per_class", "total"]
    amount: float

    def __str__(self) -> str:
        form = {"percent": "{:.10g}%", "per_class": "{:.0f}/class", "total": "n{:.0f}"}[self.unit]
        return form.format(self.amount)


ALL = Budget("percent", 100)


def parse_budget(text: str) -> Budget:
    """`1`, `0.5%`, `all`, `5/class`, `n50`. Raises UserError."""
    given = text.strip()
    word = given.lower()
    try:
        if word == "all":
            return ALL
        if word.endswith("/class"):
            budget = Budget("per_class", int(word.removesuffix("/class")))
        elif word.startswith("n"):
            budget = Budget("total", int(word[1:]))
        else:
            budget = Budget("percent", float(word.removesuffix("%")))
        top = 100 if budget.unit == "percent" else float("inf")
        if not 0 < budget.amount <= top or budget.amount == float("inf"):
            raise ValueError
    except ValueError:
        raise UserError(
            f"Label budget '{given}' is not understood.",
            allowed=["1 to 100 (percent, fractions too)", "5/class", "n50 (50 in all, equal numbers a class)", "all"],
            then="medbench run --labels 1,10,100",
        ) from None
    return budget


@dataclass(frozen=True, order=True)
class Cell:
    """One point of the grid. `data` is `phantom` or the data set's name; `target` the set that is scored: `test`, `val`, another
    data set (`isic2019`), corrupted test images (`corrupted-blur-3`)."""

    task: str
    data: str
    method: str
    source: str
    encoder: str
    readout: str
    size: int
    pretrain_seed: int
    protocol: str
    labels: str
    seed: int
    target: str = "test"

    @property
    def unit(self) -> tuple[Any, ...]:
        """Cells with the same unit share weights and features, and are computed together."""
        return (self.task, self.data, self.method, self.source, self.encoder, self.readout, self.size, self.pretrain_seed)

    def __str__(self) -> str:
        on = "" if self.target == "test" else f" on {self.target}"
        return f"{self.task} {self.method} {self.encoder} {self.protocol} {self.labels} seed {self.seed}{on}"


@dataclass(frozen=True)
class Grid:
    """What a person asks for: the cross product of its axes. Lists of names as on the command line; see `grid.plan`."""

    tasks: tuple[str, ...] = ("derm",)
    methods: tuple[str, ...] = ()  # empty: all that can serve the encoder
    protocols: tuple[str, ...] = ("linear",)
    encoders: tuple[str, ...] = ("tf_efficientnet_lite0",)
    labels: tuple[str, ...] = ("1", "10", "100")
    seeds: int = 3
    pretrain_seeds: int = 1
    readouts: tuple[str, ...] = ("pool",)
    source: str = "auto"
    pretrain: str = "quick"  # budget of an in-domain pretraining, see `pretrain.BUDGETS`
    weights: str | None = None  # a checkpoint file of the user's, for the encoder
    size: int | None = None
    data: str | None = None  # a folder, or "phantom"
    target: str = "test"
    shifts: tuple[str, ...] = ()  # data sets that the fitted models are scored on, too: isic2019, folder:PATH
    corruptions: tuple[str, ...] = ()  # of the test images; "all": those that fit the task's modality
    levels: tuple[str, ...] = ("1", "2", "3", "4", "5")  # of the corruptions
    precision: str = "fp32"
    ordinal: bool = False
    allow_leak: bool = False
    allow_partial: bool = False
    audit: bool = True  # say what an audit of the same data found, and audit folders of a person's own
    strict: bool = False  # refuse a task with a leak instead of marking every table


@dataclass(frozen=True)
class Row:
    """A finished cell. metrics: name -> {"value", "low", "high"} (None = undefined), all in the metric's own range, not in percent.

    n_labels: images in the labelled subset; n_requested: what the budget asked for, in images, or in
    positives for `5/class` of a multi-label task (whole groups are taken, so the first may be larger).
    """

    cell: Cell
    fingerprint: str
    metrics: Mapping[str, Mapping[str, float | None]]
    n_labels: int
    n_requested: int
    chosen: Mapping[str, Any]
    cost: Mapping[str, Any]
    provenance: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Row:
        return Row(**{**record, "cell": Cell(**record["cell"])})


def user_path(text: str) -> Path:
    """A path as a person gives it, `~` expanded. Raises UserError for a home that does not exist or a name no file system takes."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(f"'{text[:80]}' cannot be a path: {error}.") from error
    return path


def fingerprint(*parts: Any) -> str:
    """64 hex digits: SHA-256 of the parts as canonical JSON. Raises TypeError for what JSON cannot hold."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
