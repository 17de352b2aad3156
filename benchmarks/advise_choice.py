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

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
FEWEST = 20  # labelled images of a start that is not refused
HORIZONS = (2.0, 5.0, 10.0)
FROM = {5.0: (0.625, 1.25, 2.5, 5), 10.0: (1.25, 2.5, 5, 10)}
GP = "GP of the log error"
LEARNT_ON = ("auc", "accuracy", "balanced_accuracy")
SPARSE = 4  # of the starts one in so many is used for the numbers of a candidate; all of them for its factors and for judging
#: Where the search for the constants begins, and by how much they may leave it before the likelihood of a hundredth of the starts is lost: few sources
#: leave some of them open. slope, log slope_sd, log walk, log noise, decay, tilt, log prior.
BEGIN = np.array([0.07, np.log(0.05), np.log(0.05), np.log(0.2), 0.3, 0.5, np.log(5.0)])
AWAY = np.array([0.1, 1.0, 1.0, 1.0, 0.2, 0.3, 0.7])


@dataclass(frozen=True, eq=False)
class Cases:
    """Starts, one a line. sizes, scores (C, 4); use: False for a draw as large as the next; at, truth (C, 3) of `HORIZONS`; last_sd: over all starts.
    weight: of a source all the same, and of its families. asked: from 5 or 10 %."""

    sizes: np.ndarray
    scores: np.ndarray
    use: np.ndarray
    at: np.ndarray
    truth: np.ndarray
    last_sd: np.ndarray
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
    """All starts of the committed curves that are large enough. truth, shown: another value than the metric, as `auc_b`."""
    saved, found = np.load(COMMITTED), []
    families = sorted({name.rpartition("|")[0] for name in saved.files})
    per_source: dict[str, int] = {}
    for family in families:
        source = SETS[family.split()[0]].source
        per_source[source] = per_source.get(source, 0) + 1
    place = {share: i for i, share in enumerate(SHARES)}
    for family, metric, (asked, shares) in ((f, m, a) for f in families for m in metrics for a in FROM.items()):
        source = SETS[family.split()[0]].source
        sizes = saved[f"{family}|sizes"].astype(float)
        given, after = (saved[f"{family}|{which or metric}"] / 1e4 for which in (shown, truth))
        columns, later = [place[share] for share in shares], [place[h * asked] for h in HORIZONS]
        n, score = sizes[:, columns], given[:, columns]
        use = np.column_stack([n[:, :-1] < n[:, 1:], np.ones(len(n), bool)])
        sd = np.repeat(np.std(score[:, -1], ddof=1), len(n))
        same = (np.full(len(n), value) for value in (1 / per_source[source], asked, source, family, metric))
        found.append((n, score, use, sizes[:, later], after[:, later], sd, *same))
    joined = Cases(*(np.concatenate(each) for each in zip(*found, strict=True)))
    known = (joined.scores <= 1).all(1) & (joined.truth <= 1).all(1)  # 6.5535: undefined
    return joined.take(known & (joined.sizes[:, -1] >= FEWEST) & (joined.use.sum(1) >= 3))


def constants_of(theta: np.ndarray) -> Constants:
    slope, slope_sd, walk, noise, decay, tilt, prior = map(float, theta)
    return Constants(slope, *map(math.exp, (slope_sd, walk, noise)), decay, tilt, math.exp(prior))


def gaussian_process(of: Cases, constants: Constants) -> tuple[np.ndarray, np.ndarray, float]:
    errors = of.errors(of.scores)
    noise = np.where(of.use, noise_of(of.sizes, errors[:, -1:], constants), 1e3)
    return posterior(of.sizes, errors, noise, of.at, noise_of(of.at, errors[:, -1:], constants), constants)


def rising(of: Cases, constants: Constants) -> np.ndarray:
    """(C,) bool: False where rule 3 refuses a start."""
    errors = of.errors(of.scores)
    noise = np.where(of.use, noise_of(of.sizes, errors[:, -1:], constants), 1e3)
    kept: np.ndarray = steepness(of.sizes, errors, noise) >= -FALLS
    return kept


