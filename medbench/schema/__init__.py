"""The words of medbench as frozen values. Imports nothing of the package, and nothing heavy.

A grid of (task x method x encoder x protocol x label budget x seed) goes in, rows come out:
everything that crosses a file boundary is defined here, so that a reader of one stage needs this
folder and that stage alone.
"""

from medbench.schema.budgets import ALL, Budget, parse_budget
from medbench.schema.errors import (
    DiskError,
    EntryFault,
    UserError,
    check_writable,
    no_such_path,
    place_of,
    told,
    user_path,
    written_by,
)
from medbench.schema.grid import AUTO, OPTIONS, Cell, Grid, Row, fingerprint
from medbench.schema.json_records import (
    ChecksumError,
    check_hash,
    check_name,
    checked,
    parsed,
    with_checksum,
)
from medbench.schema.methods import READOUTS, Encoder, Fusion, Member, Method, Weights
from medbench.schema.notes import Mark, Note
from medbench.schema.plain_text import (
    csv_cell,
    csv_text,
    in_markdown,
    is_plain,
    placeless,
    printable,
)
from medbench.schema.plan_file import PlanFile, PlannedCell
from medbench.schema.progress import Progress, ProgressCallback
from medbench.schema.protocols import Bags, HeldOut, Network, Protocol, Scores, Train
from medbench.schema.spelling import alike, spelling, visible
from medbench.schema.split import Drawn, FilesBelow, Image, Split, Unlabelled, join_parts, of_class
from medbench.schema.tasks import (
    BY_CASE,
    CASE,
    CASE_RULES,
    IMAGE,
    KINDS,
    MODALITIES,
    NOTHING,
    PARTS,
    PRIMARY,
    CaseRule,
    Download,
    Kind,
    Official,
    Shift,
    Task,
    TaskFamily,
)

__all__ = [
    "ALL",
    "AUTO",
    "BY_CASE",
    "CASE",
    "CASE_RULES",
    "IMAGE",
    "KINDS",
    "MODALITIES",
    "NOTHING",
    "OPTIONS",
    "PARTS",
    "PRIMARY",
    "READOUTS",
    "Bags",
    "Budget",
    "CaseRule",
    "Cell",
    "ChecksumError",
    "DiskError",
    "Download",
    "Drawn",
    "Encoder",
    "EntryFault",
    "FilesBelow",
    "Fusion",
    "Grid",
    "HeldOut",
    "Image",
    "Kind",
    "Mark",
    "Member",
    "Method",
    "Network",
    "Note",
    "Official",
    "PlanFile",
    "PlannedCell",
    "Progress",
    "ProgressCallback",
    "Protocol",
    "Row",
    "Scores",
    "Shift",
    "Split",
    "Task",
    "TaskFamily",
    "Train",
    "Unlabelled",
    "UserError",
    "Weights",
    "alike",
    "check_hash",
    "check_name",
    "check_writable",
    "checked",
    "csv_cell",
    "csv_text",
    "fingerprint",
    "in_markdown",
    "is_plain",
    "join_parts",
    "no_such_path",
    "of_class",
    "parse_budget",
    "parsed",
    "place_of",
    "placeless",
    "printable",
    "spelling",
    "told",
    "user_path",
    "visible",
    "with_checksum",
    "written_by",
]
