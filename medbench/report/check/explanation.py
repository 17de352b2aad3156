"""Which part of a row's making moved, from what the two rows say of every stage.

The stages stand in their order: data, split, weights, preprocessing, readout, probe, metrics;
beside them library and device. The first that differs is named, for all later ones follow from it.
A hash tells what was asked for, a sketch what was made of it: where all hashes are equal and the
numbers are not, the sketches still tell the stage in which equal things became unequal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medbench.report.check.tolerance import ROUNDING, Repeatability, sketched
from medbench.schema import Row
from medbench.schema.ingredients import Difference, differences
from medbench.stats.array_sketch import distance
from medbench.stats.changed_labels import changed_labels

PARTS = (
    "data",
    "split",
    "weights",
    "preprocessing",
    "readout",
    "probe",
    "metrics",
    "library",
    "device",
)
SPLIT = ("train", "val", "test")  # parts of the task itself; others are sets that were scored too
EQUAL_SCORES = 1e-6  # rounding of float32
APART = "#"  # in `Explanation.cause`, where its text has the distance


@dataclass(frozen=True)
class Explanation:
    """Explain why a cell differs.

    parts: those that can be the cause, one where it can be told. text: what was seen, in words.
    also: what differs beside it. apart: by how much the sketches of two arrays differ, where that
    was seen; cause: `text` without that number, the same for all cells of one cause.
    """

    parts: tuple[str, ...]
    text: str
    also: tuple[str, ...] = ()
    apart: float | None = None
    cause: str = ""

    @property
    def part(self) -> str:
        """The part of a row's making that moved; several where more cannot be told."""
        return " or ".join(self.parts)


def explain(
    then: Row, now: Row, repeatability: Repeatability, *, beyond: bool = True
) -> Explanation:
    """Find the part of its making that moved between a reference row and its like.

    beyond: whether metrics moved, so that something must have. Raises nothing: where the rows do
    not tell, all parts that can be the cause are named.
    """
    found = row_differences(then, now, repeatability)
    around = [(part, text) for part, text in found if part in ("library", "device")]
    stated = [(part, text) for part, text in found if part not in ("library", "device")]
    if stated:
        parts = _leading(stated, then, now)
        own = [text for part in parts for p, text in stated if p == part]
        return Explanation(
            parts, "; ".join(own), tuple(text for p, text in (*stated, *around) if p not in parts)
        )
    if not beyond:
        return (
            Explanation((around[0][0],), around[0][1])
            if around
            else Explanation((), "nothing differs that a row tells")
        )
    parts, cause, apart = _made(then, now, repeatability)
    also = tuple(text for _, text in around)
    # the same code on another library or processor, or other code: a row cannot tell
    if around and parts != ("metrics",):
        parts = (*dict.fromkeys(part for part, _ in around), *parts)
        cause, also = f"{'; '.join(also)}; {cause}, so that one of these it is", ()
    return Explanation(
        parts, cause if apart is None else cause.replace(APART, f"{apart:.1e}"), also, apart, cause
    )


def _leading(stated: Sequence[tuple[str, str]], then: Row, now: Row) -> tuple[str, ...]:
    """Return the first part that differs.

    A changed preprocessing changes the identity of weights that state it, or were trained with it:
    it is named before them, and without them where what was loaded is the same.
    """
    moved = sorted({part for part, _ in stated}, key=PARTS.index)
    if moved[:2] == ["weights", "preprocessing"]:
        return (
            ("preprocessing",)
            if _same_tensors(then.provenance, now.provenance)
            else ("preprocessing", "weights")
        )
    return (moved[0],)


def row_differences(
    then: Row, now: Row, repeatability: Repeatability = Repeatability()
) -> list[tuple[str, str]]:
    """Return everything that both rows state exactly and that differs, stage after stage.

    (part, what in words) each.
    """
    a, b = then.provenance, now.provenance
    moved = differences(a.get("identity", {}), b.get("identity", {}))
    return [
        *_data(a, b, then, now, moved),
        *_weights(then, now, moved, repeatability),
        *_settings(a, b, moved),
        *_surroundings(a, b),
    ]


