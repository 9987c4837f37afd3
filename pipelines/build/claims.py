"""A worker's part of a build that several share: it claims chains that nobody works on, makes them, and claims the next.

A claim is a lease (`pipelines.store.leases`), so that the chains of a worker that has gone are free again after seconds, and each worker
gets as much as it can make.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection

from pipelines.build.runner import Failure, Runner
from pipelines.build.shares import OnShard, ShardsMade, chains_of, in_order, run_shards
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store
from pipelines.store.leases import Leases
from pipelines.store.pending import Note

POLL = 2.0  # seconds between looks for a chain, while others hold all of them
PARTS = 4  # a worker claims at most this part of its fair share at once: the rest is left for whoever is faster


def leases_of(store: Store) -> Leases:
    """The leases on the chains of a dataset."""
    return Leases(store.root.child(f"{store.name}.leases"))


def make_claimed(
    plan: Plan, store: Store, runner: Runner, workers: int = 1, on_shard: OnShard | None = None, deliveries: Collection[str] = ()
) -> ShardsMade:
    """Claims and makes chains of `plan`, with the `deliveries` that are asked for, until every missing shard is written or has failed here.
    `workers` is how many share the work.

    While others hold all that is left it waits, to take over what one of them loses. For `on_shard` see `run_shards`; it counts the shards
    that are made here against all that were missing. Raises InputError.
    """
    committed, wanted = set(store.keys()), (*plan.shards, *plan.deliveries(deliveries))
    notes: list[Note] = []
    failures: dict[str, Failure] = {}

    def missing() -> list[Shard]:
        there = committed | store.notes.keys() | failures.keys()
        return [shard for shard in wanted if shard.key not in there]

    total, before = len(missing()), 0

    def show(shard: Shard, note: Note | None, done: int, of: int) -> None:
        nonlocal before
        if on_shard:
            on_shard(shard, note, before + done, max(total, before + of))

    with leases_of(store) as leases:
        while open_shards := missing():
            chains = chains_of(plan, open_shards)
            names = [root for root in chains if root not in leases.held()]
            claimed = leases.claim(names, max(1, math.ceil(len(names) / (PARTS * workers))))
            if not claimed:
                time.sleep(POLL)
                continue
            try:
                there = store.notes.keys()  # somebody may have finished a chain between the look and the claim
                shards = in_order(shard for root in claimed for shard in chains[root] if shard.key not in there)
                made = run_shards(shards, runner, show)
            finally:
                leases.release(claimed)
            before += len(shards)
            notes += made.notes
            failures |= {failure.shard.key: failure for failure in made.failures}
    return ShardsMade(tuple(notes), tuple(failures.values()))
