"""An HTTP server on 127.0.0.1 that misbehaves as told."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """A file at a path.

    cut: the connection ends after so many bytes of an answer, once for each entry. ranges: are they
    known here?
    """

    body: bytes
    mark: str = '"1"'  # ETag
    ranges: bool = True
    cut: list[int] = field(default_factory=list)
    status: int = 200
    location: str = ""
    length: bool = True  # is Content-Length sent?
    headers: Mapping[str, str] = field(default_factory=dict)  # of an answer that is no file


class Server:
    """files: path -> Served, or 404. asked: (path, Range header) of each request."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range", "")
                outer.asked.append((self.path, wanted))
                served = outer.files.get(self.path)
                if served is None or served.status != 200:
                    self.send_response(404 if served is None else served.status)
                    if served is not None and served.location:
                        self.send_header("Location", served.location)
                    for name, value in (served.headers if served else {}).items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body, start = served.body, re.fullmatch(r"bytes=(\d+)-", wanted)
                if start and served.ranges:
                    first = int(start[1])
                    if first >= len(body):
                        self.send_response(416)
                        self.send_header("Content-Range", f"bytes */{len(body)}")
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
                    body = body[first:]
                else:
                    self.send_response(200)
                if served.mark:
                    self.send_header("ETag", served.mark)
                if served.length:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: served.cut.pop(0)] if served.cut else body)

            def do_HEAD(self) -> None:
                served = outer.files.get(self.path)
                if served is not None and served.status == 200:
                    self.send_error(501)
                else:
                    self.do_GET()  # which sends no body then

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
