"""The card of an exported model, in the layout of a Hugging Face model card.

What it is, what it was trained on, how good it is, what is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medbench.data import audit_record
from medbench.images.cropping import crop_in
from medbench.report.card_sections import (
    allowing_for_the_choice,
    calibration_lines,
    chosen_settings,
    shift_lines,
    subgroup_lines,
)
from medbench.report.clinical import LinePredictions
from medbench.report.leaderboard import Leaderboard, notes
from medbench.report.leaderboard.standard_tables import grid
from medbench.report.model_choice import ModelChoice
from medbench.schema import Task, counted, in_markdown, registry
from medbench.stats import number_format
from medbench.stats.metrics import METRICS

UNKNOWN = "not known to medbench"
#: Notes of a table that say nothing of one of its models.
_OF_A_STUDY = frozenset(
    {"baseline", "setting", "chance", "weights", "judged", "class groups", "pairs", "enriched"}
)


@dataclass(frozen=True)
class Making:
    """Hold how a model was exported.

    command: without places. of_run: the folder's own commands. difference: of the new fit's
    probabilities from the saved ones; written: of the folder's, on `tried` test images. recipe: how
    a program without medbench gets the same. noticed: whether the folder knows images of the run.
    by_onnx: how far model.onnx is from it, in words. kept: whether a fine-tuned network has the
    weights that the run kept.
    """

    command: str
    of_run: Sequence[str]
    difference: float
    written: float
    tried: int
    recipe: Sequence[str] = ()
    noticed: bool = False
    by_onnx: str = ""
    tuned: bool = False
    own_head: bool = False
    members: Sequence[str] = ()
    kept: bool = False


@dataclass(frozen=True, eq=False)
class Seen:
    """Hold what is known of a model's answers.

    points, evidence: of the folder. answers: of the scored part, this row's alone. boards: of the
    folder, those of other images among them.
    """

    points: Mapping[str, Any]
    evidence: Mapping[str, Any]
    answers: LinePredictions
    boards: Sequence[Leaderboard]


def model_card(choice: ModelChoice, seen: Seen, making: Making) -> str:
    """Write a model's card: Markdown with the header that the Hugging Face hub reads."""
    board, row = choice.board, choice.row
    name = f"{board.about['title']}: {row.cell.method} {row.cell.encoder}, {row.cell.protocol}, {row.cell.labels} labels"
    parts = [
        *_header(choice),
        f"# {in_markdown(name)}",
        "",
        "**Not a medical device.** For research. Nobody has tested this model for any use on patients. Check it on images of your own site first.",
        "",
        *_section("What it does", _task(choice)),
        *_section("How to use it", _use(choice, seen.points, making)),
        *_section("How good it is", [*_quality(choice), "", *allowing_for_the_choice(choice)]),
        *_section("Operating points", _points(choice, seen, making)),
        *_section("Calibration", calibration_lines(seen.answers)),
        *_section("Whom it serves worse", subgroup_lines(seen.answers, str(board.about["metric"]))),
        *_section("Elsewhere", shift_lines(choice, seen.boards)),
        *_section("What a user must know", _known(choice, making)),
        *_section("What it was made of", _made_of(choice)),
        *_section("How it was made", _made(choice, making)),
        *_section("Without medbench", making.recipe),
    ]
    return "\n".join(parts)


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""]


def _entry(choice: ModelChoice) -> Task | None:
    """Return the task as it is registered; None for a folder of the user's own."""
    return registry.tasks().get(choice.row.cell.task.partition(":")[0])


def _licence(choice: ModelChoice) -> str:
    entry = _entry(choice)
    return (
        entry.licence if entry and entry.licence and choice.row.cell.data != "phantom" else UNKNOWN
    )


def _header(choice: ModelChoice) -> list[str]:
    """YAML; each text as JSON, which YAML reads."""
    fields = {
        "license": "other",
        "license_name": _licence(choice),
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["medical", "medbench", choice.row.cell.method],
    }
    return ["---", *(f"{name}: {json.dumps(value)}" for name, value in fields.items()), "---", ""]


def _bullets(said: Mapping[str, object]) -> list[str]:
    return [f"- {name}: {in_markdown(str(value))}" for name, value in said.items()]


def _task(choice: ModelChoice) -> list[str]:
    about, cell = choice.board.about, choice.row.cell
    drawn = cell.data == "phantom"
    data = (
        "PHANTOM: drawn images, no patient. This model knows nothing of real images"
        if drawn
        else cell.data
    )
    return _bullets(
        {
            "task": f"{about['title']} ({about['kind']})",
            "classes": ", ".join(about["classes"]),
            "data": data,
            "licence of the data": _licence(choice),
            "images and groups of each part": "; ".join(
                f"{name} {counted(n, 'image')}, {counted(g, 'group')}"
                for name, (n, g) in about["parts"].items()
            ),
            "groups": f"images of one {about['groups']} are all in one part"
            if about["groups"]
            else "not known: images of one patient may be in several parts",
        }
    )