def _data(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    then: Row,
    now: Row,
    identity_moved: Sequence[Difference],
) -> list[tuple[str, str]]:
    found = []
    whole, now_whole = (p.get("parts", {}).get("all", {}) for p in (a, b))
    both = bool(whole and now_whole)
    known = [name for name in whole if name in now_whole]
    moved = [
        name for name in ("content", "labels") if name in known and whole[name] != now_whole[name]
    ]
    same = all(whole[name] == now_whole[name] for name in known)
    if moved:
        what = {"content": "images", "labels": "labels"}
        count = (
            f" ({now_whole['images']} images, were {whole['images']})"
            if whole["images"] != now_whole["images"]
            else ""
        )
        if not count and whole.get("ids") == now_whole.get("ids"):
            count = _how_many(whole, now_whole, moved)
        told = " and ".join(what[name] for name in moved)
        found.append(("data", f"the task's {told} changed{_where(a, b, moved)}{count}"))
    elif not both and a.get("data_sha256") != b.get("data_sha256"):
        found.append(("data", "the data's hash is another: images, labels, groups or parts"))
    elif (
        any(one.of == "task" for one in identity_moved)
        and same
        and a.get("data_sha256") == b.get("data_sha256")
    ):
        found.append(
            (
                "data",
                "the task's version or settings changed; images, labels and parts are the same",
            )
        )
    for name in (
        sorted({*a.get("parts", {}), *b.get("parts", {})} - {"all"}) if both and not moved else ()
    ):
        one, other = a["parts"].get(name, {}), b["parts"].get(name, {})
        if (
            name not in SPLIT
            and one.get("ids") == other.get("ids")
            and any(one.get(c) != other.get(c) for c in ("content", "labels"))
        ):
            found.append(("data", f"images or labels of {name} changed"))
        elif one.get("ids") != other.get("ids"):
            found.append(
                (
                    "split",
                    f"the {name} part holds {other.get('images', 0)} images, other ones than the {one.get('images', 0)} of the reference",
                )
            )
        elif one.get("groups") != other.get("groups"):
            found.append(("split", f"the {name} part has other groups"))
    parts_moved = bool(found)  # the subsets follow from them
    if not parts_moved and (
        a.get("subset_sha256") != b.get("subset_sha256") or then.n_labels != now.n_labels
    ):
        found.append(
            (
                "split",
                f"the labelled subset holds other images ({now.n_labels}, were {then.n_labels})",
            )
        )
    counts, now_counts = a.get("subset_classes", {}), b.get("subset_classes", {})
    if counts != now_counts and not parts_moved:
        moved_classes = [
            f"{c} {now_counts.get(c, 0)}, was {counts.get(c, 0)}"
            for c in counts
            if counts[c] != now_counts.get(c)
        ]
        found.append(
            ("split", f"labelled images a class: {', '.join(moved_classes) or 'other classes'}")
        )
    if then.n_requested != now.n_requested and not found:
        found.append(("split", f"{now.n_requested} labels were asked for, {then.n_requested} then"))
    return found


def _where(a: Mapping[str, Any], b: Mapping[str, Any], moved: Sequence[str]) -> str:
    """Name the parts of the task in which it changed, unless it did in all of them."""
    known = [name for name in SPLIT if name in a["parts"] and name in b["parts"]]
    changed = [
        name
        for name in known
        if any(a["parts"][name].get(of) != b["parts"][name].get(of) for of in moved)
    ]
    if not changed or changed == known:
        return ""
    return f" in the {' and '.join(changed)} part{'s' * (len(changed) > 1)}"


def _how_many(whole: Mapping[str, Any], now: Mapping[str, Any], moved: Sequence[str]) -> str:
    """How many images or labels of the same ids differ.

    As the marks of both tell, else at least what the counts of the classes do.
    """
    told = [
        f"{'about' if n > 1 else 'at least'} {n} of {now['images']} {words}"
        for name, marks, words in (
            ("content", "image_marks", "images"),
            ("labels", "label_marks", "labels"),
        )
        if name in moved
        and marks in whole
        and marks in now
        and (n := min(changed_labels(whole[marks], now[marks]), now["images"]))
    ]
    if "labels" in moved and "label_marks" not in whole:
        counts = whole.get("classes", ()), now.get("classes", ())
        more = [n - m for m, n in zip(*counts, strict=False)]
        least = max(sum(max(one, 0) for one in more), sum(max(-one, 0) for one in more))
        told += [f"at least {least} of {now['images']} labels"] if least else []
    return f" ({', '.join(told)})" if told else ""


