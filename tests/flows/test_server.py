"""The deployments on a real server and a real serving process, on loopback, as docs/operations.md describes them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.store import Store
from tests.flows.processes import NTF, PREFECT, ROOT, in_group, running, start, start_server, surroundings, wait_for
from tests.support import simswap_checkpoint, write_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return surroundings(tmp_path)


@pytest.fixture
def server(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with running(start_server(environment, tmp_path)) as process:
        yield process


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

    command = [*NTF, "serve", "--manifest", str(manifest), "--device", "cpu", "--cron", "0 0 1 1 *"]
    with running(start(command, environment, tmp_path, "serve.log")) as serving:

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
    assert in_group(serving) == []
