"""Where shards are made: in this process (`Here`), in worker processes (`Processes`), or on a cluster (`flows/remote.py`).

All three have one interface. A runner takes shards, inputs before what is made from them, and gives each as it ends: with the note of what
was written, or with the failure. Wrong input, and a fault that would come again every time, end the run at once as an InputError. A fault
that may pass (memory, disk, network, a device) is tried again, and then counts as a failure of its shard.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

import torch

from generators.errors import InputError
from generators.memory import is_device_lost
from pipelines.build.faults import as_input_error, is_passing
from pipelines.build.producer import Producer
from pipelines.build.schedule import Schedule
from pipelines.build.workers import JOBS, Worker
from pipelines.make.rows import ShardPictures
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store
from pipelines.store.pending import Note

RETRY_AFTER = (1.0, 4.0)  # seconds before a failed shard is tried again
WAITING_SHARDS = 2  # made and not yet written; more would only hold memory

Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """A shard that could not be made, or whose input could not."""

    shard: Shard
    reason: str


Ended = tuple[Shard, Note | Failure]


class Runner(ABC):
    """Makes shards and writes them, so that they wait for a commit."""

    @abstractmethod
    def run(self, shards: Sequence[Shard]) -> Generator[Ended, None, None]:
        """Gives each shard as it ends. Closing the generator ends the run early and leaves nothing running.

        Raises InputError for wrong input, and for a store that cannot be written.
        """


class Here(Runner):
    """Makes shards in the thread that asks for them, and writes each while the next is made."""

    def __init__(self, producer: Producer):
        self._producer = producer
        self._stopping = threading.Event()

    def run(self, shards: Sequence[Shard]) -> Generator[Ended, None, None]:
        """See `Runner.run`. What the writer met is raised before the next shard is made: a full disk ends a run soon."""
        writing: dict[str, Future[Ended]] = {}  # the oldest first
        failures: dict[str, Failure] = {}

        def next_ended() -> Ended:
            shard, result = writing.pop(next(iter(writing))).result()
            if isinstance(result, Failure):
                failures[shard.key] = result
            return shard, result

        writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        try:
            for shard in shards:
                while _must_wait(shard, writing):
                    yield next_ended()
                writing[shard.key] = self._begin(shard, failures, writer)
            while writing:
                yield next_ended()
        except BaseException:
            self._stopping.set()
            raise
        finally:
            writer.shutdown(wait=True, cancel_futures=True)

    def make(self, shard: Shard) -> ShardPictures | Failure:
        """The pictures of one shard, with retries. A flow makes a task of this."""
        return attempted(shard, partial(self._producer.make, shard), self._stopping)

    def _begin(self, shard: Shard, failures: Mapping[str, Failure], writer: ThreadPoolExecutor) -> Future[Ended]:
        """Makes a shard, and has it written."""
        pictures = input_failure(shard, failures) or self.make(shard)
        if not isinstance(pictures, Failure):
            return writer.submit(self._write, shard, pictures)
        ended: Future[Ended] = Future()
        ended.set_result((shard, pictures))
        return ended

    def _write(self, shard: Shard, pictures: ShardPictures) -> Ended:
        return shard, attempted(shard, partial(self._producer.write, shard, pictures), self._stopping)


class Processes(Runner):
    """Makes shards in worker processes, one for each device. Two threads serve each, so that it makes one shard while it writes another."""

    def __init__(self, plan: Plan, store: Store, devices: Sequence[str], batch: int | None = None):
        self._plan = plan
        self._batch = batch
        self._store = store
        self._devices = devices
        self._stopping = threading.Event()

    def run(self, shards: Sequence[Shard]) -> Generator[Ended, None, None]:
        """See `Runner.run`. A worker that dies is replaced, and its shard is tried again."""
        schedule = Schedule(shards)
        threads = max(1, torch.get_num_threads() // len(self._devices))
        workers = [Worker(self._plan, self._store, device, threads, self._batch) for device in self._devices]
        failures: dict[str, Failure] = {}
        ended: SimpleQueue[Ended | Future[None]] = SimpleQueue()

        def serve(number: int) -> None:
            while (shard := schedule.take(number)) is not None:
                result = input_failure(shard, failures) or self.make(shard, workers[number])
                if isinstance(result, Failure):
                    failures[shard.key] = result
                ended.put((shard, result))
                schedule.done(shard)

        with ThreadPoolExecutor(JOBS * len(workers), thread_name_prefix="serve") as pool:
            try:
                numbers = [number for number in range(len(workers)) for _ in range(JOBS)]
                serving = [pool.submit(copy_context().run, serve, number) for number in numbers]
                for future in serving:
                    future.add_done_callback(ended.put)
                while serving:
                    item = ended.get()
                    if isinstance(item, Future):
                        item.result()  # raises what ended this thread
                        serving.remove(item)
                    else:
                        yield item
            except BaseException:
                self._stopping.set()
                schedule.stop()
                for worker in workers:
                    worker.close(kill=True)
                raise
        for worker in workers:
            worker.close()

    def make(self, shard: Shard, worker: Worker) -> Note | Failure:
        """One shard made and written by a worker, with retries. A flow makes a task of this."""
        return attempted(shard, partial(worker.produce, shard), self._stopping)


def local_runner(plan: Plan, store: Store, devices: Sequence[str], batch: int | None = None) -> Runner:
    """The runner of this machine: in this process for one device, or a worker process for each of several. `batch` images are made at once,
    if it is given."""
    return Here(Producer(plan, store, devices[0], batch)) if len(devices) == 1 else Processes(plan, store, devices, batch)


def attempted(shard: Shard, act: Callable[[], Result], stopping: threading.Event) -> Result | Failure:
    """What `act` gives for a shard, with retries, or a failure if the last attempt met a fault that may pass. Raises InputError, also where
    this process has lost its GPU: all shards to come would fail."""
    try:
        return retried(shard, act, stopping)
    except InputError:
        raise
    except Exception as error:
        if not is_device_lost(error):
            return failure_of(shard, error)
        reason = str(error).strip().split("\n", 1)[0]
        raise InputError(
            f"{shard.title}: the GPU failed, and this process can do no more with it ({reason})",
            "Run the build again: it keeps what was made. If the same shard fails again, try its checkpoint with `ntf check`",
        ) from error


def retried(shard: Shard, act: Callable[[], Result], stopping: threading.Event | None = None) -> Result:
    """What `act` gives for a shard. A fault that may pass is tried again after each pause of `RETRY_AFTER`, unless `stopping` is set.

    Raises InputError at once for a fault that would come again, and else what the last attempt raised: the first, where this process has
    lost its GPU.
    """
    stopping = stopping or threading.Event()
    for pause in (*RETRY_AFTER, None):
        try:
            return act()
        except Exception as error:
            if not is_passing(error) and not is_device_lost(error):
                raise as_input_error(shard, error) from error
            if pause is None or is_device_lost(error) or stopping.wait(pause):
                raise
    raise AssertionError("the last attempt returns or raises")


def failure_of(shard: Shard, error: BaseException) -> Failure:
    """The failure of a shard whose making raised `error`."""
    return Failure(shard, f"{type(error).__name__}: {error}")


def input_failure(shard: Shard, failures: Mapping[str, Failure]) -> Failure | None:
    """The failure of a shard that works on a failed one; None if all that it works on is there."""
    lost = next((failures[key] for key in shard.inputs if key in failures), None)
    return lost and Failure(shard, f"its input {lost.shard.title} failed")


def _must_wait(shard: Shard, writing: Mapping[str, Future[Ended]]) -> bool:
    """Whether an earlier shard is to be taken in before this one is made: it is written, this one works on it, or too many wait."""
    if not writing:
        return False
    oldest = next(iter(writing.values()))
    return oldest.done() or len(writing) > WAITING_SHARDS or any(key in writing for key in shard.inputs)
