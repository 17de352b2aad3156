"""What an encoder's features know that is not the class: each metadata column read out of them, and whose neighbours an image has.

    column --columns.read--> codes --probing--> AUC of a linear probe, beside the class's
                                   --neighbours--> robustness index, beside what it were if the column played no part

All of it is a function of features, labels, groups and metadata; nothing is trained on what is scored.
"""

from medbench.shortcuts.columns import Column, cramers_v, read
from medbench.shortcuts.neighbours import Index, nearest, robustness
from medbench.shortcuts.survey import Finding, chosen_columns, survey

__all__ = ["Column", "Finding", "Index", "chosen_columns", "cramers_v", "nearest", "read", "robustness", "survey"]
