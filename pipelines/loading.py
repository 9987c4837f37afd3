"""The order of training, and reading ahead in threads: seeded, sharded over ranks, and resumable in the middle of an epoch.

Two ways to feed a training loop from a `StoreDataset`, both over the same `EpochSampler`:

- `read_batches`, which reads and decodes in threads of this process (neither decoding nor Lance holds Python's lock);
- torch's DataLoader with `sampler=`, `multiprocessing_context="spawn"` and `persistent_workers=True`: Lance cannot be used after a fork.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import Sampler

from generators.errors import InputError
from generators.seeding import numpy_rng
from pipelines.reading import StoreDataset, StoredItem

Prepared = TypeVar("Prepared")


class EpochSampler(Sampler[int]):
    """The rows of one rank in one epoch, in an order that the seed and the epoch alone decide.

    All `length` rows are shuffled, row by row, and dealt out to `world_size` ranks; the remainder that does not fill all ranks waits for
    another epoch. Iterating gives what this epoch has left. `advance` says what was trained on; a state taken then and given back to a new
    sampler goes on with the next row, in this run or another.
    """

    def __init__(self, length: int, seed: int = 0, rank: int = 0, world_size: int = 1, shuffle: bool = True):
        if not 0 <= rank < world_size or length < world_size:
            raise InputError(f"rank {rank} of {world_size} cannot share {length} images", "Ranks count from 0, and each needs an image")
        self._facts = {"length": length, "seed": seed, "world_size": world_size, "shuffle": shuffle}
        self._rank = rank
        self.epoch = 0
        self.position = 0  # in this rank's part of the epoch

    @property
    def per_epoch(self) -> int:
        """Rows of this rank in a whole epoch."""
        return self._facts["length"] // self._facts["world_size"]

    def __len__(self) -> int:
        return self.per_epoch - self.position

    def __iter__(self) -> Iterator[int]:
        return iter(self._order()[self.position :].tolist())

    def advance(self, count: int) -> None:
        """`count` more rows were trained on. The end of an epoch is the beginning of the next."""
        self.position += count
        if self.position >= self.per_epoch:
            self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        return {**self._facts, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises InputError if the state is of another order: other data, another seed, another number of ranks."""
        for name, value in self._facts.items():
            if state.get(name) != value:
                raise InputError(f"the saved order has {name} {state.get(name)}, and this run has {value}", "Start the run anew")
        self.epoch, self.position = state["epoch"], state["position"]

    def _order(self) -> np.ndarray:
        length, world_size = self._facts["length"], self._facts["world_size"]
        rows = np.arange(length)
        if self._facts["shuffle"]:
            numpy_rng(self._facts["seed"], f"epoch {self.epoch}").shuffle(rows)
        return rows[: self.per_epoch * world_size][self._rank :: world_size]


def read_batches(
    dataset: StoreDataset,
    sampler: EpochSampler,
    batch_size: int,
    prepare: Callable[[StoredItem], Prepared],
    threads: int = 4,
    drop_last: bool = True,
) -> Iterator[list[Prepared]]:
    """What the epoch has left, in batches of `prepare(item)`, at most `2 * threads` of which are read ahead.

    `prepare` (a crop, augmentations) runs in the threads. The sampler counts a batch as trained on when it is handed out, whatever has been
    read ahead, so its state is right at any time. With `drop_last` a last batch that is not full ends the epoch unread.
    """
    rows = iter(sampler)
    pending: deque[tuple[int, Future[list[Prepared]]]] = deque()

    def load(indices: list[int]) -> list[Prepared]:
        return [prepare(item) for item in dataset.__getitems__(indices)]

    with ThreadPoolExecutor(threads, thread_name_prefix="reader") as pool:
        try:
            while True:
                while len(pending) < 2 * threads and (indices := list(islice(rows, batch_size))):
                    pending.append((len(indices), pool.submit(load, indices)))
                if not pending:
                    break
                count, future = pending.popleft()
                if count < batch_size and drop_last:
                    sampler.advance(count)
                    break
                batch = future.result()
                sampler.advance(count)
                yield batch
        finally:
            for _, future in pending:
                future.cancel()
