"""The files of one commit of a repository.

From the hub's own cache on this machine, else fetched into it.

What lies there is taken without asking the hub, so that a run needs no network once its files are
here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medbench.models.foreign_errors import NOT_ITS_OWN
from medbench.models.hub.references import INDEX, Reference
from medbench.schema import UserError, parsed


@dataclass(frozen=True)
class Snapshot:
    """The files of a repository at one commit.

    commit: 40 hex digits. files: of each group that was asked for, the one that is there; None
    where there is none.
    """

    commit: str
    files: tuple[Path | None, ...]


def snapshot(reference: Reference, groups: Sequence[Sequence[str]], commit: str = "") -> Snapshot:
    """Fetch, of each group of names, the first that the repository has.

    commit: where it is known. Raises UserError where it cannot be had: offline, gated, not there.
    """
    commit = commit or _commit(reference)
    here = [_here(reference, commit, group) for group in groups]
    if commit and all(here):
        return Snapshot(commit, tuple(here))
    fetched = []
    for group, file in zip(groups, here, strict=True):
        fetched.append(file or _fetched(reference, commit, group))
        commit = commit or next(
            (
                file.relative_to(_folder(reference) / "snapshots").parts[0]
                for file in fetched
                if file
            ),
            "",
        )
    return Snapshot(commit, tuple(fetched))


def shards(reference: Reference, commit: str, file: Path) -> list[Path]:
    """Return the files of weights that `file` names where it is an index; else `file` alone.

    They are fetched if they lack. Raises UserError for a broken index, or files that cannot be had.
    """
    if not file.name.endswith(INDEX):
        return [file]
    try:
        names = sorted(set(parsed(file.read_bytes())["weight_map"].values()))
    except NOT_ITS_OWN as error:
        raise _odd(reference, file.name, error) from error
    inside = [
        name for name in names if isinstance(name, str) and "/" not in name and "\\" not in name
    ]
    if len(inside) < len(names) or not names:
        raise _odd(
            reference, file.name, "it names files elsewhere" if names else "it names no file"
        )
    found = snapshot(reference, [[name] for name in inside], commit)
    lacking = [name for name, one in zip(inside, found.files, strict=True) if one is None]
    if lacking:
        raise _odd(reference, file.name, f"{lacking[0]} is not there")
    return [one for one in found.files if one is not None]


def _odd(reference: Reference, name: str, why: object) -> UserError:
    return UserError(
        f"{reference}: {name} is not what {reference.door.package} writes ({why}).",
        then=f"see {reference.page}",
    )


def cache_folder() -> Path:
    """Return where the hub's own client keeps what it fetched."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _folder(reference: Reference) -> Path:
    """Of the repository in the hub's cache."""
    return cache_folder() / f"models--{reference.owner}--{reference.name}"


def _commit(reference: Reference) -> str:
    """Return the commit that a revision means on this machine.

    "" where it is not known here.
    """
    folder = _folder(reference)
    ref = folder / "refs" / (reference.revision or "main")
    if ref.is_file():
        return ref.read_text().strip()
    there = (
        sorted(one.name for one in (folder / "snapshots").glob("*"))
        if len(reference.revision) >= 7
        else []
    )
    meant = [name for name in there if name.startswith(reference.revision)]
    return meant[0] if len(meant) == 1 else ""


def _here(reference: Reference, commit: str, group: Sequence[str]) -> Path | None:
    place = _folder(reference) / "snapshots" / commit
    return next((file for name in group if commit and (file := place / name).is_file()), None)


def _fetched(reference: Reference, commit: str, group: Sequence[str]) -> Path | None:
    """Return the first file of a group that the repository has, downloaded.

    None where it has none. Raises UserError.
    """
    import huggingface_hub
    from huggingface_hub import errors

    again = f"with a network, medbench fetch --encoder {reference}, then copy the hub's cache here"
    # the hub's own client would retry for half a minute
    why = unreachable(huggingface_hub.constants.ENDPOINT)
    if why:
        what = f"{group[0]} of '{reference}' is not in the hub's cache on this machine and cannot be fetched ({why})."
        raise UserError(what, then=f"{again}; its page is {reference.page}")
    for name in group:
        try:
            return Path(
                huggingface_hub.hf_hub_download(
                    reference.repository, name, revision=commit or reference.revision or None
                )
            )
        except errors.RemoteEntryNotFoundError:
            continue
        except errors.GatedRepoError as error:
            what = f"'{reference}' is gated: its owner gives it to people who accept its terms."
            raise UserError(
                what,
                then=f"accept them at {reference.page}, then hf auth login, then the same command again",
            ) from error
        except errors.RevisionNotFoundError as error:
            raise UserError(
                f"{reference.repository} has no revision '{reference.revision}'.",
                then=f"see {reference.page}/commits",
            ) from error
        except errors.RepositoryNotFoundError as error:
            what = f"The hub has no repository {reference.repository}, or does not show it to you."
            raise UserError(
                what, then=f"see {reference.page}; for a private one, hf auth login"
            ) from error
        except (errors.HfHubHTTPError, OSError) as error:
            what = f"{name} of '{reference}' cannot be fetched ({str(error).splitlines()[0]})."
            raise UserError(what, then=f"{again}; its page is {reference.page}") from error
    return None


def unreachable(endpoint: str) -> str:
    """Return why the hub cannot be reached, "" where it can.

    Any HTTP answer counts as reached; proxies are honoured.
    """
    import urllib.error
    import urllib.request

    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return ""
    except OSError as error:
        return f"no way to {endpoint}: {getattr(error, 'reason', error)}"
    return ""
