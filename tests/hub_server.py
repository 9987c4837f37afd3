"""A stand-in of the Hugging Face Hub on loopback: models and datasets that can be made, written and read, in memory.

`answer` is the reading half by itself, for servers that do more (`tests.pipelines.catalogue.servers`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.loopback import serving_with

COMMIT = "c0ffee" + "0" * 34
LARGE = (".parquet", ".tar", ".safetensors", ".bin", ".png", ".webp", ".jpg")  # what the Hub keeps as LFS files
Repositories = Mapping[str, Mapping[str, bytes]]


@dataclass
class Hub:
    """`repositories` are files by name, a dataset's under "datasets/NAME"; `public` those that everybody may read; `asked` every request as
    (method, path); `stored` the large files by sha256, `commits` the messages. Each upload of a large file takes `pause` seconds."""

    address: str
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    public: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    refused: int = 0  # a status that every write gets
    pause: float = 0.0

    def uploads(self) -> list[str]:
        """The sha256 of every large file that was sent, in order."""
        return [path.rpartition("/")[2] for method, path in self.asked if method == "PUT"]


def hub() -> AbstractContextManager[Hub]:
    """The stand-in on a free port, for the time of the block."""
    return serving_with(_Handler, Hub)


def api_of(repository: str) -> str:
    """The path of a repository's API."""
    return f"/api/{repository}" if repository.startswith("datasets/") else f"/api/models/{repository}"


def commit_of(files: Mapping[str, bytes]) -> str:
    """The commit of a repository: the same for the same files."""
    return hashlib.sha1(repr(sorted((name, hashlib.sha256(body).hexdigest()) for name, body in files.items())).encode()).hexdigest()


def answer(
    repositories: Repositories, path: str, private: bool = False, commit: str | None = None, recursive: bool = True
) -> tuple[bytes, dict[str, str]] | None:
    """Body and headers of what the Hub gives to a GET of `path`; None for what is not there. A file's headers have its `ETag`. `recursive`
    is of a tree: all that lies below, or what lies directly there."""
    as_json = {"Content-Type": "application/json"}
    for repository, files in sorted(repositories.items(), key=lambda item: -len(item[0])):
        oid, api, name = commit or commit_of(files), api_of(repository), repository.removeprefix("datasets/")
        for revision in ("main", oid):
            start = f"/{repository}/resolve/{revision}/"
            if path.startswith(start) and path.removeprefix(start) in files:
                body = files[path.removeprefix(start)]
                tag = f'"{hashlib.sha256(body).hexdigest()}"'
                return body, {"ETag": tag, "X-Repo-Commit": oid, "X-Linked-Size": str(len(body)), "X-Linked-Etag": tag}
        if path.startswith(f"{api}/tree/"):
            _, _, folder = path.removeprefix(f"{api}/tree/").partition("/")
            return json.dumps(_tree(files, folder.strip("/"), recursive)).encode(), as_json
        if path == api or path.startswith(f"{api}/revision/"):
            siblings = [{"rfilename": file, "size": len(body), "blobId": "b", **_lfs(file, body)} for file, body in files.items()]
            facts = {"id": name, "modelId": name, "sha": oid, "siblings": siblings, "private": private, "tags": []}
            return json.dumps(facts).encode(), as_json
    return None


def _tree(files: Mapping[str, bytes], folder: str, recursive: bool) -> list[dict[str, Any]]:
    """The files and folders below a folder."""
    start = f"{folder}/" if folder else ""
    entries = {file: _entry(file, body) for file, body in files.items() if file.startswith(start)}
    for file in list(entries):
        parts = file.split("/")[:-1]
        for depth in range(len(parts)):
            name = "/".join(parts[: depth + 1])
            if name.startswith(start):
                entries[name] = {"type": "directory", "path": name, "size": 0, "oid": git_hash(name.encode())}
    return [entry for name, entry in sorted(entries.items()) if recursive or "/" not in name.removeprefix(start)]


