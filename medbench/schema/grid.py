"""The grid that a person asks for, one point of it, and what was found there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from medbench.schema.budgets import parse_budget
from medbench.schema.errors import UserError
from medbench.schema.ingredients import stated
from medbench.schema.json_records import NUMBER, check_hash, check_name, checked
from medbench.schema.older_records import todays
from medbench.schema.options import Option, option

#: Of `Grid.seeds`: as many draws as they are worth, by what they cost.
AUTO: Literal["auto"] = "auto"
#: In the place of the protocol of somebody else's predictions.
EXTERNAL = "predictions"


@dataclass(frozen=True)
class Grid:
    """State what a user asks for: the cross product of its axes.

    Each field is an option of `medbench run`. Its default, its flag and its help stand here alone,
    in the order of `medbench run --help`, where switches come last. Values are names and texts as
    on the command line; `run.plan` checks them.

    Attributes
    ----------
    tasks, methods, protocols, encoders, readouts : tuple of str
        Names of `registry`. `methods` () means all that can serve the encoder.
    labels : tuple of str
        Label budgets: percent ("1"), images per class ("5/class"), equal numbers per class ("n50"),
        or "all".
    seeds : int or "auto"
        Draws of the labelled subset per budget. "auto" is by cost, see `run.draw_counts`.
    pretrain_seeds : int
        Initialisations of encoders whose weights are drawn.
    size : int or None
        Side of an image in pixels; None is the default of the encoder.
    data : str or None
        Folder with the data sets, or "phantom".
    target : {"test", "val"}
        The part that is scored.

    Examples
    --------
    >>> Grid(tasks=("derm",), labels=("1", "10"), methods=("random", "supervised")).seeds
    'auto'
    """

    tasks: tuple[str, ...] = option(
        ("derm",),
        "--task",
        "A task, such as derm or folder:PATH. Repeat it for several.",
        repeated=True,
        always=True,
    )
    labels: tuple[str, ...] = option(
        ("1", "10", "100"),
        "--labels",
        "Label budgets: 1,10,100 (percent), 5/class (images of each class), n50 (50 images, equal numbers of each class), all.",
        verbatim=True,
        always=True,
    )
    methods: tuple[str, ...] = option(
        (), "--methods", "Pretraining methods. Default: those of the papers that fit the encoder."
    )
    protocols: tuple[str, ...] = option(
        ("linear",), "--protocols", "Protocols that score an encoder, such as linear,knn,finetune."
    )
    encoders: tuple[str, ...] = option(
        ("tf_efficientnet_lite0",),
        "--encoder",
        "Encoders: a timm name (resnet50.tv_in1k), hf-hub:OWNER/NAME, hf:, open_clip:, FILE.py:NAME, features:FILE.",
        files=True,
    )
    readouts: tuple[str, ...] = option(
        ("pool",),
        "--readout",
        "Feature vector: pool (the encoder's own), cls, mean, cls+mean, last4.",
    )
    seeds: int | Literal["auto"] = option(  # see `run.draw_counts`
        AUTO,
        "--seeds",
        "Number of draws of the labelled subset. auto: 20 of about 200 images, 10 of 1,000, 5 of 3,000, 3 of more; half as many for the trained "
        "head of a fusion; 3 for fine-tuning.",
        always=True,
    )
    pretrain_seeds: int = option(
        1,
        "--pretrain-seeds",
        "Number of pretrainings, or initialisations, of each method that starts from random numbers.",
    )
    source: str = option(
        "auto",
        "--source",
        "Origin of the method's training images: imagenet (an official checkpoint), task, imagenet+task, auto.",
    )
    pretrain: str = option(  # see `schema.methods.BUDGETS`
        "quick",
        "--pretrain",
        "Number of views of an in-domain pretraining: quick (4,000: takes seconds, shows that it works), standard (100 for each image, 200,000 at "
        "most), paper (as in the paper), or a number.",
    )
    augmentations: tuple[str, ...] = option(  # see `images.augment.RECIPES`
        ("modality",),
        "--augmentations",
        "Random views for simclr and micle: modality (fits the images), dermatology, chest (those of Azizi et al. 2021).",
    )
    weights: str | None = option(
        None,
        "--weights",
        "Checkpoint of the encoder: a file, or an official one by name (medbench list checkpoints). An empty text drops the study's.",
        clears=True,
    )
    mean: tuple[str, ...] = option(
        (),
        "--mean",
        "Mean of pixels in [0, 1], for --weights FILE or the hub: 0.5,0.5,0.5. Default: from a config beside the file, or the encoder's.",
    )
    std: tuple[str, ...] = option((), "--std", "Standard deviation of pixels, as --mean.")
    interpolation: str | None = option(
        None, "--interpolation", "Interpolation of the resize, as --mean: bicubic, bilinear."
    )
    crop: str | None = option(  # see `images.cropping`
        None,
        "--crop",
        "timm's crop_mode: squash (the whole image), center, border; center:0.875 sets crop_pct, too. Default: from the hub or from a config "
        "beside --weights FILE, else squash.",
    )
    trained_on: tuple[str, ...] = option(
        (),
        "--trained-on",
        "Data sets that the weights were trained on, for --weights FILE or the hub: 'MIMIC-CXR,CheXpert'.",
        verbatim=True,
    )
    size: int | None = option(
        None,
        "--size",
        "Image size in pixels. Default: 112 (64 on a phantom) for the default encoder, else the checkpoint's.",
    )
    unlabelled: tuple[str, ...] = option(
        (),
        "--unlabelled",
        "Unlabelled images for in-domain pretraining: a folder, a CSV (path, group), hyperkvasir or isic2020; TASK=PATH for one of several tasks. Repeatable.",
        repeated=True,
    )
    data: str | None = option(
        None,
        "--data",
        "Folder with the data sets, or 'phantom'. Default: MEDBENCH_DATA, then the cache, then the phantom.",
        placeholder="DATA",
    )
    by: str = option(
        "image",
        "--by",
        "Unit that is labelled, drawn and scored: image, or case (all images of one lesion or study).",
    )
    hold_out_by: str | None = option(
        None,
        "--hold-out-by",
        "Metadata column (site, scanner): test on each of its values in turn, and train on all others.",
    )
    split_by_date: str | None = option(
        None,
        "--split-by-date",
        "Train on images from before this day (2024-01-01) and test on the rest, by the date column of the metadata.",
    )
    target: str = option("test", "--on", "Part to score: test, or val while you develop a method.")
    shifts: tuple[str, ...] = option(
        (),
        "--shift",
        "Also score the fitted models on another data set: isic2019, pad-ufes, nih14, folder:PATH. Repeat it for several.",
        repeated=True,
    )
    corruptions: tuple[str, ...] = option(
        (),
        "--corruptions",
        "Also score the fitted models on damaged test images: all (that fit the modality), or noise,blur,jpeg,contrast-down ....",
    )
    levels: tuple[str, ...] = option(
        ("1", "2", "3", "4", "5"), "--levels", "Severity of the damage, from 1 to 5."
    )
    precision: str = option(
        "fp32",
        "--precision",
        "Precision of the encoder: fp32, tf32 or bf16. tf32 is faster on a GPU, and rounds the factors of products to 10 bits.",
    )
    order: tuple[str, ...] = option(
        (),
        "--order",
        "Folder tasks: order of the classes, from least to most: none,mild,severe.",
        verbatim=True,
    )
    ordinal: bool = option(
        False,
        "--ordinal",
        "Folder tasks: order the classes by their numbers, or by the words of a usual scale.",
    )
    frames: int = option(
        0,
        "--frames",
        "Folder tasks: number of frames, evenly spaced, to take from a file with several (DICOM, TIFF, NIfTI); they form a bag.",
    )
    allow_leak: bool = option(
        False, "--allow-leak", "Run even if a group is in two parts; every table says so."
    )
    allow_partial: bool = option(
        False,
        "--allow-partial",
        "Run even if a class has no image in a part; every table says so.",
    )
    audit: bool = option(
        True,
        "--audit",
        "Report what an audit of the same data found, and look for copies in your own folder first.",
    )
    strict: bool = option(
        False, "--strict", "Refuse a task with a leak instead of marking every table."
    )
    keep_weights: bool = option(  # see `run.kept_weights`
        False,
        "--keep-weights",
        "Keep fine-tuned weights in the cache, so that export need not train again.",
    )

    @property
    def reading(self) -> dict[str, Any]:
        """The options by which a folder is read, for `registry.task`.

        Those of `ordinal`, `order` and `frames` that say anything.
        """
        return {
            name: value for name in ("ordinal", "order", "frames") if (value := getattr(self, name))
        }


#: Field of `Grid` -> its option, in the order of the fields.
OPTIONS: dict[str, Option] = {field.name: field.metadata["option"] for field in fields(Grid)}


@dataclass(frozen=True, order=True)
class Cell:
    """Describe one point of the grid.

    `data` is `phantom` or the data set's name; `target` the set that is scored: `test`, `val`,
    another data set (`isic2019`), corrupted test images (`corrupted-blur-3`).
    """

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

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Cell:
        """Read a cell. Raises TypeError or ValueError for a record that is none."""
        unknown = sorted(record.keys() - _CELL.keys())
        if unknown:
            raise TypeError(f"cell has {unknown[0]!r:.60}, which is no field of one")
        checked({"target": "test", **record}, _CELL, "cell")
        cell = Cell(**record)
        try:
            parse_budget(cell.labels)
        except UserError as error:
            raise ValueError(f"cell labels is {cell.labels!r:.60}") from error
        return cell

    def identity(self) -> dict[str, Any]:
        """Return the cell's fields that enter a fingerprint.

        A field that was added later takes part only where it is not at its default.
        """
        return stated(self)

    @property
    def external(self) -> bool:
        """Whether the cell stands for somebody else's predictions (`report.external_predictions`).

        Nothing is known of them but the answers.
        """
        return self.protocol == EXTERNAL

    @property
    def unit(self) -> tuple[Any, ...]:
        """What cells share that are computed together, on one set of weights and features.

        Task, data, method, source, encoder, readout, size and pretraining seed.
        """
        return (
            self.task,
            self.data,
            self.method,
            self.source,
            self.encoder,
            self.readout,
            self.size,
            self.pretrain_seed,
        )

    def __str__(self) -> str:
        on = "" if self.target == "test" else f" on {self.target}"
        return f"{self.task} {self.method} {self.encoder} {self.protocol} {self.labels} seed {self.seed}{on}"


@dataclass(frozen=True)
class Row:
    """Hold a finished cell.

    metrics: name -> {"value", "low", "high"} (None = undefined), all in the metric's own range, not
    in percent. low, high: the bare 95 % percentiles of its resamples, which few groups make too
    narrow (tables show `stats.expanded_interval`). n_labels: images in the labelled subset.
    n_requested: what the budget asked for, in images, or in positives for `5/class` of a
    multi-label task; whole groups are taken, so the first may be larger. provenance: see
    `run.provenance`; its marks are `Mark`s.
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
        """Return its fields as JSON values, nested dataclasses as mappings."""
        return asdict(self)

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Row:
        """Read a row, and check all that tables, pages and comparisons use of it.

        Raises TypeError or ValueError for any other record.
        """
        checked(record, _ROW)
        metrics, cost, provenance = record["metrics"], record["cost"], record["provenance"]
        checked(metrics, dict.fromkeys(["auc", *metrics], dict), "metrics")
        # the most of all there is to check
        kinds = {type(entry.get(name, ...)) for entry in metrics.values() for name in _VALUES}
        if not kinds <= set(NUMBER):
            for name, entry in metrics.items():
                checked(entry, _VALUES, name)
        if int in kinds and any(
            abs(entry[name] or 0) > _MOST for entry in metrics.values() for name in _VALUES
        ):
            raise ValueError(f"a metric is beyond {_MOST:g}")
        checked(cost, dict.fromkeys(["seconds", *cost], NUMBER), "cost")
        checked(provenance, _PROVENANCE, "provenance")
        check_hash(record["fingerprint"], "fingerprint")
        check_name(provenance["target"], "target")
        checked(
            provenance,
            {name: kind for name, kind in _LATER.items() if name in provenance},
            "provenance",
        )
        if not all(isinstance(name, str) for name in provenance["trained_on"]):
            raise TypeError(f"trained_on is {provenance['trained_on']!r:.60}")
        unknown = sorted(record.keys() - _ROW.keys())
        if unknown:
            raise TypeError(f"it has {unknown[0]!r:.60}, which is no field of a row")
        return Row(
            **{**record, "cell": Cell.from_json(record["cell"]), "provenance": todays(provenance)}
        )


_CELL = {field.name: {"str": str, "int": int}[str(field.type)] for field in fields(Cell)}
_ROW = {
    **dict.fromkeys(("cell", "metrics", "chosen", "cost", "provenance"), dict),
    **{"fingerprint": str, "n_labels": int, "n_requested": int},
}
_MOST = 1e9  # of a metric; a whole number of JSON may be larger than any float
_VALUES = dict.fromkeys(("value", "low", "high"), NUMBER)
_PROVENANCE = {"weights": str, "trained_on": list, "precision": str, "target": str}
_LATER: dict[str, type | tuple[type, ...]] = {  # what rows of older versions lack
    **dict.fromkeys(
        ("parts", "identity", "protocol", "scores", "versions", "subset_classes"), dict
    ),
    **dict.fromkeys(("features", "pretraining", "members", "member_weights", "marks"), list),
    "budget": (str, type(None)),
}


def fingerprint(*parts: Any) -> str:
    """Return 64 hex digits: SHA-256 of the parts as canonical JSON.

    Raises TypeError for what JSON cannot hold.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