def _weights(
    then: Row, now: Row, moved: Sequence[Difference], repeatability: Repeatability
) -> list[tuple[str, str]]:
    a, b = then.provenance, now.provenance
    if a.get("weights_sha256") != b.get("weights_sha256"):
        return [("weights", _other_weights(then, now, repeatability))]
    of_method = [("weights", str(one)) for one in moved if one.of == "method"]
    loaded = [_checks(p, "weights") for p in (a, b)]
    if not of_method and all(loaded) and loaded[0] != loaded[1] and not a.get("pretraining"):
        return [("weights", "the file's hash is the same, what was loaded from it is not")]
    return of_method


def _other_weights(then: Row, now: Row, repeatability: Repeatability) -> str:
    """Say what differs between two weights of other hashes, where their tensors tell."""
    a, b = then.provenance, now.provenance
    name = (
        str(b.get("weights"))
        if a.get("weights") == b.get("weights")
        else f"{b.get('weights')}, was {a.get('weights')}"
    )
    if _same_tensors(a, b):
        return f"another file or code that gives the same weights: {name}"
    pairs = sketched(then, "tensors"), sketched(now, "tensors")
    if not pairs[0] or len(pairs[0]) != len(pairs[1]) or b.get("pretraining"):
        return f"another file or recipe: {b.get('weights')}, was {a.get('weights')}"
    apart = max(distance(x, y) for x, y in zip(*pairs, strict=True))
    if apart <= ROUNDING and _apart(then, now, "features", repeatability) is None:
        return f"moved within rounding (by {apart:.1e} of their size, the features no more): {name}"
    return f"other weights, by {apart:.1e} of their size: {name}"


