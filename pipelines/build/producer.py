"""Making a shard and writing it: the one act behind every build, in this process, in a worker process, or on another machine."""

from __future__ import annotations

import threading

from pipelines.build.devices import held
from pipelines.make.make import Maker
from pipelines.make.models import Models
from pipelines.make.rows import ShardPictures
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store
from pipelines.store.pending import Note


class Producer:
    """Makes the shards of a plan on one device. The models of a chain stay loaded between its shards.

    It may be used from several threads: one generates while others encode and write.
    """

    def __init__(self, plan: Plan, store: Store, device: str, batch: int | None = None):
        self._store = store
        self._device = device
        self._maker = Maker(plan, store, Models(plan.catalogue, device, batch=batch))
        self._generating = threading.Lock()

    def produce(self, shard: Shard) -> Note:
        """Makes a shard and writes it, so that it waits for a commit. Raises what the generator or the store raised."""
        return self.write(shard, self.make(shard))

    def make(self, shard: Shard) -> ShardPictures:
        """The first half of `produce`: the pictures. It waits until the device is free."""
        with self._generating, held(self._device):
            return self._maker.make(shard)

    def write(self, shard: Shard, pictures: ShardPictures) -> Note:
        """The second half of `produce`: encodes the pictures and writes them."""
        return self._store.write_shard(shard.key, shard.title, pictures.rows(), pictures.short, pictures.seconds)