def learn(of: Cases) -> Constants:
    """The constants under which the truths of the learning sources are likeliest, and the factors that make 90 % of them lie inside."""
    few = of.take(np.arange(len(of.sizes)) % SPARSE == 0)
    weight = few.weight / few.weight.sum()
    truth = few.errors(few.truth)

    def loss(theta: np.ndarray) -> float:
        location, scale, df = gaussian_process(few, constants_of(theta))
        likely = student.logpdf((truth - location) / scale, df) - np.log(scale)
        return 0.005 * float((((theta - BEGIN) / AWAY) ** 2).sum()) - float((weight[:, None] * likely).sum())

    best = minimize(loss, BEGIN, method="Nelder-Mead", options={"maxfev": 700, "xatol": 3e-3, "fatol": 1e-4})
    constants = constants_of(best.x)
    kept = of.take(rising(of, constants))
    location, scale, df = gaussian_process(kept, constants)
    reach = np.abs(kept.errors(kept.truth) - location) / (scale * student.ppf((1 + LEVEL) / 2, df))
    return replace(constants, factors=tuple((h, quantile(reach[:, i], kept.weight, LEVEL)) for i, h in enumerate(HORIZONS)))


def quantile(values: np.ndarray, weight: np.ndarray, level: float) -> float:
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weight[order]) / weight.sum(), level)])


Ends = tuple[np.ndarray, np.ndarray]  # low, high (C, 3)
Judged = Callable[[Cases], Ends]


def process_ends(constants: Constants) -> Judged:
    def ends(of: Cases) -> Ends:
        location, scale, df = gaussian_process(of, constants)
        half = scale * student.ppf((1 + LEVEL) / 2, df) * np.array([factor for _, factor in constants.factors])
        high = location - half
        return np.maximum(1 - np.exp(location + half), 0.0), np.where(high <= np.log(SMALLEST), 1.0, 1 - np.exp(high))

    return ends


