"""What an encoder's features know that is not the class: each metadata column read out of them, and whose neighbours an image has.

    column --columns.read--> codes --probing--> AUC of a linear probe, beside the class's
                                   --neighbours--> robustness index, beside what it were if the column played no part

All of it is a function of features, labels, groups and metadata; nothing is trained on what is scored.
"""

from medbench.audit.features.columns import MetadataColumn, cramers_v, read_column
from medbench.audit.features.metadata_survey import ColumnFinding, chosen_columns, survey
from medbench.audit.features.robustness_index import Index, nearest, robustness

__all__ = [
    "ColumnFinding",
    "Index",
    "MetadataColumn",
    "chosen_columns",
    "cramers_v",
    "nearest",
    "read_column",
    "robustness",
    "survey",
]
