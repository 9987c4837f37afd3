"""A real HTTP server on loopback that behaves as file servers do, well and badly, and speaks the part of the Hub's protocol that we use."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.hub_server import COMMIT, answer
from tests.loopback import serving_with


@dataclass
class Served:
    """What one address answers. `statuses` are given first, one at a request; then the body comes, `cuts` times only a part of it."""

    body: bytes = b""
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)  # after so many bytes the connection is closed, one entry for each GET
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    if_range: bool = True  # False: a part is sent whatever version it is asked of
    shift: int = 0  # bytes that a part begins too early
    etag: str | None = '"1"'
    length: bool = True
    pause: float = 0.0  # seconds between two blocks
    drip: float = 0.0  # seconds between two bytes of the headers
    block: int = 65_536


@dataclass
class Server:
    """`files` by path; `requests` are those that came: method, path and the Range header."""

    address: str
    files: dict[str, Served] = field(default_factory=dict)
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)  # repositories, with status and the Hub's error code
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)  # the Authorization header of each request

    def url(self, path: str) -> str:
        return self.address + path

    def gets(self, path: str) -> list[str | None]:
        """The Range header of every GET of `path`."""
        return [asked for method, place, asked in self.requests if method == "GET" and place == path]


def serving() -> AbstractContextManager[Server]:
    """A server on a free port of this machine, for the time of the block."""
    return serving_with(_Handler, Server)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        state: Server = self.server.state  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        state.requests.append((self.command, path, self.headers.get("Range")))
        state.logins.append(self.headers.get("Authorization"))
        try:
            served = state.files.get(path) or self._of_the_hub(state, path)
            if isinstance(served, tuple):
                self._plain(*served)
            else:
                self._file(served, with_body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _of_the_hub(self, state: Server, path: str) -> Served | tuple[int, bytes, dict[str, str]]:
        for repository in state.repositories:
            if path.startswith((f"/api/models/{repository}", f"/{repository}/resolve/")) and repository in state.refused:
                status, code = state.refused[repository]
                return status, b"{}", {"X-Error-Code": code, "X-Error-Message": "refused"}
        answered = answer(state.repositories, path, commit=COMMIT)
        if answered is not None:
            body, headers = answered
            return Served(body, etag=headers.pop("ETag"), headers=headers) if "ETag" in headers else (200, body, headers)
        return 404, b"<html>not here</html>", {"X-Error-Code": "RepoNotFound"}

    def _plain(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _file(self, served: Served, with_body: bool) -> None:
        if served.statuses and with_body:
            self._plain(served.statuses.pop(0), b"busy", served.headers)
            return
        start, status = 0, 200
        asked = self.headers.get("Range")
        fresh = self.headers.get("If-Range") in (None, served.etag, served.headers.get("Last-Modified"))
        if asked and served.ranges and (fresh or not served.if_range):
            start, status = int(asked.removeprefix("bytes=").partition("-")[0]) - served.shift, 206
            if start >= len(served.body):
                self._plain(416, b"", {"Content-Range": f"bytes */{len(served.body)}"})
                return
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(served.body) - 1}/{len(served.body)}")
        if served.etag:
            self.send_header("ETag", served.etag)
        for name, value in served.headers.items():
            self.send_header(name, value)
        if served.length:
            self.send_header("Content-Length", str(len(served.body) - start))
        else:
            self.send_header("Connection", "close")
        self._end_headers(served.drip)
        if with_body:
            self._send(served, start)

    def _end_headers(self, drip: float) -> None:
        if not drip:
            self.end_headers()
            return
        headers, self._headers_buffer = b"".join([*self._headers_buffer, b"\r\n"]), []
        for byte in headers:
            self.wfile.write(bytes([byte]))
            time.sleep(drip)

    def _send(self, served: Served, start: int) -> None:
        stop = served.cuts.pop(0) if served.cuts else len(served.body)
        for place in range(start, stop, served.block):
            self.wfile.write(served.body[place : min(place + served.block, stop)])
            if served.pause:
                self.wfile.flush()
                time.sleep(served.pause)
        if stop < len(served.body) or not served.length:
            self.close_connection = True
