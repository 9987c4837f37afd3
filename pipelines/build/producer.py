"""Making a shard and writing it: what a worker process does, and a task on another machine."""

from __future__ import annotations

import threading

from pipelines.build.devices import held
from pipelines.make.make import Maker, Outcome
from pipelines.make.models import Models
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store
from pipelines.store.pending import Note

Produced = tuple[Outcome, Note]


class Producer:
    """Makes the shards of a plan on one device. Models stay loaded between them.

    `produce` may be called from two threads: one generates while the other encodes and writes.
    """

    def __init__(self, plan: Plan, store: Store, device: str):
        self._store = store
        self._device = device
        self._maker = Maker(plan, store, Models(plan.catalogue, device))
        self._generating = threading.Lock()

    def produce(self, shard: Shard) -> Produced:
        """Makes a shard and writes it. It waits for a commit then. Raises what the generator or the store raised."""
        with self._generating, held(self._device):
            made = self._maker.make(shard)
        return made.outcome, self._store.write_shard(shard.key, shard.title, made.rows(), made.short, made.seconds)
