"""A task: its classes, where its data are found and got, what it may be scored on elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from medbench.schema.errors import check_choices
from medbench.schema.notes import Mark
from medbench.schema.own_code import stated_version
from medbench.schema.split import Split, Unlabelled

Kind = Literal["binary", "multiclass", "ordinal", "multilabel"]
KINDS: tuple[Kind, ...] = ("binary", "multiclass", "ordinal", "multilabel")
#: The metric that ranks methods on a task of this kind (names as in `metrics`).
PRIMARY: Mapping[Kind, str] = {
    "binary": "auc",
    "multiclass": "auc",
    "ordinal": "weighted_kappa",
    "multilabel": "auc",
}
#: The label of a case whose images have several. worst: the highest class; any: each label that one
#: of its images has; same: none, it is left out.
CaseRule = Literal["worst", "any", "same"]
#: What a task of this kind states, where it states no other.
CASE_RULES: Mapping[Kind, CaseRule] = {
    "binary": "same",
    "multiclass": "same",
    "ordinal": "worst",
    "multilabel": "any",
}
PARTS = ("train", "val", "test")
#: What is labelled, drawn and scored (`Grid.by`), and what the name of a task by case ends in.
IMAGE, CASE = "image", "case"
BY_CASE = ":by-case"
#: How images were taken, "" where nobody says: what a random view may do to an image depends on it
#: (no blur on a chest film).
MODALITIES = ("", "dermoscopy", "x-ray", "fundus", "histology", "cytology", "endoscopy")
#: In `Shift.classes`: none of the other task's labels (a multi-label task's images without a
#: finding).
NOTHING = ""


@dataclass(frozen=True)
class Shift:
    """How the labels of another data set read in a task's own words.

    So a model of the task can be scored there unchanged. classes: the task's class -> the other's
    classes that mean it, or NOTHING; a class that only one side has is not named. note: a sentence
    on what differs beside the labels. shared_ids: ids and groups of both name the same things, so
    that an image or a lesion that both have is known by them.
    """

    classes: Mapping[str, tuple[str, ...]]
    note: str = ""
    shared_ids: bool = False


@dataclass(frozen=True)
class Download:
    """A file that a publisher gives to everybody, without an account, and where it belongs.

    url: http or https. to: in the task's folder: the file, or for an archive the folder that it is
    unpacked into ("": the task's folder itself). unpack: "zip", "tar" (compressed or not), "gzip"
    (one file, `to`), "": kept as it is. nested: zips inside are unpacked where they lie. md5,
    sha256: of what the url gives; where neither is published, the first SHA-256 seen is recorded
    and enforced. size: bytes of it.
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
    """What the publisher counts, for `medbench data verify`.

    Keys: parts joined by a plus ("train+val", "test"), or "all".

    images: how many. classes: (C,) images of each class, in the order of the task's classes;
    positive images of each label.
    """

    images: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """Describe one medical classification problem. A file in `tasks/` holds one as a constant.

    Attributes
    ----------
    name, version, title
        The version is part of every fingerprint: raise it where the images, labels or parts change.
    kind : {"binary", "multiclass", "ordinal", "multilabel"}
    classes : tuple of str
        In the order of the labels; of a binary task the second is positive.
    data : str
        The data set's name as a table shows it.
    load : callable
        load(root) -> {"train" | "val" | "test": Split}, where `find` returned root. It raises
        UserError on data that is wrong.
    find : callable
        find(root) -> the folder that holds this task's data somewhere under root, or None.
    groups : str or None
        What a group is ("patient", "lesion"). None: not known, and every table says so.
    modality : str
        One of MODALITIES: random views and corruptions are chosen by it.
    bags : str or None
        What a bag is ("lesion", "study").
    partial : callable or None
        partial(root) -> what of the official download is missing there, or "". A run of partial
        data needs --allow-partial, and every table says so.
    phantom : callable or None
        phantom() -> the same parts, drawn; None where a task has no stand-in.
    shifts : mapping from task name to Shift
        Other tasks whose images a fitted model can be scored on.

    Further fields say how a user gets the data, what its publisher counts, and what tables must
    say.
    """

    name: str
    version: int
    title: str
    kind: Kind
    classes: tuple[str, ...]
    data: str  # the data set's name as a table shows it
    load: Callable[[Path], dict[str, Split]]
    find: Callable[[Path], Path | None]
    # what a group is ("patient", "lesion"); None: not known, and every table says so
    groups: str | None
    bags: str | None = None
    # of a bag whose images have several labels; None: its kind's of CASE_RULES
    cases: CaseRule | None = None
    modality: str = ""  # one of MODALITIES: random views are chosen by it
    n_images: int | None = None  # of the official data set; another count is marked on every table
    partial: Callable[[Path], str] | None = None
    phantom: Callable[[], dict[str, Split]] | None = None
    # what a group of the phantom is, where it is not `groups`: a drawing knows whose it is
    phantom_groups: str | None = None
    folders: tuple[str, ...] = ()  # folder names tried under a data root, for messages
    get: str = ""  # how a person gets the data, one line
    downloads: tuple[Download, ...] = ()  # what `medbench data get` fetches
    # what a person does by hand, in order: where an account is needed, or no address is published
    steps: tuple[str, ...] = ()
    registration: str = ""  # with whom, "" where none is needed
    gigabytes: float | None = None  # of the download, where published
    official: Official = Official()
    citation: str = ""
    licence: str = ""
    marks: tuple[Mark, ...] = ()  # what every table of this task must say
    # options that change the task; part of the identity
    settings: Mapping[str, Any] = field(default_factory=dict)
    # by the name of the task whose images they are
    shifts: Mapping[str, Shift] = field(default_factory=dict)
    unlabelled: Unlabelled | None = None  # that lie beside its labelled ones
    # hash of the file that holds it, where medbench does not ship it; the registry fills it in
    code: str = ""

    def __post_init__(self) -> None:
        entry = f"Task '{self.name}'"
        check_choices(entry, "kind", self.kind, KINDS)
        check_choices(entry, "modality", self.modality, MODALITIES)
        if self.cases is not None:
            check_choices(entry, "cases", self.cases, get_args(CaseRule))

    @property
    def stated_version(self) -> int | str:
        """What its identity says of it: the version, and the code of a user's own file."""
        return stated_version(self.version, self.code)

    @property
    def metric(self) -> str:
        """The name of the primary metric, which its kind decides."""
        return PRIMARY[self.kind]

    @property
    def case_rule(self) -> CaseRule:
        """The rule for a case whose images differ in their label: its own, else its kind's."""
        return self.cases or CASE_RULES[self.kind]


@dataclass(frozen=True)
class TaskFamily:
    """Tasks that are made from an argument: `folder:PATH`.

    open(argument, **options) -> Task, with the options of `Grid.reading`; it raises UserError.
    usage: how such a task is named, for messages.
    """

    name: str
    usage: str
    title: str
    open: Callable[..., Task]
    code: str = ""  # as of a task
