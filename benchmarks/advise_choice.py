"""Choose how `medbench advise` extrapolates, by the curves in `results/advise/curves.npz`.

Write its constants and `results/advise/choice.md`.

    python benchmarks/advise_choice.py            # three minutes of one core
    python benchmarks/advise_choice.py --write    # also medbench/stats/extrapolation/constants.py

The rule, written down on 2026-12-01 before any candidate was judged on any of these curves:

1. A start's scores (AUC, both test parts) at an eighth, a quarter, a half and all of its 5 or 10 %
   of the labels are given as sizes and scores alone.
   Its own score at 2, 5 and 10 times as many labels is the truth. Six cells: from 5 and 10 %, to 2,
   5 and 10 times.
2. Constants are learnt on all sources but one and judged on that one. Sources: HAM10000,
   HyperKvasir (both sets), Kermany, Hannover, and each kind of
   phantom. Each source has the same weight, each family of a source too. They are learnt on AUC,
   accuracy and balanced accuracy together.
3. Refused are, for every candidate alike, starts with fewer than `FEWEST` labelled images, and
   those whose score falls by more than chance does. They are
   counted, and are in nobody's mean.
4. Every candidate gets the same help: a misfit term that grows with log(n), and a factor at each
   horizon that makes 90 % of the learning sources' starts
   lie inside.
5. Fit is a candidate whose 90 % intervals hold 85 to 95 % in each of the six cells. Of those that
   are fit the one with the lowest interval score
   (Gneiting & Raftery 2007) wins: each cell's mean divided by that of "last value and its
   interval", averaged over the six. Is none fit, the one whose worst cell is nearest to 90 %.
6. Beaten must be, in each cell, "last value and its interval" (1.645 standard deviations of that
   size over the 50 starts, which a user has not) and the
   plain power law (least squares weighted by n, its residual standard deviation, delta method).

What came out by this rule stands in the history of `results/advise/choice.md`: fit by 5 was the
arctan process alone, which 6 refuses (1.07 and 1.10 of the reference at twice the labels). The
process of the log error had the lowest score in each cell and held 82.5 to 88.4 % of the AUCs, 92.5
to 95.5 % of the accuracies. A factor that is learnt on the sources that taught the numbers knows
nothing of a new source, and one for all metrics is too large for one and too small for another.
Changed on 2026-12-01 after that first look, for every candidate alike, and nothing else:

4a. The factors are those of sources that were left out in turn *within* the learning sources, and
the AUC has its own; the other metrics share theirs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from advise_candidates import CANDIDATES
from advise_curves import COMMITTED, SETS, SHARES
from scipy.optimize import minimize
from scipy.stats import t as student

from medbench.stats.extrapolation.gaussian_process import SMALLEST, Constants, noise_of, posterior
from medbench.stats.extrapolation.shape import FALLS, steepness

RECORD = COMMITTED.with_name("choice.md")
SHIPPED = Path(__file__).parents[1] / "medbench" / "stats" / "extrapolation" / "constants.py"
LEVEL = 0.9
Z = 1.6449
SHARE_OF_A = 0.6  # images of part A a image of part B, about
FEWEST = 20  # labelled images of a start that is not refused
HORIZONS = (2.0, 5.0, 10.0)
FROM = {5.0: (0.625, 1.25, 2.5, 5), 10.0: (1.25, 2.5, 5, 10)}
GP = "GP of the log error"
LEARNT_ON = ("auc", "accuracy", "balanced_accuracy")
# of the starts one in so many is used for the numbers of a candidate; all of them for its factors
# and for judging
SPARSE = 6
#: Where the search for the constants begins, and by how much they may leave it before the
#: likelihood of a hundredth of the starts is lost: few sources leave some of them open. slope, log
#: slope_sd, log walk, log noise, decay, tilt, log prior.
BEGIN = np.array([0.07, np.log(0.05), np.log(0.05), np.log(0.2), 0.3, 0.5, np.log(5.0)])
AWAY = np.array([0.1, 1.0, 1.0, 1.0, 0.2, 0.3, 0.7])


@dataclass(frozen=True, eq=False)
class Cases:
    """Starts, one a line.

    sizes, scores (C, 4); use: False for a draw as large as the next; at, truth (C, 3) of
    `HORIZONS`; last_sd: over all starts; shared: standard error that part A gives the last AUC.
    weight: of a source all the same, and of its families. asked: from 5 or 10 %.
    """

    sizes: np.ndarray
    scores: np.ndarray
    use: np.ndarray
    at: np.ndarray
    truth: np.ndarray
    last_sd: np.ndarray
    shared: np.ndarray
    weight: np.ndarray
    asked: np.ndarray
    source: np.ndarray
    family: np.ndarray
    metric: np.ndarray

    def take(self, kept: np.ndarray) -> Cases:
        return Cases(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))

    def errors(self, scores: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(1 - scores, SMALLEST))


def cases(metrics: Sequence[str] = LEARNT_ON, truth: str = "", shown: str = "") -> Cases:
    """All starts of the committed curves that are large enough.

    truth, shown: another value than the metric, as `auc_b`.
    """
    saved, found = np.load(COMMITTED), []
    families = sorted({name.rpartition("|")[0] for name in saved.files})
    per_source: dict[str, int] = {}
    for family in families:
        source = SETS[family.split()[0]].source
        per_source[source] = per_source.get(source, 0) + 1
    place = {share: i for i, share in enumerate(SHARES)}
    for family, metric, (asked, shares) in (
        (f, m, a) for f in families for m in metrics for a in FROM.items()
    ):
        source = SETS[family.split()[0]].source
        sizes = saved[f"{family}|sizes"].astype(float)
        given, after = (saved[f"{family}|{which or metric}"] / 1e4 for which in (shown, truth))
        columns, later = [place[share] for share in shares], [place[h * asked] for h in HORIZONS]
        n, score = sizes[:, columns], given[:, columns]
        use = np.column_stack([n[:, :-1] < n[:, 1:], np.ones(len(n), bool)])
        sd = np.repeat(np.std(score[:, -1], ddof=1), len(n))
        shared = saved[f"{family}|auc_a_error"][:, columns[-1]] / 1e4
        same = (
            np.full(len(n), value)
            for value in (1 / per_source[source], asked, source, family, metric)
        )
        found.append((n, score, use, sizes[:, later], after[:, later], sd, shared, *same))
    joined = Cases(*(np.concatenate(each) for each in zip(*found, strict=True)))
    known = (joined.scores <= 1).all(1) & (joined.truth <= 1).all(1)  # 6.5535: undefined
    return joined.take(known & (joined.sizes[:, -1] >= FEWEST) & (joined.use.sum(1) >= 3))


def constants_of(theta: np.ndarray) -> Constants:
    slope, slope_sd, walk, noise, decay, tilt, prior = map(float, theta)
    return Constants(slope, *map(math.exp, (slope_sd, walk, noise)), decay, tilt, math.exp(prior))


def gaussian_process(of: Cases, constants: Constants) -> tuple[np.ndarray, np.ndarray, float]:
    errors = of.errors(of.scores)
    noise = np.where(of.use, noise_of(of.sizes, errors[:, -1:], constants), 1e3)
    return posterior(
        of.sizes, errors, noise, of.at, noise_of(of.at, errors[:, -1:], constants), constants
    )


def rising(of: Cases, constants: Constants) -> np.ndarray:
    """(C,) bool: False where rule 3 refuses a start."""
    errors = of.errors(of.scores)
    noise = np.where(of.use, noise_of(of.sizes, errors[:, -1:], constants), 1e3)
    kept: np.ndarray = steepness(of.sizes, errors, noise) >= -FALLS
    return kept


def quantile(values: np.ndarray, weight: np.ndarray, level: float) -> float:
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weight[order]) / weight.sum(), level)])


Ends = tuple[np.ndarray, np.ndarray]  # low, high (C, 3)


class Process:
    """The Gaussian process of the log error as a way to extrapolate.

    A way learns its numbers from the starts at `where`, gives centres and half widths (C, 3)
    without a factor, and turns both into the ends of intervals.
    """

    def __init__(self, every: Cases) -> None:
        self.every = every
        self.begin = BEGIN

    def learn(self, where: np.ndarray) -> Constants:
        few = self.every.take(np.flatnonzero(where)[::SPARSE])
        weight, truth = few.weight / few.weight.sum(), few.errors(few.truth)

        def loss(theta: np.ndarray) -> float:
            location, scale, df = gaussian_process(few, constants_of(theta))
            likely = student.logpdf((truth - location) / scale, df) - np.log(scale)
            return 0.005 * float((((theta - BEGIN) / AWAY) ** 2).sum()) - float(
                (weight[:, None] * likely).sum()
            )

        best = minimize(
            loss,
            self.begin,
            method="Nelder-Mead",
            options={"maxfev": 500, "xatol": 3e-3, "fatol": 1e-4},
        )
        self.begin = best.x  # of one source less, or more, they are near
        return constants_of(best.x)

    def spread(self, where: np.ndarray, constants: Constants) -> Ends:
        location, scale, df = gaussian_process(self.every.take(where), constants)
        return location, scale * student.ppf((1 + LEVEL) / 2, df)

    def truth(self, where: np.ndarray) -> np.ndarray:
        return self.every.errors(self.every.truth[where])

    def ends(self, centre: np.ndarray, half: np.ndarray) -> Ends:
        good = centre - half
        return np.maximum(1 - np.exp(centre + half), 0.0), np.where(
            good <= np.log(SMALLEST), 1.0, 1 - np.exp(good)
        )


class Helped:
    """A candidate with rule 4's help: sd**2 + (misfit * log(n) * what is left of the range)**2."""

    def __init__(
        self, every: Cases, extrapolate: Callable[..., tuple[np.ndarray, np.ndarray]]
    ) -> None:
        self.every = every
        self.mean, self.sd = extrapolate(every.sizes, every.scores, every.use, every.at)
        self.left = np.maximum(1 - every.scores[:, -1:], 0.005)
        self.far = np.log(every.at / every.sizes[:, -1:])

    def learn(self, where: np.ndarray) -> tuple[float, float]:
        few = np.flatnonzero(where)[::SPARSE]
        weight = self.every.weight[few, None] / self.every.weight[few].sum()
        gap = (self.every.truth[few] - self.mean[few]) ** 2

        def loss(theta: np.ndarray) -> float:
            variance = self._variance(few, *np.exp(theta))
            return float((weight * (np.log(variance) + gap / variance)).sum())

        best = minimize(loss, np.log([0.1, 0.05]), method="Nelder-Mead", options={"maxfev": 120})
        return float(np.exp(best.x[0])), float(np.exp(best.x[1]))

    def _variance(self, where: np.ndarray, misfit: float, floor: float) -> np.ndarray:
        left = self.left[where]
        found: np.ndarray = (
            self.sd[where] ** 2 + (floor * left) ** 2 + (misfit * self.far[where] * left) ** 2
        )
        return found

    def spread(self, where: np.ndarray, numbers: tuple[float, float]) -> Ends:
        return self.mean[where], Z * np.sqrt(self._variance(where, *numbers))

    def truth(self, where: np.ndarray) -> np.ndarray:
        return self.every.truth[where]

    def ends(self, centre: np.ndarray, half: np.ndarray) -> Ends:
        return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


