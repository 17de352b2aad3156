"""What the linear probe costs against scikit-learn's LogisticRegressionCV, and how near it is to
its floor.

    python benchmarks/speed/probe.py                                                          # HAM10000, 1280 features, 1, 10, 100 %
    python benchmarks/speed/probe.py --encoder resnet18.tv_in1k --method random --binary      # narrow: 512 features, nevus or not
    python benchmarks/speed/probe.py --labels 1,10 --draws 20,10 --without                    # many draws, medbench alone
    python benchmarks/speed/probe.py --device cuda                                            # medbench on a GPU: the clock's seconds of both

Features on HAM10000 where MEDBENCH_DATA is set, else on the phantom of `derm` (the first line says
which). Both sides get the same draws, folds, 25 penalties, and one thread each. They take turns,
`--rounds` times; medians are told, and the ratio of the medians. Ratios of one run are what to
compare between machines.

- medbench: `protocols.linear.evaluate` of all draws, with the shared eigenbasis, the search, the
  final fits in float64 and the test images.
- scikit-learn: LogisticRegressionCV(tol=1e-4), lbfgs, which starts each penalty of a fold from the
  last one, on features standardised once by
  the draw; its final fit and the test images.

Where a draw is too small, the protocol takes a fixed penalty and solves no folds: here it divides
every draw, to have three sizes.

Then, of the first draw: the penalties that both choose; the objective of medbench's members at its
penalty and the two beside it, against scikit-learn's LogisticRegression(tol=1e-4) on the same
standardised images.

The floor is told twice: all products of the solver by themselves, each shape measured alone, and
their operations over the measured rate of a large product. Why not nearer: with 7 rows of weights
an evaluation reads all images twice (5 folds x 29 MB on all of HAM10000), which memory bounds, not
the core. And a draw has to be set up: of one with 700 images half of the time is six
eigendecompositions and Gram matrices in float64 (.33 of .70 s), which give exact coordinates; of
all 7,006 images a third (the pool's eigenbasis .7 s, images standardised .6 s, the final fit in
float64, for which oneDNN has no product, .4 s of 6.4 s). Small draws (70 images) are nothing but
set-up and the calls themselves. `probe.txt` beside this has what was found, and what was tried.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import options
import sklearn
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from threadpoolctl import threadpool_limits

from medbench.models import logistic
from medbench.models.logistic import products
from medbench.protocols import linear
from medbench.run import planning, prepare
from medbench.schema import Grid, Scores, Train
from medbench.stats import metrics, splits

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Budget:
    """Draws of one size from one pool, and the test images."""

    train: Train
    draws: list[np.ndarray]
    images: np.ndarray
    truth: np.ndarray

    def folds(self, draw: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        return splits.cross_validation(
            self.train.labels[draw], self.train.groups[draw], FOLDS, True
        )


def load(
    labels: str, counts: list[int], asked: argparse.Namespace
) -> tuple[str, dict[str, Budget]]:
    """What the features are, and the budgets."""
    grid = Grid(
        tasks=("derm",),
        methods=(asked.method,),
        encoders=(asked.encoder,),
        labels=tuple(labels.split(",")),
        size=asked.size,
        seeds=max(counts),
        precision=asked.precision,
        audit=False,
    )
    plan = planning.plan(grid)
    unit = plan.units[0]
    array = prepare.unit_features(plan, unit, asked.device)[0].array
    pool, truth = unit.data.pool, unit.data.parts["test"].labels
    given = pool.labels
    if asked.binary:
        given, truth = (
            np.asarray(some == np.bincount(pool.labels).argmax(), int) for some in (given, truth)
        )
    x, images = (np.asarray(array[unit.data.where(part)]) for part in ("train", "test"))
    train = Train(
        x,
        given,
        pool.groups,
        "binary" if asked.binary else "multiclass",
        int(given.max()) + 1,
        asked.device,
    )
    drawn: dict[str, list[np.ndarray]] = {}
    for (_, _, budget, _), index in plan.draws.items():
        drawn.setdefault(budget, []).append(index)
    budgets = {
        name: Budget(train, some[:most], images, truth)
        for (name, some), most in zip(drawn.items(), counts, strict=True)
    }
    return f"{unit.name}, {unit.data.data}", budgets


def by_medbench(budget: Budget) -> list[Scores]:
    train = Train(
        *(
            getattr(budget.train, name)
            for name in ("features", "labels", "groups", "kind", "n_classes", "device")
        ),
        divided=[True] * len(budget.draws),
    )
    return [
        scores["test"] for scores in linear.evaluate(train, {"test": budget.images}, budget.draws)
    ]


def by_scikit_learn(budget: Budget) -> list[tuple[LogisticRegressionCV, np.ndarray]]:
    """Of each draw the model and its test probabilities."""
    found = []
    for draw in budget.draws:
        x, y = budget.train.features[draw], budget.train.labels[draw]
        mean, deviation = x.mean(0), x.std(0)
        scale = np.where(deviation > 0, 1 / np.where(deviation > 0, deviation, 1), 0)
        costs = [
            1 / (len(draw) * (FOLDS - 1) / FOLDS * penalty)
            for penalty in reversed(linear.PENALTIES)
        ]
        model = LogisticRegressionCV(
            Cs=costs,
            cv=budget.folds(draw),
            tol=1e-4,
            max_iter=10_000,
            scoring="neg_log_loss",
            **_legacy(),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", FutureWarning)
            model.fit((x - mean) * scale, y)
        found.append((model, model.predict_proba((budget.images - mean) * scale)))
    return found


def _legacy() -> dict[str, Any]:
    """What keeps a fitted model as it was in older versions of scikit-learn, which do not know the
    word."""
    return (
        {"use_legacy_attributes": False}
        if "use_legacy_attributes" in LogisticRegressionCV().get_params()
        else {}
    )


def seconds(work: Callable[[Budget], Any], budget: Budget) -> tuple[float, Any]:
    """Of the processor, which a neighbour's work moves less than the clock's.

    Both sides have one thread. Where one works on a GPU, of the clock.
    """
    clock = (
        time.process_time if budget is None or budget.train.device == "cpu" else time.perf_counter
    )
    start = clock()
    found = work(budget)
    return clock() - start, found


def auc(budget: Budget, probabilities: np.ndarray) -> float:
    return float(
        metrics.score(
            budget.truth, probabilities, probabilities.argmax(1), budget.train.kind
        ).values["auc"]
    )


def rate() -> float:
    """Float32 operations a second of a large product."""
    a = torch.rand(2048, 2048)
    return 2 * 2048**3 / min(seconds(lambda _: products.product(a, a), None)[0] for _ in range(4))  # type: ignore[arg-type]


def floor(budget: Budget) -> tuple[float, float]:
    """Operations of all products of the solver, and the seconds that these products take alone.

    Of evaluations: weights with images, residuals with images, and the rotation of both. Each shape
    is measured by itself, on matrices of that shape, so that what lies in the cache then lies there
    now.
    """
    calls: Counter[tuple[str, torch.dtype, tuple[int, ...], tuple[int, ...], bool]] = Counter()
    real = {"times": products.times, "product": products.product}

    def counted(name: str) -> Callable[..., torch.Tensor]:
        def multiply(rows: torch.Tensor, matrix: torch.Tensor, *which: Any) -> torch.Tensor:
            mine = (len(rows), *matrix.shape[1:]) if name == "times" else tuple(matrix.shape)
            key = (name, matrix.dtype, tuple(rows.shape), mine, matrix.is_contiguous())
            calls[key] += 1
            return real[name](rows, matrix, *which)

        return multiply

    for name in real:
        setattr(products, name, counted(name))
    try:
        by_medbench(budget)
    finally:
        for name, function in real.items():
            setattr(products, name, function)
    operations, took = 0.0, 0.0
    for (name, dtype, rows, shape, straight), count in calls.items():
        a = torch.rand(rows, dtype=dtype)
        b = torch.rand(shape, dtype=dtype) if straight else torch.rand(shape, dtype=dtype).mT
        b = b if straight else b.contiguous().mT
        times = [seconds(lambda _, n=name, a=a, b=b: real[n](a, b), None)[0] for _ in range(3)]  # type: ignore[misc, arg-type]
        operations += count * 2.0 * a.numel() * shape[-1]
        took += count * min(times)
    return operations, took


def objectives(budget: Budget) -> list[float]:
    """Medbench's objective minus scikit-learn's.

    First draw, first fold, the chosen penalty and the two beside it.
    """
    draw, train = budget.draws[0], budget.train
    features = torch.from_numpy(train.features)
    basis = linear._shared_basis(features, len(draw))
    target, _ = logistic.encode(train.labels, train.kind)
    path = torch.tensor(linear.PENALTIES, dtype=torch.float64)
    folds = [
        (torch.from_numpy(draw[inside]), torch.from_numpy(draw[out]))
        for inside, out in budget.folds(draw)
    ]
    block = logistic.Block(features, target, [folds], path, linear.CONSTANT, basis)
    (best,) = block.search(linear.TOLERANCE, linear.MAX_ITERATIONS, linear.TIE)
    rows, space = folds[0][0], block.spaces[0]
    z, y = (
        ((features[rows].double() - space.mean) * space.scale).numpy(),
        train.labels[rows.numpy()],
    )
    differences = []
    for i in sorted({max(best - 1, 0), best, min(best + 1, len(path) - 1)}):
        w, penalty = block.solutions[0][i][0], linear.PENALTIES[i]
        weight = space.weight(w[..., : len(space.spread)]).flatten(0, 1).numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            other = LogisticRegression(C=1 / (len(y) * penalty), tol=1e-4, max_iter=10_000).fit(
                z.astype(np.float32), y
            )
        seen = np.unique(y) if len(weight) > 1 else [0]
        pairs = (
            (weight[seen], w[..., -1].flatten().double().numpy()[seen]),
            (other.coef_.astype(float), other.intercept_.astype(float)),
        )
        own, its = (_objective(z, y, *pair, penalty) for pair in pairs)
        differences.append(own - its)
    return differences


def _objective(
    z: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray, penalty: float
) -> float:
    logits = torch.from_numpy(z @ weight.T + bias)
    if logits.shape[1] == 1:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits[:, 0], torch.from_numpy(y).double()
        )
    else:
        loss = torch.nn.functional.cross_entropy(
            logits, torch.from_numpy(np.unique(y, return_inverse=True)[1])
        )
    return float(loss) + penalty / 2 * float((weight**2).sum())


def report(name: str, budget: Budget, rounds: int, without: bool) -> None:
    """Everything about one budget."""
    # the first call pays for starting
    by_medbench(Budget(budget.train, budget.draws[:1], budget.images[:1], budget.truth[:1]))
    own, others = [], []
    for _ in range(rounds):
        took, scores = seconds(by_medbench, budget)
        own.append(took)
        if not without:
            took, models = seconds(by_scikit_learn, budget)
            others.append(took)
    ours = statistics.median(own)
    count, alone = floor(replace(budget, train=replace(budget.train, device="cpu")))
    large = rate()
    print(
        f"\n== {name}: {len(budget.draws)} draw(s) of about {len(budget.draws[0])} images, {rounds} round(s)"
    )
    print(
        f"medbench      {ours:8.2f} s ({min(own):.2f} to {max(own):.2f}); AUC {np.mean([auc(budget, s.probabilities) for s in scores]):.4f}"
    )
    print(
        f"              {count / 1e9:.1f} G operations in products: {alone:.2f} s by themselves ({count / alone / 1e9:.0f} G/s),"
        f" {count / large:.2f} s at the rate of a large one ({large / 1e9:.0f} G/s)"
    )
    print(
        f"              taken: {ours / alone:.1f} x the first floor, {ours / (count / large):.1f} x the second"
    )
    if without:
        return
    theirs = statistics.median(others)
    print(
        f"scikit-learn  {theirs:8.2f} s ({min(others):.2f} to {max(others):.2f}); AUC {np.mean([auc(budget, p) for _, p in models]):.4f}"
    )
    print(f"              ratio {theirs / ours:.1f}")
    kept = [
        1 / (len(draw) * (FOLDS - 1) / FOLDS * float(np.ravel(model.C_)[0]))
        for draw, (model, _) in zip(budget.draws, models, strict=True)
    ]
    chosen = [float(one.chosen["penalty"]) for one in scores]
    print(
        f"              penalties {', '.join(f'{p:.3g}' for p in chosen)}; scikit-learn's {', '.join(f'{p:.3g}' for p in kept)}"
    )
    print(
        f"              objective, medbench minus scikit-learn: {', '.join(f'{d:+.1e}' for d in objectives(budget))}"
    )


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = options.parser(
        "Time the linear probe against LogisticRegressionCV, one thread each.", 64
    )
    parser.add_argument("--method", default="supervised")
    parser.add_argument("--labels", default="1,10,100")
    parser.add_argument("--draws", default="5,5,1", help="of each budget")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--binary", action="store_true", help="the most frequent class against all others"
    )
    parser.add_argument("--without", action="store_true", help="medbench alone")
    parser.add_argument(
        "--save", help="write the features to this .npz for before_after.py, and end"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    name, budgets = load(asked.labels, [int(n) for n in asked.draws.split(",")], asked)
    one = next(iter(budgets.values()))
    if asked.save:
        train = one.train
        np.savez(
            asked.save,
            features=train.features,
            labels=train.labels,
            groups=np.asarray(train.groups, str),
            images=one.images,
        )
        return
    print(
        f"{name}: {one.images.shape[1]} features, {one.train.n_classes} classes, {len(one.images)} test images"
    )
    print(
        f"{processor()}, {os.cpu_count()} cores, of which {os.getloadavg()[0]:.1f} were wanted by others when this began"
    )
    print(f"torch {torch.__version__}, scikit-learn {sklearn.__version__}, one thread each")
    with threadpool_limits(1):
        for budget, some in budgets.items():
            report(budget, some, asked.rounds, asked.without)


if __name__ == "__main__":
    main()
