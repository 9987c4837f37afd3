"""A run of a real worker of a process pool is refused where its outputs would be removed with its folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.flows.processes import PREFECT, ROOT, prefect, running, start, start_server, surroundings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_worker_refuses_a_relative_path_in_one_line(tmp_path: Path) -> None:
    environment = surroundings(tmp_path)
    with running(start_server(environment, tmp_path)):
        prefect(environment, "work-pool", "create", "gpu", "--type", "process")
        prefect(environment, "--no-prompt", "deploy", "--name", "refresh")
        with running(start([*PREFECT, "worker", "start", "--pool", "gpu"], environment, tmp_path, "worker.log")):
            run = [*PREFECT, "deployment", "run", "refresh", "--param", "store=mine", "--param", f"output={tmp_path / 'runs'}", "--watch"]
            watched = subprocess.run(run, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
        assert watched.returncode != 0
        listed = httpx.post(f"{environment['PREFECT_API_URL']}/flow_runs/filter", json={}).json()
        lines = [line["message"] for line in httpx.post(f"{environment['PREFECT_API_URL']}/logs/filter", json={"limit": 200}).json()]
    runs = [run for run in listed if not run["auto_scheduled"]]  # not those of the schedule, which are still to come
    refusal = "store=mine is relative, and the folder of this run is removed at its end"
    assert [(run["state"]["type"], refusal in run["state"]["message"]) for run in runs] == [("FAILED", True)], (
        tmp_path / "worker.log"
    ).read_text()[-3000:]
    assert sum(refusal in line.splitlines()[0] for line in lines) >= 1
    assert not (tmp_path / "runs").exists()
