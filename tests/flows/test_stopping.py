"""Ctrl-C at any moment, from the start of the imports on: one line, exit code 130, and nothing left behind. Real processes, real signals.

The signal goes to the whole group, as a terminal sends it: workers and Prefect's temporary server get it too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.flows.processes import NTF, ROOT, in_group, wait_for
from tests.support import write_manifest

LINE = "stopped. No file is half-written. Run the same command again to go on."


def start_ntf(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """`ntf WORDS` in a group of its own. Python has come as far as our first line when this returns."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("PREFECT_API_URL", None)
    process = subprocess.Popen(
        [*NTF, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, start_new_session=True, env=environment
    )
    wait_for("our handler of signals", lambda: process.poll() is not None or handles(process.pid, signal.SIGTERM), 120)
    return process


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def stop(process: subprocess.Popen[str]) -> str:
    """Sends Ctrl-C; gives what was said on standard error, with the lines of finished shards left out."""
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130, said
    wait_for("the end of the group", lambda: not in_group(process), 60)
    shards = (" gone", " a second", " s each")
    return "\n".join(line for line in said.splitlines() if not line.endswith("images") and not any(word in line for word in shards))


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.timeout(300)
def test_while_python_loads_what_the_command_needs(tmp_path: Path, seconds: float) -> None:
    process = start_ntf(["validate", "paper"], tmp_path)
    time.sleep(seconds)
    if process.poll() is None:
        assert stop(process) == LINE


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_in_the_middle_of_a_build_which_then_goes_on(tmp_path: Path, manifest_data: dict[str, Any], devices: str) -> None:
    for subset in manifest_data["subsets"].values():
        subset["count"] = 400
    manifest = write_manifest(tmp_path / "m.yaml", manifest_data)
    words = ["build", str(manifest), "--device", devices, "--limit", "400"]
    process = start_ntf(words, tmp_path)
    notes = tmp_path / "store" / "tiny.pending"
    wait_for("the first shard", lambda: process.poll() is not None or (notes.is_dir() and any(notes.iterdir())), 240)
    assert process.poll() is None, "the build ended before it could be stopped"
    assert stop(process) == LINE
    assert not (tmp_path / "store" / "tiny.lance" / "_versions").exists()
    again = subprocess.run([*NTF, *words[:-2], "--limit", "2"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=400)
    assert "version 1" in again.stdout, again.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_in_a_flow_with_its_temporary_server(tmp_path: Path) -> None:
    process = start_ntf(["demo", "--device", "cpu"], tmp_path)
    wait_for("the first shard", lambda: process.poll() is not None or any((tmp_path / "demo").rglob("*.pending/*")), 400)
    assert stop(process) == LINE


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_second_one_does_not_wait(tmp_path: Path) -> None:
    process = start_ntf(["validate", "paper"], tmp_path)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, said = process.communicate(timeout=120)
    assert process.returncode in (130, -signal.SIGINT) and said.strip() in (LINE, "")  # a shell shows 130 for both
