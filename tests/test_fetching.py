"""`medbench fetch`, then a run on a machine without a network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trees import hub

from medbench import Store

Medbench = Callable[..., int]


@pytest.fixture
def reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    """A hub that has one repository, and an empty cache of its files."""
    hub.timm_vit(tmp_path / "far")
    server = hub.Hub(tmp_path / "far")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        server.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    yield server
    server.close()


def rows(place: Path) -> dict[str, object]:
    return {
        row.fingerprint: (row.cell, row.metrics, row.provenance["weights_sha256"])
        for row in Store(place).rows().values()
    }


def test_what_was_fetched_runs_without_a_network(
    reached: hub.Hub,
    folder: Path,
    tmp_path: Path,
    medbench: Medbench,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["--task", f"folder:{folder}", "--encoder", "hf-hub:lab/timm", "--labels", "all"]
    assert medbench("run", *asked, "--out", "near") == 0
    shutil.rmtree(tmp_path / "hub")
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "another"))
    capsys.readouterr()
    assert medbench("fetch", *asked) == 0
    said = capsys.readouterr().out
    assert "model.safetensors" in said
    assert f"MEDBENCH_CACHE) and the hub's, {tmp_path / 'hub'} (HF_HUB_CACHE)" in said
    reached.close()

    def refuse(*about: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert medbench("run", *asked, "--out", "away") == 0
    assert rows(tmp_path / "away") == rows(tmp_path / "near")
    table = (tmp_path / "away" / "leaderboard.md").read_text()
    assert "hf-hub:lab/timm: the doctor finds" in table or "hf-hub:lab/timm: weights" in table, (
        "its verdict stands on the table"
    )


def test_what_is_to_be_got_by_hand_is_said(
    reached: hub.Hub, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task whose archive takes an account, and a data set for the shift."""
    assert medbench("fetch", "--task", "retina", "--encoder", "hf-hub:lab/timm") == 1
    said = capsys.readouterr().out
    assert "retina: APTOS 2019: by hand." in said
    assert "  1. the data folder is" in said
    assert medbench("fetch", "--task", "derm", "--data", "phantom", "--methods", "supervised") == 0
    assert "derm" not in capsys.readouterr().out


@pytest.mark.slow
def test_in_a_network_namespace_without_a_route(folder: Path, tmp_path: Path) -> None:
    """No process of the run can reach anything, not even this machine."""
    alone = ["unshare", "-rn"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*alone, "true"], capture_output=True).returncode
    ):
        pytest.skip("no network namespace may be made here")
    hub.registers(tmp_path / "hub")
    hub.timm_vit(tmp_path / "hub")
    around = {
        **os.environ,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "MEDBENCH_CACHE": str(tmp_path / "cache"),
    }
    asked = [
        "--task",
        f"folder:{folder}",
        "--encoder",
        "hf-hub:lab/timm,hf:lab/registers",
        "--labels",
        "all",
    ]
    medbench = [sys.executable, "-m", "medbench"]
    subprocess.run([*medbench, "fetch", *asked], env=around, check=True)
    for name, wrapped in (("near", []), ("away", alone)):
        subprocess.run(
            [*wrapped, *medbench, "run", *asked, "--out", str(tmp_path / name)],
            env=around,
            check=True,
        )
        shutil.rmtree(tmp_path / "cache")
    assert rows(tmp_path / "near") == rows(tmp_path / "away")
    assert len(rows(tmp_path / "away")) == 2
    lines = (tmp_path / "away" / "rows.jsonl").read_text().splitlines()
    assert all(json.loads(line)["provenance"]["trained_on"] == ["unknown"] for line in lines)