def _made_of(choice: ModelChoice) -> list[str]:
    row = choice.row
    origin = row.provenance
    return _bullets(
        {
            "labelled images": f"{row.n_labels} ({row.cell.labels} of the training part, seed {row.cell.seed})",
            "of each class": ", ".join(
                f"{name} {n}" for name, n in origin.get("subset_classes", {}).items()
            )
            or "not saved",
            "encoder": f"{row.cell.encoder}, readout {row.cell.readout}, {origin.get('preprocessing', 'preprocessing not saved')}",
            "method": f"{row.cell.method}, source {row.cell.source}, weights {origin['weights']}",
            "the encoder was trained on": ", ".join(origin["trained_on"])
            or "nothing, or not known",
            "classifier": ", ".join([row.cell.protocol, *chosen_settings(row.chosen)]),
        }
    )


_DECISIONS = {
    "binary": "the second class from a probability of 0.5 on, else the first",
    "multilabel": "each label from a probability of 0.5 on",
}


def _use(choice: ModelChoice, points: Mapping[str, Any], making: Making) -> list[str]:
    alone = '`timm.create_model("local-dir:FOLDER", pretrained=True)`'
    timms = f"timm loads the encoder alone: {alone}."
    if making.members:
        alone = alone.replace("FOLDER", "FOLDER/member-1")
        timms = f"Its {len(making.members)} members lie in folders of their own ({', '.join(making.members)}); timm loads each alone: {alone}."
    kind = choice.board.about["kind"]
    word = "label" if kind == "multilabel" else "class"
    at = next(iter(points["points"]), "") if points["held_out_images"] else ""
    warm = points["temperature"] is not None
    sets = [name for name, quantile in points["sets"].items() if quantile is not None]
    more = [f"--at {at}"] * bool(at) + ["--calibrated"] * warm
    more += [f"--coverage {'0.90' if '0.90' in sets else sets[-1]}"] if sets else []
    instead = f". `--at` decides by the threshold{'' if kind == 'binary' else 's'} below instead"
    instead += (
        "" if kind == "binary" else f": several {word}{'s' if word == 'label' else 'es'} or none"
    )
    shown = f"     # {', '.join(more)}" if more else ""
    return [
        "FOLDER is this folder.",
        "",
        "```",
        f"medbench predict FOLDER images/ --out predictions.csv{shown}",
        "medbench validate FOLDER labelled.csv                     # is it as good on images of your own?",
        "```",
        "",
        "`predictions.csv` has a row for each image:",
        "",
        f"- a probability for each {word}{'; `--calibrated` changes it, and no decision' * warm}",
        f"- `decision`: {_DECISIONS.get(kind, 'the most probable class')}{instead * bool(at)}",
        "- `unlike`: yes where the image is unlike the training images. Do not trust its probabilities",
        *["- `set`, with `--coverage`: classes that contain the right one that often"][: len(sets)],
        "- no values where the image cannot be read; the exit code is then 3",
        "",
        f"In Python `medbench.load(FOLDER).predict_proba(files)`, a list of paths. {timms} `head.safetensors` holds the classifier; there is no pickle.",
        "",
        _seen(choice, making),
    ]


def _seen(choice: ModelChoice, making: Making) -> str:
    """Say what becomes of an image, as the row's provenance has it."""
    size = choice.row.cell.size
    crop = crop_in(choice.row.provenance)
    if making.members and not making.tuned:
        return "Each member sees the image at the size, and with the crop, in its `config.json`."
    if crop.side:
        return f"An image is not seen as it is: medbench {crop.words(size)} pixels."
    return f"The whole image is squeezed to {size} x {size} pixels, nothing is cropped."


def _quality(choice: ModelChoice) -> list[str]:
    line, row = choice.line, choice.row
    one, body = len(line.rows) == 1, []
    for metric, about in METRICS.items():
        if metric in line.plain:
            s = line.summary(metric)
            mean = number_format.estimate_text(s.mean, s.low, s.high)
            own = number_format.number_text(row.metrics[metric]["value"])
            sd = number_format.number_text(s.sd) if s.sd is not None else ""
            body.append([about.title, mean] if one else [about.title, own, mean, sd])
    of = f"On the {choice.board.target} part, which chose nothing, with 95 % intervals."
    several = f"mean of {len(line.rows)} such models (95 % interval)"
    header = ["metric", "this model"] + ([] if one else [several, "sd between them"])
    more = " Such models differ in the labelled images, or the seed: the mean is what to expect."
    return [f"{of}{'' if one else more}", "", *grid([header, *body])]


