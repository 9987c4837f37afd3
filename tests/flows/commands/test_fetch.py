"""`ntf fetch` as a person runs it: real processes, a real server on loopback, and kills."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from generators.checkpoints import sha256_of
from tests.commands import Answer
from tests.generators.methods import tiny_diffusion as tiny
from tests.pipelines.catalogue.servers import COMMIT, Served, Server, serving

BODY = os.urandom(4_000_000)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


def manifest(folder: Path, **entries: dict[str, Any]) -> Path:
    """A manifest with one sample step for each of these checkpoints, which lie beside it."""
    file = folder / "m.yaml"
    described = {name: {"generators": ["ddpm"], "file": f"ck/{name}", "licence": "MIT", **entry} for name, entry in entries.items()}
    subsets = {f"S{n}": {"count": 2, "real": "r", "chain": [{"sample": "ddpm", "checkpoint": name}]} for n, name in enumerate(entries)}
    reals = {"r": {"package": "faces", "count": 30, "licence": "x"}}
    file.write_text(yaml.safe_dump({"dataset": "d", "size": 32, "reals": reals, "checkpoints": described, "subsets": subsets}))
    return file


def command(folder: Path, server: Server, *arguments: str | Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "HF_ENDPOINT": server.address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HOME": str(folder / "hf"), "NTF_CHECKPOINTS": str(folder / "checkpoints"), "NTF_CACHE": str(folder / "cache")}
    line = [sys.executable, "-m", "flows.cli", "fetch", *map(str, arguments)]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(folder: Path, server: Server, *arguments: str | Path) -> tuple[int, str, str]:
    process = command(folder, server, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def files_below(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def pipeline(folder: Path) -> dict[str, bytes]:
    """The files of a repository: a DDPM pipeline, and what nobody reads."""
    tiny.pixel_pipeline(folder)
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(unet.read_bytes())
    (folder / "README.md").write_text("read me")
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


def test_a_hub_folder_a_file_and_what_is_by_hand(server: Server, tmp_path: Path) -> None:
    files = pipeline(tmp_path / "made")
    server.repositories["org/ddpm"] = files
    server.files["/w"] = Served(BODY)
    m = manifest(
        tmp_path, hub={"hub": "org/ddpm"}, file={"url": server.url("/w"), "licence": "CC0"}, hand={"page": "https://x.org", "how": "log in"}
    )
    code, _, err = run(tmp_path, server, m)
    assert code == 2
    assert '--accept "MIT" --accept "CC0"' in " ".join(err.split())
    assert not (tmp_path / "ck").exists()
    code, out, err = run(tmp_path, server, m, "--accept", "MIT", "--accept", "CC0", "--json")
    assert (code, "1 checkpoint of" in err) == (1, True)
    data = json.loads(out)
    assert data["failed"] == {}
    assert {done["name"] for done in data["fetched"]} == {"hub", "file"}
    code, out, err = run(tmp_path, server, m)
    assert "licence as this project noted it (not checked): MIT; read it at https://x.org" in " ".join(out.split())
    assert [entry["origin"] for entry in data["missing"]] == ["https://x.org: log in"]
    kept = {"model_index.json", "scheduler/scheduler_config.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"}
    assert files_below(tmp_path / "ck") == {f"hub/{name}" for name in kept} | {"file"}
    assert not any(name.endswith(("README.md", ".bin")) for method, name, _ in server.requests if method == "GET")
    locked = yaml.safe_load((tmp_path / "checkpoints" / "lock.yaml").read_text())
    entry = locked[str(tmp_path / "ck" / "hub")]
    assert (entry["revision"], entry["sha256"]) == (COMMIT, sha256_of(tmp_path / "ck" / "hub"))
    assert entry["files"].keys() == kept


def test_the_commit_of_the_first_fetch_is_used_again(
    server: Server, tmp_path: Path, ntf: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the repository has a newer one, a folder that was removed comes back as it was. `ntf plan` and `fetch` name the commit."""
    server.repositories["org/ddpm"] = pipeline(tmp_path / "made")
    m = manifest(tmp_path, hub={"hub": "org/ddpm"})
    assert run(tmp_path, server, m, "--accept", "MIT")[0] == 0
    digest = sha256_of(tmp_path / "ck" / "hub")
    shutil.rmtree(tmp_path / "ck" / "hub")
    asked = len(server.requests)
    monkeypatch.setenv("NTF_CHECKPOINTS", str(tmp_path / "checkpoints"))
    planned = ntf("plan", str(m))
    assert planned.code == 1
    assert f"get it from https://huggingface.co/org/ddpm, revision {COMMIT[:12]}, which lock.yaml holds" in " ".join(planned.out.split())
    code, out, err = run(tmp_path, server, m, "--accept", "MIT")
    assert (code, err) == (0, ""), out
    assert sha256_of(tmp_path / "ck" / "hub") == digest
    listings = [path for method, path, _ in server.requests[asked:] if path.startswith("/api/models/")]
    assert listings
    assert all(path.endswith(f"/revision/{COMMIT}") for path in listings)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [(401, "GatedRepo", "is gated"), (403, "GatedRepo", "is gated"), (401, "RepoNotFound", "is not on the Hub, or is private")],
)
def test_a_repository_that_refuses(server: Server, tmp_path: Path, status: int, code: str, message: str) -> None:
    server.repositories["org/ddpm"] = {"config.json": b"{}"}
    server.refused["org/ddpm"] = (status, code)
    ended, out, err = run(tmp_path, server, manifest(tmp_path, hub={"hub": "org/ddpm"}), "--accept", "MIT")
    assert ended == 1
    assert message in out
    assert "Traceback" not in out + err