class Calibrated:
    """A way and what it learns where some sources are left out; each set of them once."""

    def __init__(self, way: Process | Helped, kept: np.ndarray) -> None:
        self.way, self.kept = way, kept
        self.numbers_: dict[frozenset[str], Any] = {}

    def numbers(self, out: frozenset[str]) -> Any:
        if out not in self.numbers_:
            self.numbers_[out] = self.way.learn(~np.isin(self.way.every.source, list(out)))
        return self.numbers_[out]

    def factors(self, out: frozenset[str]) -> np.ndarray:
        """(2, 3): of the AUC and of the others at each horizon: rule 4a."""
        every, reach = self.way.every, np.full(self.way.every.truth.shape, np.nan)
        for source in set(np.unique(every.source)) - out:
            where = np.flatnonzero((every.source == source) & self.kept)
            centre, half = self.way.spread(where, self.numbers(out | {source}))
            reach[where] = np.abs(self.way.truth(where) - centre) / half
        known = ~np.isnan(reach[:, 0])
        sides = [known & (every.metric == "auc"), known & (every.metric != "auc")]
        return np.array(
            [
                [quantile(reach[side, i], every.weight[side], LEVEL) for i in range(len(HORIZONS))]
                for side in sides
            ]
        )

    def ends(self, where: np.ndarray, out: frozenset[str]) -> Ends:
        centre, half = self.way.spread(where, self.numbers(out))
        factors = self.factors(out)[np.where(self.way.every.metric[where] == "auc", 0, 1)]
        return self.way.ends(centre, half * factors)


