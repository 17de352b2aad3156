"""The head of a row, fitted again, in the form that an exported model keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.models.exported import ComponentHead, FusedHead, Head, LayerHead, LinearHead
from medbench.models.exported.components import Components
from medbench.models.exported.trained_heads import FREE
from medbench.models.exported.training_vectors import NeighbourHead, SupportHead
from medbench.protocols import knn, linear, svm_logreg
from medbench.schema import Scores, Train

if TYPE_CHECKING:
    import torch

    from medbench.models.fusion import Tokens


def _linear(train: Train, draw: np.ndarray, chosen: Mapping[str, Any]) -> Head:
    ((model, _),) = linear.fitted(train, [draw])
    return LinearHead(model)


def _logreg(train: Train, draw: np.ndarray, chosen: Mapping[str, Any]) -> Head:
    """Without a fit nothing is looked at, and all classes seen are equally probable."""
    (found,) = svm_logreg.logreg_fitted(train, [draw])
    seen, n_classes = found.seen, found.n_classes
    if found.model is None:
        nothing = Components.nothing(train.features.shape[1])
        return ComponentHead(
            nothing, np.zeros((len(seen), 0)), np.zeros(len(seen)), seen, n_classes
        )
    coef, intercept = found.model.coef_, found.model.intercept_
    if len(coef) == 1:  # of two classes the margin alone
        coef, intercept = (
            np.concatenate([np.zeros_like(coef), coef]),
            np.concatenate([np.zeros_like(intercept), intercept]),
        )
    return ComponentHead(_components(found.transform), coef, intercept, seen, n_classes)


def _components(how: Any) -> Components:
    """From what the protocol transforms with."""
    return Components(
        how.varies, how.reach, how.limit, how.power, how.pca.mean_, how.pca.components_[how.kept]
    )


def _svm(train: Train, draw: np.ndarray, chosen: Mapping[str, Any]) -> Head:
    """Keep the support vectors, in components."""
    (found,) = svm_logreg.svm_fitted(train, [draw])
    seen, n_classes, model = found.seen, found.n_classes, found.model
    empty = np.zeros(0)
    if model is None:
        nothing = Components.nothing(train.features.shape[1])
        return SupportHead(
            nothing,
            np.zeros((0, 0)),
            np.zeros((0, 0)),
            empty,
            np.zeros(0, int),
            1.0,
            found.sharpness,
            seen,
            n_classes,
        )
    transform = _components(found.transform)
    inside = transform(train.features[draw])
    gamma = float(1 / (inside.shape[1] * inside.var()))
    vectors, dual, bias, counts = (
        inside[model.support_],
        model.dual_coef_,
        model.intercept_,
        model.n_support_,
    )
    return SupportHead(
        transform, vectors, dual, bias, counts, gamma, found.sharpness, seen, n_classes
    )


def _knn(train: Train, draw: np.ndarray, chosen: Mapping[str, Any]) -> Head:
    """Keep the features of the labelled images; k is the row's."""
    return NeighbourHead(
        np.asarray(train.features[draw]),
        train.labels[draw],
        int(chosen["k"]),
        knn.TEMPERATURE,
        train.n_classes,
    )


#: Protocol -> its head, from what it may learn from, the draw, and what the row says was chosen.
HEADS: dict[str, Callable[[Train, np.ndarray, Mapping[str, Any]], Head]] = {
    "linear": _linear,
    "logreg": _logreg,
    "svm": _svm,
    "knn": _knn,
}


def fused_head(
    train: Train, draw: np.ndarray, tokens: Tokens, target: np.ndarray
) -> tuple[FusedHead, Scores]:
    """Train a fusion's own head over frozen members, for the first draw that `train` is for.

    Its scores of the features `target` are made on the device, as the run made them.

    draw: (n,) int64. target: (M, D), the members' features side by side.
    """
    from medbench.models.fusion.draw_state import score_target
    from medbench.models.fusion.loop import fitted, pool_of

    cuts = np.cumsum(train.widths)[:-1]
    pool = pool_of(np.split(train.features, cuts, axis=1), train.device)
    requested = train.requested[0] if train.requested else None
    of = (train.labels, train.groups, train.kind, train.n_classes)
    model, state = fitted(pool, *of, draw, train.seeds[0], requested, tokens)
    scores = score_target(model, state, np.split(target, cuts, axis=1), None)
    centre = np.concatenate([one.cpu().numpy() for one in state.centre])
    usable = state.usable.cpu().numpy()
    head = FusedHead(
        model.cpu(),
        centre,
        np.array(state.scale),
        state.limit,
        usable,
        state.base,
        train.kind == "multilabel",
    )
    return head, scores


def tuned_head(head: torch.nn.Module, train: Train) -> Head:
    """Return the head that was trained with its encoders, in the form that a folder keeps.

    head: a linear layer, or a fusion's. train: that it was trained on.
    """
    from medbench.models.fusion.joint_encoder import FlatHead

    several = train.kind == "multilabel"
    if isinstance(head, FlatHead):
        net: Any = head.head
        usable, base = np.ones(train.n_classes, bool), np.zeros(train.n_classes)
        centre, scale = np.zeros(sum(head.widths), np.float32), np.ones(len(head.widths))
        return FusedHead(net.cpu().eval(), centre, scale, FREE, usable, base, several)
    weight, bias = (head.get_parameter(name).detach().cpu().numpy() for name in ("weight", "bias"))
    return LayerHead(weight, bias, several)
