"""The audit of a subject from beginning to end, and what a run makes of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medbench import images
from medbench.audit.dataset import (
    blank_images,
    checks,
    closer_look,
    duplicates,
    group_copies,
    label_errors,
    pack_rows,
    saved_reports,
)
from medbench.audit.dataset.audited_data import Subject, of_data
from medbench.audit.dataset.report import BY_HASHES, DatasetReport, worst_first
from medbench.data import audit_record
from medbench.data.asked_task import as_asked
from medbench.data.task_data import TaskData
from medbench.models import encoders
from medbench.models import features as embed
from medbench.schema import Encoder, Grid, Mark, Note, ProgressCallback, UserError, registry
from medbench.system.progress_listener import calling

# px: the embedded encoder's own size, and what smaller images are compared at
SIZES = (112, 64, 32)
_SAMPLED = 24  # images whose size is looked at
# images: a larger folder is audited by a command of its own, not while a run is planned
AT_PLAN = 20_000


def audit(
    subject: Subject,
    cache_dir: Path,
    *,
    depth: str = "full",
    effort: duplicates.Effort | None = None,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
    forms: Sequence[images.PackForm] = (),
) -> DatasetReport:
    """Search the data for copies, torn groups, contradicting labels and images to look at.

    depth: "full", or "hashes" without features and points: no suspicious labels and no cropped or
    padded copies. effort: how long the search for copies goes on, else as the depth has it. forms:
    of packs that a run needs, made in the same reading. Memory: the features (N x 1280 float32,
    mapped), the points (10 KB an image) and blocks of 80 MB. The report is kept in the cache.
    Raises UserError for images that cannot be decoded.
    """
    with calling(progress):
        return _audit(
            subject,
            cache_dir,
            depth,
            effort or (duplicates.Effort() if depth == "full" else duplicates.QUICK),
            device,
            forms,
        )


def _audit(
    subject: Subject,
    cache_dir: Path,
    depth: str,
    effort: duplicates.Effort,
    device: str,
    forms: Sequence[images.PackForm],
) -> DatasetReport:
    began = time.perf_counter()
    same = duplicates.identical(subject.hashes)
    first = np.setdiff1d(np.arange(len(subject)), [pair.j for pair in same])
    typical = typical_side(subject)
    encoder = encoders.encoder(encoders.EMBEDDED, compared_size(typical))
    wanted = list(dict.fromkeys([images.PackForm(encoder.size, encoder.interpolation), *forms]))
    sizes = " and ".join(str(size) for size in dict.fromkeys(form.size for form in wanted))
    # of copies too: a run needs the same ones, and their features
    pack, *_ = images.packs(
        subject.images,
        subject.hashes,
        wanted,
        cache_dir,
        stage=f"packing {subject.name} at {sizes} px",
    )
    features = (
        _features(pack, encoder, subject.name, cache_dir, device)
        if depth == "full" and subject.labels is not None
        else None
    )
    if features is not None and len(first) < len(subject):
        features = features[first]
    read = closer_look.reader_for([subject.images[i] for i in first], typical)
    rows, groups = pack_rows.Rows(pack.array, first), _compared_groups(subject, first)
    found = duplicates.near(rows, groups, effort, read)
    inside = (
        group_copies.with_two_labels(rows, groups, subject.labels[first], found.threshold, effort)
        if subject.labels is not None
        else []
    )
    near, alike = (
        [replace(pair, i=int(first[pair.i]), j=int(first[pair.j])) for pair in pairs]
        for pairs in (found.pairs, inside)
    )
    every = [*same, *near]
    suspects: list[label_errors.Suspect] = []
    n_suspects = 0
    if features is not None and subject.labels is not None:
        suspects, n_suspects = label_errors.suspects(subject, first, features)
    columns = label_errors.columns(subject) if depth == "full" else []
    findings = [
        *checks.torn_groups(subject),
        *checks.spellings(subject),
        *checks.read_so(subject),
        *checks.copies(subject, every),
        *checks.conflicts(subject, [pair for pair in every if pair.kind != "possible"]),
        *checks.look_alikes(subject, alike),
        *checks.suspicious(subject, suspects, n_suspects),
        *checks.given_away(columns),
        *checks.blank(subject, blank_images.blank(pack.array)),
        *checks.classes(subject),
    ]
    report = DatasetReport(
        name=subject.name,
        sha256=subject.sha256,
        depth=depth,
        parts=checks.counts(subject),
        findings=worst_first(findings),
        pairs=tuple(_pair(subject, pair) for pair in [*every, *alike]),
        suspects=tuple(_suspect(subject, suspect) for suspect in suspects),
        columns=tuple(
            {"column": c.name, "auc": c.auc, "low": c.low, "high": c.high} for c in columns
        ),
        settings={
            "size": encoder.size,
            "threshold": round(found.threshold.sure, 3),
            "threshold_of_possible": round(found.threshold.possible, 3),
            "median_of_random_pairs": round(found.threshold.random, 3),
            "pairs_aligned": found.aligned,
            "search_complete": found.complete,
            "pairs_read_again": found.reread,
            "threshold_read_again": round(found.closer.sure, 3) if found.closer else None,
            "refused": subject.refused,
        },
        seconds=round(time.perf_counter() - began, 1),
    )
    saved_reports.save_report(
        cache_dir, report, subject.hashes, subject.content, table_marks(report)
    )
    return report


def _compared_groups(subject: Subject, rows: np.ndarray) -> np.ndarray:
    """(n,) int64 of these rows.

    A group that stands in two parts is torn: its images must be compared across them.
    """
    keys = np.char.add(np.char.add(subject.parts[rows], "\n"), subject.groups[rows])
    groups: np.ndarray = np.unique(keys, return_inverse=True)[1]
    return groups


def audited(
    data: TaskData,
    grid: Grid,
    cache_dir: Path,
    notes: list[Note],
    forms: Sequence[images.PackForm] = (),
) -> TaskData:
    """Return the data of a run with what their audit says.

    Its findings, and marks for images of a single colour and for each leak that the checks of every
    run do not see. A user's own folder is audited now, by hashes, if it was not before; other tasks
    bring what `medbench audit` found on the same data. notes: what a user should know is appended
    there. forms: of the packs that the run needs. Raises UserError for a leak where the run is
    strict.
    """
    if not grid.audit:
        return data
    asked = as_asked(data.task.name, grid.tasks)
    subject = of_data(data)
    report = saved_reports.load_report(cache_dir, subject.sha256, subject.hashes)
    if report is None and data.task.name.startswith("folder:") and data.data != "phantom":
        if len(data.hashes) > AT_PLAN:
            what = f"{data.task.name} is not audited: more than {AT_PLAN:,} images. Next: medbench audit {asked}"
            notes.append(Note("unaudited", what))
        else:
            report = audit(subject, cache_dir, depth="hashes", forms=forms)
    leaks = [mark for mark in data.marks if mark.kind == "leak"]
    if report is not None:
        if report.depth == "hashes":
            notes.append(
                Note(
                    "unaudited",
                    f"{data.task.name}: {BY_HASHES}. Next: medbench audit {asked}",
                )
            )
        new = table_marks(report)
        leaks += (found := [mark for mark in new if mark.kind == "leak"])
        notes += [
            Note("leak", f"{data.task.name}: {mark.text}. Next: medbench audit {asked}")
            for mark in found
        ]
        data = replace(data, marks=(*data.marks, *new), audit=report.marks())
    if leaks and grid.strict:
        raise UserError(
            f"{data.task.name}: {leaks[0]}.",
            then="fix the split, or run without --strict, which marks every table",
        )
    return data


def table_marks(report: DatasetReport) -> list[Mark]:
    """Write what every table says of an audit's findings.

    Leaks that no run sees by itself, and images of a single colour.
    """
    leaks = [
        audit_record.table_mark(Mark("leak", found.sentence))
        for found in report.leaks
        if found.check not in checks.AT_PLAN
    ]
    return [
        *leaks,
        *(
            Mark("blank", found.sentence)
            for found in report.findings
            if found.check == checks.BLANK
        ),
    ]


def _features(
    pack: images.Pack, encoder: Encoder, name: str, cache_dir: Path, device: str
) -> np.ndarray:
    """Return features of the embedded encoder with its supervised weights.

    (N, D) float32, cached as those of a run are.
    """
    method = registry.method("supervised")
    assert method.weights is not None and method.encoder is not None, (
        "the supervised method has both"
    )
    weights = method.weights(encoder, method.sources[0], 0, cache_dir)
    key = embed.feature_key(pack.key, encoder, weights, method, "fp32", device)
    found = embed.extract_features(
        pack,
        partial(method.encoder, encoder, weights, 0),
        encoder,
        key,
        cache_dir,
        device=device,
        precision="fp32",
        stage=f"embedding {name}",
    )
    return found.array


def compared_size(typical: float) -> int:
    """Return the size in px at which images are compared.

    The largest of `SIZES` that is not far above their own (typical: of `typical_side`). Some
    enlargement does no harm: copies of drawings of 64 px and different ones are further apart at
    112 than at 64.
    """
    return next((size for size in SIZES if typical >= 0.4 * size), SIZES[-1])


def typical_side(subject: Subject) -> float:
    """Return the shorter side of a typical image, in px.

    The median over a few images that can be decoded.
    """
    from medbench.images import decoding

    short = []
    for i in np.linspace(0, len(subject) - 1, min(_SAMPLED, len(subject))).astype(int):
        try:
            short.append(min(decoding.picture(subject.images[i], wanted=SIZES[0]).size))
        except UserError:
            continue  # packing names every image that cannot be decoded
    return float(np.median(short)) if short else SIZES[0]


def _pair(subject: Subject, pair: duplicates.DuplicatePair) -> dict[str, Any]:
    return {
        "image": str(subject.ids[pair.i]),
        "other": str(subject.ids[pair.j]),
        "kind": pair.kind,
        "part": str(subject.parts[pair.i]),
        "other_part": str(subject.parts[pair.j]),
        "label": subject.label(pair.i),
        "other_label": subject.label(pair.j),
        "correlation": round(pair.correlation, 3),
        "overlap": round(pair.overlap, 3),
        "bits": pair.bits,
        "rows": [pair.i, pair.j],
    }


def _suspect(subject: Subject, suspect: label_errors.Suspect) -> dict[str, Any]:
    return {
        "image": str(subject.ids[suspect.row]),
        "part": str(subject.parts[suspect.row]),
        "column": suspect.column,
        "label": suspect.label,
        "likely": suspect.likely,
        "probability_of_label": round(suspect.own, 4),
        "probability_of_likely": round(suspect.other, 4),
    }
