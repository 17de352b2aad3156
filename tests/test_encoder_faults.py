"""What a user's encoder may do wrong without an error of its own.

End Python, hold broken statistics, answer in other numbers, change as it goes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from medbench import Store, UserError
from medbench.models import encoders, user_encoder, weights
from medbench.run import study
from medbench.schema import Weights
from medbench.system.contained_exit import ExitCalled, exits_are_errors

Medbench = Callable[..., int]
#: A network of 12 colours whose call number `self.calls` can be made to do something. The plan
#: calls it four times, embedding three.
FAULTY = """
import os, sys
import torch
{top}
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(12))
        self.register_buffer("shift", torch.zeros(12), persistent=False)
        self.norm = torch.nn.BatchNorm2d(3)
        self.calls, self.kept = 0, 1.0
    def forward(self, x):
        self.calls += 1
        out = torch.nn.functional.adaptive_avg_pool2d(self.norm(x), 2).flatten(1) * self.scale * self.kept + self.shift
        {forward}
        return out

def net(size=32, mean=(0, 0, 0), std=(1, 1, 1)):
    made = Net()
    {made}
    return made
"""


def written(tmp_path: Path, top: str = "", forward: str = "", made: str = "") -> Path:
    (tmp_path / "mine.py").write_text(FAULTY.format(top=top, forward=forward, made=made))
    user_encoder.module.cache_clear()
    return tmp_path / "mine.py"


#: Where it happens -> the exit code, and what is said. Late: in the second of three batches, beyond
#: what the plan tries.
LATE = "if self.calls == 6: {}"
EXITS = {
    "sys.exit in the file": (
        {"top": "sys.exit()"},
        2,
        "mine.py:net failed: it called sys.exit(), which ends Python",
    ),
    "exit in the function": ({"made": "exit(0)"}, 2, "mine.py:net failed: it called sys.exit(0)"),
    "os._exit in the file": (
        {"top": "os._exit(0)"},
        2,
        "mine.py:net failed: it called os._exit(0)",
    ),
    "os._exit by another name": (
        {"top": "from os import _exit", "forward": "_exit(0)"},
        2,
        "failed: it called os._exit(0)",
    ),
    "sys.exit late": ({"forward": LATE.format("sys.exit()")}, 3, "it called sys.exit()"),
    "os._exit late": ({"forward": LATE.format("os._exit(0)")}, 3, "it called os._exit(0)"),
}


#: Each starts a Python: these are run with the slow tests.
ALSO = ("exit in the function", "os._exit by another name", "os._exit late", "sys.exit late")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in ALSO)) for name in EXITS],
)
def test_an_encoder_that_ends_python_is_a_failure(name: str, folder: Path, tmp_path: Path) -> None:
    """In a process of its own: what is not contained would end the tests."""
    where, code, said = EXITS[name]
    file = written(tmp_path, **where)
    text = "import sys; from medbench.models import features; features.BATCH = 20; from medbench.cli import main; sys.exit(main())"
    command = [
        sys.executable,
        "-c",
        text,
        "run",
        "--task",
        f"folder:{folder}",
        "--encoder",
        f"{file}:net",
        "--labels",
        "100",
        "--no-audit",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "MEDBENCH_CACHE": str(tmp_path / "c")},
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert said in " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in done.stderr


def test_a_study_that_ends_python_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text("import os\nos._exit(0)\n")
    command = [sys.executable, "-m", "medbench", "run", "study.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "study.py, line 2 failed: SystemExit: os._exit(0)" in done.stderr) == (
        2,
        True,
    ), done.stderr


def test_a_child_process_ends_as_it_must() -> None:
    def forks_and_exits() -> None:
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        os._exit(3)

    with pytest.raises(ExitCalled, match=r"it called os\._exit\(3\)"), exits_are_errors():
        forks_and_exits()
    assert os._exit.__module__ == "posix"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            "made.norm.running_var[1] = float('inf')",
            r"batch norms whose statistics are not numbers: norm\.running_var",
        ),
        (
            "made.norm.running_mean[0] = float('nan')",
            r"statistics are not numbers: norm\.running_mean",
        ),
        ("made.norm.running_var[2] = -1.0", r"statistics are not numbers: norm\.running_var"),
    ],
)
def test_batch_norms_of_a_function_with_statistics_that_are_no_numbers(
    made: str, said: str, tmp_path: Path
) -> None:
    file = written(tmp_path, made=made)
    with pytest.raises(UserError, match=said):
        user_encoder.module_hash(encoders.encoder(f"{file}:net"))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0])
def test_batch_norms_of_a_file_with_statistics_that_are_no_numbers(
    value: float, tmp_path: Path
) -> None:
    net = timm.create_model("test_resnet")
    file = tmp_path / "w.pth"
    net.bn1.running_var[3] = value
    torch.save(net.state_dict(), file)
    with pytest.raises(
        UserError,
        match=r"w\.pth does not fit test_resnet: 1 (not finite|negative variances) \(bn1\.running_var\)",
    ):
        weights.own(encoders.encoder("test_resnet.r160_in1k", weights=file), tmp_path)
    with pytest.raises(UserError, match=r"statistics are not numbers: bn1\.running_var"):
        weights.build_encoder(
            encoders.encoder("test_resnet.r160_in1k"), Weights("w", "0" * 64, (), file), 0
        )


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (
            "out = torch.complex(out, out)",
            r"gave \(2, 12\) of complex64 for two images of 32 px\. Allowed: \(2, D\), finite numbers",
        ),
        ("out = out.to_sparse()", r"gave \(2, 12\) of sparse_coo, float32"),
        ("out = out.to('meta')", r"gave \(2, 12\) of meta, float32"),
        ("out = torch.nested.nested_tensor(list(out))", "gave a nested tensor for two images"),
        ("out = out > 0", r"gave \(2, 12\) of bool"),
        ("out = (255 * out).long()", r"gave \(2, 12\) of int64"),
        ("out = out[:1]", r"gave \(1, 12\) for two images"),
        ("out = out.squeeze()", r"gave \(12,\) for one image"),
        ("out = out[:, :0]", r"gave \(2, 0\) for two images"),
        ("out = out[:, : 6 + len(x)]", r"vectors of different lengths"),
    ],
)
def test_answers_that_are_no_vectors_of_numbers(forward: str, said: str, tmp_path: Path) -> None:
    file = written(tmp_path, forward=forward)
    with pytest.raises(UserError, match=said):
        user_encoder.module_hash(encoders.encoder(f"{file}:net"))


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (
            "if self.calls == 6: self.scale.data += 1",
            r"mine\.py:net changes its own weights while it embeds \(1 of \d+: scale\)",
        ),
        (
            "if self.calls == 6: self.shift += 1",
            r"changes its own weights while it embeds \(1 of \d+: shift\)",
        ),
        (
            "if self.calls == 6: self.kept = 2.0",
            r"gives \d+ of 20 images other vectors at the end of the pass than in its course",
        ),
        ("if self.calls == 6: out = out * 0", r"gives [67] of 20 images other vectors"),
        (
            "if self.calls > 5: self.train(); out = torch.nn.functional.dropout(out, training=self.training)",
            r"images other vectors|own weights",
        ),
        (
            "out = torch.complex(out, out) if self.calls == 6 else out",
            r"gave \(20, 12\) of complex64 for 20 images",
        ),
        ("out = out[:1] if self.calls == 6 else out", r"gave \(1, 12\) for 20 images"),
    ],
)
def test_what_changes_after_the_plan_has_looked_is_seen(
    forward: str,
    said: str,
    folder: Path,
    tmp_path: Path,
    medbench: Medbench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And nothing is left that a second run would take for features."""
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("medbench.models.features.BATCH", 20)
    file = written(tmp_path, forward=forward)
    for _ in range(2):
        user_encoder.module.cache_clear()
        assert (
            medbench(
                "run",
                "--task",
                f"folder:{folder}",
                "--encoder",
                f"{file}:net",
                "--labels",
                "100",
                "--no-audit",
                "--out",
                "out",
            )
            == 3
        )
        reasons = list(Store(tmp_path / "out").failures().values())
        assert reasons and all(re.search(said, reason) for reason in reasons), reasons
        assert not list((tmp_path / "cache" / "features").glob("*/about.json"))


