"""What the linear probe costs against solving one member at a time. A member is one penalty on one fold.

    python benchmarks/speed/probe.py            # 3 budgets x 5 draws x 5 folds x 25 penalties
    python benchmarks/speed/probe.py --quick    # 1 draw

Features of the default encoder on HAM10000 where MEDBENCH_DATA is set, else on the phantom of `derm` (the first line says which). Both sides
get the same folds, penalties, standardisation and cores. All labels are one draw. Where a draw is too small the protocol takes a fixed
penalty and solves no folds; this benchmark solves the members of 5 folds all the same, to have three sizes, and says so.

- scikit-learn: LogisticRegression(tol=1e-4) on float32, one member a process and one thread each, the fastest of lbfgs, newton-cg and
  newton-cholesky on three members (a solver that takes three times as long as lbfgs is stopped). Only `fit` is counted.
- scikit-learn tol=1e-8: the first draw's chosen penalty and its neighbours on the path, all folds; test probabilities of the final fit.
- torch L-BFGS: one member at a time on all cores with the settings of torchgeo-bench (history 10, strong Wolfe, tolerance 1e-5).
- SGD head: as lightly's linear benchmark trains it (90 epochs, batch 256, rate 0.1, momentum 0.9, cosine, raw features), once a draw.

The first two are timed on a random sample, one member from each of --sample equal parts of the path, and EXTRAPOLATED to all members. The
ratios of one run are what to compare between machines, on a machine that does nothing else: beside another benchmark they fell to half.

Measured 2026-11-22 with `--quick --cores 1` on one core of an AMD EPYC (matrix products 92 G/s), real features, in 5 minutes; the second
core was at work for others. The aim was a ratio of 20.

| labels | medbench, members | scikit-learn's best | ratio | slowest member | x the floor | objective - scikit-learn's, at most |
|---|---|---|---|---|---|---|
| 1 % | 0.11 s | 1.8 s | 16 | 38 iterations | 36 | -7e-10 |
| 10 % | 1.5 s | 16.7 s | 11 | 74 | 4.1 | -2e-7 |
| 100 % | 22.7 s | 189 s | 8 | 137 | 2.5 | -8e-7 |

Same penalty as scikit-learn at tol=1e-8 in all three, held-out losses within 6e-6 nats of its, test probabilities within 1e-6. With the 14
images of the phantom's 1 %, where the path's weakest penalty wins, a held-out loss was off by 3e-2 nats: the members' tolerance is too
loose there. The protocol solves no folds of such a draw.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import pstats
import time
import warnings
from dataclasses import dataclass
from functools import cached_property

import joblib
import numpy as np
import sklearn
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from medbench.models import logistic
from medbench.protocols import linear
from medbench.run import planning, prepare
from medbench.schema import Grid
from medbench.stats import metrics, splits

FOLDS = 5
SOLVERS = ("lbfgs", "newton-cg", "newton-cholesky")
#: What the profile is summed into: function of the engine -> what it does.
PARTS = {
    "evaluate": "objective and gradient",
    "_quasi_newton": "L-BFGS direction",
    "_rescale": "preconditioner",
    "eigenbasis": "eigenbasis",
    "_rotate": "standardise and rotate",
    "settle_bias": "bias and certificate",
    "held_out_loss": "held-out loss",
}


@dataclass(frozen=True, eq=False)
class Draw:
    """One labelled subset, index (n,), of the pool: features (N, D) float32, labels and groups (N,)."""

    pool: np.ndarray
    labels: np.ndarray
    whose: np.ndarray
    index: np.ndarray

    @cached_property
    def x(self) -> np.ndarray:
        return np.asarray(self.pool[self.index])

    @property
    def y(self) -> np.ndarray:
        return np.asarray(self.labels[self.index])

    @property
    def groups(self) -> np.ndarray:
        return np.asarray(self.whose[self.index])

    @cached_property
    def fold(self) -> np.ndarray:
        return splits.folds(self.y, self.groups, FOLDS)

    @cached_property
    def parts(self) -> list[np.ndarray]:
        """Training images of each fold, counted within the draw."""
        return [np.flatnonzero(self.fold != i) for i in range(FOLDS)]


@dataclass(frozen=True, eq=False)
class Solved:
    """The engine's answer to one draw: its members and their fit, the losses (P,) and the final fit."""

    folds: logistic.Fits
    losses: torch.Tensor
    best: int
    final: logistic.Fits

    @property
    def penalty(self) -> float:
        return linear.PENALTIES[self.best]


