"""`ntf serve` without a server that it could offer its flows to: one line, exit code 2."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.commands import Answer

Ntf = Callable[..., Answer]


def refused(ntf: Ntf) -> str:
    answer = ntf("serve")
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert line.startswith("error:")
    return line


def test_nobody_listens(ntf: Ntf, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused, and nobody else gets the port
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("PREFECT_API_URL", f"http://me:secret@{address}/api")
        line = refused(ntf)
    assert f"no Prefect server answers at http://{address}/api" in line and "prefect server start" in line
    assert "secret" not in line


@pytest.mark.parametrize("address", ["nonsense", "http://[::1", "ftp://127.0.0.1/api", "http://127.0.0.1:99999/api", "http://\x01/api"])
def test_an_address_that_is_none(ntf: Ntf, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("PREFECT_API_URL", address)
    assert "no Prefect server answers at" in refused(ntf)


def test_no_address(ntf: Ntf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert "PREFECT_API_URL names no Prefect server" in refused(ntf)


class Guarded(BaseHTTPRequestHandler):
    """A server with a password, as Prefect's is: its health may be asked for by anyone."""

    def do_GET(self) -> None:
        known = "Basic " + base64.b64encode(b"me:a:b").decode()
        is_open = self.path.endswith("/health") or self.headers.get("Authorization") == known
        self.send_response((500 if self.path.endswith("/version") else 200) if is_open else 401)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@pytest.mark.parametrize(
    ("password", "said"), [(None, "know its password"), ("me:wrong", "PREFECT_API_AUTH_STRING=user:password"), ("me:a:b", "answers 500")]
)
def test_a_server_with_a_password(ntf: Ntf, monkeypatch: pytest.MonkeyPatch, password: str | None, said: str) -> None:
    with HTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
        monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
        if password is not None:
            monkeypatch.setenv("PREFECT_API_AUTH_STRING", password)
        try:
            assert said in refused(ntf)
        finally:
            server.shutdown()


class NotFound(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *words: object) -> None:
        pass


def test_something_else_listens(ntf: Ntf, monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), NotFound) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
        try:
            assert "is no Prefect API" in refused(ntf)
        finally:
            server.shutdown()
