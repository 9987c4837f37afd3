"""Batches read ahead by threads.

Threads and not processes: decoding gives up Python's lock, an open store must not be forked, and what a batch holds follows from its
draws alone, so the number of threads changes nothing but the speed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from ntf_model.data.data import DetectionData, Item, ItemDataset, items_of
from ntf_model.data.sampling import Draw
from ntf_model.ntf.augment import Batch


class Cached:
    """A dataset whose pictures are kept once they have been read, as long as they fit in `limit` bytes."""

    def __init__(self, dataset: ItemDataset, limit: int = 1 << 30):
        self.dataset, self.left = dataset, limit
        self.kept: dict[int, Item] = {}

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """All that are not kept, in one read."""
        missing = [int(index) for index in dict.fromkeys(indices) if index not in self.kept]
        found = dict(zip(missing, items_of(self.dataset, missing), strict=True)) if missing else {}
        for index, item in found.items():
            if item.image.nbytes <= self.left:
                self.left -= item.image.nbytes
                self.kept[index] = item
        return [found[index] if index in found else self.kept[index] for index in indices]

    def __len__(self) -> int:
        return len(self.dataset)


def keep_decoded(data: DetectionData) -> DetectionData:
    """The same split, whose pictures are decoded once (as far as memory is set aside for them)."""
    return replace(data, dataset=Cached(data.dataset))


class BatchSource(Protocol):
    def batch(self, draws: Sequence[Draw]) -> Batch: ...


def read_batches(source: BatchSource, batches: Iterable[list[Draw]], threads: int = 4, pin: bool = False) -> Iterator[Batch]:
    """Each batch in turn, at most two for each thread ahead of what is used. An error in a thread is raised here."""
    batches = iter(batches)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        try:
            for draws in batches:
                waiting.append(pool.submit(_read, source, draws, pin))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _read(source: BatchSource, draws: list[Draw], pin: bool) -> Batch:
    batch = source.batch(draws)
    return Batch(*(part.pin_memory() for part in batch)) if pin else batch