def load(seeds: int) -> tuple[str, dict[str, list[Draw]], np.ndarray, np.ndarray]:
    """What the features are, draws of each budget, and the test images' features and labels."""
    plan = planning.plan(Grid(tasks=("derm",), methods=("supervised",), labels=("1", "10", "100"), seeds=seeds))
    unit = plan.units[0]
    pool = unit.data.pool
    array = prepare.unit_features(plan, unit, "cpu")[0].array
    x = np.asarray(array[unit.data.where("train")])
    draws: dict[str, list[Draw]] = {}
    for (_, _, budget, _), index in plan.draws.items():
        draws.setdefault(budget, []).append(Draw(x, pool.labels, pool.groups, index))
    return f"{unit.name}, {unit.data.data}", draws, array[unit.data.where("test")], unit.data.parts["test"].labels


def solve(draws: list[Draw]) -> tuple[list[Solved], float, float]:
    """The protocol's own steps with the number of folds given, and their seconds: of all members, and of the final fits."""
    start = time.perf_counter()
    one = draws[0]
    features = torch.from_numpy(one.pool)
    basis = linear._shared_basis(features, max(len(draw.y) for draw in draws))
    pool = logistic.Pool(features, one.labels, one.whose, "multiclass", int(one.labels.max()) + 1, basis)
    solved: list[tuple[logistic.Fits, torch.Tensor]] = []
    for draw in draws:
        parts = [(draw.index[draw.fold != i], draw.index[draw.fold == i]) for i in range(FOLDS)]
        solved.append(linear.cross_validate(pool, linear.PENALTIES, parts))
    middle = time.perf_counter()
    answers = []
    for draw, (fits, losses) in zip(draws, solved, strict=True):
        best = int((losses <= losses.min() + linear.TIE).nonzero()[-1])
        model = linear.settle(pool.take(draw.index), {"penalty": linear.PENALTIES[best]})
        answers.append(Solved(fits, losses, best, model.fits))
    return answers, middle - start, time.perf_counter() - middle


def standardised(draw: Draw, fits: logistic.Fits, part: int) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 as the engine standardised them, and labels, of a fold's training images."""
    rows = draw.parts[part]
    z = (draw.x[rows] - fits.mean[part].numpy()) * fits.scale[part].numpy()
    return z.astype(np.float32), draw.y[rows]


def objective(z: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray, penalty: float) -> float:
    """In float64. weight (c, D) and bias (c,) of the classes that y holds."""
    logits = torch.from_numpy(z.astype(float) @ weight.T.astype(float) + bias)
    index = torch.from_numpy(np.unique(y, return_inverse=True)[1])
    return float(torch.nn.functional.cross_entropy(logits, index)) + penalty / 2 * float((weight.astype(float) ** 2).sum())