def test_offline(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = command(tmp_path, server, manifest(tmp_path, hub={"hub": "org/ddpm"}), "--accept", "MIT")
    assert process.wait(timeout=120) == 1
    assert "is not on the Hub" in process.communicate()[0]


def _killed_in_the_middle(folder: Path, server: Server, arguments: list[str | Path], begun: Callable[[], bool]) -> None:
    """Starts a fetch and kills it when it has `begun`."""
    process = command(folder, server, *arguments)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None and not begun():
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()


def _bytes_in(folder: Path, pattern: str) -> int:
    """What files of this name hold. A file may go while it is looked at."""
    total = 0
    for file in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def test_a_killed_fetch_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = Served(BODY, pause=0.05)
    arguments: list[str | Path] = [manifest(tmp_path, file={"url": server.url("/w")}), "--accept", "MIT"]
    _killed_in_the_middle(tmp_path, server, arguments, lambda: _bytes_in(tmp_path / "ck", "*.partial*") > 500_000)
    assert not (tmp_path / "ck" / "file").exists()
    came = (tmp_path / "ck" / "file.partial").stat().st_size
    server.files["/w"].pause = 0
    code, out, err = run(tmp_path, server, *arguments)
    assert (code, err) == (0, ""), out
    assert (tmp_path / "ck" / "file").read_bytes() == BODY
    assert server.gets("/w")[-1] == f"bytes={came}-"
    assert files_below(tmp_path / "ck") == {"file"}
    assert hashlib.sha256(BODY).hexdigest() in (tmp_path / "checkpoints" / "lock.yaml").read_text()


def test_a_killed_fetch_of_a_folder_is_not_taken_for_a_whole_one(server: Server, tmp_path: Path) -> None:
    files = pipeline(tmp_path / "made")
    big = "unet/diffusion_pytorch_model.safetensors"
    weights = files[big]
    server.repositories["org/ddpm"] = files
    server.files[f"/org/ddpm/resolve/{COMMIT}/{big}"] = Served(
        weights,
        pause=0.2,
        block=len(weights) // 30,
        etag=f'"{hashlib.sha256(weights).hexdigest()}"',
        headers={"X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(weights)), "X-Linked-Etag": f'"{hashlib.sha256(weights).hexdigest()}"'},
    )
    arguments: list[str | Path] = [manifest(tmp_path, hub={"hub": "org/ddpm"}), "--accept", "MIT"]
    download = tmp_path / "ck/hub.partial/.cache/huggingface/download/unet"  # the Hub's library writes small files at their end only
    _killed_in_the_middle(tmp_path, server, arguments, lambda: any(download.glob(f"*{hashlib.sha256(weights).hexdigest()}*")))
    assert not (tmp_path / "ck" / "hub").exists()
    server.files.clear()
    (tmp_path / "ck/hub.partial/.cache/huggingface/download" / f"{big}.metadata").write_text("\n")  # a note whose writing was cut
    code, out, err = run(tmp_path, server, *arguments)
    assert (code, err) == (0, ""), out
    assert (tmp_path / "ck" / "hub" / big).read_bytes() == weights
    assert not (tmp_path / "ck" / "hub.partial").exists()


@pytest.mark.parametrize("options", [(), ("-v",), ("-v", "--log", "a.log"), ("--log", "a.log"), ("-q",)])
def test_a_signature_is_neither_printed_nor_kept(server: Server, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Nor is the one that a redirect adds, which the library of requests would log."""
    server.files |= {
        "/a": Served(statuses=[302], headers={"Location": server.url("/b?X-Amz-Signature=hunter2&part=1")}),
        "/b": Served(BODY),
    }
    file = manifest(tmp_path, one={"url": server.url("/a?token=hunter2")}, two={"url": server.url("/absent?sig=hunter2")})
    words = [str(tmp_path / word) if word == "a.log" else word for word in options]
    line = [sys.executable, "-m", "flows.cli", *words, "fetch", str(file), "--accept", "MIT"]
    environment = {**os.environ, "NTF_CHECKPOINTS": str(tmp_path / "checkpoints"), "NTF_CACHE": str(tmp_path / "cache")}
    for more in ((), ("--json",)):
        done = subprocess.run([*line, *more], env=environment, capture_output=True, text=True, timeout=120, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 1 and "token=..." in said + (tmp_path / "checkpoints" / "lock.yaml").read_text()
        assert "hunter2" not in said, said
        if "-v" in options and not more:
            assert "X-Amz-Signature=...&part=1" in said
    assert (tmp_path / "ck" / "one").read_bytes() == BODY
    kept = [place for place in tmp_path.rglob("*") if place.is_file() and place != file]
    assert len(kept) >= 3 and not [place for place in kept if b"hunter2" in place.read_bytes()]
