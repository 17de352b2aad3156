"""A command that finds all its work done needs neither timm nor torch.

What they said while it was done is kept in the cache.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from conftest import WITHOUT_TORCH

from medbench.models import encoders, timm_answers
from medbench.models.timm_answers import CheckpointConfig
from medbench.system.cache_folder import cache_folder

NAME = "test_resnet.r160_in1k"  # the smallest of timm's


@pytest.fixture(autouse=True)
def _asked_by_nobody() -> None:
    """As a process begins."""
    for remembered in (timm_answers._catalogue, timm_answers.tags_of):
        remembered.cache_clear()


def test_the_record_says_what_timm_says() -> None:
    names = [*timm.list_models(), *timm.list_models(include_tags=True)]
    for name in names:
        architecture, _, tag = name.partition(".")
        declared = timm.get_pretrained_cfg(name)
        if declared is None:
            with pytest.raises(KeyError):
                timm_answers.config_of(architecture, tag)
        else:
            found = timm_answers.config_of(architecture, tag)
            assert {
                word: getattr(declared, word) for word in CheckpointConfig.__dataclass_fields__
            } == vars(found), name
        expected = (
            [one.partition(".")[2] for one in timm.list_pretrained(f"{architecture}.*")]
            if architecture.startswith("res")
            else None
        )
        assert expected is None or list(timm_answers.tags_of(architecture)) == expected
    listed = [name for name in timm.list_pretrained() if "." in name]
    assert {
        f"{name}.{tag}" for name in timm.list_models() for tag in timm_answers.tags_of(name)
    } == set(listed)


def test_an_answer_is_kept_for_the_timm_and_the_code_that_gave_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def question(architecture: str, *, file: object = None) -> list[str]:
        asked.append(architecture)
        return [architecture, "answer"]

    assert (
        timm_answers.kept(question, "a", file=object())
        == timm_answers.kept(question, "a")
        == ["a", "answer"]
    )
    assert asked == ["a"], "kept"
    assert timm_answers.kept(question, "b") == ["b", "answer"]
    monkeypatch.setattr(timm_answers, "_makers", lambda: ("another timm",))
    timm_answers.kept(question, "a")
    assert asked == ["a", "b", "a"], "another timm is asked again"
    for file in (cache_folder() / timm_answers.FOLDER).glob("*/about.json"):
        file.write_bytes(file.read_bytes().replace(b"answer", b"ansver"))
    with caplog.at_level(logging.WARNING, "medbench"):
        assert timm_answers.kept(question, "a") == ["a", "answer"]
    assert asked[3:] == ["a"] and "damaged" in caplog.text


def test_a_changed_file_of_timms_is_another_timm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "vit.py").write_text("a = 1\n")
    monkeypatch.setattr(timm_answers, "_folder", lambda: tmp_path)
    before = timm_answers._makers.__wrapped__()
    (tmp_path / "models" / "vit.py").write_text("a = 10\n")
    assert timm_answers._makers.__wrapped__() != before


@pytest.mark.parametrize("brings", ["timm's", "weights"])
def test_a_run_with_nothing_to_do_imports_neither_timm_nor_torch(
    brings: str,
    medbench: Callable[..., int],
    without_torch: Callable[..., str],
    folder: Path,
    tmp_path: Path,
) -> None:
    given = ["--readout", "pool,mean", "--methods", "random"]
    if brings == "weights":
        torch.save(timm.create_model(NAME, pretrained=False).state_dict(), tmp_path / "mine.pth")
        given = ["--weights", str(tmp_path / "mine.pth")]
    command = [
        "run",
        "--task",
        f"folder:{folder}",
        "--encoder",
        NAME,
        "--size",
        "32",
        "--labels",
        "all",
        *given,
        "--out",
        str(tmp_path / "out"),
    ]
    assert medbench(*command) == 0
    assert "0 new rows" in without_torch(*command)


def test_a_wrong_checkpoint_is_told_without_timm_once_its_names_are_known() -> None:
    assert encoders.encoder("resnet18.tv_in1k").checkpoint == "tv_in1k"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "run", "--encoder", "resnet18"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "resnet18.tv_in1k" in done.stderr