def _same_tensors(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether the weights that were loaded are known to be the same, bit for bit."""
    loaded = [_checks(p, "weights") for p in (a, b)]
    return bool(loaded[0]) and loaded[0] == loaded[1]


def _settings(
    a: Mapping[str, Any], b: Mapping[str, Any], moved: Sequence[Difference]
) -> list[tuple[str, str]]:
    encoders = [p.get("identity", {}).get("encoder") for p in (a, b)]
    found = (
        [("preprocessing", f"{b.get('preprocessing')}; was {a.get('preprocessing')}")]
        if not all(encoders)
        else []
    )
    found = found if a.get("preprocessing") != b.get("preprocessing") else []
    return found + [
        (_part_of(one, a), str(one)) for one in moved if one.of not in ("task", "method")
    ]


def _part_of(moved: Difference, provenance: Mapping[str, Any]) -> str:
    """Of PARTS, the one that a part of an identity belongs to.

    Views make weights in a pretraining, and are part of the probe in a fine-tuning.
    """
    if moved.of == "protocol":
        return "probe"
    if moved.of == "encoder":
        of_encoder = {
            "readout": "readout",
            **dict.fromkeys(("name", "architecture", "checkpoint", "kind"), "weights"),
        }
        return of_encoder.get(moved.name, "preprocessing")
    if moved.name == "crops":
        return "weights" if provenance.get("pretraining") else "probe"
    of = {
        "draws": "split",
        "resamples": "metrics",
        "metric definitions": "metrics",
        **dict.fromkeys(("plan", "folds", "validation part"), "probe"),
    }
    return of.get(moved.name, "metrics" if moved.name.startswith("metric ") else "preprocessing")


def _surroundings(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Libraries and device, of the features too, which may be older than the row."""
    found = []
    versions = [_all(p, "versions") for p in (a, b)]
    for name in sorted({*versions[0], *versions[1]} - {"medbench"}):
        one, other = versions[0].get(name), versions[1].get(name)
        if one != other:
            found.append(("library", f"{name} {other}, was {one}"))
    return found + [("device", text) for text in [*other_kind(a, b), *_other_processor(a, b)]]


def other_kind(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Say what makes two rows' last digits incomparable; [] where nothing does.

    Another kind of device (cpu, cuda) or another precision. a, b: provenance, of the reference
    first.
    """
    kinds = [{made["device_kind"] for made in _machines(p)} for p in (a, b)]
    found = [f"{b.get('device')}, was {a.get('device')}"] if kinds[0] != kinds[1] else []
    return found + [
        f"precision {b[name]}, was {a[name]}"
        for name in ("precision",)
        if name in a and name in b and a[name] != b[name]
    ]


def _other_processor(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    units = [
        " and ".join(
            dict.fromkeys(
                str(made["vector_units"]) for made in _machines(p) if "vector_units" in made
            )
        )
        for p in (a, b)
    ]
    return (
        [f"kernels for {units[1]}, were for {units[0]}"]
        if all(units) and units[0] != units[1]
        else []
    )


def _made(
    then: Row, now: Row, repeatability: Repeatability
) -> tuple[tuple[str, ...], str, float | None]:
    """Where all that was asked for is the same.

    The stage whose result is not, what was seen (with APART for the distance), the distance.
    """
    if not then.provenance.get("features") and not sketched(then, "features"):
        unclear = ("weights", "preprocessing", "probe")
        if _apart(then, now, "scores", repeatability) is not None:
            tried = [sorted(row.chosen.get("searched", {}), key=float) for row in (then, now)]
            if tried[0] != tried[1]:
                return (
                    ("probe",),
                    f"all hashes are equal; it tried the rates {_listed(tried[1])}, and {_listed(tried[0])} then",
                    None,
                )
            text = "all hashes are equal and the scores moved; it trains on pixels and keeps no features that could tell where"
            return unclear, text, None
    for name, part, text in (
        ("pixels", "preprocessing", "the decoded and resized pixels moved"),
        ("input", "preprocessing", "the pixels are the same, what enters the network is not"),
        (
            "features",
            "readout",
            "weights and the network's input are the same, the features are not: its readout or its own code",
        ),
    ):
        apart = _apart(then, now, name, repeatability)
        if apart is not None:
            if name == "features" and then.provenance.get("pretraining"):
                text = f"the features moved by {APART} of their size, more than repeating does: the pretraining gave other weights"
                return ("weights",), text, apart
            channels = (
                f" (channel means {_means(now)}, were {_means(then)})" if name == "input" else ""
            )
            return (
                (part,),
                f"all hashes are equal; {text}{channels}, by {APART} of their size",
                apart,
            )
    seen = bool(sketched(then, "features") and sketched(now, "features"))
    scores = [row.provenance.get("scores") for row in (then, now)]
    if not all(scores):
        text = "all hashes are equal, and the rows are older than the sketches that could tell more: run the reference again"
        return PARTS[:7], text, None
    apart = max(
        (
            distance(x, y)
            for x, y in zip(sketched(then, "scores"), sketched(now, "scores"), strict=True)
        ),
        default=0.0,
    )
    if apart <= EQUAL_SCORES and len({score["decisions"] for score in scores if score}) == 1:
        return ("metrics",), "the scores are the same, the numbers computed from them are not", None
    equal = (
        "all hashes and the features are equal"
        if seen
        else "all hashes are equal, of the features nothing is known"
    )
    return (
        ("probe",) if seen else PARTS[3:6],
        f"{equal}; the scores moved by {APART} of their size",
        apart,
    )


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words) or "none"


def _apart(then: Row, now: Row, name: str, repeatability: Repeatability) -> float | None:
    """How far the row's sketches of that name lie apart, None where they are equal or not known."""
    pairs = sketched(then, name), sketched(now, name)
    if not pairs[0] or len(pairs[0]) != len(pairs[1]):
        return None
    apart = max(distance(x, y) for x, y in zip(*pairs, strict=True))
    return apart if repeatability.moved(then, name, apart) else None


def _checks(provenance: Mapping[str, Any], name: str) -> list[Any]:
    checks = [(made or {}).get("checks", {}).get(name) for made in provenance.get("features", [])]
    return checks if all(check is not None for check in checks) else []


def _means(row: Row) -> str:
    return " / ".join(
        ", ".join(f"{mean:.3f}" for mean in means)
        for means in _checks(row.provenance, "channel_means")
    )


def _machines(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [provenance, *(made for made in provenance.get("features", []) if made)]


def _all(provenance: Mapping[str, Any], name: str) -> dict[str, str]:
    """Versions of the row and of its features: all of them, where they differ."""
    found: dict[str, list[str]] = {}
    for made in _machines(provenance):
        for package, version in made.get(name, {}).items():
            found.setdefault(package, []).append(str(version))
    return {package: " and ".join(dict.fromkeys(versions)) for package, versions in found.items()}
