"""What commands share.

The two apps, options that are no part of a grid (`grid_options` has those), and how a user's words
are read.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medbench.schema import UserError, check_writable, user_path
from medbench.system import atomic_write

if TYPE_CHECKING:
    from medbench.report.leaderboard import Leaderboard
    from medbench.run.store import Store

#: What typer raises for words that no command takes. It is click's, or, in versions that have a
#: copy of click, typer's own, which has no public name.
BadUsage: Any = typer.BadParameter.__mro__[1]
#: The same of what knows the command that is being run.
_CLICK: Any = import_module(f"{typer.Context.__mro__[1].__module__.rpartition('.')[0]}.globals")

app = typer.Typer(
    help="Which pretrained encoder should a medical image classifier start from, how few labels will do, and can the difference be trusted?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    help="Find, fetch, check and show data sets; show which images each part and label budget contains."
)
app.add_typer(data_app, name="data", invoke_without_command=True)


@cache
def command_line() -> Any:
    """Return click's command of all that was added to the apps: made once, of every signature."""
    return typer.main.get_command(app)


def filled(param: typer.CallbackParam, value: str | None) -> str | None:
    """Raise UserError for an empty text, which would be read as an option that was left out."""
    if value is not None and not value.strip():
        flag = param.opts[0]
        raise UserError(f"{flag} is empty.", then=f"give it a value, or leave {flag} out")
    return value


def path_option(*names: str, help: str) -> Any:
    """Make an option that names a file or a folder.

    Raises UserError for an empty text, a shell's unset variable: it would be the working folder.
    """
    return typer.Option(*names, help=help, parser=_place, metavar="PATH")


def _place(text: str | Path) -> Path:
    if not str(text).strip():
        raise UserError(
            "A file or folder is named by an empty text.",
            then="give it a name, or leave the option out",
        )
    if "\0" in str(text):
        raise UserError(f"{str(text)[:80]!r} cannot be a path: it holds a zero byte.")
    return Path(text)


def _rehash(context: typer.Context, value: bool) -> bool:
    """Until the command ends, what reads images believes no remembered hash."""
    if value:
        from medbench import images

        context.with_resource(images.rehashing())
    return value


Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")]
#: No command reads its value: it holds from where it is parsed, so that no function in between must
#: hand it on.
Rehash = Annotated[
    bool,
    typer.Option(
        "--rehash",
        help="Read every image file again, without remembered hashes.",
        callback=_rehash,
    ),
]
Out = Annotated[
    Path | None, path_option(help="Results folder. Default: runs/TASK in the working folder.")
]


Folders = Annotated[list[Path], typer.Argument(help="Results folders.")]
Metric = Annotated[
    str | None, typer.Option(help="Metric. Default: the primary one of the task.", callback=filled)
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        help="Only these lines, such as method=simclr,dino or labels=10%; repeat it for several axes (task, data, method, source, encoder, "
        "readout, size, protocol, labels). The best and the correction refer to these lines. leaderboard.md and .csv stay as they are."
    ),
]
REFERENCE = "reference"  # of --with
Beside = Annotated[
    list[Path] | None,
    path_option(
        "--with",
        help="CSV file of predictions made elsewhere (id, one probability for each class; optionally decision, name), shown as a line; or the word "
        "reference: medbench's own rows that were scored on the same images (table, clinical).",
    ),
]


@dataclass(frozen=True, eq=False)
class Asked:
    """What a command reads.

    Results folders, what `--only` picks of them, the names of somebody else's models beside them,
    and whether medbench's own rows of the same images stand there, too.
    """

    stores: list[Store]
    only: list[str]
    others: list[str]
    reference: bool = False


def asked_of(
    context: typer.Context,
    folders: list[Path],
    only: list[str] | None,
    beside: list[Path] | None,
    *,
    may_reference: bool = False,
) -> Asked:
    """Return the results folders, with `--with` one of each of these predictions, too.

    It lasts until the command ends.
    """
    stores = stores_of(folders)
    files = [file for file in beside or () if str(file) != REFERENCE]
    reference = len(files) < len(beside or ())
    if reference and not may_reference:
        raise UserError(
            f"--with {REFERENCE} is of table and clinical.",
            then=f"medbench table FOLDER --with {REFERENCE}, or --with FILE.csv",
        )
    if not files:
        return Asked(stores, only or [], [], reference)
    from medbench.report.external_predictions import joined

    for file in files:
        if not file.is_file():
            raise UserError(
                f"--with {file} is not a file.", allowed=["FILE.csv", REFERENCE], given=str(file)
            )
    place = context.with_resource(tempfile.TemporaryDirectory())
    return Asked(*joined(stores, files, only or [], Path(place)), reference)


def boards_of(folders: list[Path], only: list[str] | None) -> list[Leaderboard]:
    """Build the leaderboards of results folders, with the lines that `--only` names."""
    return boards_from(Asked(stores_of(folders), only or [], []))


def boards_from(asked: Asked) -> list[Leaderboard]:
    """Build the leaderboards of what a command reads, with the lines that `--only` names."""
    from medbench.report import leaderboard

    found = (leaderboard.with_reference if asked.reference else leaderboard.leaderboards)(
        *asked.stores
    )
    done = all(line.complete for board in found for line in board.lines)
    tell_unshown(asked.stores, older=not done)
    return leaderboard.only(found, asked.only) if asked.only else found


def tell_unshown(stores: Sequence[Store], *, older: bool = True) -> None:
    """Say which rows of results folders take no part, and why.

    older: also those that a plan would make otherwise.
    """
    for store in stores:
        again = (
            f" Next: {commands[-1]} --out {store.folder}"
            if (commands := store.plan().commands)
            else ""
        )
        for some in store.older() if older else ():
            print(f"{some.sentence(store.folder)}: not shown.{again}", file=sys.stderr)
        for some in store.unplanned():
            then = "Next: a run that names these methods makes them again."
            print(f"{some.sentence(store.folder)}: not shown. {then}", file=sys.stderr)