def by_scikit_learn(z: np.ndarray, y: np.ndarray, penalty: float, solver: str, tol: float = 1e-4) -> tuple[float, np.ndarray, np.ndarray]:
    """Seconds of one fit, weight and bias."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a line search that ends in rounding; its objective is compared below
        start = time.perf_counter()
        model = LogisticRegression(C=1 / (len(y) * penalty), tol=tol, max_iter=10_000, solver=solver).fit(z, y)
        return time.perf_counter() - start, model.coef_, model.intercept_


def by_torch(z: np.ndarray, y: np.ndarray, penalty: float) -> tuple[float, np.ndarray, np.ndarray]:
    start = time.perf_counter()
    x, index = torch.from_numpy(z), torch.from_numpy(np.unique(y, return_inverse=True)[1])
    head = torch.nn.Linear(x.shape[1], int(index.max()) + 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(
        head.parameters(), 1.0, max_iter=1000, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-7, tolerance_change=1e-5
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(head(x), index) + penalty / 2 * head.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return time.perf_counter() - start, head.weight.detach().numpy(), head.bias.detach().numpy()


def by_sgd(draw: Draw, images: np.ndarray, classes: int) -> tuple[float, np.ndarray]:
    """Seconds of one head and its probabilities."""
    epochs, batch = 90, 256
    start = time.perf_counter()
    torch.manual_seed(0)
    x, y = torch.from_numpy(draw.x), torch.from_numpy(draw.y)
    head = torch.nn.Linear(x.shape[1], classes)
    optimizer = torch.optim.SGD(head.parameters(), 0.1 * batch / 256, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(x) // batch))
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(head(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    seconds = time.perf_counter() - start
    return seconds, head(torch.from_numpy(images)).softmax(1).detach().numpy()


def exact_losses(draw: Draw, solved: Solved, cores: int) -> dict[int, float]:
    """Held-out loss by scikit-learn at tol=1e-8, in float64, of the chosen penalty and its neighbours on the path."""
    near = [i for i in range(solved.best - 1, solved.best + 2) if 0 <= i < len(linear.PENALTIES)]
    problems = []
    for f in range(FOLDS):
        z, y = standardised(draw, solved.folds, f)
        problems += [(z.astype(float), y, linear.PENALTIES[i], "lbfgs", 1e-8) for i in near]
    answers = joblib.Parallel(cores)(joblib.delayed(by_scikit_learn)(*problem) for problem in problems)
    losses = dict.fromkeys(near, 0.0)
    count = 0
    for f in range(FOLDS):
        rows, fits = np.flatnonzero(draw.fold == f), solved.folds
        seen = np.unique(draw.y[draw.parts[f]])
        rows = rows[np.isin(draw.y[rows], seen)]
        limit, truth = float(fits.limit[f]), torch.from_numpy(np.searchsorted(seen, draw.y[rows]))
        z = np.clip((draw.x[rows] - fits.mean[f].numpy()) * fits.scale[f].numpy(), -limit, limit)
        count += len(rows)
        for i, (_, weight, bias) in zip(near, answers[f * len(near) : (f + 1) * len(near)], strict=True):
            losses[i] += float(torch.nn.functional.cross_entropy(torch.from_numpy(z @ weight.T + bias), truth, reduction="sum"))
    return {i: loss / count for i, loss in losses.items()}


def fastest_solver(draw: Draw, solved: Solved) -> tuple[str, str]:
    """The best of SOLVERS on a weak, a middle and a strong penalty of one fold, and what each took."""
    z, y = standardised(draw, solved.folds, 0)
    tried = [linear.PENALTIES[len(linear.PENALTIES) * i // 6] for i in (1, 3, 5)]
    work = lambda solver, limit: joblib.Parallel(2, timeout=limit)(joblib.delayed(by_scikit_learn)(z, y, p, solver) for p in tried)
    work("lbfgs", None)  # starts the processes
    took: dict[str, float] = {}
    for solver in SOLVERS:
        limit = 3 * took["lbfgs"] if took else None
        start = time.perf_counter()
        try:
            work(solver, limit)
            took[solver] = time.perf_counter() - start
        except multiprocessing.TimeoutError:
            took[solver] = np.inf
    told = ", ".join(f"{solver} {t:.2g} s" if np.isfinite(t) else f"{solver} stopped" for solver, t in took.items())
    return min(took, key=took.__getitem__), told


def matmul_rate() -> float:
    """Float32 operations a second of a matrix product on all cores."""
    a = torch.rand(2048, 2048)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def operations(draws: list[Draw], solved: list[Solved]) -> float:
    """Floating-point operations of the members' logits and gradients, and of the rotation into each fold's basis."""
    total = 0.0
    for draw, one in zip(draws, solved, strict=True):
        d = draw.x.shape[1]
        for n, its in zip(map(len, draw.parts), one.folds.iterations, strict=True):
            r = min(n, d)
            total += 4.0 * n * (r + 1) * one.folds.bias.shape[-1] * (int(its.sum()) + its.numel()) + 2.0 * n * d * r
    return total


def where_time_goes(draws: list[Draw]) -> str:
    with cProfile.Profile() as profile:
        solve(draws)
    spent = dict.fromkeys(PARTS.values(), 0.0)
    total = 0.0
    for (_, _, function), (_, _, own, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        total += own
        if function in PARTS:
            spent[PARTS[function]] += cumulative
    return ", ".join(f"{name} {100 * t / total:.0f} %" for name, t in sorted(spent.items(), key=lambda item: -item[1]))


def report(budget: str, draws: list[Draw], images: np.ndarray, truth: np.ndarray, sample: int, cores: int, rate: float) -> None:
    """Everything about one budget."""
    classes = int(truth.max()) + 1
    solve(draws[:1])  # the first call pays for starting threads
    solved, seconds, final = solve(draws)
    members = len(draws) * FOLDS * len(linear.PENALTIES)
    undivided = any(splits.held_out_fold(draw.y, draw.groups).max() < 0 for draw in draws)
    print(f"\n== {budget}: {len(draws)} draw(s) of about {len(draws[0].y)} images, {members} members")
    if undivided:
        print("   the protocol takes its fixed penalty here (too few images to hold out): the members are solved for this comparison only")
    print(f"medbench        {seconds:9.2f} s all members and the held-out loss; {final:.2f} s final fits (float64)")
    iterations = max(int(s.folds.iterations.max()) for s in solved)
    gradient = max(float(s.folds.gradient.max()) for s in solved)
    capped = sum(int((s.folds.iterations >= linear.MAX_ITERATIONS).sum()) for s in solved)
    print(f"                slowest member: {iterations} iterations; largest gradient norm {gradient:.1e}; stopped at the cap: {capped}")
    floor = operations(draws, solved) / rate
    print(
        f"                {floor * rate / 1e9:.0f} G operations = {floor:.2f} s at the measured {rate / 1e9:.0f} G/s: {seconds / floor:.1f} x that floor"
    )
    print(f"                {where_time_goes(draws)}")

    rng = np.random.default_rng(0)
    chosen = [
        (int(rng.integers(len(draws))), int(rng.integers(FOLDS)), int((i + rng.random()) / sample * len(linear.PENALTIES)))
        for i in range(sample)
    ]
    problems = [(*standardised(draws[s], solved[s].folds, f), linear.PENALTIES[p]) for s, f, p in chosen]
    own = []
    for (s, f, p), (z, y, penalty) in zip(chosen, problems, strict=True):
        fits, present = solved[s].folds, np.unique(y)
        own.append(objective(z, y, fits.weight[f, p, 0].numpy()[present], fits.bias[f, p, 0].numpy()[present], penalty))

    solver, told = fastest_solver(draws[0], solved[0])
    answers = {
        f"scikit-learn {solver}": joblib.Parallel(cores)(joblib.delayed(by_scikit_learn)(*problem, solver) for problem in problems),
        "torch L-BFGS": [by_torch(*problem) for problem in problems],
    }
    for name, fits in answers.items():
        each = [t for t, _, _ in fits]
        estimate = float(np.mean(each)) * members / (cores if name.startswith("scikit") else 1)
        worse = max(a - objective(*problem[:2], w, b, problem[2]) for a, problem, (_, w, b) in zip(own, problems, fits, strict=True))
        better = max(objective(*problem[:2], w, b, problem[2]) - a for a, problem, (_, w, b) in zip(own, problems, fits, strict=True))
        print(
            f"{name:15} {estimate:9.1f} s EXTRAPOLATED from {sample} members of {min(each):.2g} to {max(each):.2g} s; ratio {estimate / seconds:.0f}"
        )
        print(f"                objective, medbench minus this: at most {worse:+.1e}, at least {-better:+.1e}")
    print(f"                ({told}, three members)")
    score = lambda p: float(metrics.score(truth, p, p.argmax(1), "multiclass").values["auc"])
    heads = [by_sgd(draw, images, classes) for draw in draws]
    scores = [probabilities(s, d, images, classes) for s, d in zip(solved, draws, strict=True)]
    print(
        f"SGD head        {sum(t for t, _ in heads):9.2f} s for {len(draws)} head(s), no penalty chosen; AUC {np.mean([score(p) for _, p in heads]):.4f}"
    )
    print(f"medbench        {seconds + final:9.2f} s with the final fits; AUC {np.mean([score(p) for p in scores]):.4f}")

    z = ((draws[0].x - solved[0].final.mean[0].numpy()) * solved[0].final.scale[0].numpy()).astype(float)
    limit = float(solved[0].final.limit[0])
    _, weight, bias = by_scikit_learn(z, draws[0].y, solved[0].penalty, "lbfgs", 1e-8)
    clipped = np.clip((images - solved[0].final.mean[0].numpy()) * solved[0].final.scale[0].numpy(), -limit, limit)
    apart = np.abs(torch.from_numpy(clipped @ weight.T + bias).softmax(1).numpy() - scores[0][:, np.unique(draws[0].y)]).max()
    losses = exact_losses(draws[0], solved[0], cores)
    best = max(i for i, loss in losses.items() if loss <= min(losses.values()) + linear.TIE)
    off = max(abs(loss - float(solved[0].losses[i])) for i, loss in losses.items())
    print(
        f"scikit-learn tol=1e-8, first draw, the chosen penalty and its two neighbours: it chooses {linear.PENALTIES[best]:.3g}, medbench"
    )
    print(f"                {solved[0].penalty:.3g}; largest difference of a held-out loss {off:.1e} nats")
    print(f"                largest difference of a test probability from scikit-learn's at tol=1e-8, first draw: {apart:.1e}")


def probabilities(solved: Solved, draw: Draw, images: np.ndarray, classes: int) -> np.ndarray:
    p = np.zeros((len(images), classes))
    p[:, np.unique(draw.y)] = solved.final.logits(torch.from_numpy(images))[0, 0].T.softmax(1).numpy()
    return p


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the linear probe against solving one member at a time.")
    parser.add_argument("--quick", action="store_true", help="one draw a budget")
    parser.add_argument("--sample", type=int, default=5, help="members that a baseline really solves")
    parser.add_argument("--cores", type=int, default=joblib.cpu_count(), help="of both sides; take fewer where others use the machine")
    asked = parser.parse_args()
    torch.set_num_threads(asked.cores)
    name, draws, images, truth = load(1 if asked.quick else 5)
    print(f"{name}: {images.shape[1]} features, {int(truth.max()) + 1} classes, {len(images)} test images")
    rate = matmul_rate()
    print(f"{asked.cores} core(s), torch {torch.__version__}, scikit-learn {sklearn.__version__}")
    for budget, some in draws.items():
        report(budget, some, images, truth, asked.sample, asked.cores, rate)


if __name__ == "__main__":
    main()
