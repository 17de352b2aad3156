"""What `medbench validate` prints: the verdict in sentences, then the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from medbench.report.clinical.evidence import OWN, Numbers
from medbench.report.clinical.sheet_formats import Sheet
from medbench.report.site_validation import Against, PointVerdict, SiteValidation
from medbench.stats import number_format

_TITLES = {
    "ece": "ECE",
    "brier": "Brier",
    "log_loss": "log-loss",
    "slope": "slope",
    "intercept": "intercept",
}


def verdict_sentences(found: SiteValidation, known: int = 0) -> list[str]:
    """Write the verdict on a model at the user's site as sentences.

    The first line answers; each further one names what else is not as on the card. known: about how
    many of the images were in the run that the model comes from.
    """
    images, whole = found.here["images"], found.whole
    more = f": {whole.cases(images)}" if whole.word == "not decidable" else ""
    void = f"Verdict: void. About {known} of these {images} images were in the run that the model comes from, which prove nothing here: take new ones."
    said = [void] if known else []
    word = "Had they been new" if known else "Verdict"
    said += [
        f"{word}: {whole.word}{more}. AUC {shown(whole.here)} on {images} images of yours, {shown(whole.card)} on the card; "
        f"difference {_signed(whole)}, margin {found.margin:g}."
    ]
    worse = [name for name, one in found.classes.items() if one.word == "worse"]
    if worse and len(found.classes) > 1:
        said.append(f"Ranked worse than on the card: {', '.join(worse)}.")
    said += [sentence for point in found.points if (sentence := _threshold(point))]
    for name, one in found.prevalence.items():
        if one.low > 0 or one.high < 0:
            said.append(
                f"{name}: prevalence {_value(one.here)} here, {_value(one.card)} on the card. Predictive values and probabilities go with it; AUC, "
                "sensitivity and specificity need not."
            )
    return said


def _threshold(point: PointVerdict) -> str:
    at = f"{point.name} at {point.point}: "
    lost, gained = (
        ("sensitivity", "specificity")
        if point.sensitivity.value < point.specificity.value
        else ("specificity", "sensitivity")
    )
    if point.word == "threshold moved":
        right = (
            f" Right here would be {shown(point.right)}, shipped is {point.shipped:.3g}."
            if point.shipped is not None
            else ""
        )
        return f"{at}the threshold has moved: {lost} is lost, {gained} won.{right}"
    if point.word == "worse":
        return f"{at}worse than on the card: {lost} {_signed(getattr(point, lost))}, and no gain of {gained} for it."
    return ""


def sheets(found: SiteValidation, known: int = 0) -> list[Sheet]:
    """Return a site validation as tables: ranking, operating points and calibration.

    known: as in `verdict_sentences`; where it is not 0, each verdict is `void`.
    """
    made = [_ranking(found), *_points(found)]
    return [*(map(_void, made) if known else made), _calibration(found)]


def _void(sheet: Sheet) -> Sheet:
    """Replace each verdict, which stands in the last column."""
    *header, last = sheet.header
    body = [[*row, "void" if verdict else ""] for *row, verdict in sheet.body]
    return _sheet(sheet.title, [*header, last], body, sheet.notes)


def _ranking(found: SiteValidation) -> Sheet:
    each = (
        {"all classes": found.whole, **found.classes}
        if len(found.classes) > 1
        else {"all": found.whole}
    )
    counts = {name: str(of["n"]) for name, of in found.here["classes"].items()}
    body = [[name, counts.get(name, ""), *_compared(one, found)] for name, one in each.items()]
    header = ["AUC", "cases", "here", "card", "difference", "verdict"]
    note = f"95 % intervals. As on the card: shown to be at most {found.margin:g} below it. Worse: shown to be below it."
    return _sheet("How well it ranks", header, body, [note])


def _compared(one: Against, found: SiteValidation) -> list[str]:
    word: str = one.word
    # of what no number of cases decides, the sentence above the table says why
    if word == "not decidable" and not math.isinf(one.more):
        word += f": {one.cases(found.here['images'])}"
    return [shown(one.here), shown(one.card), _signed(one), word]


def _points(found: SiteValidation) -> list[Sheet]:
    body = []
    for point in found.points:
        for side, one in (("sensitivity", point.sensitivity), ("specificity", point.specificity)):
            first = side == "sensitivity"
            head = [point.name, point.point] if first else ["", ""]
            threshold = (
                ["", ""]
                if point.point == OWN or not first
                else [number_format.number_text(point.shipped), shown(point.right)]
            )
            body.append(
                [
                    *head,
                    *threshold,
                    side,
                    shown(one.here),
                    shown(one.card),
                    _signed(one),
                    point.word if first else "",
                ]
            )
    header = [
        "class",
        "point",
        "threshold",
        "threshold that fits here",
        "",
        "here",
        "card",
        "difference",
        "verdict",
    ]
    note = "Threshold that fits here: the threshold that has the share of the point on your images. Chosen on them: test it on further images before use."
    return [_sheet("At the shipped thresholds", header, body, [note])] if body else []


def _calibration(found: SiteValidation) -> Sheet:
    body = [[_TITLES[name], *map(shown, three)] for name, three in found.calibration.items()]
    said = (
        ["A calibrated model has slope 1 and intercept 0."] if "slope" in found.calibration else []
    )
    rates = [[name, shown(one.here), shown(one.card), ""] for name, one in found.prevalence.items()]
    header = ["", "here", "card", "here, calibrated"]
    note = "calibrated: at the shipped temperature. Rows of classes: prevalence."
    return _sheet("Calibration and prevalence", header, [*body, *rates], [note, *said])


def _sheet(
    title: str, header: Sequence[str], body: Sequence[Sequence[str]], notes: Sequence[str]
) -> Sheet:
    import pandas as pd

    names: list[Any] = [name or f"column {i}" for i, name in enumerate(header)]
    return Sheet(title, header, body, notes, pd.DataFrame(body, columns=names))


def shown(three: Numbers) -> str:
    """Write value, low and high, a dash where there is no number."""
    value, low, high = (float("nan") if one is None else one for one in three)
    return number_format.estimate_text(value, low, high)


def _value(three: Numbers) -> str:
    return number_format.number_text(three[0], ".2f")


def _signed(one: Against) -> str:
    return number_format.estimate_text(one.value, one.low, one.high, "+.3f")
