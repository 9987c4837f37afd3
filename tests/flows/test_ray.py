"""The same flow on Ray: shards are made in Ray's own processes from a reference, and the dataset is the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.build.build import run_build
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import make_plan
from pipelines.store import Store
from tests.support import write_manifest

pytest.importorskip("prefect_ray", reason="the extra `ray` is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
import ray
from prefect.testing.utilities import prefect_test_harness
from prefect_ray import RayTaskRunner
from flows.build_multistep import build_dataset

def start():  # Ray gives its own processes 30 s, and a busy machine may need longer
    for last in (False, False, True):
        try:
            return ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, logging_level="ERROR")
        except Exception:
            if last:
                raise
            ray.shutdown()

if __name__ == "__main__":
    manifest, store = sys.argv[1:]
    with prefect_test_harness(server_startup_timeout=240):
        start()
        print("made", build_dataset.with_options(task_runner=RayTaskRunner())(manifest, store, "cpu")["made"])
    ray.shutdown()
"""


def test_the_flow_on_ray(tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    del manifest_data["subsets"]["DDIM"]
    manifest = write_manifest(tmp_path / "m.yaml", manifest_data)
    plan = make_plan(load_manifest(manifest))
    reference = Store(tmp_path / "reference", "tiny")
    run_build(plan, reference, "cpu")
    command = [sys.executable, "-c", PROGRAM, str(manifest), str(tmp_path / "store")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, cwd=tmp_path)
    said, _ = process.communicate(timeout=800)
    assert process.returncode == 0, said[-3000:]
    assert f"made {len(plan.shards)}" in said
    assert Store(tmp_path / "store", "tiny").digest() == reference.digest()
    assert subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True, text=True, check=False).stdout == ""
