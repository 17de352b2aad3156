"""A protocol: what it learns from, what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medbench.schema.errors import check_choices
from medbench.schema.own_code import stated_version
from medbench.schema.tasks import KINDS, Kind

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True, eq=False)
class Network:
    """What training end to end needs beside pixels.

    build() -> a fresh encoder with the unit's weights, (B, 3, S, S) normalised float -> (B, D), in
    eval mode. head(outputs) -> a fresh head over (B, D), or None: a linear layer. mean, std: of the
    pixels in [0, 1].
    """

    build: Callable[[], torch.nn.Module]
    head: Callable[[int], torch.nn.Module] | None
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    modality: str
    precision: str


@dataclass(frozen=True, eq=False)
class Bags:
    """A scored set as a protocol sees it that judges cases: images (N, D) of M cases.

    case: (N,) int64 in [0, M), whose each is; none is without.
    """

    images: np.ndarray
    case: np.ndarray

    def __len__(self) -> int:
        return int(self.case.max()) + 1


@dataclass(frozen=True, eq=False)
class Train:
    """What a protocol may learn from: the labelled pool of one unit. labels and groups as in Split.

    features: (N, D) float32; (N, S, S, 3) uint8 pixels for a protocol that needs images, with the
    network they go into. widths: of each member's columns, for a fusion. case: for a protocol that
    judges cases, of each image which of the M cases it is (as in `Bags`); labels, groups and draws
    are then of cases. Of each draw: seeds; folders, which keep what a killed run needs to go on
    inside a cell; requested: images that its budget asks for; divided: whether subsets of that
    budget are cross-validated (`stats.splits.divides`). Whether anything is held out hangs on these
    two, not on the draw, so that all seeds and methods of a line are trained by one rule; (): each
    subset decides by itself.
    """

    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    kind: Kind
    n_classes: int
    device: str = "cpu"
    seeds: Sequence[int] = ()
    folders: Sequence[Path] = ()
    requested: Sequence[int | None] = ()
    divided: Sequence[bool | None] = ()
    widths: tuple[int, ...] = ()
    network: Network | None = None
    case: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Scores of n labelled images by models of the same settings that did not see them.

    For thresholds and calibration inside the subset.

    index: (n,) int64, positions in the draw, each once. probabilities: (n, C) float32 in [0, 1], C
    = 2 for binary; multi-label: NaN where the label could not be fitted without the image. The same
    images have often chosen a hyper-parameter, so that they are a little too good; no model was
    fitted to them.
    """

    index: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True, eq=False)
class Scores:
    """Hold a protocol's answer on one evaluation set of M images. It is never a metric.

    Attributes
    ----------
    probabilities : ndarray (M, C) float32
        In [0, 1]; C = 2 for binary tasks.
    decisions : ndarray (M,) int64, or (M, C) of 0 and 1 for multi-label tasks
        The protocol's own decisions.
    chosen : mapping
        Hyper-parameters and how they were chosen.
    extra : mapping
        JSON values that are worth keeping beside the row.
    held_out : HeldOut or None
        Scores inside the labelled subset, the same for every evaluation set of a draw; None where
        nothing could be held out.
    """

    probabilities: np.ndarray
    decisions: np.ndarray
    chosen: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)
    held_out: HeldOut | None = None


@dataclass(frozen=True)
class Protocol:
    """State how an encoder is judged. A file in `protocols/` holds one as a constant.

    Attributes
    ----------
    name, version, title
        The version is part of every fingerprint: raise it where a row can change.
    kinds : tuple of str
        The kinds of task that it can serve.
    evaluate : callable
        evaluate(train, targets, draws) yields, draw after draw, {target name: Scores}. targets:
        name -> features (M, D), or pixels, without labels; `Bags`, where it judges cases. draws:
        (n,) int64 into the pool; all of a unit, so that what they share is made once. No bit of a
        draw's scores may depend on the other draws, and an image's score must not depend on the
        other images of its target.
    seeded : bool
        Whether the result depends on the seed beyond the draw of the labelled subset.
    settings : mapping
        Part of the fingerprint.
    needs : {"features", "images"}
    cases : bool
        Whether it judges the images of a case together; else a case has the mean of its images'
        scores.
    package : (str, str) or None
        A package that it needs beside medbench's own, and the extra that brings it.
    divides : bool
        Whether the labelled subset is divided, into folds or by holding images out.
    passes : callable or None
        passes(images of a draw) -> views that a fit trains on, and images that it embeds; of a
        protocol that needs images. For forecasts alone.
    trial : callable or None
        trial(network, kind, classes, device) -> seconds of a view that is trained on, tried now.
        For forecasts alone.
    """

    name: str
    version: int
    title: str
    kinds: tuple[Kind, ...]
    evaluate: Callable[
        [Train, Mapping[str, Any], Sequence[np.ndarray]], Iterator[dict[str, Scores]]
    ]
    seeded: bool  # does the result depend on the seed beyond the draw of the labelled subset?
    settings: Mapping[str, Any] = field(default_factory=dict)
    citation: str = ""
    needs: Literal["features", "images"] = "features"
    # does it judge the images of a case together? Else a case has the mean of its images' scores
    cases: bool = False
    # that it needs beside medbench's own, and the extra that brings it
    package: tuple[str, str] | None = None
    divides: bool = True  # is the labelled subset divided, into folds or by holding images out?
    passes: Callable[[int], tuple[float, float]] | None = None
    trial: Callable[[Network, Kind, int, str], float] | None = None
    # hash of the file that holds it, where medbench does not ship it; the registry fills it in
    code: str = ""

    def __post_init__(self) -> None:
        entry = f"Protocol '{self.name}'"
        check_choices(entry, "kinds", self.kinds, KINDS)
        check_choices(entry, "needs", self.needs, ("features", "images"))

    @property
    def stated_version(self) -> int | str:
        """What its identity says of it: the version, and the code of a user's own file."""
        return stated_version(self.version, self.code)
