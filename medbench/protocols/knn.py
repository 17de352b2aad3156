"""k nearest neighbours on frozen features, as DINO votes.

Cosine similarity s; a neighbour's vote weighs exp(s / 0.07) (Caron et al. 2021, `eval_knn.py`).
Probabilities are the shares of the votes, unsmoothed; decisions the largest share, ties to the
lower class index. k is chosen among `NEIGHBOURS` by grouped, stratified cross-validation inside the
labelled subset, by the pooled log-loss of the held-out images, ties to the smaller k. Only there,
one undecided neighbour, as near as the nearest, votes too, so that a class without votes costs no
infinity. Accuracy would reward voting for the majority of a skewed task; the Brier score, which
needs no such vote, ranks rare classes worse (one draw of 10 % of HAM10000: it chose 20, log-loss
50; the AUC of the validation part 0.75 and 0.81). A class of one group is never held out
(`splits.held_out_fold`). Where a budget is not cross-validated (`splits.divides`), k is
`FIXED_NEIGHBOURS`, and never more than there are images: it grows with them, to 20. Measured on ten
such budgets (3 to 25 images of Hannover's films, Kermany's set, HyperKvasir, its colitis and
HAM10000; parts of the training pool alone, 24 draws each): k = sqrt(n), the usual rule of thumb
(Duda, Hart and Stork 2001), has an AUC lower by .01 to .07 on each, a log-loss higher by .1 to 1.4,
and a kappa from .01 lower to .09 higher; with twice that k .00 to .03, .0 to .4, and .00 to .06; k
of the smallest class's images .01 to .13, .0 to 2.9, and from .06 lower to .16 higher. So every
vote counts: AUC and log-loss, by which k is chosen elsewhere, are best then. Of a skewed task few
images are decided for the rare class, by the linear probe still fewer (its kappa is from .30 lower
to .01 higher). Neighbours as near as the k-th all vote, so that the order of equal images decides
nothing. Multi-label: those of the k nearest images that know a label vote on it; if none does, the
label gets its smoothed base rate (positives + 1) / (known + 2).

A class without a labelled image gets probability 0. Ordinal classes are treated as nominal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medbench.protocols._features import MAX_FOLDS, blocks, check_finite, sent
from medbench.schema import KINDS, HeldOut, Protocol, Scores, Train

if TYPE_CHECKING:
    import numpy as np
    import torch

TEMPERATURE = 0.07
NEIGHBOURS = (1, 2, 5, 10, 20, 50, 100, 200)
FIXED_NEIGHBOURS = 20  # "usually working the best": eval_knn.py
TIE = 1e-9  # of log-losses, and in `models.neighbours` of similarities: this close they are one


def knn(
    train: Train, targets: Mapping[str, np.ndarray], draws: Sequence[np.ndarray]
) -> Iterator[dict[str, Scores]]:
    """Yield the scores of every target, draw after draw, from features (M, D).

    See `Protocol`. Raises UserError on features that are not finite.
    """
    import numpy as np

    from medbench.models import neighbours

    check_finite({"training": train.features, **targets})
    for draw, divided in zip(draws, train.divided or [None] * len(draws), strict=True):
        images = _normalised(train.features[draw], train.device)
        labels = train.labels[draw]
        values, known = _ballots(labels, train.n_classes, train.device)
        k, chosen, held_out = choose_k(images, labels, train.groups[draw], values, known, divided)
        scores = {}
        for name, features in targets.items():
            shares = np.empty((len(features), values.shape[1]))
            for rows in blocks(len(features), max(images.shape), train.device):
                near, who = neighbours.nearest(_normalised(features[rows], train.device), images, k)
                shares[rows] = next(votes(near, who, [k], values, known))[0].cpu().numpy()
            decisions = (shares >= 0.5).astype(np.int64) if labels.ndim == 2 else shares.argmax(1)
            scores[name] = Scores(shares.astype(np.float32), decisions, chosen, held_out=held_out)
        yield scores


def choose_k(
    images: torch.Tensor,
    labels: np.ndarray,
    groups: np.ndarray,
    values: torch.Tensor,
    known: torch.Tensor,
    divided: bool | None = None,
) -> tuple[int, dict[str, Any], HeldOut | None]:
    """Choose k inside the labelled subset.

    Returns k, how it was chosen, and the shares of votes of the held-out images at it. images (n,
    D) float64 of length 1; values and known as `votes` takes them; divided: see
    `splits.held_out_fold`.
    """
    import numpy as np
    import torch

    from medbench.models import neighbours
    from medbench.stats import splits

    held = splits.held_out_fold(labels, groups, MAX_FOLDS, divided)
    out = np.flatnonzero(held >= 0)
    if not len(out):
        return (
            min(FIXED_NEIGHBOURS, len(labels)),
            {"k": min(FIXED_NEIGHBOURS, len(labels)), "rule": splits.UNDIVIDED},
            None,
        )
    fold, asked = (sent(torch.as_tensor(where), images.device) for where in (held, out))
    fewest = len(labels) - int(np.bincount(held[out]).max())
    ks = [k for k in NEIGHBOURS if k <= fewest]
    exclusive = labels.ndim == 1
    outcomes = len(np.unique(labels)) if exclusive else 2
    summed = torch.zeros(len(ks), dtype=torch.float64, device=images.device)
    # on the device until one k is chosen: a GPU is not waited for in between
    shares = summed.new_empty((len(ks), len(out), values.shape[1]), dtype=torch.float32)
    for block in blocks(len(out), max(images.shape), str(images.device)):
        rows = asked[block]
        near, who = neighbours.nearest(images[rows], images, max(ks), fold[rows, None] == fold)
        yes, no = values[rows], (known - values)[rows]
        for i, (share, heard) in enumerate(votes(near, who, ks, values, known)):
            probability = (heard * share + 1 / outcomes) / (heard + 1)
            loss = -(yes * probability.log()).sum()
            summed[i] += loss if exclusive else loss - (no * (1 - probability).log()).sum()
            shares[i, block] = torch.where(heard > 0, share, torch.nan).float()
    losses = (summed / known[asked].sum()).cpu().numpy()
    best = int(np.flatnonzero(losses <= losses.min() + TIE)[0])  # the candidates ascend
    rule = f"{held.max() + 1}-fold grouped CV, log-loss"
    chosen = {
        "k": ks[best],
        "rule": rule,
        "cv_log_loss": float(losses[best]),
        "at_edge": ks[best] == NEIGHBOURS[-1],
    }
    return ks[best], chosen, HeldOut(out, shares[best].cpu().numpy())


def votes(
    near: torch.Tensor,
    who: torch.Tensor,
    ks: Sequence[int],
    values: torch.Tensor,
    known: torch.Tensor,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield for each k the shares (B, C) of the votes, and how many were cast.

    Counted in votes of the nearest: (B, C), (B, 1) for exclusive classes. near, who: of `nearest`;
    values (n, C) 0/1; known (n, C) or (n, 1) 0/1: who has a say on the label.
    """
    import torch

    base = (values.sum(0) + 1) / (known.sum(0) + 2)
    weight = (near / TEMPERATURE).exp()
    voting = torch.stack([weight * (near >= near[:, k - 1, None] - TIE) for k in ks], 1)
    for_it, cast = (
        torch.cat([part @ ballots[voters] for part, voters in _pieces(voting, who, ballots)])
        for ballots in (values, known)
    )
    for i in range(len(ks)):
        heard = cast[:, i]
        yield (
            torch.where(heard > 0, (for_it[:, i] / heard).clamp(max=1), base),
            heard / weight[:, :1],
        )


