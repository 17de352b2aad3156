"""What chance alone could have done.

Intervals, paired differences and verdicts, ranks over tasks, label efficiency. Never imports torch.
"""

from medbench.stats.bootstrap import RESAMPLES, group_weights
from medbench.stats.estimates import (
    Estimate,
    Sample,
    Summary,
    across,
    linear_contrast,
    mean_over_seeds,
    on_shared_draws,
    paired_difference,
)
from medbench.stats.estimates_batched import differences_to, means_over_seeds, p_values
from medbench.stats.families import Comparison, Kind, compared
from medbench.stats.hypothesis_tests import (
    Verdict,
    holm,
    more_groups,
    permutation_p,
    swaps,
    verdicts,
)
from medbench.stats.intervals import MAX_UNDEFINED, expanded_interval, interval
from medbench.stats.label_curves import LabelEfficiency, area, label_efficiency
from medbench.stats.number_format import format_p
from medbench.stats.paired_lines import Spread, pretraining_spread
from medbench.stats.rank_tests import Ranking, cliques, ranking, ranks
from medbench.stats.reference_variance import ReferenceVariance, reference

__all__ = [
    "MAX_UNDEFINED",
    "RESAMPLES",
    "Comparison",
    "Estimate",
    "Kind",
    "LabelEfficiency",
    "Ranking",
    "ReferenceVariance",
    "Sample",
    "Spread",
    "Summary",
    "Verdict",
    "across",
    "area",
    "cliques",
    "compared",
    "differences_to",
    "expanded_interval",
    "format_p",
    "group_weights",
    "holm",
    "interval",
    "label_efficiency",
    "linear_contrast",
    "mean_over_seeds",
    "means_over_seeds",
    "more_groups",
    "on_shared_draws",
    "p_values",
    "paired_difference",
    "permutation_p",
    "pretraining_spread",
    "ranking",
    "ranks",
    "reference",
    "swaps",
    "verdicts",
]