def helped_ends(extrapolate: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Callable[[Cases], Judged]:
    """A candidate with rule 4's help: sd**2 + (misfit * log(n) * what is left of the range)**2, and a factor a horizon."""

    def spread(base: tuple[np.ndarray, np.ndarray], of: Cases, misfit: float, floor: float) -> tuple[np.ndarray, np.ndarray]:
        mean, sd = base
        left = np.maximum(1 - of.scores[:, -1:], 0.005)
        return mean, np.sqrt(sd**2 + (floor * left) ** 2 + (misfit * np.log(of.at / of.sizes[:, -1:]) * left) ** 2)

    def learnt(learning: Cases) -> Judged:
        few = learning.take(np.arange(len(learning.sizes)) % SPARSE == 0)
        weight, base = few.weight[:, None] / few.weight.sum(), extrapolate(few.sizes, few.scores, few.use, few.at)

        def loss(theta: np.ndarray) -> float:
            mean, sd = spread(base, few, *np.exp(theta))
            return float((weight * (np.log(sd) + (few.truth - mean) ** 2 / 2 / sd**2)).sum())

        misfit, floor = map(float, np.exp(minimize(loss, np.log([0.1, 0.05]), method="Nelder-Mead", options={"maxfev": 120}).x))
        mean, sd = spread(base, few, misfit, floor)
        reach = np.abs(few.truth - mean) / (Z * sd)
        factors = np.array([quantile(reach[:, i], few.weight, LEVEL) for i in range(len(HORIZONS))])

        def ends(of: Cases) -> Ends:
            mean, sd = spread(extrapolate(of.sizes, of.scores, of.use, of.at), of, misfit, floor)
            return np.clip(mean - Z * factors * sd, 0, 1), np.clip(mean + Z * factors * sd, 0, 1)

        return ends

    return learnt


def plain_ends(extrapolate: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Judged:
    """A candidate as it is."""

    def ends(of: Cases) -> Ends:
        mean, sd = extrapolate(of.sizes, of.scores, of.use, of.at)
        return np.clip(mean - Z * sd, 0, 1), np.clip(mean + Z * sd, 0, 1)

    return ends


def last_and_interval(of: Cases) -> Ends:
    half = Z * of.last_sd[:, None] * np.ones((1, len(HORIZONS)))
    return np.clip(of.scores[:, -1:] - half, 0, 1), np.clip(of.scores[:, -1:] + half, 0, 1)


def interval_score(ends: Ends, truth: np.ndarray) -> np.ndarray:
    """(C, 3), Gneiting & Raftery 2007, section 6.2: the width and 2 / alpha times what lies outside. The lower the better."""
    low, high = ends
    outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    scored: np.ndarray = high - low + 2 / (1 - LEVEL) * outside
    return scored


@dataclass(frozen=True, eq=False)
class Verdict:
    """Of each case judged without its source: low, high (C, 3) by name of the candidate; refused (C,)."""

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
                rows.append((asked, times, *(float(weight @ each[where, i]) for each in (inside, high - low, scored))))
        return rows


def judge(every: Cases, judged: Cases, quick: bool = False) -> Verdict:
    """Leave one source out after the other."""
    ends: dict[str, Ends] = {}
    refused = np.zeros(len(judged.sizes), bool)
    for source in np.unique(every.source):
        learning, where = every.take(every.source != source), judged.source == source
        if not where.any():
            continue
        constants = learn(learning)
        refused[where] = ~rising(judged.take(where), constants)
        learning = learning.take(rising(learning, constants))
        made: dict[str, Judged] = {GP: process_ends(constants), "last value and its interval": last_and_interval}
        if not quick:
            made["power law, plain"] = plain_ends(CANDIDATES["power law"])
            made["GP, power law (Harvey), plain"] = plain_ends(CANDIDATES["GP, power law (Harvey)"])
            made |= {name: helped_ends(extrapolate)(learning) for name, extrapolate in CANDIDATES.items()}
        for name, of in made.items():
            low, high = of(judged.take(where))
            for place, end in enumerate((low, high)):
                ends.setdefault(name, (np.zeros_like(judged.truth), np.zeros_like(judged.truth)))[place][where] = end
        print(source, constants, flush=True)
    return Verdict(judged, ends, refused)


def said(verdict: Verdict, metric: str) -> list[str]:
    """A table: coverage, mean width, and the interval score as a share of that of the reference, in each cell."""
    kept = verdict.of.metric == metric
    reference = [row[4] for row in verdict.table("last value and its interval", kept)]
    lines = [f"| {metric} | " + " | ".join(f"{asked:g} % to {times:g}x" for asked, times, *_ in verdict.table(GP, kept)) + " | mean |"]
    lines.append("| --- " * (len(reference) + 2) + "|")
    for name in verdict.ends:
        rows = verdict.table(name, kept)
        ratios = [row[4] / other for row, other in zip(rows, reference, strict=True)]
        cells = [f"{100 * row[2]:.1f} %, {row[3]:.3f}, {ratio:.2f}" for row, ratio in zip(rows, ratios, strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {np.mean(ratios):.2f} |")
    share = verdict.refused[kept].mean()
    return [*lines, "", f"Refused: {100 * share:.1f} % of {kept.sum():,} starts, as their score falls by more than chance does."]


def by_source(verdict: Verdict) -> list[str]:
    """Of the AUC and the Gaussian process: coverage of each source."""
    lines = ["| source | " + " | ".join(f"{asked:g} % to {h:g}x" for asked in FROM for h in HORIZONS) + " |", "| --- " * 7 + "|"]
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


def written(constants: Constants) -> str:
    numbers = "".join(f"    {name}={getattr(constants, name):.5g},\n" for name in Constants.__dataclass_fields__ if name != "factors")
    factors = ", ".join(f"({h:g}, {value:.4g})" for h, value in constants.factors)
    return (
        '"""What the curves of `results/advise/curves.npz` taught: written by `benchmarks/advise_choice.py --write`, by hand never."""\n\n'
        "from medbench.stats.extrapolation.gaussian_process import Constants\n\n"
        f"LEARNT = Constants(\n{numbers}    factors=({factors}),\n)\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="Also the constants, learnt on all sources.")
    asked = parser.parse_args()
    verdict = judge(every := cases(), every)
    families = len({(family, metric) for family, metric in zip(every.family, every.metric, strict=True)}) // len(LEARNT_ON)
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
    text += ["AUC, by source:", "", *by_source(verdict), ""]
    RECORD.write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))
    if asked.write:
        constants = learn(every)
        SHIPPED.write_text(written(constants), encoding="utf-8")
        print(constants)


if __name__ == "__main__":
    main()
