"""The deployments on a real server and a real serving process, on loopback, as docs/operations.md describes them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.store import Store
from tests.support import simswap_checkpoint, write_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
PREFECT = [str(Path(sys.executable).with_name("prefect"))]
NTF = [str(Path(sys.executable).with_name("ntf"))]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what: str, test: Any, seconds: float) -> float:
    """Waits until `test()` holds and gives the seconds that it took."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if test():
            return time.monotonic() - start
        time.sleep(0.5)
    raise AssertionError(f"{what} did not come within {seconds} s")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and everything in its group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    api = f"http://127.0.0.1:{free_port()}/api"
    return {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_PLUGINS_ENABLED": "1",
        "NTF_CHECKPOINTS": str(tmp_path / "checkpoints"),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def server(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    api = environment["PREFECT_API_URL"]
    port = api.rsplit(":", 1)[1].removesuffix("/api")
    with (tmp_path / "server.log").open("wb") as log:
        command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", port]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

        def healthy() -> bool:
            try:
                with urllib.request.urlopen(f"{api}/health", timeout=2) as answer:
                    return answer.status == 200
            except OSError:
                return False

        wait_for("the server", healthy, 180)
        yield process
        stop(process)


def test_the_bare_name_builds_and_a_new_checkpoint_refreshes(
    server: subprocess.Popen[bytes], environment: dict[str, str], tmp_path: Path, manifest_data: dict[str, Any]
) -> None:
    swap = [*NTF, "checkpoint", "add", "--generator", "simswap", "--name", "swap", "--licence", "test"]
    subprocess.run([*swap, str(simswap_checkpoint(tmp_path / "0.safetensors", 0))], env=environment, check=True, cwd=tmp_path)
    del manifest_data["checkpoints"]["swap"]
    for subset in manifest_data["subsets"].values():
        subset["count"] = 16
    stage = {"epochs": 1, "batch_size": 8}
    manifest_data["detector"] = {"preset": "demo", "retrain": "never", "config": {"stage1": stage, "stage2": dict(stage)}}
    manifest = write_manifest(tmp_path / "m.yaml", manifest_data)

    with (tmp_path / "serve.log").open("wb") as log:
        command = [*NTF, "serve", "--manifest", str(manifest), "--device", "cpu", "--cron", "0 0 1 1 *"]
        serving = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True)
    try:

        def deployed() -> bool:
            listed = subprocess.run(
                [*PREFECT, "deployment", "ls"], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
            )
            return "refresh" in listed.stdout

        wait_for("the deployments", deployed, 120)
        run = [*PREFECT, "deployment", "run", "build-multistep", "--watch"]
        watched = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
        assert watched.returncode == 0, watched.stdout + watched.stderr
        store = Store(tmp_path / "store", "tiny")
        assert store.version().number == 1
        before = {row.id: row.sha256 for row in store.rows()}

        unknown = subprocess.run(
            [*PREFECT, "deployment", "run", "nothing"], env=environment, capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert unknown.returncode != 0
        assert "<FLOW_NAME>/<DEPLOYMENT_NAME>" in unknown.stdout + unknown.stderr

        subprocess.run([*swap, str(simswap_checkpoint(tmp_path / "1.safetensors", 7))], env=environment, check=True, cwd=tmp_path)
        wait_for("the refreshed version", lambda: store.version().number == 2, 180)
        after = {row.id: row.sha256 for row in store.rows()}
        assert {name for name in before if before[name] != after.get(name)} == {
            name for name in before if name.startswith("SimSwap_Style2/") and name.endswith("/1")
        }
        wait_for("the drift report", (tmp_path / "runs" / "tiny" / "drift.json").is_file, 120)
    finally:
        stop(serving)
    left = subprocess.run(["pgrep", "-g", str(serving.pid)], capture_output=True, text=True, check=False).stdout.split()
    assert left == []