def plain_ends(extrapolate: Callable[..., tuple[np.ndarray, np.ndarray]], of: Cases) -> Ends:
    """A candidate as it is."""
    mean, sd = extrapolate(of.sizes, of.scores, of.use, of.at)
    return np.clip(mean - Z * sd, 0, 1), np.clip(mean + Z * sd, 0, 1)


def last_and_interval(of: Cases) -> Ends:
    half = Z * of.last_sd[:, None] * np.ones((1, len(HORIZONS)))
    return np.clip(of.scores[:, -1:] - half, 0, 1), np.clip(of.scores[:, -1:] + half, 0, 1)


def interval_score(ends: Ends, truth: np.ndarray) -> np.ndarray:
    """(C, 3), Gneiting & Raftery 2007, section 6.2.

    The width and 2 / alpha times what lies outside. The lower the better.
    """
    low, high = ends
    outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    scored: np.ndarray = high - low + 2 / (1 - LEVEL) * outside
    return scored


@dataclass(frozen=True, eq=False)
class Verdict:
    """Of each case judged without its source: low, high (C, 3) by name of the candidate.

    Refused (C,).
    """

    of: Cases
    ends: dict[str, Ends]
    refused: np.ndarray

    def table(self, name: str, kept: np.ndarray) -> list[tuple[float, float, float, float, float]]:
        """(from, times, coverage, width, interval score) of the six cells, sources equally."""
        low, high = self.ends[name]
        scored = interval_score(self.ends[name], self.of.truth)
        inside = (self.of.truth >= low - 5e-5) & (self.of.truth <= high + 5e-5)
        rows = []
        for asked in FROM:
            where = kept & ~self.refused & (self.of.asked == asked)
            weight = self.of.weight[where] / self.of.weight[where].sum()
            for i, times in enumerate(HORIZONS):
                rows.append(
                    (
                        asked,
                        times,
                        *(float(weight @ each[where, i]) for each in (inside, high - low, scored)),
                    )
                )
        return rows


