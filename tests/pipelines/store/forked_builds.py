"""Builds in processes that are killed. Run as a script it imports everything once, and then forks a builder for each line that it reads.

A line is JSON: `manifest`, `store`, `kill_after` (seconds, null for never), `notes` (wait first until so many shards are noted). The answer
is a line: `killed`, or `done`. The script itself never opens a Lance dataset, since Lance cannot be used after a fork.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from pipelines.build.build import run_build
from pipelines.store import Store
from tests.pipelines.store.fakes import fake_generators, planned


def build(manifest: str, store: str) -> None:
    run_build(planned(Path(manifest)), Store(store, "fake"), "cpu")


def killed(child: int, folder: Path, notes: int, kill_after: float) -> bool:
    """Kills the child so long after the folder of notes has so many; False if it was faster."""
    give_up = time.monotonic() + 60
    while len(list(folder.glob("*.json"))) < notes and time.monotonic() < give_up:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.0005)
    time.sleep(kill_after)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main() -> None:
    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                build(order["manifest"], order["store"])
                os._exit(0)
            except BaseException as error:
                print(f"failed: {error!r}", flush=True)
                os._exit(1)
        if order["kill_after"] is None:
            print("done" if os.waitpid(child, 0)[1] == 0 else "failed", flush=True)
            continue
        folder = Path(order["store"]) / "fake.pending"
        print("killed" if killed(child, folder, order["notes"], order["kill_after"]) else "done", flush=True)


if __name__ == "__main__":
    with fake_generators():
        main()
