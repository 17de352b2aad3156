"""What more labels would bring.

From the scores at some numbers of labels to a predictive distribution at others. Never imports
torch.
"""

from medbench.stats.extrapolation.curve import ScoredCurve
from medbench.stats.extrapolation.prediction import (
    FEWEST,
    LEVEL,
    MOST_TIMES,
    Prediction,
    crossing,
    labels_for,
    predict,
)

__all__ = [
    "FEWEST",
    "LEVEL",
    "MOST_TIMES",
    "Prediction",
    "ScoredCurve",
    "crossing",
    "labels_for",
    "predict",
]
