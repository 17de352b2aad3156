"""What the curves of `results/advise/curves.npz` taught: written by `benchmarks/advise_choice.py --write`, by hand never."""

from medbench.stats.extrapolation.gaussian_process import Constants

LEARNT = Constants(
    slope=0.023722,
    slope_sd=0.019111,
    walk=0.01862,
    noise=0.59786,
    decay=0.75643,
    tilt=0.9438,
    prior=3.4699,
    factors=((2, 0.9132), (5, 0.9923), (10, 0.9504)),
)
