"""Building a dataset: what is missing is made, and one commit makes a version of it."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version as package_version
from typing import Any

from generators.loading import require_compiler
from generators.numerics import numerics
from pipelines.audit import Audit, audit_version, read_audit, write_audit
from pipelines.build import rates
from pipelines.build.devices import parse_devices
from pipelines.build.runner import Failure, Runner, local_runner
from pipelines.build.shares import OnShard, ShardsMade, in_order, run_shards
from pipelines.errors import CheckFailed
from pipelines.manifest.sizes import said
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store, Version
from pipelines.store.pending import Note


@dataclass(frozen=True)
class Status:
    """The shards of a plan against a store: there already, to be made, and in the store but in no plan (by key)."""

    present: tuple[Shard, ...]
    missing: tuple[Shard, ...]
    stale: tuple[str, ...]


@dataclass
class BuildReport:
    """What a build did. `version` and `audit` are None when there was nothing to do. `delivered` has the audits of the deliveries that were
    asked for, by name."""

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
    delivered: dict[str, Audit] = field(default_factory=dict)


def status(plan: Plan, store: Store, deliveries: Collection[str] = ()) -> Status:
    """Compares a plan, with the `deliveries` that are asked for, with the newest version of a store and with what waits for a commit."""
    committed, there = store.keys(), _there(store)
    wanted = (*plan.shards, *plan.deliveries(deliveries))
    present = tuple(shard for shard in wanted if shard.key and shard.key in there)
    missing = tuple(shard for shard in wanted if not shard.key or shard.key not in there)
    return Status(present, missing, tuple(sorted(set(committed) - plan.keys - plan.delivered_keys)))


def _there(store: Store) -> set[str]:
    return set(store.keys()) | {key for key, note in store.notes.read().items() if note.short == 0}


class Build:
    """One build, as a context: it holds the store, has the missing shards made, and commits them. What only makes its share of a build uses
    `run_shards` and has no commit.

    >>> with Build(plan, store, "0,1") as build:
    ...     build.run()
    ...     version = build.commit()
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        device: str = "auto",
        deliveries: Collection[str] = (),
        wait: bool = False,
        elsewhere: bool = False,
        batch: int | None = None,
    ):
        """`device` may name several (`parse_devices`). `deliveries` are made too; those that are there and still fit are kept in any case.
        With `wait` it waits for the end of another build, which else is StoreBusy. With `elsewhere` a runner on other machines makes the
        shards, so that the device need not be here. `batch` is how many images are made at once, if a person says so.

        Raises InputError if something that the plan needs is missing, or it has no such delivery.
        """
        plan.require_complete()
        plan.deliveries(deliveries)
        self.deliveries = tuple(deliveries)
        self.plan = plan
        self.store = store
        self.devices = (device,) if elsewhere else parse_devices(device)
        self._wait, self._elsewhere, self._batch = wait, elsewhere, batch
        self.run_id = uuid.uuid4().hex
        self.shards = ShardsMade()
        self._held = ExitStack()

    def __enter__(self) -> Build:
        self._held.enter_context(self.store.building(self._wait))
        self._started = time.perf_counter()
        try:
            state = status(self.plan, self.store, self.deliveries)
            self._require_compiler(state.missing)
        except BaseException:
            self._held.close()
            raise
        self.stale = state.stale
        self.reused = len(state.present)
        self.missing = in_order(state.missing)
        return self

    def _require_compiler(self, missing: Iterable[Shard]) -> None:
        """InputError if a checkpoint that will be loaded here is to be compiled and cannot be, before hours of other work."""
        entries = self.plan.catalogue.entries
        for name in sorted({shard.checkpoint for shard in missing if shard.checkpoint and not shard.delivery}):
            options = entries[name].options
            for device in () if self._elsewhere or not options.get("compile") or options.get("exact") else self.devices:
                require_compiler(device, name)

    def __exit__(self, *problem: Any) -> None:
        self._held.close()

    def run(self, on_shard: OnShard | None = None, runner: Runner | None = None) -> None:
        """Has all missing shards made by `runner`: by default in this process, or in a worker process for each of several devices.

        For `on_shard` see `run_shards`. Raises InputError.
        """
        self.shards = run_shards(self.missing, runner or local_runner(self.plan, self.store, self.devices, self._batch), on_shard)

    def commit(self, properties: dict[str, str] | None = None) -> Version | None:
        """Makes the version. CheckFailed if more images fell short than the manifest allows; what was made is kept for the next build."""
        self._require_reals()
        failed = [failure.shard for failure in self.shards.failures]
        short = sum(note.short for note in self.shards.notes) + sum(shard.count for shard in failed if shard.role != "intermediate")
        if short > self.plan.manifest.allow_missing:
            raise CheckFailed(
                f"{short} planned images could not be made: {self._why()}. No version was made; the shards that are whole are kept. "
                f"Raise `attempts` or `allow_missing`, or change the chain"
            )
        facts = {
            "manifest": json.dumps(self.plan.manifest.model_dump(mode="json")),
            "ntf": package_version("natural-trace-foundry"),
            "device": ",".join(self.devices),
            "numerics": json.dumps(numerics()),
            **(properties or {}),
        }
        delivered = self.plan.delivered_keys & _there(self.store)
        return self.store.commit((self.plan.keys | delivered) - {shard.key for shard in failed}, self.run_id, facts)

    def report(self, version: Version | None) -> BuildReport:
        """What this build did, once it has committed. Audits the new version, and keeps the audit beside it."""
        audit = None
        audits: dict[str, Audit] = {}
        if version is not None:
            audit = audit_version(self.store, version.number)
            write_audit(self.store, audit)
            audits = {name: audit_version(self.store, version.number, name) for name in self.deliveries}
            for delivered in audits.values():
                write_audit(self.store, delivered)
        notes: tuple[Note, ...] = self.shards.notes
        shards = {shard.key: shard for shard in (*self.plan.shards, *self.plan.delivered)}
        titles = {key: shard.subset or f"real {shard.real}" for key, shard in shards.items()}
        if not self._elsewhere:
            rates.remember(self.devices[0], ((shards[note.key], note.written, note.seconds) for note in notes))
        rejected: dict[str, Counter[str]] = {}
        short: Counter[str] = Counter()
        for note in notes:
            rejected.setdefault(titles[note.key], Counter()).update(note.rejected)
            short[titles[note.key]] += note.short
        return BuildReport(
            version,
            made=len(notes),
            reused=self.reused,
            dropped=len(self.stale),
            images=sum(note.written for note in notes),
            seconds=time.perf_counter() - self._started,
            rejected={name: dict(counts) for name, counts in rejected.items() if counts},
            short={name: count for name, count in short.items() if count},
            failures=list(self.shards.failures),
            audit=audit,
            delivered=audits,
        )

    def _require_reals(self) -> None:
        """CheckFailed if a real source that was brought in now has no image of the dataset's size."""
        written = {note.key: note.written for note in self.shards.notes}
        for name in self.plan.pools:
            shards = [shard for shard in self.plan.shards if shard.role == "real" and shard.real == name]
            if shards and all(written.get(shard.key) == 0 for shard in shards):
                raise CheckFailed(
                    f"no image of the real source {name} fits the dataset's size, {said(self.plan.manifest.size)}. No version was made. "
                    "Change `size`, or give larger pictures"
                )

    def _why(self) -> str:
        """The commonest reasons for rejections, and the first failures."""
        rejected: Counter[str] = Counter()
        for note in self.shards.notes:
            rejected.update(note.rejected)
        reasons = [f"{reason} ({count} in {self.plan.manifest.attempts} attempts)" for reason, count in rejected.most_common(3)]
        reasons += [f"{failure.shard.title} ({failure.reason})" for failure in self.shards.failures[:3]]
        return ", ".join(reasons)


def run_build(
    plan: Plan,
    store: Store,
    device: str = "auto",
    on_shard: OnShard | None = None,
    deliveries: Collection[str] = (),
    wait: bool = False,
    batch: int | None = None,
) -> BuildReport:
    """The whole build, without Prefect. For `device`, `deliveries`, `wait` and `batch` see `Build`, for `on_shard` see `run_shards`."""
    with Build(plan, store, device, deliveries, wait, batch=batch) as build:
        build.run(on_shard)
        return build.report(build.commit())


def require_gate(plan: Plan, store: Store) -> None:
    """CheckFailed if the audit of the newest version failed, unless the manifest allows that. The version stays, to be looked at."""
    if not plan.manifest.audit.gate:
        return
    for name in ("", *plan.manifest.deliveries):
        audit = read_audit(store, delivery=name)
        if audit is not None and audit["gate"]["judged"] and not audit["gate"]["passed"]:
            which = f"the audit of its delivery {name}" if name else "its audit"
            raise CheckFailed(
                f"version {audit['version']} is kept, but {which} failed: {audit['gate']['reason']}. Change the manifest and build again, "
                f"or set `audit: {{gate: false}}` to let such versions pass"
            )
