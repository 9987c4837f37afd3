"""Worker processes: one for each device, each with its own models.

The parent sends a shard and gets the note of it. A worker ends as soon as its parent ends, because its pipe closes. A worker that died is
replaced at the next shard. Processes are started anew, never forked: neither CUDA nor Lance survives a fork.
"""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

import torch

from generators.errors import InputError
from generators.memory import OutOfMemory, is_device_lost
from pipelines.build.faults import PassingFault, as_input_error, is_passing
from pipelines.build.producer import Producer
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store
from pipelines.store.pending import Note

JOBS = 2  # at once in a worker: one generates while the other encodes and writes


class WorkerDied(Exception):
    """The process ended while it had a shard: killed, out of memory, or crashed in native code."""


class Worker:
    """One worker process, as its parent sees it. `produce` may be called from `JOBS` threads."""

    def __init__(self, plan: Plan, store: Store, device: str, threads: int, batch: int | None = None):
        self._job = pickle.dumps((plan, (store.root.location, store.name), device, threads, batch))
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._pipe: Connection
        self._listener: threading.Thread
        self._waiting: dict[int, Future[Note]] = {}

    def produce(self, shard: Shard) -> Note:
        """Has the shard made and written. Raises InputError, WorkerDied, or a PassingFault with what the generator said."""
        with self._lock:
            if self._closed:
                raise WorkerDied("the build is ending")
            if self._process is None or self._process.poll() is not None:  # not started yet, or it died
                self._start()
            number = next(self._numbers)
            answer: Future[Note] = Future()
            self._waiting[number] = answer
            try:
                self._pipe.send((number, shard))
            except OSError:
                raise WorkerDied(self._how_it_ended()) from None
        return answer.result()

    def close(self, kill: bool = False) -> None:
        """Ends the process: now, with `kill`, or else as soon as it has nothing to do."""
        with self._lock:
            self._closed = True
            if self._process is None:
                return
            if kill:
                self._process.kill()
            else:
                with suppress(OSError):  # it has died: that is an end too
                    self._pipe.send(None)
            self._process.wait()
        self._listener.join()
        self._pipe.close()

    def _start(self) -> None:
        if self._process is not None:
            self._listener.join()
            self._pipe.close()
        self._pipe, theirs = Pipe()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-m", "pipelines.build.workers", str(theirs.fileno())]
        # In a group of its own, so that a terminal's Ctrl-C reaches the parent alone, which decides what it means.
        options: dict[str, Any] = {"env": environment, "pass_fds": (theirs.fileno(),), "stdin": subprocess.DEVNULL, "process_group": 0}
        self._process = subprocess.Popen(command, **options)
        theirs.close()
        self._waiting = {}
        self._pipe.send_bytes(self._job)
        self._listener = threading.Thread(target=self._listen, args=(self._pipe, self._waiting), name="worker-answers", daemon=True)
        self._listener.start()

    def _listen(self, pipe: Connection, waiting: dict[int, Future[Note]]) -> None:
        """Hands out answers until the process has ended. Then it tells whoever still waits."""
        while True:
            try:
                number, answer = pipe.recv()
            except (OSError, EOFError):
                break
            future = waiting.pop(number)
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        for future in list(waiting.values()):
            future.set_exception(WorkerDied(self._how_it_ended()))

    def _how_it_ended(self) -> str:
        assert self._process is not None
        code = self._process.wait()
        return f"the worker was killed by {signal.Signals(-code).name}" if code < 0 else f"the worker ended with exit code {code}"


def _sendable(shard: Shard, error: Exception) -> Exception:
    """`error` for the parent: by class only whether it may pass, because not every exception survives pickling."""
    if isinstance(error, OutOfMemory):
        return OutOfMemory(str(error))
    if not is_passing(error) and not is_device_lost(error):
        return InputError(str(as_input_error(shard, error)))
    return PassingFault(f"{type(error).__name__}: {error}")


def main() -> None:
    """The process itself. Its one argument is the descriptor of its end of the pipe."""
    pipe = Connection(int(sys.argv[1]))
    plan, store, device, threads, batch = pickle.loads(pipe.recv_bytes())  # from our own parent, through a pipe that nobody else has
    torch.set_num_threads(threads)
    producer = Producer(plan, Store(*store), device, batch)
    sending = threading.Lock()

    def answer(number: int, shard: Shard) -> None:
        lost = False
        try:
            result: Note | Exception = producer.produce(shard)
        except Exception as error:
            result, lost = _sendable(shard, error), is_device_lost(error)
        with sending:
            pipe.send((number, result))
            if lost:
                os._exit(1)  # another process may have the GPU again: the parent starts one for the next attempt

    with ThreadPoolExecutor(JOBS) as jobs:
        while True:
            try:
                order = pipe.recv()
            except (OSError, EOFError):
                os._exit(1)  # the parent has ended, and with it the lock on the store
            if order is None:
                return
            jobs.submit(answer, *order)


if __name__ == "__main__":
    main()
