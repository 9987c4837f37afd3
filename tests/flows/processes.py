"""A real Prefect server and other processes for tests, on loopback, each in a group of its own that ends with its test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PREFECT = [str(Path(sys.executable).with_name("prefect"))]
NTF = [str(Path(sys.executable).with_name("ntf"))]


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of a server of its own under `folder`, and of all who talk to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        **os.environ,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_PLUGINS_ENABLED": "1",
        "NTF_CHECKPOINTS": str(folder / "checkpoints"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }


def wait_for(what: str, test: Callable[[], object], seconds: float) -> float:
    """Waits until `test()` holds and gives the seconds that it took."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if test():
            return time.monotonic() - start
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come within {seconds} s")


def start(command: list[str], environment: dict[str, str], folder: Path, log: str) -> subprocess.Popen[bytes]:
    """Starts a process in a group of its own; what it says goes to `folder/log`."""
    with (folder / log).open("ab") as stream:
        return subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, cwd=folder, start_new_session=True)


def in_group(process: subprocess.Popen[bytes]) -> list[str]:
    """The processes that are left of a group."""
    return subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True, text=True, check=False).stdout.split()


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of a process and everything in its group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and everything in its group, as Ctrl-C does, or else by force."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            kill(process)


def start_server(environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """A Prefect server that answers."""
    api = environment["PREFECT_API_URL"]
    port = api.rsplit(":", 1)[1].removesuffix("/api")
    process = start([*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", port], environment, folder, "server.log")

    def healthy() -> bool:
        try:
            with urllib.request.urlopen(f"{api}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    wait_for("the server", healthy, 240)
    return process


@contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Ends the process at the end."""
    try:
        yield process
    finally:
        stop(process)


def prefect(environment: dict[str, str], *words: str) -> str:
    """What a `prefect` command in the project's folder prints."""
    done = subprocess.run([*PREFECT, *words], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
