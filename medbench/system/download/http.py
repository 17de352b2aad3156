"""One file over HTTP.

What has come lies in FILE.part; a second try asks for the rest (RFC 9110, section 14: Range,
Content-Range).
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.schema import UserError
from medbench.system.progress_listener import report_progress

if TYPE_CHECKING:
    import requests

log = logging.getLogger("medbench")
# in a row that bring nothing new; a transfer that moves on may break off as often as it likes
TRIES = 3
WAIT = 1.0  # seconds before the second try, doubled before each further one
_TIMEOUT = (30, 60)  # seconds: to connect, and without a byte
_BLOCK = 1 << 16
_KEPT = 32 << 20  # bytes that a download leaves free on the disk
# bytes of a file whose size neither its publisher nor the server says: more than any data set has
_MOST = 1 << 40


class _BrokeOff(OSError):
    """The connection ended before the file did, or the server is busy: worth another try."""


def retrieve(
    url: str,
    to: Path,
    verify: Callable[[Path], None],
    *,
    size: int | None = None,
    sure: bool = False,
    name: str = "",
) -> None:
    """Download `url` to `to`, which appears complete and verified or not at all.

    The listener hears how far it is.

    verify(file) raises UserError for what is not the right file: it is deleted. A transfer that
    breaks off goes on where it stopped, now and at the next call, as long as the server has ranges
    and its file is still the same (ETag or Last-Modified; without either only where `sure`: verify
    knows a published hash); a server without ranges starts again. size: bytes, where published.
    name: what is reported.

    The caller holds a lock for `to`. Raises UserError for another size and a full disk, OSError
    (requests' errors are such) for the rest.
    """
    part, state = to.with_name(f"{to.name}.part"), to.with_name(f"{to.name}.part.json")
    to.parent.mkdir(parents=True, exist_ok=True)
    tries, fresh = 0, False
    while True:
        had = _bytes(part)
        try:
            resumed = _transfer(url, part, state, size, sure, name or to.name)
        except _BrokeOff as error:
            tries = 1 if _bytes(part) > had else tries + 1
            if tries >= TRIES:
                raise
            log.info("the download of %s broke off (%s)", url, error)
            time.sleep(WAIT * 2 ** (tries - 1))
            continue
        try:
            verify(part)
        except UserError:
            part.unlink()
            state.unlink(missing_ok=True)
            # the first half may have been another file's: once from the start
            if resumed and not fresh:
                fresh = True
                continue
            raise
        part.replace(to)
        state.unlink(missing_ok=True)
        return


def reason(error: BaseException) -> str:
    """Return the innermost reason of a failed request, one line."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _transfer(url: str, part: Path, state: Path, size: int | None, sure: bool, name: str) -> bool:
    """One request, into `part`. True where it went on with what was there."""
    import requests

    known = _known(state)
    start = _bytes(part) if known.get("url") == url and (known.get("mark") or sure) else 0
    try:
        response = _ask(url, start)
        if start and not _continues(response, start, known):
            log.info(
                "%s starts again: the server does not go on in the middle, or its file has changed",
                url,
            )
            start = 0
            if response.status_code != 200:
                response.close()
                response = _ask(url, start)
        with response:
            if response.status_code == 416:
                return True  # all of it had come
            total = _total(response, start)
            if size is not None and total not in (None, size):
                what = f"{url} is {total:,} bytes, not the published {size:,}: the file has changed, or it is a page that says why not."
                raise UserError(what, then=f"look at {url}")
            _check_space(part, (total or size or 0) - start)
            state.write_text(json.dumps({"url": url, "mark": _mark(response)}))
            _write(
                response, part, start, total, total if total is not None else size or _MOST, name
            )
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        if not _bytes(part):
            raise  # no network, most likely: waiting does not help
        raise _BrokeOff(reason(error)) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"The disk is full: {part.parent}.", then=_SPACE) from error
        raise
    return start > 0


def _ask(url: str, start: int) -> requests.Response:
    import requests

    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    response = requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
    if response.status_code == 429 or response.status_code >= 500:
        response.close()
        raise _BrokeOff(f"the server answered {response.status_code} {response.reason}")
    if not (response.status_code == 416 and start):
        response.raise_for_status()
    return response


def _continues(response: requests.Response, start: int, known: dict[str, Any]) -> bool:
    """Tell whether the answer to a request for a range goes on with the same file."""
    span = re.fullmatch(
        r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "")
    )
    if response.status_code == 416:
        return span is not None and span[2] == str(start)
    return (
        response.status_code == 206
        and span is not None
        and span[1] == str(start)
        and known.get("mark") in ("", _mark(response))
    )


def _mark(response: requests.Response) -> str:
    """Return what names the version of the server's file, "" where it does not say."""
    return str(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")


def _total(response: requests.Response, start: int) -> int | None:
    """Bytes of the whole file, where the server says."""
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _write(
    response: requests.Response, part: Path, start: int, total: int | None, most: int, name: str
) -> None:
    """Write a response to `part`.

    Raises UserError for more than `most` bytes, and where the disk is all but full.
    """
    from urllib3.exceptions import HTTPError

    came, told = start, _teller(f"downloading {name}", total)
    told(came)
    with part.open("r+b" if start else "wb") as stream:
        if start:
            stream.seek(start)
            stream.truncate()
        try:
            # the file's own bytes, whatever the server calls them
            for block in response.raw.stream(_BLOCK, decode_content=False):
                stream.write(block)
                came += len(block)
                if came > most:
                    break
                if total is None and came >> 26 > (came - len(block)) >> 26:  # once in 64 MB
                    _check_space(part, 0)
                told(came)
        except HTTPError as error:
            raise _BrokeOff(reason(error)) from error
        stream.flush()
        os.fsync(stream.fileno())
    if came > most:
        part.unlink()
        raise UserError(
            f"{name} is more than {most:,} bytes: the server sends another file, or one without an end."
        )
    if total is not None and _bytes(part) != total:
        raise _BrokeOff(f"{_bytes(part):,} of {total:,} bytes came")
    told(came, done=True)


def _teller(stage: str, total: int | None) -> Callable[..., None]:
    """told(bytes that came, done=False) reports whole megabytes, once for each.

    For a file whose size no server says, how many there are so far.
    """
    last, whole = -1, -(-total >> 20) if total is not None else 0

    def told(came: int, done: bool = False) -> None:
        nonlocal last
        megabytes = came >> 20
        if total is None and (done or megabytes > last):
            report_progress(stage, int(done), 1, "files", f"{megabytes} MB")
        elif total is not None and (done or last < megabytes < whole):
            report_progress(stage, whole if done else megabytes, whole, "MB")
        last = max(last, megabytes)

    return told


_SPACE = "free some space, or choose a folder on a larger disk, and run the same command again: it goes on where it stopped"


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < needed + _KEPT:
        raise UserError(
            f"{part.parent} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are still to come.",
            then=_SPACE,
        )


def _known(state: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(state.read_text()))
    except (OSError, ValueError):
        return {}


def _bytes(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
