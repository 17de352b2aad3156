"""What the curves of `results/advise/curves.npz` taught.

Written by `benchmarks/advise_choice.py --write`, by hand never.
"""

from medbench.stats.extrapolation.gaussian_process import Constants

LEARNT = Constants(
    slope=0.022839,
    slope_sd=0.01736,
    walk=0.018583,
    noise=0.42034,
    decay=0.68677,
    tilt=0.99043,
    prior=3.5959,
    factors=((2, 1.034), (5, 1.166), (10, 1.201)),
    factors_decided=((2, 0.8254), (5, 0.9149), (10, 0.8752)),
)
