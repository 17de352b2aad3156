"""`list`, `doctor`, `cache`, `--version`: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from medbench.cli.grid_options import DEFAULT, Data, option_of
from medbench.cli.json_output import Json, put_records
from medbench.cli.options import app, outputs, split
from medbench.schema import UserError


def _version(asked: bool) -> None:
    if asked:
        from medbench.system.environment import version_line

        print(version_line())
        raise typer.Exit


@app.callback()
def medbench(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the versions of medbench, torch and Python.",
            callback=_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Take the options that belong to no command."""


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="tasks, methods, protocols, encoders or checkpoints")],
    as_json: Json = None,
) -> None:
    """List tasks, methods, protocols, encoders or checkpoints."""
    from medbench.models import encoders, timm_answers
    from medbench.models.hub.references import DOORS
    from medbench.schema import registry

    outputs(as_json)
    if what == "encoders":
        put_records([{"name": name} for name in timm_answers.architectures()], as_json)
        print(f"{encoders.EMBEDDED}  (default: its supervised weights are installed)")
        print("\n".join(name for name in timm_answers.architectures() if name != encoders.EMBEDDED))
        print(
            "\n".join(
                f"{door.usage}  (a repository of the Hugging Face hub, through {door.package})"
                for door in DOORS.values()
            )
        )
        print(
            "FILE.py:NAME  (a function of yours that returns a module)\nfeatures:FILE  (ids and vectors in a .npz or .parquet file)"
        )
        return
    if what == "checkpoints":
        from medbench import images
        from medbench.models import checkpoints

        folder = images.cache_folder(to_write=False)
        put_records(checkpoints.records(folder) if as_json else [], as_json)
        print("\n".join(checkpoints.lines(folder)))
        return
    if what == "tasks":
        lines = [(task.name, task.title) for task in registry.tasks().values()]
        lines += [(family.usage, family.title) for family in registry.families().values()]
    elif what == "methods":
        lines = [(method.name, method.title) for method in registry.methods().values()]
    elif what == "protocols":
        lines = [(protocol.name, protocol.title) for protocol in registry.protocols().values()]
    else:
        allowed = ["tasks", "methods", "protocols", "encoders", "checkpoints"]
        raise UserError(
            f"Cannot list '{what}'.", allowed=allowed, given=what, then="medbench list tasks"
        )
    put_records([{"name": name, "title": title} for name, title in lines], as_json)
    width = max(len(name) for name, _ in lines)
    for name, title in lines:
        print(f"{name:<{width}}  {title}")


@app.command()
def doctor(
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Encoder: a timm name, one of the hub, or FILE.py:NAME. Without it: show device, versions, disk and data."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        option_of("weights", "A checkpoint file of yours, or the name of an official one."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Examine with images of this task, for weights trained on such images. Default: natural images."
        ),
    ] = None,
    data: Data = None,
    size: Annotated[
        int | None, option_of("size", "Image size in pixels. Default: as in run.")
    ] = None,
    readout: Annotated[str, option_of("readouts")] = DEFAULT.readouts[0],
    mean: Annotated[str | None, option_of("mean")] = None,
    std: Annotated[str | None, option_of("std")] = None,
    interpolation: Annotated[str | None, option_of("interpolation")] = None,
    crop: Annotated[str | None, option_of("crop")] = None,
    as_json: Json = None,
) -> None:
    """Check whether an encoder gets its images as it was trained. Exit code 1 for a finding."""
    from medbench.audit import encoder as doctors
    from medbench.images.cropping import crop_of
    from medbench.models.stated import stated

    if encoder is None and (
        weights is not None
        or task is not None
        or data is not None
        or size is not None
        or readout != DEFAULT.readouts[0]
    ):
        raise UserError(
            "Without --encoder the machine is examined, and no other option applies.",
            then="medbench doctor --encoder NAME ...",
        )
    outputs(as_json)
    if encoder is None:
        put_records(
            [{"line": line} for line in doctors.device_report()] if as_json else [], as_json
        )
        print("\n".join(doctors.device_report()))
        return
    if data is not None and task is None:
        raise UserError(
            "--data is only for --task.",
            then=f"medbench doctor --encoder {encoder} --task NAME --data {data}",
        )
    said = stated(split(mean or ""), split(std or ""), interpolation, (), crop)
    net, examined, shown, declared = doctors.subject(
        encoder, file=weights, size=size, readout=readout, task=task, root=data, said=said
    )
    report = doctors.diagnose(net, examined, shown, declared)
    put_records(report.records() if as_json else [], as_json)
    seen = ", ".join(filter(None, (f"{examined.size} px", crop_of(examined.crop).name)))
    print("\n".join([f"{examined.name}, {seen}:", *report.lines()]))
    if report.findings:
        raise typer.Exit(1)


@app.command()
def cache(
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Delete packed images, trained weights and features. A run makes them again when needed.",
        ),
    ] = False,
    as_json: Json = None,
) -> None:
    """Show what the cache holds, or prune it."""
    from medbench import images
    from medbench.models import timm_answers
    from medbench.run.kept_weights import FOLDER
    from medbench.system import cache_users

    outputs(as_json)
    folder, found = images.cache_folder(to_write=prune), []
    names = ("packs", "pretrained", "features", "cells", FOLDER, timm_answers.FOLDER)
    if prune:
        with cache_users.alone(folder):
            for name in names:
                images.prune(folder, name)
    for name in names:
        entries = images.cache_entries(folder, name)
        print(
            f"{folder / name}: {len(entries)} {'entry' if len(entries) == 1 else 'entries'}, {sum(entries.values()) / 1e6:.1f} MB"
        )
        found.append(
            {"folder": folder / name, "entries": len(entries), "bytes": sum(entries.values())}
        )
    put_records(found, as_json)