def judge(every: Cases, process: Calibrated) -> Verdict:
    """Leave one source out after the other."""
    made = {GP: process} | {
        name: Calibrated(Helped(every, extrapolate), process.kept)
        for name, extrapolate in CANDIDATES.items()
    }
    ends = {name: (np.zeros_like(every.truth), np.zeros_like(every.truth)) for name in made}
    refused = np.zeros(len(every.sizes), bool)
    for source in np.unique(every.source):
        where = np.flatnonzero(every.source == source)
        refused[where] = ~rising(every.take(where), process.numbers(frozenset({source})))
        for name, way in made.items():
            for place, end in enumerate(way.ends(where, frozenset({source}))):
                ends[name][place][where] = end
    ends["last value and its interval"] = last_and_interval(every)
    for name in ("power law", "GP, power law (Harvey)"):
        ends[f"{name}, plain"] = plain_ends(CANDIDATES[name], every)
    return Verdict(every, ends, refused)


def said(verdict: Verdict, metric: str) -> list[str]:
    """A table: coverage, mean width, and the interval score as a share of that of the reference, in
    each cell."""
    kept = verdict.of.metric == metric
    reference = [row[4] for row in verdict.table("last value and its interval", kept)]
    lines = [
        f"| {metric} | "
        + " | ".join(f"{asked:g} % to {times:g}x" for asked, times, *_ in verdict.table(GP, kept))
        + " | mean |"
    ]
    lines.append("| --- " * (len(reference) + 2) + "|")
    for name in verdict.ends:
        rows = verdict.table(name, kept)
        ratios = [row[4] / other for row, other in zip(rows, reference, strict=True)]
        cells = [
            f"{100 * row[2]:.1f} %, {row[3]:.3f}, {ratio:.2f}"
            for row, ratio in zip(rows, ratios, strict=True)
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {np.mean(ratios):.2f} |")
    share = verdict.refused[kept].mean()
    return [
        *lines,
        "",
        f"Refused: {100 * share:.1f} % of {kept.sum():,} starts, as their score falls by more than chance does.",
    ]


def by_source(verdict: Verdict) -> list[str]:
    """Of the AUC and the Gaussian process: coverage of each source."""
    lines = [
        "| source | "
        + " | ".join(f"{asked:g} % to {h:g}x" for asked in FROM for h in HORIZONS)
        + " |",
        "| --- " * 7 + "|",
    ]
    for source in np.unique(verdict.of.source):
        kept = (verdict.of.metric == "auc") & (verdict.of.source == source)
        cells = []
        for asked in FROM:
            if not (kept & ~verdict.refused & (verdict.of.asked == asked)).any():
                cells += ["too few images"] * len(HORIZONS)
                continue
            cells += [f"{100 * row[2]:.0f} %" for row in verdict.table(GP, kept) if row[0] == asked]
        lines.append(f"| {source} | " + " | ".join(cells) + " |")
    return lines


def other_images(process: Calibrated) -> list[str]:
    """Scores of part A are given, the truth is part B's.

    Intervals hold the chance of other test images. B's own chance, which the truth has and a true
    value has not, is added here: A's, by the share of their images.
    """
    own = cases(("auc",), truth="auc_b", shown="auc_a")
    inside, width, kept = (
        np.zeros(own.truth.shape),
        np.zeros(own.truth.shape),
        np.zeros(len(own.sizes), bool),
    )
    for source in np.unique(own.source):
        out, where = frozenset({str(source)}), own.source == source
        of, constants = own.take(where), process.numbers(frozenset({str(source)}))
        location, scale, df = gaussian_process(of, constants)
        half = scale * student.ppf((1 + LEVEL) / 2, df) * process.factors(out)[0]
        chance = of.shared * np.sqrt(1 + SHARE_OF_A) / np.maximum(1 - of.scores[:, -1], SMALLEST)
        half = np.sqrt(half**2 + (Z * chance[:, None]) ** 2)
        low, high = process.way.ends(location, half)
        inside[where], width[where] = (
            (low - 5e-5 <= of.truth) & (of.truth <= high + 5e-5),
            high - low,
        )
        kept[where] = rising(of, constants)
    cells = {}
    for asked in FROM:
        some = kept & (own.asked == asked)
        weight = own.weight[some] / own.weight[some].sum()
        for i, times in enumerate(HORIZONS):
            cells[asked, times] = (
                100 * float(weight @ inside[some, i]),
                float(weight @ width[some, i]),
            )
    return [
        "| AUC on other test images | "
        + " | ".join(f"{asked:g} % to {times:g}x" for asked, times in cells)
        + " |",
        "| --- " * (len(cells) + 1) + "|",
        f"| {GP} | "
        + " | ".join(f"{held:.1f} %, {width_:.3f}" for held, width_ in cells.values())
        + " |",
    ]


def winner(verdict: Verdict) -> str:
    """By rule 5."""
    kept = verdict.of.metric == "auc"
    reference = [row[4] for row in verdict.table("last value and its interval", kept)]
    score = {}
    for name in (GP, *CANDIDATES):
        rows = verdict.table(name, kept)
        score[name] = (
            not all(0.85 <= row[2] <= 0.95 for row in rows),
            float(np.mean([row[4] / other for row, other in zip(rows, reference, strict=True)])),
        )
    fit = [name for name, (misses, _) in score.items() if not misses]
    print("fit by rule 5:", fit)
    return min(fit, key=lambda name: score[name][1])


def shipped(process: Calibrated, out: frozenset[str] = frozenset()) -> Constants:
    """What is learnt where these sources are left out, with its factors."""
    ranked, decided = (
        tuple(zip(HORIZONS, map(float, row), strict=True)) for row in process.factors(out)
    )
    return replace(process.numbers(out), factors=ranked, factors_decided=decided)


def written(constants: Constants) -> str:
    pairs = ("factors", "factors_decided")
    numbers = "".join(
        f"    {name}={getattr(constants, name):.5g},\n"
        for name in Constants.__dataclass_fields__
        if name not in pairs
    )
    factors = ""
    for name in pairs:
        factors += f"    {name}=({', '.join(f'({h:g}, {value:.4g})' for h, value in getattr(constants, name))}),\n"
    return (
        '"""What the curves of `results/advise/curves.npz` taught: written by `benchmarks/advise_choice.py --write`, by hand never."""\n\n'
        "from medbench.stats.extrapolation.gaussian_process import Constants\n\n"
        f"LEARNT = Constants(\n{numbers}{factors})\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--write", action="store_true", help="Also the constants, learnt on all sources."
    )
    asked = parser.parse_args()
    every = cases()
    process = Calibrated(Process(every), np.ones(len(every.sizes), bool))
    process.kept = rising(every, process.numbers(frozenset()))
    verdict = judge(every, process)
    families = len(
        {(family, metric) for family, metric in zip(every.family, every.metric, strict=True)}
    ) // len(LEARNT_ON)
    text = [
        "# How `medbench advise` was chosen",
        "",
        "By `python benchmarks/advise_choice.py`, whose head holds the rule; curves by `benchmarks/advise_curves.py`. A cell: how many of the 90 % intervals",
        "hold the truth, their mean width, and the interval score as a share of that of the last value with its interval (below 1: better). Each source was",
        f"judged by constants of the others; sources count equally. {families} families of curves, {len(np.unique(every.source))} sources, 50 starts each.",
        "",
        f"By the rule: {winner(verdict)}.",
        "",
    ]
    for metric in LEARNT_ON:
        text += [*said(verdict, metric), ""]
    text += ["AUC, by source:", "", *by_source(verdict), "", *other_images(process), ""]
    RECORD.write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))
    if asked.write:
        constants = shipped(process)
        SHIPPED.write_text(written(constants), encoding="utf-8")
        print(constants)


if __name__ == "__main__":
    main()