def _entry(file: str, body: bytes) -> dict[str, Any]:
    return {"type": "file", "path": file, "size": len(body), "oid": git_hash(body), **_lfs(file, body)}


def _lfs(name: str, body: bytes) -> dict[str, Any]:
    if not name.endswith(LARGE):
        return {}
    sha256 = hashlib.sha256(body).hexdigest()
    return {"lfs": {"oid": sha256, "sha256": sha256, "size": len(body), "pointerSize": 100}}


def git_hash(body: bytes) -> str:
    return hashlib.sha1(f"blob {len(body)}\0".encode() + body).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_HEAD(self) -> None:
        self._read()

    def do_GET(self) -> None:
        self._read()

    def do_PUT(self) -> None:
        state, _ = self._begin()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(state.pause)
        state.stored[hashlib.sha256(body).hexdigest()] = body
        self._json({})

    def do_POST(self) -> None:
        state, path = self._begin()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if state.refused:
            self._json({"error": "no"}, state.refused)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            name = f"datasets/{name}" if asked.get("type") == "dataset" else name
            state.repositories.setdefault(name, {})
            if asked.get("visibility") != "private":
                state.public.add(name)
            self._json({"url": f"{state.address}/{name}", "name": name, "id": name})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._json({"transfer": "basic", "objects": [self._large(state, item) for item in json.loads(body)["objects"]]})
        else:
            self._write(state, path, body)

    def _large(self, state: Hub, asked: dict[str, Any]) -> dict[str, Any]:
        """What the LFS server answers to one file: where it goes, or that it is there."""
        if asked["oid"] in state.stored:
            return asked
        return {**asked, "actions": {"upload": {"href": f"{state.address}/lfs/{asked['oid']}", "header": {}}}}

    def _write(self, state: Hub, path: str, body: bytes) -> None:
        for name, files in state.repositories.items():
            api = api_of(name)
            if path.startswith(f"{api}/preupload/"):
                self._json({"files": [self._planned(file["path"], files) for file in json.loads(body)["files"]]})
                return
            if path.startswith(f"{api}/commit/"):
                for line in map(json.loads, body.decode().splitlines()):
                    self._apply(state, files, line["key"], line["value"])
                commit = commit_of(files)
                self._json({"success": True, "commitOid": commit, "commitUrl": f"{state.address}/{name}/commit/{commit}"})
                return
            if path.startswith(f"{api}/paths-info/"):
                asked = self.headers.get("Content-Type", "").startswith("application/json")
                wanted = json.loads(body)["paths"] if asked else parse_qs(body.decode()).get("paths", [])
                self._json([entry for entry in _tree(files, "", True) if entry["path"] in wanted])
                return
        self._json({"error": "not here"}, 404)

    @staticmethod
    def _planned(file: str, there: dict[str, bytes]) -> dict[str, Any]:
        """How a file is to be sent, and what is there under its name."""
        large = file.endswith(LARGE)
        oid = {"oid": hashlib.sha256(there[file]).hexdigest() if large else git_hash(there[file])} if file in there else {}
        return {"path": file, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **oid}

    @staticmethod
    def _apply(state: Hub, files: dict[str, bytes], key: str, value: dict[str, Any]) -> None:
        """One line of a commit."""
        if key == "header":
            state.commits.append(value["summary"])
        elif key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            files[value["path"]] = state.stored[value["oid"]]
        elif key == "deletedFile":
            del files[value["path"]]

    def _read(self) -> None:
        state, path = self._begin()
        names = [name for name in state.repositories if path.startswith((api_of(name), f"/{name}/"))]
        private = not any(name in state.public for name in names)
        recursive = "recursive=true" in urlsplit(self.path).query.lower()
        answered = answer(state.repositories, path, private, recursive=recursive)
        if answered is None:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound" if names else "RepoNotFound", "X-Error-Message": "not found"})
        else:
            self._send(200, *answered)

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
