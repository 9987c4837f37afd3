"""A build that is spread over the machines of a work pool: runs of `make-shards` claim its chains, and the build waits and commits."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.states import Cancelled, Cancelling, Crashed, State

from flows.logs import run_logger
from flows.remote import Source
from pipelines.build.claims import leases_of
from pipelines.build.runner import Ended, Failure, Runner
from pipelines.build.shares import chains_of
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store

POLL = 2.0
LOST = 30.0  # seconds without a shard and without a lease, after which the workers that had begun are taken to be gone
SAY_EVERY = 60.0  # seconds between lines that say what is waited for
ENDING = 20.0  # seconds that the workers get to see that nothing is left


class Spread(Runner):
    """Has shards made by `shares` runs of the deployment `make-shards`, on whatever machines. This process makes none."""

    def __init__(self, source: Source, shares: int, plan: Plan, store: Store):
        self._source = source
        self._shares = shares
        self._plan = plan
        self._store = store
        self._runs: dict[UUID, str] = {}
        self._said: dict[UUID, str] = {}

    def run(self, shards: Sequence[Shard]) -> Generator[Ended, None, None]:
        """See `Runner.run`. A shard comes as soon as its note does.

        A run that is killed with its worker never ends in Prefect's eyes. Its chains are taken over by the other workers; if none is left,
        a new run is started, which waits for a worker.
        """
        if not shards:
            return
        self._drop_unusable(shards)
        open_shards = {shard.key: shard for shard in shards}
        self._start(min(self._shares, len(chains_of(self._plan, shards))))
        progress = said = time.monotonic()
        before: dict[UUID, State[Any] | None] = {}
        try:
            with leases_of(self._store) as leases:
                while open_shards:
                    time.sleep(POLL)
                    states = self._states()
                    is_over = all(state is not None and state.is_final() for state in states.values())
                    for key in sorted(self._store.notes.keys() & open_shards.keys()):
                        note = self._store.notes.get(key)
                        if note is not None:
                            yield open_shards.pop(key), note
                            progress = time.monotonic()
                    if is_over:
                        break
                    now = time.monotonic()
                    if leases.held() or states != before:
                        progress, before = now, states
                    waiting = [number for number, state in states.items() if state and (state.is_scheduled() or state.is_pending())]
                    if now - progress > LOST and not waiting:
                        self._replace(states)
                        progress = now
                    if waiting and now - progress > SAY_EVERY and now - said > SAY_EVERY:
                        said = now
                        run_logger().warning("%d shards to make, and no worker takes the runs that wait for one", len(open_shards))
            reason = next((text for text in self._said.values() if "failed" in text), "no worker made it")
            for shard in open_shards.values():
                yield shard, Failure(shard, reason)
        except BaseException:
            self._end(is_stopped=True)
            raise
        self._end(is_stopped=False)

    def _drop_unusable(self, shards: Sequence[Shard]) -> None:
        """Removes the notes of shards that are to be made again: those that are not whole, or fell short."""
        whole = {key for key, note in self._store.notes.read().items() if note.short == 0}
        self._store.notes.drop(self._store.notes.keys() & {shard.key for shard in shards} - whole)

    def _start(self, count: int) -> None:
        source = self._source
        parameters: dict[str, Any] = {
            "manifest": source.manifest,
            "store": source.store,
            "device": source.device,
            "limit": source.limit,
            "batch": source.batch,
            "deliveries": list(source.deliveries),
        }
        for _ in range(count):
            name = f"worker {len(self._runs) + 1}"
            run: Any = run_deployment(
                "make-shards/make-shards", parameters={**parameters, "workers": self._shares}, flow_run_name=name, timeout=0
            )
            self._runs[run.id] = name

    def _states(self) -> dict[UUID, State[Any] | None]:
        """The state of every run. A server that is away for a while is no reason to end: then they are all as unknown."""
        states: dict[UUID, State[Any] | None] = {}
        for number, name in self._runs.items():
            states[number] = None
            with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
                state = states[number] = client.read_flow_run(number).state
                if state is not None and state.is_final() and number not in self._said:
                    self._said[number] = f"{state.name}: {state.message}"
                    run_logger().info("%s: %s", name, self._said[number])
        return states

    def _replace(self, states: dict[UUID, State[Any] | None]) -> None:
        run_logger().warning("no worker is left: what they held is given to a new run")
        self._set({number: Crashed(message="its worker is gone") for number, state in states.items() if state and state.is_running()})
        self._start(1)

    def _end(self, is_stopped: bool) -> None:
        """Lets the runs come to an end, and ends those that do not: they wait for a worker, or their worker is gone."""
        deadline = time.monotonic() + (0 if is_stopped else ENDING)
        while True:
            left = {number: state for number, state in self._states().items() if state is not None and not state.is_final()}
            running = [number for number, state in left.items() if state.is_running()]
            if not running or time.monotonic() > deadline:
                break
            time.sleep(POLL)
        ends: dict[UUID, State[Any]] = {}
        for number in left:
            if number not in running:
                ends[number] = Cancelled(message="nothing is left to make")
            else:
                ends[number] = Cancelling() if is_stopped else Crashed(message="its worker is gone")
        self._set(ends)

    def _set(self, states: dict[UUID, State[Any]]) -> None:
        for number, state in states.items():
            with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
                client.set_flow_run_state(number, state, force=True)
