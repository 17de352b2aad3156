"""Seconds of the power transform before `svm` and `logreg`: ours, for all features at once, beside
scikit-learn's, one feature after the other.

    uv run python benchmarks/speed/power.py [--features 1280] [--images 14,70,700]

Drawn features as after a ReLU. Each fit three times by turns; the medians, their ratio, and how far
the transformed training images are apart.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from sklearn.preprocessing import PowerTransformer

from medbench.models import power_transform


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=int, default=1280)
    parser.add_argument("--images", default="14,70,700")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    print("images  ours, s  scikit-learn, s  ratio  apart")
    for n in map(int, asked.images.split(",")):
        x = np.maximum(rng.normal(-0.5, 1, (n, asked.features)), 0) * rng.lognormal(
            size=asked.features
        )
        x = x[:, x.std(0) > 0]
        ours, theirs = [], []
        for _ in range(3):
            began = time.perf_counter()
            _, z = power_transform.fit_transform(x)
            between = time.perf_counter()
            reference = PowerTransformer().fit_transform(x)
            ours.append(between - began)
            theirs.append(time.perf_counter() - between)
        mine, sklearn = statistics.median(ours), statistics.median(theirs)
        print(
            f"{n:6d}  {mine:7.3f}  {sklearn:15.2f}  {mine / sklearn:.3f}  {np.abs(z - reference).max():.0e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