def _points(choice: ModelChoice, seen: Seen, making: Making) -> list[str]:
    points, evidence = seen.points, seen.evidence
    if not points["held_out_images"]:
        return [
            "None: nothing was held out inside the labelled subset, so that no threshold can be chosen without the test part."
        ]
    t, part = points["temperature"], choice.board.target
    body = []
    for name, point in points["points"].items():
        for label, threshold in point["thresholds"].items():
            shown = (
                "too few held out" if threshold is None else f"{point['compare']} {threshold:.4g}"
            )
            reached = evidence["classes"][label].get(name, {})
            body.append(
                [
                    name,
                    label,
                    shown,
                    *(_numbers(reached.get(of), ".2f") for of in ("sensitivity", "specificity")),
                ]
            )
    held = f"{points['held_out_images']} images of the labelled subset"
    told = (
        f"Chosen on {held} that no weight was trained on, but which chose the rate and the step of training: expect a little less elsewhere"
        if making.tuned or making.own_head
        else f"Chosen on {held}, by models that had not seen them"
    )
    told = f"{told}. Each threshold is for one class against the rest, on probabilities without `--calibrated`. Exact numbers: `operating_points.json`."
    heat = (
        f"`--calibrated` uses the temperature {t:.3g}."
        if t is not None
        else "No temperature, so no `--calibrated`: too few images were held out."
    )
    header = ["point", "class", "score", f"sensitivity on {part}", f"specificity on {part}"]
    promised = [name for name, quantile in points["sets"].items() if quantile is not None]
    sets = (
        f"`--coverage` takes {promised[0]} to {promised[-1]}."
        if promised
        else "No `--coverage`: too few images were held out, or an image has several labels."
    )
    kinds = "A `sensitivity-` point has at least that sensitivity on them, and the best specificity of such thresholds; a `specificity-` point the reverse."
    return [told, f"{kinds} {heat} {sets}", "", *grid([header, *body])]


def _numbers(three: Sequence[float | None] | None, form: str = ".3f") -> str:
    """Write a number of evidence.json with its interval."""
    value, low, high = (float("nan") if one is None else one for one in three or [None] * 3)
    return number_format.estimate_text(value, low, high, form)


def _known(choice: ModelChoice, making: Making) -> list[str]:
    """Write what limits the model: marks of data and encoder (leaks, copies, shortcuts), classes."""
    board = replace(choice.board, lines=[choice.line], selection=None)
    audit = choice.board.about.get("audit", ())
    twice = audit_record.table_marks_of(audit)
    kept = {
        "knn": "features of every labelled image",
        "svm": "components of its support vectors, which are labelled images",
    }
    vectors = kept.get(choice.row.cell.protocol)
    told = (
        [
            f"TRAINING VECTORS: `head.safetensors` holds {vectors}. Share it as you would share the images"
        ]
        if vectors
        else []
    )
    noticed = (
        "`seen.safetensors` lets `medbench validate` notice images that the run used, on which a test proves nothing. It holds one bit for each image, at a "
        "salted hash of its pixels; more than a fifth of others match by chance. So a match proves nothing of one image, and no picture can be made from it"
    )
    texts = [
        *told,
        *([noticed] if making.noticed else []),
        *(str(note) for note in notes(board) if note.kind not in _OF_A_STUDY and note not in twice),
        *map(str, audit),
    ]
    return [f"- {in_markdown(text)}" for text in dict.fromkeys(texts)] or [
        "Nothing was found that is marked."
    ]


def _made(choice: ModelChoice, making: Making) -> list[str]:
    origin = choice.row.provenance
    versions = (
        ", ".join(f"{name} {number}" for name, number in origin.get("versions", {}).items())
        or "not saved"
    )
    how = "the network was trained again" if making.tuned else "the fit was made again"
    if making.kept:
        how = "the network has the weights that the run kept"
    said: dict[str, object] = {f"choice {n}": text for n, text in enumerate(choice.said, 1)}
    said |= {
        "row": choice.row.fingerprint,
        "versions of the run": versions,
        "device of the run": origin.get("device", "not saved"),
        how: f"its probabilities of the {choice.board.target} part differ from the run's by at most {making.difference:.2g}",
        "this folder, read again": f"its probabilities of {making.tried} of these images differ by at most {making.written:.2g}",
    }
    said |= {"model.onnx": making.by_onnx} if making.by_onnx else {}
    return ["```", *making.of_run, making.command, "```", "", *_bullets(said)]
