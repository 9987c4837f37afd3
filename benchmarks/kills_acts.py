"""Commands in processes that are killed, for benchmarks/kills.py. Run as a script, it imports everything once and forks for each line.

A line is JSON: `words` (of the command line of `ntf`, or `spread` or `refresh` with their arguments), `kill` (`group`, `one`, `cut` or
null), `after` (seconds), `store` (the folder that a power cut leaves a copy of). The answer is JSON: `end` (`killed`, or the exit code) and
`seconds`. The script itself never uses Lance or Prefect, neither of which survives a fork. What commands import when they begin is imported
here beforehand: else most kills would hit Python while it loads modules.

Where one process of several is killed, the others go on beside the next command, as they would on any machine. A power cut ends them too,
and so does a line without words.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path[0] = str(ROOT)

import psutil  # noqa: E402
import torch  # noqa: E402

import flows.multistep  # noqa: E402
import flows.program  # noqa: E402
import flows.refresh  # noqa: E402
import flows.refreshing  # noqa: E402
import pipelines.catalogue.fetching  # noqa: E402
import pipelines.examine.mend  # noqa: E402
import pipelines.export  # noqa: E402, F401
from benchmarks.stand_ins import stand_ins  # noqa: E402
from flows import cli  # noqa: E402
from flows.data import plan_of  # noqa: E402
from pipelines.build.build import run_build  # noqa: E402
from pipelines.build.claims import make_claimed  # noqa: E402
from pipelines.build.runner import local_runner  # noqa: E402
from pipelines.store import Store  # noqa: E402

SUBREAPER = 36  # of prctl: those whose parent was killed become children of this process
LONGEST = 300.0  # seconds, after which a command counts as hung


def act(words: list[str]) -> None:
    """What the forked process does: a command, or two workers and the build that waits for them, or a refresh."""
    if words[0] == "spread":
        spread(Path(words[1]), words[2])
    elif words[0] == "refresh":
        flows.refresh.refresh(words[1], store=words[2], output=words[3], device="cpu")
    else:
        sys.argv = ["ntf", *words]
        cli.main()


def spread(manifest: Path, root: str) -> None:
    workers = []
    for _ in range(2):
        worker = os.fork()
        if worker == 0:
            plan = plan_of(manifest)
            store = Store(root, plan.manifest.dataset)
            make_claimed(plan, store, local_runner(plan, store, ("cpu",)), 2)
            os._exit(0)
        workers.append(worker)
    for worker in workers:
        os.waitpid(worker, 0)
    plan = plan_of(manifest)
    run_build(plan, Store(root, plan.manifest.dataset), "cpu", wait=True)


def run(order: dict[str, Any]) -> dict[str, Any]:
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _begin(order["words"])
    status = None
    deadline = start + (LONGEST if order["kill"] is None else order["after"])
    while status is None and time.monotonic() < deadline:
        status = _ended(child)
        time.sleep(0.001)
    is_killed = status is None and order["kill"] is not None and kill(child, order)
    if status is None and order["kill"] is None:
        kill(child, {**order, "kill": "group"})
        return {"end": "hung", "seconds": LONGEST}
    while status is None and time.monotonic() - start < LONGEST:
        status = _ended(child)
        time.sleep(0.001)
    return {"end": "killed" if is_killed else os.waitstatus_to_exitcode(status or 0), "seconds": time.monotonic() - start}


def kill(child: int, order: dict[str, Any]) -> bool:
    """Kills the whole group, or one of its processes by chance, or leaves of the store what a power cut would."""
    if order["kill"] == "one":
        try:
            family = [psutil.Process(child), *psutil.Process(child).children(recursive=True)]
            random.choice(family).kill()
        except psutil.Error:
            return False
        return True
    if order["kill"] == "cut":
        copy = Path(order["store"] + ".copy")
        if Path(order["store"]).exists():
            _copy(Path(order["store"]), copy)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if order["kill"] == "cut":
        end_all(spared=child)
    if order["kill"] == "cut" and copy.exists():
        shutil.rmtree(order["store"])
        copy.rename(order["store"])
    return True


def end_all(spared: int = 0) -> None:
    """Kills whatever is left of all commands. The exit code of the process `spared` is left for `_ended`."""
    while family := [process for process in psutil.Process().children(recursive=True) if process.pid != spared]:
        for process in family:
            with suppress(psutil.Error):
                process.kill()
            with suppress(ChildProcessError):  # not of this process yet: it is when its own parent has ended
                os.waitpid(process.pid, os.WNOHANG)
        time.sleep(0.001)


def _copy(source: Path, target: Path) -> None:
    """The files as they are at this moment, while somebody writes them; those that vanish meanwhile are left out."""
    target.mkdir()
    for entry in sorted(source.iterdir()):
        with suppress(FileNotFoundError):
            if entry.is_dir():
                _copy(entry, target / entry.name)
            else:
                shutil.copyfile(entry, target / entry.name)


def _begin(words: list[str]) -> None:
    os.setsid()
    log = os.open(os.environ["KILLS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        act(words)
        sys.stdout.flush()
        os._exit(0)
    except SystemExit as end:
        os._exit(int(end.code or 0))
    except BaseException:
        traceback.print_exc()
        os._exit(99)


def _ended(child: int) -> int | None:
    number, status = os.waitpid(child, os.WNOHANG)
    return status if number else None


def main() -> None:
    torch.set_num_threads(1)
    print("ready", flush=True)
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    for line in sys.stdin:
        order = json.loads(line)
        if order["words"]:
            answer = run(order)
        else:
            end_all()
            answer = {}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    with stand_ins():
        main()
