"""Wrong input drawn by `hypothesis`, a function a kind.

It spoils one thing among good ones, and hands it to who reads it.

Each takes `draw` (of `st.data()`), `good`, a folder of whole files that stays as it is, and `work`,
an empty folder, which is the working folder.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
import signal
import socket
import struct
import sys
import tarfile
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fakes.dicom_files import write_dicom
from fakes.results import study
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from medbench import cli
from medbench.cli.options import command_line
from medbench.images import decoding
from medbench.models import checkpoints, features_table, weights
from medbench.models.exported import LinearHead, Parts, Tower, write
from medbench.models.readout import with_readout
from medbench.schema import Encoder, UserError, parsed
from medbench.system import fast_npz
from medbench.system.download import archives
from medbench.tasks.folder import csv_listing

Draw = Callable[[st.SearchStrategy[Any]], Any]
LONGEST = 4500  # characters of an answer, which a terminal shows on one page
SECONDS = 60  # after which a case hangs

# Values
# ----------------------------------------------------------------------------------------------------------------------------

#: What people type, paste and forget, what programs write for them, and what means something
#: elsewhere.
WORDS = st.sampled_from(
    [
        *(
            "",
            " ",
            "-1",
            "0",
            "1",
            "3",
            "0.5",
            "1e999",
            "nan",
            "None",
            "%s",
            "{}",
            "all",
            "auto",
            ",",
            ";",
            "1,2,x",
            "1%",
            "5/class",
            "n50",
        ),
        *(
            "x" * 5000,
            "é" * 300,
            "\x1b[2J",
            "a\nb",
            "a\x00b",
            "\u202e",
            "\udcff",
            "=1+1",
            "<b>",
            "'",
            '"',
            "--",
            "-",
            "a b",
            "A\tB",
        ),
        *(
            "..",
            "../..",
            ".",
            "/",
            "/none",
            "socket",
            "~",
            "~nobody-here/x",
            "C:\\x",
            "file:///x",
            "http://x",
            "good",
            "good.csv",
        ),
        *(
            "supervised",
            "simclr",
            "linear",
            "knn",
            "derm",
            "auc",
            "accuracy",
            "markdown",
            "svg",
            "interval",
            "method",
            "labels=10%",
            "method=",
        ),
        *(
            "folder:good",
            "folder:",
            "features:good.npz",
            "good.py:net",
            "resnet50",
            "test_resnet",
            "test",
            "cpu",
            "cuda",
            "bf16",
            "site:x",
        ),
    ]
) | st.text(max_size=12)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS.map(lambda w: w.replace("\udcff", "")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)
TENSORS: list[Callable[[], Any]] = [
    lambda: torch.zeros(2),
    lambda: torch.zeros(3, 3).to("meta"),
    lambda: torch.zeros(3).to_sparse(),
    lambda: torch.zeros(1).expand(10**7, 10**6),
    lambda: torch.zeros(3, dtype=torch.complex64),
    lambda: torch.full((3,), float("nan")),
    lambda: torch.tensor(3),
    lambda: torch.zeros(0),
    lambda: [{"model": torch.zeros(2)}] * 3,
    lambda: Path("/x"),
    lambda: np.float64(3),
]

# Good files
# ------------------------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn1 = nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)


def make_good(place: Path) -> Path:
    """Results, images, a list of them, an encoder, features, checkpoints, a model, archives."""
    study(place / "results")
    rng = np.random.default_rng(0)
    listed = [["path", "label", "group", "split"]]
    for part, n in (("train", 8), ("test", 4)):
        for i in range(n):
            file = place / "good" / part / "ab"[i % 2] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)).save(file)
            listed.append([file.relative_to(place).as_posix(), "ab"[i % 2], f"{part}{i}", part])
    (place / "good.csv").write_text("".join(",".join(row) + "\n" for row in listed))
    (place / "good.py").write_text(
        "import torch\ndef net(size=32, mean=(0, 0, 0), std=(1, 1, 1)):\n"
        "    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
    )
    np.savez(
        place / "good.npz",
        ids=[row[0].removeprefix("good/") for row in listed[1:]],
        features=rng.normal(size=(12, 3)),
    )
    _make_model(place / "model")
    _make_archives(place)
    _make_images(place / "images")
    return place


def _make_model(folder: Path) -> None:
    import timm

    with torch.random.fork_rng(devices=[]):
        net = timm.create_model("test_resnet", num_classes=0)
    width = net.num_features
    head = {
        "weight": np.zeros((1, 1, width)),
        "bias": np.zeros((1, 1)),
        "mean": np.zeros(width),
        "scale": np.ones(width),
    }
    head |= {"limit": np.full(1, 9.0), "columns": np.arange(1), "base": np.zeros(1)}
    encoder = Encoder(
        "test_resnet", "test_resnet", "", 32, (0.0,) * 3, (1.0,) * 3, "bilinear", "pool"
    )
    points = {
        "temperature": 2.0,
        "held_out_images": 0,
        "points": {"own": {"compare": ">", "thresholds": {"a": 0.5}}},
    }
    folder.mkdir()
    half = [0.5, 0.4, 0.6]
    of_class = {
        "n": 5,
        "prevalence": half,
        "auc": half,
        "own": {"sensitivity": half, "specificity": half},
    }
    evidence = {
        "target": "test",
        "images": 9,
        "groups": 9,
        "auc": half,
        "calibration": {"ece": half},
        "classes": {"a": of_class},
    }
    solved = LinearHead.of(head, "binary", 2)
    write(
        folder,
        Parts(
            (Tower(encoder, with_readout(net, "pool").eval()),),
            solved,
            "linear",
            ("a", "b"),
            "binary",
            "fp32",
            points,
            evidence,
        ),
        "# card",
    )


def _make_archives(place: Path) -> None:
    place = place / "archives"
    place.mkdir()
    content = b"hello " * 50
    with zipfile.ZipFile(place / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/b.txt", content)
        packed.writestr("c.txt", content)
    for kind in ("", ".gz", ".xz"):
        with tarfile.open(place / f"a.tar{kind}", f"w:{kind[1:]}") as tar:
            for name in ("a/b.txt", "c.txt"):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    torch.save({"model": Net().state_dict(), "epoch": 3}, place / "a.pth")
    torch.save(Net().state_dict(), place / "old.pth", _use_new_zipfile_serialization=False)
    save_file(Net().state_dict(), place / "a.safetensors")


def _make_images(place: Path) -> None:
    place.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    for name, options in {
        "a.png": {},
        "b.jpg": {"progressive": True},
        "c.tif": {"compression": "tiff_lzw"},
        "d.bmp": {},
        "e.webp": {},
    }.items():
        Image.fromarray(pixels).save(place / name, **options)
    Image.fromarray(pixels[..., 0]).save(place / "f.png")
    Image.fromarray(pixels[..., 0]).convert("P").save(place / "g.tif")
    write_dicom(
        place,
        pixels[..., 0],
        "h.dcm",
        WindowCenter="100",
        WindowWidth="50",
        RescaleSlope="2",
        RescaleIntercept="",
    )
    write_dicom(place, pixels, "i.dcm")


# The answer
# ------------------------------------------------------------------------------------------------------------------------


class Wrong(AssertionError):
    """What no input may lead to."""


@contextlib.contextmanager
def _in_time(what: str) -> Iterator[None]:
    """Raises Wrong where it hangs."""

    def ring(*about: object) -> None:
        raise Wrong(f"{what}: not done in {SECONDS} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def called(*arguments: str) -> None:
    """Run a command.

    Raises Wrong for a traceback, an unknown exit code, bad input in none or several lines, an order
    to the terminal, a long answer.
    """
    what = str([one[:60] for one in arguments])
    errors, output, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["medbench", *arguments]
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output), _in_time(what):
            cli.main()
        code: Any = 0
    except SystemExit as ending:
        code = ending.code or 0
    except Wrong:
        raise
    except BaseException as error:
        raise Wrong(f"{what}: {_story(error)}") from error
    finally:
        sys.argv = before
    said, shown = errors.getvalue(), output.getvalue()
    lines = [line for line in said.splitlines() if line.startswith("medbench: ")]
    # no command was named
    asked_for_help = (not lines and shown.startswith("Usage: ")) or said.startswith("Usage: ")
    wrong = [
        code not in (0, 1, 2, 3) and f"exit {code}",
        code == 2
        and not asked_for_help
        and (len(lines) != 1 or not said.endswith(f"{lines[0]}\n"))
        and "not one line at the end",
        any(len(line) > LONGEST for line in lines) and "a long answer",
        bool(set(said + shown) & set("\x1b\x9b\u202e\x00")) and "an order to the terminal",
        "Traceback" in said and "a traceback",
    ]
    if any(wrong):
        raise Wrong(f"{what}: {next(filter(None, wrong))}: {said[-400:]!r}")


def read(reader: Callable[[], object], what: str) -> None:
    """Call a reader.

    Raises Wrong for another error than UserError, and for one of several lines.
    """
    try:
        with _in_time(what):
            reader()
    except UserError as error:
        if len(str(error)) > LONGEST or not str(error).isprintable():
            raise Wrong(f"{what}: {str(error)[:300]!r}") from error
    except Wrong:
        raise
    except Exception as error:
        raise Wrong(f"{what}: {_story(error)}") from error


def _story(error: BaseException) -> str:
    own = [
        step for step in traceback.extract_tb(error.__traceback__) if "medbench/" in step.filename
    ]
    where = (
        f"{re.sub(r'.*medbench/', 'medbench/', own[-1].filename)}:{own[-1].lineno}" if own else "?"
    )
    return f"{type(error).__name__} at {where}: {str(error)[:300]}"


# Kinds
# -----------------------------------------------------------------------------------------------------------------------------

READERS = [
    ["table"],
    ["table", "--rows", "method", "--cols", "labels", "--format", "markdown"],
    ["report", "--out", "p.html"],
    ["clinical"],
    ["compare"],
    ["plot", "--kind", "curves,confusion", "--format", "svg", "--out", "figures"],
    ["merge", "--out", "merged"],
    ["merge", "--out", "merged", "--without-predictions"],
    ["export", "--out", "model"],
    ["shift"],
]
#: What a command is given beside the option that is drawn, so that none trains, downloads or takes
#: long.
COMMANDS: dict[str, list[str]] = {
    "run": ["--plan", "--task", "folder:good", "--encoder", "good.py:net"],
    "fetch": ["--task", "folder:good", "--encoder", "good.py:net"],
    "pretrain": ["--task", "derm", "--data", "/none"],
    "export": ["results", "--out", "made"],
    "predict": ["model", "good", "--out", "p.csv"],
    "check": ["--rows", "results", "--against", "results"],
    "audit": ["--fast", "--images", "good.csv"],
    "doctor": ["--task", "derm", "--data", "/none", "--encoder", "good.py:net"],
    "shortcuts": ["derm", "--data", "/none"],
    "data": [],
    "list": ["protocols"],
    "cache": [],
    "data list": ["derm"],
    "data get": ["nosuch"],
    "data verify": ["folder:good"],
    "data show": ["folder:good", "--out", "s.png"],
    "data split": ["folder:good"],
    **{
        name: ["results"]
        for name in ("table", "compare", "plot", "report", "clinical", "merge", "shift", "status")
    },
}


def options() -> dict[str, list[str]]:
    """Command -> its flags, of the command line itself."""

    def walk(group: Any, path: str = "") -> Iterator[tuple[str, list[str]]]:
        for name, command in getattr(group, "commands", {}).items():
            yield (
                f"{path}{name}",
                [
                    flag
                    for option in command.params
                    if option.param_type_name == "option"
                    for flag in option.opts
                ],
            )
            yield from walk(command, f"{path}{name} ")

    return dict(walk(command_line()))


OPTIONS = options()


def an_option(draw: Draw, good: Path, work: Path) -> None:
    """Any option of any command, once or twice, with any word.

    Or words in the place of its arguments.
    """
    for name in ("good", "results", "model"):
        (work / name).symlink_to(good / name)
    for name in ("good.csv", "good.py", "good.npz"):
        shutil.copy(good / name, work / name)
    # which no command may take for a file, or replace
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    command = draw(st.sampled_from(sorted(OPTIONS)))
    words = list(COMMANDS.get(command, ["results"]))
    for _ in range(draw(st.integers(1, 2))):
        flag = draw(st.sampled_from([*OPTIONS[command], ""]))
        words.insert(
            draw(st.integers(0, len(words))) if not flag else len(words), flag or draw(WORDS)
        )
        if flag:
            words.append(draw(WORDS))
    called(*command.split(), *words)


def a_json_field(draw: Draw, good: Path, work: Path) -> None:
    """A field of rows, plans, failures, or of an exported model's files."""
    folder = draw(st.sampled_from(["results", "model"]))
    shutil.copytree(good / folder, work / folder)
    file = draw(
        st.sampled_from(
            sorted(file for file in (work / folder).iterdir() if file.suffix in (".json", ".jsonl"))
        )
    )
    first, *others = (
        file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
    )
    record = parsed(first)
    parent, key = draw(st.sampled_from(list(places(record))))
    if isinstance(parent, dict) and draw(st.integers(0, 4)) == 0:
        del parent[key]
    else:
        parent[key] = draw(JSON)
    file.write_text("\n".join([json.dumps(record), *others, ""]))
    if folder == "model":
        called("predict", "model", str(good / "good"), "--out", "p.csv")
    else:
        command, *more = draw(st.sampled_from(READERS))
        called(command, "results", *more)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each place of a record that can be replaced: its container and key."""
    for key, inner in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value[:2])
        if isinstance(value, list)
        else ()
    ):
        yield value, key
        yield from places(inner)


CHANGES: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda a: a[:-1],
    lambda a: a[:0],
    lambda a: a.reshape(-1, 1),
    lambda a: a.astype(str),
    lambda a: a.astype(object),
    lambda a: np.array(3),
    lambda a: a + 7 if a.dtype.kind in "iuf" else a[::-1],
    lambda a: a.astype(complex) if a.dtype.kind in "iuf" else a,
    lambda a: np.full(a.shape, np.nan),
    lambda a: np.full(a.shape, np.inf),
    lambda a: a.astype("datetime64[s]") if a.dtype.kind in "iu" else a,
]


def an_array(draw: Draw, good: Path, work: Path) -> None:
    """An array of scores, scored sets or features: another one, or none."""
    shutil.copytree(good / "results", work / "results")
    shutil.copy(good / "good.npz", work / "good.npz")
    file = draw(st.sampled_from(sorted(work.rglob("*.npz"))))
    arrays = fast_npz.whole(file)
    name = draw(st.sampled_from(sorted(arrays)))
    array = arrays.pop(name)
    change = draw(st.sampled_from([*CHANGES, None]))
    np.savez(file, **arrays, **({name: change(array)} if change else {}))
    if file.name == "good.npz":
        read(lambda: features_table.read(file), "features")
    else:
        command, *more = draw(st.sampled_from(READERS))
        called(command, "results", *more)


def a_csv_cell(draw: Draw, good: Path, work: Path) -> None:
    """Cells of a list of images, in any form of CSV, for `run`, `predict`, `audit --images`."""
    (work / "good").symlink_to(good / "good")
    rows = list(csv.reader((good / "good.csv").read_text().splitlines()))
    for _ in range(draw(st.integers(1, 3))):
        row = rows[draw(st.integers(0, len(rows) - 1))]
        row[draw(st.integers(0, 3))] = draw(
            WORDS | st.sampled_from(["label:a", "label:", "path", "id", "sex"])
        )
    mark = draw(st.sampled_from([",", ";", "\t"]))
    text = draw(st.sampled_from(["", "sep=;\n", "\ufeff", "\n\n"])) + "\n".join(
        mark.join(row) for row in rows
    )
    (work / "list.csv").write_bytes(
        text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-16"])), "surrogatepass")
    )
    reader = draw(st.sampled_from(["read", "run", "predict", "audit"]))
    if reader == "read":
        read(lambda: csv_listing.read_csv(work / "list.csv"), "list.csv")
    elif reader == "run":
        called("data", "split", "folder:list.csv")
    elif reader == "predict":
        called("predict", str(good / "model"), "list.csv", "--out", "p.csv")
    else:
        called("audit", "--fast", "--images", "list.csv")


def a_checkpoint_entry(draw: Draw, good: Path, work: Path) -> None:
    """An entry of a checkpoint, wherever it stands."""
    tree: dict[Any, Any] = {
        draw(st.sampled_from(["model", "state_dict", "ema", "x", 3])): dict(Net().state_dict()),
        "epoch": 3,
    }
    if draw(st.booleans()):
        tree = next(iter(tree.values()))
    inner = draw(
        st.sampled_from([tree, *(value for value in tree.values() if isinstance(value, dict))])
    )
    key = draw(st.sampled_from([*inner, "c", "fc.weight", None, (1,), "x" * 5000, "\x1b[2J"]))
    value = draw(st.sampled_from(TENSORS) | JSON.map(lambda value: lambda: value))()
    inner[key] = inner if draw(st.integers(0, 9)) == 0 else value
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 50]))):
        tree = {"model": tree}
    torch.save(tree, work / "a.pth")
    _fit(work / "a.pth")


def _fit(file: Path) -> None:
    read(lambda: weights.fitting_state(Net(), file, checkpoints.OWN, "net"), file.name)


#: Who reads a file of `good`: of each suffix.
BY_SUFFIX: dict[str, Callable[[Path, Path], None]] = {
    ".zip": lambda file, work: read(lambda: archives.unpack(file, "zip", work / "into"), file.name),
    **{
        end: lambda file, work: read(lambda: archives.unpack(file, "tar", work / "into"), file.name)
        for end in (".tar", ".gz", ".xz")
    },
    **{end: lambda file, work: _fit(file) for end in (".pth", ".safetensors")},
    ".npz": lambda file, work: read(lambda: features_table.read(file), file.name),
    **{
        end: lambda file, work: read(lambda: decoding.decode(file), file.name)
        for end in (".png", ".jpg", ".tif", ".bmp", ".webp", ".dcm")
    },
}


def a_byte(draw: Draw, good: Path, work: Path) -> None:
    """Bytes of an archive, a checkpoint, features or an image: flipped, overwritten, cut,
    repeated."""
    files = [*(good / "archives").iterdir(), *(good / "images").iterdir(), good / "good.npz"]
    file = draw(st.sampled_from(sorted(files)))
    content = bytearray(file.read_bytes())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        how = draw(st.sampled_from(["flip", "word", "cut", "repeat", "insert"]))
        if how == "cut":
            content = content[:at]
        elif how == "repeat":
            content = content[:at] + content[at // 2 :]
        elif how == "insert":
            content[at:at] = draw(st.binary(max_size=8))
        elif how == "word":
            content[at : at + 4] = struct.pack(
                "<I", draw(st.sampled_from([0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 0x10000]))
            )
        elif content:
            content[at] ^= 1 << draw(st.integers(0, 7))
    copy = work / file.name
    copy.write_bytes(content)
    BY_SUFFIX[file.suffix](copy, work)


KINDS: dict[str, Callable[[Draw, Path, Path], None]] = {
    "option": an_option,
    "JSON field": a_json_field,
    "array": an_array,
    "CSV cell": a_csv_cell,
    "checkpoint entry": a_checkpoint_entry,
    "byte": a_byte,
}
