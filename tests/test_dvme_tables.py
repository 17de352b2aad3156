"""DVME beside its paper.

The parameters are those that are printed, and the maps are read out of the rows.
"""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.results import ABOUT, fill, make

from medbench import Store

DVME = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "dvme.py"), run_name="dvme")
METHOD = "dvme-scalar:simclr+swav+dino@vit_small_patch8_224.dino/last4"


def test_the_trainable_parameters_are_the_printed_ones() -> None:
    """To the printed digit; DVME's 3.68 million, printed 3.6, is cut and not rounded."""
    ours, published = DVME["parameters"](), DVME["printed"]("G1")
    assert ours.keys() == published.keys() and len(ours) == 6
    for key, value in published.items():
        digit = 100_000 if value >= 1e6 else 100
        assert abs(ours[key] - value) <= digit and (
            key == ("DVME", "linear") or round(ours[key] / digit) == round(value / digit)
        ), key
    assert ours["DVME", "linear"] == 3_677_706


def test_printed_maps_are_whole_and_their_rows_nearly_sum_to_one() -> None:
    for task in ("lymph-kaggle", "retina", "pneumonia", "nih-expert"):
        cells = DVME["printed"]("F1", task)
        assert len(cells) == 9
        for name in ("simclr", "swav", "dino"):
            assert sum(value for (row, _), value in cells.items() if row == name) == pytest.approx(
                1, abs=0.011
            )


def test_the_map_with_the_most_labels_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "out")
    store.create()
    rows = []
    for labels, n in (("1%", 0.1), ("100%", 0.2)):
        for seed in range(2):
            row, resamples = make(METHOD, labels, seed, 0.8, task="retina")
            weights = [[n + 0.1 * seed, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]
            rows.append(
                (
                    replace(row, provenance={**row.provenance, "protocol": {"attention": weights}}),
                    resamples,
                )
            )
    fill(store, rows, about=ABOUT)
    said, cells = DVME["attention"](store.folder)["retina"]
    assert (
        said == f"{METHOD} at 100%"
        and cells["simclr", "simclr"] == pytest.approx(0.25)
        and cells["swav", "dino"] == 0.5
    )
    monkeypatch.setattr("sys.argv", ["dvme.py", "F1", str(store.folder)])
    DVME["main"]()
    printed = capsys.readouterr().out
    assert (
        "| simclr | 0.25 (0.019) | 0 (0.019) | 0 (0.96) |" in printed
        and "lymph-kaggle: no finished line" in printed
    )
