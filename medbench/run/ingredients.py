"""What a cell's fingerprint holds beside the cell's own fields.

Its identity, and the named ingredients that touched it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from medbench.data.evaluation_sets import EvaluationSet
from medbench.images import augment
from medbench.models import features
from medbench.run import case_scores
from medbench.run.units import Unit
from medbench.schema import ALL, CASE, Protocol, fingerprint
from medbench.stats import bootstrap, metrics, splits

#: The numbers that every fingerprint begins with, named by `schema.ingredients.CODE`. Frozen: a
#: changed one would make every committed row older.
FROZEN = (1, 1, 1, 1, 128, 1, 1)


def ingredients(unit: Unit, protocol: Protocol) -> dict[str, Any]:
    """Return settings, versions and content that can change a result.

    Library versions and device stand in the provenance instead.
    """
    method = unit.method
    return {
        "code": list(FROZEN),
        "data": unit.data.identity,
        "method": [method.stated_version, dict(method.settings), unit.weights.identity],
        "encoder": unit.encoder.identity(),
        "protocol": [
            protocol.stated_version,
            dict(protocol.settings),
            unit.data.task.modality if protocol.needs == "images" else "",
        ],
        "precision": unit.precision,
    }


def touched(unit: Unit, protocol: Protocol, labels: str, target: EvaluationSet) -> dict[str, int]:
    """Return the named ingredients of a row and their versions: name -> version.

    labels: the cell's budget. target: the set that it is scored on.
    """
    found: dict[str, int] = {}
    if unit.encoder.kind != "features":
        found |= unit.data.pixels[target.part] | target.pixels
        if protocol.needs == "features":
            found["features"] = features.EMBEDDING
        if unit.draws_views or protocol.needs == "images":
            found["crops"] = augment.CROPS
    if labels != str(ALL):
        found["draws"] = splits.DRAWS
    if protocol.divides:
        found["folds"] = splits.FOLDS
    if unit.data.by == CASE and not protocol.cases:
        found["case scores"] = case_scores.VERSION
    kind = unit.data.task.kind
    if kind == "multilabel" and protocol.needs == "images":
        found["validation part"] = splits.VALIDATION
    return {
        **found,
        "resamples": bootstrap.RESAMPLES,
        **{f"metric {name}": metrics.METRICS[name].version for name in metrics.metric_names(kind)},
    }


def identity(
    made_of: Mapping[str, Any], touched: Mapping[str, int], task_version: int | str
) -> dict[str, Any]:
    """Return what a plan and a row keep of a cell's identity, as JSON gives it back.

    made_of: of `ingredients`; of its settings 16 hex digits are kept. touched: of `touched`. So
    that `schema.ingredients.differences` can name what moved.
    """
    method, protocol = made_of["method"], made_of["protocol"]
    found = {
        "code": made_of["code"],
        "task": made_of["data"][:16],
        "task_version": task_version,
        "method": [method[0], fingerprint(method[1])[:16]],
        "encoder": made_of["encoder"],
        "protocol": [protocol[0], fingerprint(protocol[1:])[:16]],
        "ingredients": dict(touched),
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain
