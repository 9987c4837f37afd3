"""A stand-in of the Hugging Face Hub on loopback: repositories that can be made, written and read, in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """`repositories` are files by name; `asked` every request as (method, path)."""

    address: str
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def hub() -> Iterator[Hub]:
    """The stand-in on a free port, for the time of the block."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.daemon_threads = True
    http.state = Hub(f"http://127.0.0.1:{http.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield http.state  # type: ignore[attr-defined]
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_HEAD(self) -> None:
        self._read()

    def do_GET(self) -> None:
        self._read()

    def do_POST(self) -> None:
        state, path = self._begin()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            state.repositories.setdefault(name, {})
            self._json({"url": f"{state.address}/{name}", "name": name, "id": name})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self._json({"files": files})
        elif "/commit/" in path:
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            files_of = state.repositories[name]
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    files_of[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._json({"success": True, "commitOid": COMMIT, "commitUrl": f"{state.address}/{name}/commit/{COMMIT}"})
        else:
            self._json({"error": "not here"}, 404)

    def _read(self) -> None:
        state, path = self._begin()
        for name, files in state.repositories.items():
            for revision in ("main", COMMIT):
                start = f"/{name}/resolve/{revision}/"
                if path.startswith(start) and path.removeprefix(start) in files:
                    body = files[path.removeprefix(start)]
                    tag = f'"{hashlib.sha256(body).hexdigest()}"'
                    self._send(200, body, {"ETag": tag, "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(body)), "X-Linked-Etag": tag})
                    return
            if path.startswith(f"/api/models/{name}/tree/"):
                self._json([{"type": "file", "path": file, "size": len(body), "oid": "0" * 40} for file, body in files.items()])
                return
            if path.startswith(f"/api/models/{name}"):
                siblings = [{"rfilename": file, "size": len(body), "blobId": "b"} for file, body in files.items()]
                self._json({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []})
                return
        self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})

    def _begin(self) -> tuple[Hub, str]:
        state: Hub = self.server.state  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        state.asked.append((self.command, path))
        return state, path

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
