"""What an encoder's features know that is not the class: each metadata column read out of them, and whose neighbours an image has.

    column --columns.read--> codes --probing--> AUC of a linear probe, beside the class's
                                   --neighbours--> robustness index, beside what it were if the column played no part

All of it is a function of features, labels, groups and metadata; nothing is trained on what is scored.
"""

from medbench.audit.features.columns import Column, cramers_v, read
from medbench.audit.features.metadata_survey import Finding, chosen_columns, survey
from medbench.audit.features.robustness_index import Index, nearest, robustness

__all__ = ["Column", "Finding", "Index", "chosen_columns", "cramers_v", "nearest", "read", "robustness", "survey"]
