"""Batches read ahead by threads.

Threads and not processes: decoding gives up Python's lock, an open store must not be forked, and what a batch holds follows from its
draws alone, so the number of threads changes nothing but the speed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from ntf_model.augment import Views
from ntf_model.data import Item, ItemDataset
from ntf_model.sampling import Draw


class Batch(NamedTuple):
    """`pixels` uint8 `[N, views, 3, S, S]`, `labels` and `rows` int64 `[N]`."""

    pixels: torch.Tensor
    labels: torch.Tensor
    rows: torch.Tensor


class Cached:
    """A dataset whose pictures are kept once they have been read, as long as they fit in `limit` bytes."""

    def __init__(self, dataset: ItemDataset, limit: int = 1 << 30):
        self.dataset, self.left, self.kept = dataset, limit, {}

    def __getitem__(self, index: int) -> Item:
        index = int(index)
        if index in self.kept:
            return self.kept[index]
        item = self.dataset[index]
        if item.image.nbytes <= self.left:
            self.left -= item.image.nbytes
            self.kept[index] = item
        return item

    def __len__(self) -> int:
        return len(self.dataset)


def read_batches(views: Views, batches: Iterable[list[Draw]], threads: int = 4, pin: bool = False) -> Iterator[Batch]:
    """Each batch in turn, at most two for each thread ahead of what is used. An error in a thread is raised here."""
    batches = iter(batches)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        try:
            for draws in batches:
                waiting.append(pool.submit(_read, views, draws, pin))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _read(views: Views, draws: list[Draw], pin: bool) -> Batch:
    pixels, labels, rows = zip(*(views[draw] for draw in draws), strict=True)
    batch = Batch(torch.stack(pixels), torch.from_numpy(np.array(labels, np.int64)), torch.from_numpy(np.array(rows, np.int64)))
    return Batch(*(part.pin_memory() for part in batch)) if pin else batch
