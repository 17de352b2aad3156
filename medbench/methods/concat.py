"""Several encoders' features side by side, judged as one encoder's.

The control that tells a fusion from having more features.
"""

from __future__ import annotations

from medbench.methods.dvme import MEMBERS, parse
from medbench.schema import Fusion, Member, Method


def _method(members: tuple[Member, ...] = MEMBERS, chosen: str = "") -> Method:
    def choose(text: str) -> Method:
        return _method(parse(text, "concat"), text)

    return Method(
        f"concat:{chosen}" if chosen else "concat",
        version=1,
        title="simclr, swav and dino (or concat:swav+dino) side by side, judged as one encoder: the control for dvme",
        sources=("imagenet+task", "task", "imagenet"),
        seeded=True,
        fusion=Fusion(members, choose),
        default=False,
    )


CONCAT = _method()