def _pieces(
    voting: torch.Tensor, who: torch.Tensor, ballots: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Both in pieces of some rows, whose gathered ballots fill a block at most."""
    for rows in blocks(len(who), who.shape[1] * ballots.shape[1], str(who.device)):
        yield voting[rows], who[rows]


def _normalised(features: np.ndarray, device: str) -> torch.Tensor:
    """(N, D) float64 of length 1; zeros stay zeros, as near to every image as to any other."""
    import torch

    return torch.nn.functional.normalize(
        torch.as_tensor(features, device=device).double(), dim=1, eps=1e-300
    )


def _ballots(labels: np.ndarray, n_classes: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """values (n, C) and known (n, C), (n, 1) for exclusive classes: float64 0/1."""
    import torch

    given = sent(torch.as_tensor(labels), torch.device(device))
    if labels.ndim == 1:
        return torch.nn.functional.one_hot(given.long(), n_classes).double(), torch.ones(
            len(labels), 1, dtype=torch.float64, device=device
        )
    return given.nan_to_num(0.0).double(), (~given.isnan()).double()


KNN = Protocol(
    name="knn",
    version=1,
    title="k nearest neighbours by cosine similarity, votes weighted as in DINO, k by grouped cross-validation on the labelled images",
    kinds=KINDS,
    evaluate=knn,
    seeded=False,
    settings={
        "temperature": TEMPERATURE,
        "neighbours": NEIGHBOURS,
        "fixed_neighbours": FIXED_NEIGHBOURS,
        "max_folds": MAX_FOLDS,
        "tie": TIE,
    },
    citation="Caron et al., Emerging properties in self-supervised vision transformers, ICCV 2021, arXiv:2104.14294",
)
