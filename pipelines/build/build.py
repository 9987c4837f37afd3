"""Building a dataset: what is missing is made, and one commit makes a version of it."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from importlib.metadata import version as package_version
from typing import Any

import torch

from generators.errors import InputError
from pipelines.audit import Audit, audit_version, read_audit, write_audit
from pipelines.build import rates
from pipelines.build.devices import held, parse_devices
from pipelines.build.schedule import Schedule
from pipelines.build.workers import JOBS, Worker
from pipelines.errors import CheckFailed
from pipelines.make.make import Made, Maker, Outcome
from pipelines.make.models import Models
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store, Version
from pipelines.store.pending import Note

WAITING_SHARDS = 2  # made and not yet written; more would only hold memory
OnShard = Callable[[Shard, Outcome | None, int, int], None]
Attempt = Callable[[Shard], Outcome | None]
RETRY_AFTER = (1.0, 4.0)  # seconds before a failed shard is tried again


@dataclass(frozen=True)
class Status:
    """The shards of a plan against a store: there already, to be made, and in the store but in no plan (by key)."""

    present: tuple[Shard, ...]
    missing: tuple[Shard, ...]
    stale: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """A shard that could not be made, or whose input could not."""

    shard: Shard
    reason: str


@dataclass
class BuildReport:
    """What a build did. `version` and `audit` are None when there was nothing to do."""

    version: Version | None
    made: int
    reused: int
    dropped: int
    images: int
    seconds: float
    rejected: dict[str, dict[str, int]] = field(default_factory=dict)
    short: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    audit: Audit | None = None


def status(plan: Plan, store: Store) -> Status:
    """Compares a plan with the newest version of a store and with what waits for a commit."""
    committed = store.keys()
    there = set(committed) | {key for key, note in store.notes.read().items() if note.short == 0}
    present = tuple(shard for shard in plan.shards if shard.key and shard.key in there)
    missing = tuple(shard for shard in plan.shards if not shard.key or shard.key not in there)
    return Status(present, missing, tuple(sorted(set(committed) - plan.keys)))


class Build:
    """One build, as a context: it holds the store, makes shards on one device or several, and writes them while the next are made.

    >>> with Build(plan, store, "0,1") as build:
    ...     build.run()
    ...     version = build.commit()
    """

    def __init__(self, plan: Plan, store: Store, device: str = "auto", share: tuple[int, int] | None = None):
        """With `share` (number, of how many) it makes its share of what is missing, beside others, holds no store, and is not to commit."""
        plan.require_complete()
        self._share = share
        self.plan = plan
        self.store = store
        self.devices = parse_devices(device)
        self.run_id = uuid.uuid4().hex

    def __enter__(self) -> Build:
        self._lock = nullcontext() if self._share else self.store.building()
        self._lock.__enter__()
        self._started = time.perf_counter()
        found = status(self.plan, self.store)
        self.stale = found.stale
        self.reused = len(found.present)
        self.missing = _in_order(found.missing if self._share is None else _shared(self.plan, found.missing, *self._share))
        self._maker = Maker(self.plan, self.store, Models(self.plan.catalogue, self.devices[0]))
        self._stopping = threading.Event()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._room = threading.Semaphore(WAITING_SHARDS)
        self._written: dict[str, Future[Note]] = {}
        self.failures: dict[str, Failure] = {}
        return self

    def __exit__(self, *problem: Any) -> None:
        self._writer.shutdown(wait=True, cancel_futures=problem[0] is not None)
        self._lock.__exit__(None, None, None)

    def run(
        self, on_shard: OnShard | None = None, call: Callable[[Attempt, Shard], Outcome | None] = lambda make, shard: make(shard)
    ) -> None:
        """Makes all that is missing. With several devices each has a worker process of its own.

        `on_shard(shard, outcome, done, total)` is called after each shard; `call(attempt, shard)`, which makes one, may wrap the attempt
        in something of its own. Both are called from one thread at a time for each worker, in the context of the caller.
        """
        counting, done = threading.Lock(), 0

        def finish(shard: Shard, outcome: Outcome | None) -> None:
            nonlocal done
            with counting:
                done += 1
                if on_shard:
                    on_shard(shard, outcome, done, len(self.missing))

        if len(self.devices) == 1:
            for shard in self.missing:
                finish(shard, call(self.attempt, shard))
        elif self.missing:
            self._spread(call, finish)

    def attempt(self, shard: Shard, make: Attempt | None = None) -> Outcome | None:
        """Makes a shard. One that fails is tried again after a while, then set down as a failure (None), and the build goes on.

        What is wrong with the input (InputError) ends the build at once: trying again would not help.
        """
        make = make or self.make
        if lost := next((key for key in shard.inputs if key in self.failures), None):
            self.fail(shard, f"its input {self.failures[lost].shard.title} failed")
            return None
        for pause in (*RETRY_AFTER, None):
            try:
                return make(shard)
            except InputError:
                raise
            except Exception as error:
                if pause is None:
                    self.fail(shard, f"{type(error).__name__}: {error}")
                elif self._stopping.wait(pause):
                    raise
        return None

    def make(self, shard: Shard) -> Outcome:
        """Makes a shard and hands it to the writer. Waits first until the shards that it works on are written.

        Raises what the generator raised, or what the writer met at an earlier shard: a full disk ends a build soon, not at its end.
        """
        for future in [self._written[key] for key in shard.inputs if key in self._written] + self._finished():
            future.result()
        with held(self.devices[0]):
            made = self._maker.make(shard)
        self._room.acquire()
        self._written[shard.key] = self._writer.submit(self._write, shard, made)
        return made.outcome

    def adopt(self, shard: Shard, note: Note) -> None:
        """Takes in a shard that was made and written elsewhere."""
        self._written[shard.key] = _known(note)

    def fail(self, shard: Shard, reason: str) -> None:
        """Sets a shard down as one that could not be made."""
        self.failures[shard.key] = Failure(shard, reason)

    def notes(self) -> list[Note]:
        """The notes of all shards made so far, once they are written. Raises what the writer met."""
        return [future.result() for future in self._written.values()]

    def commit(self, properties: dict[str, str] | None = None) -> Version | None:
        """Makes the version. CheckFailed if more images fell short than the manifest allows; what was made is kept for the next build."""
        notes = self.notes()
        finals = [failure.shard.count for failure in self.failures.values() if failure.shard.role != "intermediate"]
        short = sum(note.short for note in notes) + sum(finals)
        if short > self.plan.manifest.allow_missing:
            raise CheckFailed(
                f"{short} planned images could not be made: {self._why(notes)}. No version was made; the shards that are whole are kept. "
                f"Raise `attempts` or `allow_missing`, or change the chain"
            )
        facts = {
            "manifest": json.dumps(self.plan.manifest.model_dump(mode="json")),
            "ntf": package_version("natural-trace-foundry"),
            "device": ",".join(self.devices),
            **(properties or {}),
        }
        return self.store.commit(self.plan.keys - set(self.failures), self.run_id, facts)

    def report(self, version: Version | None) -> BuildReport:
        """What this build did, once it has committed. Audits the new version, and keeps what it found beside it."""
        audit = None
        if version is not None:
            audit = audit_version(self.store, version.number)
            write_audit(self.store, audit)
        shards = {shard.key: shard for shard in self.plan.shards}
        titles = {key: shard.subset or f"real {shard.real}" for key, shard in shards.items()}
        rates.remember(self.devices[0], ((shards[note.key], note.written, note.seconds) for note in self.notes()))
        rejected: dict[str, Counter[str]] = {}
        short: Counter[str] = Counter()
        images = 0
        for note in self.notes():
            images += note.written
            rejected.setdefault(titles[note.key], Counter()).update(note.rejected)
            short[titles[note.key]] += note.short
        return BuildReport(
            version,
            made=len(self._written),
            reused=self.reused,
            dropped=len(self.stale),
            images=images,
            seconds=time.perf_counter() - self._started,
            rejected={name: dict(counts) for name, counts in rejected.items() if counts},
            short={name: count for name, count in short.items() if count},
            failures=list(self.failures.values()),
            audit=audit,
        )

    def _spread(self, call: Callable[[Attempt, Shard], Outcome | None], finish: Callable[[Shard, Outcome | None], None]) -> None:
        """One worker process for each device. Two threads serve each, so that it can write one shard while it makes the next."""
        schedule = Schedule(self.missing)
        threads = max(1, torch.get_num_threads() // len(self.devices))
        workers = [Worker(self.plan, self.store, device, threads) for device in self.devices]

        def serve(number: int) -> None:
            def make(shard: Shard) -> Outcome:
                outcome, note = workers[number].make(shard)
                self.adopt(shard, note)
                return outcome

            while (shard := schedule.take(number)) is not None:
                finish(shard, call(lambda each: self.attempt(each, make), shard))
                schedule.done(shard)

        with ThreadPoolExecutor(JOBS * len(workers), thread_name_prefix="serve") as pool:
            try:
                serving = [pool.submit(copy_context().run, serve, number) for number in range(len(workers)) for _ in range(JOBS)]
                for future in wait(serving, return_when=FIRST_EXCEPTION).done:
                    future.result()
            except BaseException:
                self._stopping.set()
                schedule.stop()
                for worker in workers:
                    worker.close(kill=True)
                raise
        for worker in workers:
            worker.close()

    def _why(self, notes: list[Note]) -> str:
        """The commonest reasons for rejections, and the failures."""
        rejected: Counter[str] = Counter()
        for note in notes:
            rejected.update(note.rejected)
        parts = [f"{reason} ({count} in {self.plan.manifest.attempts} attempts)" for reason, count in rejected.most_common(3)]
        parts += [f"{failure.shard.title} ({failure.reason})" for failure in list(self.failures.values())[:3]]
        return ", ".join(parts)

    def _finished(self) -> list[Future[Note]]:
        return [future for future in self._written.values() if future.done()]

    def _write(self, shard: Shard, made: Made) -> Note:
        try:
            return self.store.write_shard(shard.key, shard.title, made.rows(), made.short, made.seconds)
        finally:
            self._room.release()


def run_build(plan: Plan, store: Store, device: str = "auto", on_shard: OnShard | None = None) -> BuildReport:
    """The whole build, without Prefect. `device` may name several (`parse_devices`); for `on_shard` see `Build.run`."""
    with Build(plan, store, device) as build:
        build.run(on_shard)
        return build.report(build.commit())


def require_gate(plan: Plan, store: Store) -> None:
    """CheckFailed if the audit of the newest version failed, unless the manifest allows that. The version stays, to be looked at."""
    found = read_audit(store) if plan.manifest.audit.gate else None
    if found is not None and not found["gate"]["passed"]:
        raise CheckFailed(
            f"version {found['version']} is kept, but its audit failed: {found['gate']['reason']}. Change the manifest and build again, or "
            f"set `audit: {{gate: false}}` to let such versions pass"
        )


def _known(note: Note) -> Future[Note]:
    future: Future[Note] = Future()
    future.set_result(note)
    return future


def _shared(plan: Plan, shards: tuple[Shard, ...], number: int, of: int) -> tuple[Shard, ...]:
    """Share `number` of `of`: every `of`-th chain of the plan, each with all its steps, so that no share waits for another."""
    chains = {chain: position for position, chain in enumerate(dict.fromkeys(_chain(shard) for shard in plan.shards))}
    return tuple(shard for shard in shards if chains[_chain(shard)] % of == number)


def _chain(shard: Shard) -> tuple[str, str, int, int]:
    return shard.subset, shard.real, shard.part, shard.start


def _in_order(shards: tuple[Shard, ...]) -> list[Shard]:
    """Inputs first, and within a step all work of one checkpoint together, so that each model is loaded once."""
    return sorted(shards, key=lambda shard: (shard.step, shard.generator, shard.checkpoint, *_chain(shard)))
