"""Commands in processes of their own: how they ended, how long they took, and the most memory that they held.

This module and its caller import nothing large: on Linux a process begins with its parent's peak of memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """A command that has ended: its words, exit code, what it printed, seconds by the clock and of CPU time, the peak of its memory in
    bytes, the load of the machine when it began (processes that wanted a core), and the seconds that it spent on hashing checkpoints."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float
    cpu: float
    peak: int
    load: float
    hashing: float = 0.0

    @property
    def data(self) -> Any:
        """What it printed as JSON; None if that is none."""
        try:
            return json.loads(self.out)
        except ValueError:
            return None


@dataclass(frozen=True)
class Commands:
    """Runs commands in the folder `work`, which is also where checkpoints, caches and the store lie."""

    work: Path
    threads: int

    def ntf(self, *words: str) -> Run:
        """`ntf WORDS`, as a person runs it."""
        return self._run([sys.executable, "-m", "benchmarks.rehearsal.watched", *words], words)

    def write(self, folder: Path, scale: str, names: list[str]) -> Run:
        """Writes stand-ins. RuntimeError if that fails, because nothing else would make sense then."""
        run = self._run([sys.executable, "-m", "benchmarks.rehearsal.stand_ins", str(folder), scale, *names], ("write", *names))
        if run.code:
            raise RuntimeError(f"{', '.join(names)} cannot be written:\n{run.err}")
        return run

    def _run(self, command: list[str], words: tuple[str, ...]) -> Run:
        self.work.mkdir(parents=True, exist_ok=True)
        hashed = self.work / "hashed.json"
        hashed.unlink(missing_ok=True)
        own = {"NTF_CHECKPOINTS": str(self.work / "checkpoints"), "NTF_CACHE": str(self.work / "cache"), "HF_HUB_OFFLINE": "1"}
        own |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(self.threads), "OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "200"}
        own |= {"REHEARSAL_HASHED": str(hashed)}
        load, started = os.getloadavg()[0], time.perf_counter()
        with (self.work / "out.txt").open("w+b") as out, (self.work / "err.txt").open("w+b") as err:
            process = subprocess.Popen(command, cwd=self.work, env=os.environ | own, stdout=out, stderr=err)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.perf_counter() - started
            out.seek(0)
            err.seek(0)
            texts = out.read().decode(errors="replace"), err.read().decode(errors="replace")
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        hashing = json.loads(hashed.read_text()) if hashed.is_file() else 0.0
        run = Run(words, process.returncode, *texts, seconds, usage.ru_utime + usage.ru_stime, peak, load, hashing)
        print(f"{' '.join(words)[:100]}: {run.code}, {seconds:.1f} s, {peak / 2**30:.2f} GiB, load {load:.1f}", file=sys.stderr, flush=True)
        return run