def test_a_function_that_gives_the_same_memory_again_gives_its_own_vectors(
    folder: Path, tmp_path: Path, medbench: Medbench
) -> None:
    found = []
    for forward in (
        "pass",
        "self.memory = getattr(self, 'memory', torch.zeros(64, 12)); out = self.memory[: len(x)].copy_(out)",
    ):
        file = written(tmp_path, forward=forward)
        command = (
            "run",
            "--task",
            f"folder:{folder}",
            "--encoder",
            f"{file}:net",
            "--labels",
            "100",
            "--no-audit",
            "--out",
            forward[:4],
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("medbench.models.features.BATCH", 20)
            assert medbench(*command) == 0
        (row,) = Store(tmp_path / forward[:4]).rows().values()
        found.append(row.metrics)
    assert found[0] == found[1]


def test_what_a_script_sets_for_itself_is_not_set_for_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = (
        os.getcwd(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.get_default_device(),
    )
    folder = "os.chdir('/'); torch.set_num_threads(3)"
    for where in (
        {"top": folder},
        {"made": f"{folder}; torch.set_default_dtype(torch.float64)"},
        {"forward": folder},
    ):
        user_encoder.module_hash(encoders.encoder(f"{written(tmp_path, **where)}:net"))
        assert (
            os.getcwd(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.get_default_device(),
        ) == before


@pytest.mark.parametrize(
    ("stated", "line"),
    [
        ("size=None, mean=(0, 0, 0), std=(1, 1, 1)", "size is None, not a whole number"),
        ("size='x', mean=(0, 0, 0), std=(1, 1, 1)", "size is 'x', not a whole number"),
        (
            "size=0, mean=(0, 0, 0), std=(1, 1, 1)",
            r"size is 0, not a whole number of pixels\. Allowed: 1 to 4096",
        ),
        ("size=60000, mean=(0, 0, 0), std=(1, 1, 1)", r"size is 60000, not .* Allowed: 1 to 4096"),
        (
            f"size=32, mean=(1{'0' * 400}, 0, 0), std=(1, 1, 1)",
            "mean and std are three numbers each",
        ),
        ("size=32, mean=0.5, std=(1, 1, 1)", "mean and std are three numbers each"),
        ("size=32, mean='abc', std=(1, 1, 1)", "mean and std are three numbers each"),
        ("size=32, mean=(0, 0, 0), std=(1, 0, 1)", "those of std above 0"),
        (
            "size=32, mean=(0, 0, 0), std=(1, 1, 1), trained_on=3",
            "trained_on is 3, not names of data sets",
        ),
    ],
)
def test_defaults_of_a_wrong_kind(stated: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"def net({stated}):\n    return None\n")
    with pytest.raises(UserError, match=rf"mine\.py:net: .*{line}"):
        encoders.encoder(f"{tmp_path}/mine.py:net", None)


def test_an_error_that_cannot_be_put_into_words_is_told(tmp_path: Path) -> None:
    made = "class Mute(Exception):\n    def __str__(self):\n        raise RuntimeError\n"
    (tmp_path / "mine.py").write_text(
        f"{made}def net(size=32, mean=(0, 0, 0), std=(1, 1, 1)):\n    raise Mute\n"
    )
    with pytest.raises(UserError, match=r"mine\.py:net failed: Mute\. Next: fix the function"):
        user_encoder.module(encoders.encoder(f"{tmp_path}/mine.py:net", None))
    (tmp_path / "study.py").write_text(f"{made}raise Mute\n")
    with pytest.raises(UserError, match=r"study\.py, line 4 failed: Mute\. Next: fix the study"):
        study.load_study(str(tmp_path / "study.py"))


def test_what_is_no_error_but_ends_python_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def net(size=32, mean=(0, 0, 0), std=(1, 1, 1)):\n    raise GeneratorExit\n"
    )
    with pytest.raises(
        UserError, match="it raised GeneratorExit, which is not an error but ends Python"
    ):
        user_encoder.module(encoders.encoder(f"{tmp_path}/mine.py:net", None))
