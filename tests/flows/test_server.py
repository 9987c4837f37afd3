"""The deployments on a real server and a real serving process, on loopback, as docs/operations.md describes them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
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


def page_shows(api: str, folder: Path) -> None:
    """What Prefect's page has of the build: a line for each shard, a ledger with named columns, a sheet, the report's path as text."""
    runs = httpx.post(f"{api}/flow_runs/filter", json={"flows": {"name": {"any_": ["build-multistep"]}}}).json()
    wanted = {"logs": {"flow_run_id": {"any_": [runs[0]["id"]]}}, "limit": 200}
    lines = [line["message"] for line in httpx.post(f"{api}/logs/filter", json=wanted).json()]
    shards = [run["name"] for run in httpx.post(f"{api}/task_runs/filter", json={"limit": 200}).json() if " faces " in run["name"]]
    assert len(shards) > 10
    for shard in shards:
        assert sum(shard in line for line in lines) == 1
    assert not [line for line in lines if line.startswith("Finished in state Completed") and "task" in line]
    shown = {artifact["key"]: artifact for artifact in httpx.post(f"{api}/artifacts/filter", json={}).json()}
    (first, *_) = json.loads(shown["ledger"]["data"])
    assert (shown["ledger"]["type"], list(first)) == ("table", ["subset", "outcome", "images"])
    assert shown["sheet"]["data"].startswith("![The first images of tiny](data:image/webp;base64,")
    assert f"    {folder}/runs/tiny/report.html" in shown["report"]["data"] and "file:/" not in shown["report"]["data"]


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
        page_shows(environment["PREFECT_API_URL"], tmp_path)

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