def processes_for(found: Sequence[Leaderboard]) -> int:
    """How many processes work out what these leaderboards show.

    A second one takes longer to start than a few hundred rows do.
    """
    from medbench.system.worker_pool import cores

    return cores() if sum(len(line.rows) for board in found for line in board.lines) >= 500 else 1


def stores_of(folders: list[Path]) -> list[Store]:
    """Open results folders, in their order.

    Raises UserError for one that is none, or whose plan is empty.
    """
    from medbench.run.store import Store, check_results_folder

    for folder in folders:
        check_results_folder(folder)
    stores = [Store(folder) for folder in folders]
    for store in stores:
        if not store.plan().cells:
            raise UserError(
                f"{store.folder} holds no cell: its plan is empty.",
                then=f"medbench run --out {store.folder}",
            )
    return stores


def choice(what: str, given: str, allowed: Collection[str]) -> str:
    """Return a word that is one of `allowed`. Raises UserError with the nearest match."""
    if given not in allowed:
        raise UserError(f"Unknown {what} '{given}'.", allowed=allowed, given=given)
    return given


_ANOTHER = "name another file to write to"
#: Files of a results folder or a reference, from which everything else there is made.
_RECORDS = ("plan.json", "rows.jsonl", "failed.jsonl", "judged.jsonl", "repeatability.json")


def _is_record(file: Path) -> bool:
    """Return whether a file is one of these; a table of `run --plan --json` is a list, and none."""
    if file.name not in _RECORDS or not file.is_file():
        return False
    if file.name != "plan.json":
        return True
    try:
        with file.open("rb") as read:
            return not read.read(64).lstrip().startswith(b"[")
    except OSError:
        return True  # what cannot be read may be one


def outputs(*files: Path | None) -> None:
    """Check that files can be written, before the work whose result they shall hold.

    Raises UserError, also for a file that the command reads, or is to write twice, and for a record
    of results.
    """
    for file in filter(None, files):
        if file.is_dir():
            raise UserError(f"{file} is a folder.", then=f"name a file in it: {file / 'NAME'}")
        named = sum(_same_file(place, file) for place in _places())
        if named > 1:
            raise UserError(
                f"{file} is named twice in this command: what it holds would be lost.",
                then=_ANOTHER,
            )
        if _is_record(file):
            raise UserError(f"{file} is a record of results, which would be lost.", then=_ANOTHER)
        check_writable(file, "name another place")


def _places() -> list[Path]:
    """Return what the options of this command name, a place or not."""
    context = _CLICK.get_current_context(silent=True)
    given = context.params.values() if context else ()
    flat = [one for value in given for one in (value if isinstance(value, list) else [value])]
    texts = [text for one in flat if isinstance(one, str | Path) for text in str(one).split(",")]
    return [Path(text.strip().removeprefix("folder:")) for text in texts]


def _same_file(place: Path, file: Path) -> bool:
    try:
        return place.resolve() == file.resolve()
    except (OSError, RuntimeError, ValueError):  # no name of a file, or links in a circle
        return False


def put(text: str, out: Path | None) -> None:
    """Print a text, or write it to `out` (whole or not at all; a pipe as it is).

    Folders above are made. Raises UserError where it cannot be written.
    """
    if out is None:
        print(text, end="")
    else:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            if out.exists() and not out.is_file():  # a pipe, a terminal
                out.write_text(text, encoding="utf-8")
            else:
                atomic_write.write(
                    out.resolve(), lambda partial: partial.write_text(text, encoding="utf-8")
                )
        except OSError as error:
            raise UserError(f"{out} cannot be written: {error.strerror}.") from error


def split(text: str) -> tuple[str, ...]:
    """Return the parts of a text between commas, without blanks around them and empty ones."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def split_files(text: str) -> tuple[str, ...]:
    """Split at commas, but keep a comma in the path of a file.

    As in `a, b/e.py:net`, `features:a, b.npz`. Of a file that is missing, too, where what stands
    before its comma is no encoder's name: whoever refuses it then names the path that was given.
    """
    pieces, found = text.split(","), []
    while pieces:
        lengths = range(1, len(pieces) + 1)
        n = next(
            (n for n in lengths if _names_file(",".join(pieces[:n]).strip())), None
        ) or _missing(pieces)
        found.append(",".join(pieces[:n]).strip())
        del pieces[:n]
    return tuple(filter(None, found))


def _names_file(text: str) -> bool:
    path, _, name = text.rpartition(":")
    if text.startswith("features:"):
        path, name = text.removeprefix("features:"), "features"
    return bool(path) and name.isidentifier() and user_path(path).is_file()


def _missing(pieces: Sequence[str]) -> int:
    """How many of the pieces between commas are the path of one file that is not there.

    Up to the one that ends as such a path does.
    """
    from medbench.models.timm_answers import architectures

    first = pieces[0].strip()
    ends = r"\.(npz|parquet)$" if first.startswith("features:") else r"\.py:\w+$"
    if not first or first.partition(".")[0] in architectures():
        return 1
    return next(
        (
            n
            for n, piece in enumerate(pieces, 1)
            if re.search(ends, piece.strip()) and not _names_file(piece.strip())
        ),
        1,
    )


def named(option: str, text: str | None) -> tuple[str, ...]:
    """Return the names in an option that may be left out.

    Raises UserError for one that was given and names nothing: it would mean all of them.
    """
    names = split(text or "")
    if text is not None and not names:
        raise UserError(
            f"{option} '{text}' names nothing.", then=f"leave {option} out for its default"
        )
    return names
