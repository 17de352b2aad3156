"""The verdict of `audit.encoder` on what a user brought, for each unit of a plan."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from medbench.run.units import Unit
from medbench.schema import Mark, UserError, told
from medbench.system.contained_exit import ExitCalled, exits_are_errors
from medbench.system.progress_listener import report_progress

if TYPE_CHECKING:
    import torch


def examined(unit: Unit, cache_dir: Path) -> tuple[Mark, ...]:
    """Return what every table of a unit must say of its encoder, or of those that it fuses.

    Official weights come with their publisher's preprocessing, and are not examined.
    """
    if unit.members:
        return tuple(
            dict.fromkeys(mark for member in unit.members for mark in examined(member, cache_dir))
        )
    start = unit.start or unit.weights  # what a pretraining starts from gets its images as those do
    if unit.encoder.kind not in ("function", "weights", "hub") or (
        unit.encoder.kind == "weights" and start.file is None
    ):
        return ()
    from medbench.audit.encoder_verdict import encoder_marks

    try:
        with exits_are_errors():
            found = encoder_marks(
                unit.encoder, start, lambda: _network(unit), unit.data.pool.images, cache_dir
            )
            return found or _passed(unit)
    except ExitCalled as error:
        return (Mark("encoder", f"{unit.encoder.name} could not be examined: {error}"),)
    except UserError:
        raise
    except Exception as error:  # somebody else's code; the run itself tells whether it can be used
        return (Mark("encoder", f"{unit.encoder.name} could not be examined: {told(error)}"),)


def _passed(unit: Unit) -> tuple[Mark, ...]:
    """Return what stands in the row of an encoder with its publisher's preprocessing.

    Nobody here chose it: that it was looked at, and what its publisher does otherwise.
    """
    if unit.encoder.kind != "hub":
        return ()
    said = f"; {unit.encoder.said}" if unit.encoder.said else ""
    return (
        Mark(
            "examined",
            f"{unit.encoder.name}: the doctor finds nothing wrong with range, mean and std, readout and weights{said}",
        ),
    )


def _network(unit: Unit) -> torch.nn.Module:
    """Of the starting weights, on the device at hand."""
    from medbench.models import user_encoder, weights
    from medbench.system import devices

    report_progress(f"examining {unit.encoder.name}", 0, 1, "encoders")
    if unit.encoder.kind == "hub":
        from medbench.models.hub import vision_tower

        net = vision_tower.tried(unit.encoder, unit.weights)
    elif unit.encoder.kind == "function":
        net = copy.deepcopy(user_encoder.module(unit.encoder))
    else:
        net = weights.build_encoder(unit.encoder, unit.start or unit.weights, unit.pretrain_seed)
    return net.to(devices.resolve("auto"))
