"""Building a dataset: what is missing is made, and one commit makes a version of it."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version as package_version
from typing import Any

from generators.errors import InputError
from pipelines.errors import CheckFailed
from pipelines.make import Made, Maker, Outcome
from pipelines.models import Models, pick_device
from pipelines.plan import Plan, Shard
from pipelines.store import Store, Version
from pipelines.store.pending import Note

WAITING_SHARDS = 2  # made and not yet written; more would only hold memory
OnShard = Callable[[Shard, Outcome | None, int, int], None]
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
    """What a build did. `version` is None when there was nothing to do."""

    version: Version | None
    made: int
    reused: int
    dropped: int
    images: int
    seconds: float
    rejected: dict[str, dict[str, int]] = field(default_factory=dict)
    short: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def status(plan: Plan, store: Store) -> Status:
    """Compares a plan with the newest version of a store and with what waits for a commit."""
    committed = store.keys()
    there = set(committed) | {key for key, note in store.notes.read().items() if note.short == 0}
    present = tuple(shard for shard in plan.shards if shard.key and shard.key in there)
    missing = tuple(shard for shard in plan.shards if not shard.key or shard.key not in there)
    return Status(present, missing, tuple(sorted(set(committed) - plan.keys)))


class Build:
    """One build, as a context: it holds the store, makes shards one by one, and writes them while the next is made.

    >>> with Build(plan, store) as build:
    ...     for shard in build.missing:
    ...         build.attempt(shard)
    ...     version = build.commit()
    """

    def __init__(self, plan: Plan, store: Store, device: str = "auto"):
        plan.require_complete()
        self.plan = plan
        self.store = store
        self.device = pick_device(device)
        self.run_id = uuid.uuid4().hex

    def __enter__(self) -> Build:
        self._lock = self.store.building()
        self._lock.__enter__()
        self._started = time.perf_counter()
        found = status(self.plan, self.store)
        self.stale = found.stale
        self.reused = len(found.present)
        self.missing = _in_order(found.missing)
        self._maker = Maker(self.plan, self.store, Models(self.plan.catalogue, self.device))
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._room = threading.Semaphore(WAITING_SHARDS)
        self._written: dict[str, Future[Note]] = {}
        self.failures: dict[str, Failure] = {}
        return self

    def __exit__(self, *problem: Any) -> None:
        self._writer.shutdown(wait=True, cancel_futures=problem[0] is not None)
        self._lock.__exit__(None, None, None)

    def attempt(self, shard: Shard) -> Outcome | None:
        """Makes a shard. One that fails is tried again after a while, then set down as a failure (None), and the build goes on.

        What is wrong with the input (InputError) ends the build at once: trying again would not help.
        """
        if lost := next((key for key in shard.inputs if key in self.failures), None):
            self.failures[shard.key] = Failure(shard, f"its input {self.failures[lost].shard.title} failed")
            return None
        for pause in (*RETRY_AFTER, None):
            try:
                return self.make(shard)
            except InputError:
                raise
            except Exception as error:
                if pause is None:
                    self.failures[shard.key] = Failure(shard, f"{type(error).__name__}: {error}")
                else:
                    time.sleep(pause)
        return None

    def make(self, shard: Shard) -> Outcome:
        """Makes a shard and hands it to the writer. Waits first until the shards that it works on are written.

        Raises what the generator raised, or what the writer met at an earlier shard: a full disk ends a build soon, not at its end.
        """
        for future in [self._written[key] for key in shard.inputs if key in self._written] + self._finished():
            future.result()
        made = self._maker.make(shard)
        self._room.acquire()
        self._written[shard.key] = self._writer.submit(self._write, shard, made)
        return made.outcome

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
            "device": self.device,
            **(properties or {}),
        }
        return self.store.commit(self.plan.keys - set(self.failures), self.run_id, facts)

    def report(self, version: Version | None) -> BuildReport:
        """What this build did, once it has committed."""
        titles = {shard.key: shard.subset or f"real {shard.part}" for shard in self.plan.shards}
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
        )

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
    """The whole build, without Prefect. `on_shard(shard, outcome, done, total)` is called after each shard."""
    with Build(plan, store, device) as build:
        for done, shard in enumerate(build.missing, start=1):
            outcome = build.attempt(shard)
            if on_shard:
                on_shard(shard, outcome, done, len(build.missing))
        return build.report(build.commit())


def _in_order(shards: tuple[Shard, ...]) -> list[Shard]:
    """Inputs first, and within a step all work of one checkpoint together, so that each model is loaded once."""
    return sorted(shards, key=lambda shard: (shard.step, shard.generator, shard.checkpoint, shard.subset, shard.part, shard.start))
