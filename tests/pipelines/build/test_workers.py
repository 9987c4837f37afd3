"""Several devices: the same dataset, and a build that outlives its workers and leaves none behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from generators.errors import InputError
from pipelines.build.build import Build, run_build, status
from pipelines.store import Store
from tests.pipelines.build.conftest import planned
from tests.support import write_manifest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


def workers_of(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process), "-f", "pipelines.build.workers"], capture_output=True, text=True, check=False)
    return [int(each) for each in found.stdout.split()]


def is_alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def test_two_workers_make_what_one_makes_even_if_one_is_killed(tmp_path: Path, manifest_file: Path) -> None:
    plan = planned(manifest_file)
    reference, store = Store(tmp_path / "reference", "tiny"), Store(tmp_path / "store", "tiny")
    run_build(plan, reference, "cpu")
    killed: list[int] = []

    def kill_one(*_: Any) -> None:
        if not killed:
            killed.extend(workers_of(os.getpid())[:1])
            os.kill(killed[0], signal.SIGKILL)

    report = run_build(plan, store, "cpu,cpu", kill_one)
    assert killed
    assert (report.made, report.failures) == (len(plan.shards), [])
    assert store.digest() == reference.digest()
    assert workers_of(os.getpid()) == []


def test_wrong_input_ends_the_build_and_its_workers(tmp_path: Path, manifest_of_a_cut_checkpoint: Path) -> None:
    store = Store(tmp_path / "store", "tiny")
    with pytest.raises(InputError, match=r"cut\.safetensors"):
        run_build(planned(manifest_of_a_cut_checkpoint), store, "cpu,cpu")
    assert not store.exists()
    assert workers_of(os.getpid()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_build_leaves_no_process_and_goes_on(tmp_path: Path, manifest_data: dict[str, Any], how: signal.Signals) -> None:
    manifest_data["subsets"]["StyleGAN2"]["count"] = 1000  # long enough to be stopped
    manifest = write_manifest(tmp_path / "tiny.yaml", manifest_data)
    store, plan = Store(tmp_path / "store", "tiny"), planned(manifest)
    command = [sys.executable, "-m", "flows.cli", "build", str(manifest), "--devices", "cpu,cpu", "--store", str(tmp_path / "store")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    # A suite that was started in the background ignores Ctrl-C, and would hand that down.
    heed: dict[str, Any] = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), "start_new_session": True}
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True, **heed)
    while process.poll() is None and (len(store.notes.read()) < 3 or len(workers_of(process.pid)) < 2):
        time.sleep(0.01)
    workers = workers_of(process.pid)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does it
    else:
        process.kill()
    _, said = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "Run the same command again to go on" in said
    assert "Traceback" not in said
    assert len(workers) == 2
    end = time.monotonic() + 20
    while any(is_alive(worker) for worker in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(is_alive(worker) for worker in workers)
    assert subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True, text=True, check=False).stdout == ""
    kept = {shard.key for shard in status(plan, store).present}
    assert len(kept) >= 3
    with Build(plan, store, "cpu") as build:
        assert kept.isdisjoint(shard.key for shard in build.missing)
        build.run()
        assert build.commit() is not None
    assert set(store.keys()) == plan.keys
