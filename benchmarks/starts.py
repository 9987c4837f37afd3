"""How soon a refresh begins after a checkpoint was registered: `ntf serve` on a server of its own, on loopback.

    python benchmarks/starts.py                  # three turns
    python benchmarks/starts.py --turns 5

Each turn sends the event of `ntf checkpoint add` and follows the run that it starts: when the server scheduled it, when `ntf serve` took it
up and started its process, when the flow began, and when it had loaded what a refresh needs (its manifest is not there, so it ends then).
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path[0] = str(ROOT)
STATES = ("SCHEDULED", "PENDING", "RUNNING", "FAILED")
LONGEST = 300.0  # seconds to wait for anything
# The event alone: registering takes a real file of weights.
ANNOUNCE = """
from datetime import UTC, datetime
from types import SimpleNamespace
import prefect.events
from flows.events import announce
print(datetime.now(UTC).isoformat())
assert announce(SimpleNamespace(generator="stylegan2", name="new", sha256="0" * 64))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory(prefix="starts-") as name:
        folder = Path(name)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        api = f"http://127.0.0.1:{port}/api"
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # else a refresh asks the Hub for new revisions
        os.environ.update(PREFECT_HOME=str(folder / "prefect"), PREFECT_API_URL=api, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
        server = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
        serve = [sys.executable, "-m", "flows.cli", "serve", "--manifest", str(folder / "none.yaml"), "--cron", "0 0 1 1 *"]
        with running(server, folder):
            wait_until(lambda: httpx.get(f"{api}/health").is_success)
            with running(serve, folder):
                wait_until(lambda: len(httpx.post(f"{api}/deployments/filter", json={}).json()) == len(offered()))
                print("| turn | scheduled, s | taken up, s | begun, s | of it the process, s | loaded, s |\n|---|---|---|---|---|---|")
                for turn in range(turns):
                    print(f"| {turn + 1} | {' | '.join(f'{value:.1f}' for value in one_turn(api, turn))} |", flush=True)
    print(f"load {os.getloadavg()[0]:.1f}")


def one_turn(api: str, runs_before: int) -> tuple[float, ...]:
    """Seconds from the event until the run was scheduled, taken up, begun and loaded, with those between the second and the third."""
    said = subprocess.run([sys.executable, "-c", ANNOUNCE], check=True, cwd=ROOT, capture_output=True, text=True).stdout
    sent = datetime.fromisoformat(said.split()[0])

    def ended() -> list[dict[str, Any]]:
        listed = httpx.post(f"{api}/flow_runs/filter", json={}).json()
        runs = [run for run in listed if not run["auto_scheduled"]]  # those of the cron come next year
        return runs if len(runs) > runs_before and all(run["state_type"] == "FAILED" for run in runs) else []

    runs = wait_until(ended)
    newest = max(runs, key=lambda run: run["created"])
    states = httpx.get(f"{api}/flow_run_states/", params={"flow_run_id": newest["id"]}).json()
    first = {kind: min(datetime.fromisoformat(state["timestamp"]) for state in states if state["type"] == kind) for kind in STATES}
    scheduled, taken, begun, loaded = ((first[kind] - sent).total_seconds() for kind in STATES)
    return scheduled, taken, begun, begun - taken, loaded


def offered() -> list[str]:
    """The deployments that `ntf serve` offers."""
    return ["build-multistep", "build-dataset", "make-shards", "train-ntf", "evaluate-ntf", "refresh"]


def wait_until(test: Any) -> Any:
    """What `test()` gives as soon as it gives something; a server that does not answer yet is waited for."""
    start = time.monotonic()
    while time.monotonic() - start < LONGEST:
        with suppress(httpx.HTTPError):
            if value := test():
                return value
        time.sleep(0.1)
    raise TimeoutError(f"nothing came in {LONGEST:.0f} s")


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    """A process in a group of its own, which ends with the block."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    main()
