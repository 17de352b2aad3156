"""Choose how `medbench advise` extrapolates, by the curves in `results/advise/curves.npz`; write its constants and `results/advise/choice.md`.

    python benchmarks/advise_choice.py            # two minutes of one core
    python benchmarks/advise_choice.py --write    # also medbench/stats/extrapolation/constants.py

The rule, written down on 2026-12-01 before any candidate was judged on any of these curves:

1. A start's scores (AUC, both test parts) at an eighth, a quarter, a half and all of its 5 or 10 % of the labels are given as sizes and scores alone.
   Its own score at 2, 5 and 10 times as many labels is the truth. Six cells: from 5 and 10 %, to 2, 5 and 10 times.
2. Constants are learnt on all sources but one and judged on that one. Sources: HAM10000, HyperKvasir (both sets), Kermany, Hannover, and each kind of
   phantom. Each source has the same weight, each family of a source too. They are learnt on AUC, accuracy and balanced accuracy together.
3. Refused are, for every candidate alike, starts with fewer than `FEWEST` labelled images, and those whose score falls by more than chance does. They are
   counted, and are in nobody's mean.
4. Every candidate gets the same help: a misfit term that grows with log(n), and a factor at each horizon that makes 90 % of the learning sources' starts
   lie inside.
5. Fit is a candidate whose 90 % intervals hold 85 to 95 % in each of the six cells. Of those that are fit the one with the lowest interval score
   (Gneiting & Raftery 2007) wins: each cell's mean divided by that of "last value and its interval", averaged over the six. Is none fit, the one
   whose worst cell is nearest to 90 %.
6. Beaten must be, in each cell, "last value and its interval" (1.645 standard deviations of that size over the 50 starts, which a user has not) and the
   plain power law (least squares weighted by n, its residual standard deviation, delta method).
"""
