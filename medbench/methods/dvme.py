"""DVME (Truong et al. 2021).

The frozen features of several encoders, fused by self-attention; and its ablation without
attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from medbench.models.fusion import TRUONG2021, Tokens, fit_predict, head
from medbench.schema import Fusion, Member, Method, Scores, Train, UserError
from medbench.schema.ingredients import stated

if TYPE_CHECKING:
    import numpy as np
    import torch

MEMBERS = (Member("simclr"), Member("swav"), Member("dino"))  # of the paper


def evaluate(
    train: Train, targets: Mapping[str, np.ndarray], draws: Sequence[np.ndarray], *, tokens: Tokens
) -> Iterator[dict[str, Scores]]:
    """Yield the scores of every target, draw after draw, by a head over frozen members.

    The attention map goes into `extra`. targets: name -> the members' features (M, D_i). draws:
    index arrays (n,) into the pool.
    """
    import numpy as np

    cuts = np.cumsum(train.widths)[:-1]

    def sources(features: np.ndarray) -> list[np.ndarray]:
        return np.split(features, cuts, axis=1)

    fitted = fit_predict(
        sources(train.features),
        train.labels,
        train.groups,
        train.kind,
        train.n_classes,
        {name: sources(features) for name, features in targets.items()},
        draws,
        train.seeds,
        requested=train.requested,
        tokens=tokens,
        device=train.device,
    )
    for scores, attention in fitted:
        shown = {} if attention is None else {"attention": np.round(attention, 9).tolist()}
        yield {name: replace(s, extra={**s.extra, **shown}) for name, s in scores.items()}


def trained_head(widths: Sequence[int], outputs: int, *, tokens: Tokens) -> torch.nn.Module:
    """Build the head that is trained together with the members."""
    from medbench.models.fusion.joint_encoder import FlatHead

    return FlatHead(head(widths, outputs, tokens=tokens), widths)


def parse(text: str, name: str = "dvme") -> tuple[Member, ...]:
    """Parse what stands after the colon of `name` into two or more different members.

    As `swav+dino`, `simclr@resnet50+dino@vit_small_patch8_224/last4`. Raises UserError for a part
    that is no member, and for fewer than two. Whether such methods exist is not looked at.
    """
    members = []
    for part in text.split("+"):
        method, at, rest = part.strip().partition("@")
        encoder, slash, readout = rest.partition("/")
        if not method or (at and not encoder) or (slash and not readout):
            raise UserError(
                f"'{part.strip()}' in '{text}' is not a member.",
                allowed=["swav+dino", "METHOD[@ENCODER[/READOUT]]+..."],
                then=f"{name}:swav+dino",
            )
        members.append(Member(method, encoder or None, readout or None))
    if len(members) < 2 or len(set(members)) < len(members):
        raise UserError(
            f"'{text}' does not name two different members.",
            allowed=["swav+dino"],
            then=f"medbench run --methods {name}:swav+dino",
        )
    return tuple(members)


def _method(
    name: str,
    title: str,
    tokens: Tokens,
    *,
    default: bool = False,
    members: tuple[Member, ...] = MEMBERS,
    chosen: str = "",
) -> Method:
    def choose(text: str) -> Method:
        return _method(name, title, tokens, members=parse(text, name), chosen=text)

    return Method(
        f"{name}:{chosen}" if chosen else name,
        version=3,
        title=title,
        sources=("imagenet+task", "task", "imagenet"),
        seeded=True,
        fusion=Fusion(
            members, choose, partial(evaluate, tokens=tokens), partial(trained_head, tokens=tokens)
        ),
        default=default,
        settings={"tokens": tokens, **stated(TRUONG2021)},
        citation="Truong, Mohammadi, Lenga, How transferable are self-supervised features in medical image classification tasks?, ML4H 2021, "
        "PMLR 158:54-74",
    )


DVME = _method(
    "dvme",
    "DVME: simclr, swav and dino (or dvme:swav+dino) fused by self-attention, one token a source",
    "source",
    default=True,
)
DVME_SCALAR = _method(
    "dvme-scalar", "DVME as its paper's listing has it: every value a token", "scalar"
)
DVME_CONCAT = _method("dvme-concat", "DVME's ablation: concatenation without attention", "none")
