"""A shard made on another machine. Only a reference travels there, and each process opens the plan once.

What makes images is imported where they are made: a flow that only names a `Source` does not need it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from flows.data import plan_of
from generators.errors import InputError
from pipelines.plan.shards import Shard
from pipelines.store import Store
from pipelines.store.pending import Note

if TYPE_CHECKING:
    from pipelines.build.producer import Producer


@dataclass(frozen=True)
class Source:
    """Where a shard comes from, in words that any machine understands which sees the same files: a manifest, and a folder or URI. A build
    of it makes those `deliveries` of the manifest too."""

    manifest: str
    limit: int | None
    store: str
    device: str = "auto"
    batch: int | None = None
    deliveries: tuple[str, ...] = ()


def make_shard(source: Source, key: str) -> Note:
    """Makes and writes the shard `key` of a manifest, with retries.

    Raises what the last attempt raised, and InputError if the manifest has no such shard here: a checkpoint or an image is not the one that
    the build was planned with.
    """
    from pipelines.build.runner import retried

    shards, producer = _opened(source)
    if key not in shards:
        _opened.cache_clear()  # something changed since this process planned
        shards, producer = _opened(source)
    if key not in shards:
        raise InputError(
            f"{source.manifest} has no shard {key[:12]} on this machine", "Give all machines the same manifest, checkpoints and real images"
        )
    return retried(shards[key], partial(producer.produce, shards[key]))


@lru_cache(maxsize=1)
def _opened(source: Source) -> tuple[dict[str, Shard], Producer]:
    from pipelines.build.devices import parse_devices
    from pipelines.build.producer import Producer

    plan = plan_of(source.manifest, source.limit)
    plan.require_complete()
    producer = Producer(plan, Store(source.store, plan.manifest.dataset), parse_devices(source.device)[0], source.batch)
    return {shard.key: shard for shard in (*plan.shards, *plan.delivered)}, producer
