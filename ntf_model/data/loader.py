"""Reading ahead: what is needed next is read and decoded by threads while the network works.

Threads and not processes: decoding gives up Python's lock, an open store must not be forked, and what a batch holds follows from its
draws alone, so the number of threads changes nothing but the speed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeVar

import torch

from ntf_model.data.data import DetectionData, Item, ItemDataset, items_of
from ntf_model.data.sampling import Draw

Request = TypeVar("Request")
Result = TypeVar("Result")


def read_ahead(read: Callable[[Request], Result], requests: Iterable[Request], threads: int = 4) -> Generator[Result, None, None]:
    """`read(request)` for each of `requests`, in their order, at most two for each thread ahead of what is used.

    An error in a thread is raised here. What was not used when the iterator is closed is not read.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for request in requests:
                waiting.append(pool.submit(read, request))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def batches_of(data: DetectionData, batch_size: int) -> Generator[list[Item], None, None]:
    """All pictures of a split in order, a batch at a time."""

    def read(start: int) -> list[Item]:
        return items_of(data.dataset, range(start, min(start + batch_size, len(data))))

    return read_ahead(read, range(0, len(data), batch_size), threads=2)


class Batch(NamedTuple):
    """Views of NTF: `pixels` uint8 `[N, views, 3, S, S]`, `labels` and `rows` int64 `[N]`."""

    pixels: torch.Tensor
    labels: torch.Tensor
    rows: torch.Tensor


class BatchSource(Protocol):
    """Makes a batch, a tuple of tensors, from what was drawn for it. All randomness comes from the draws' seeds."""

    def batch(self, draws: Sequence[Draw]) -> Any: ...


def read_batches(source: BatchSource, batches: Iterable[list[Draw]], threads: int = 4, pin: bool = False) -> Generator[Any, None, None]:
    """The batches of `source` in turn; with `pin` in memory that a GPU copies from without waiting."""

    def read(draws: list[Draw]) -> Any:
        batch = source.batch(draws)
        return _pinned(batch) if pin else batch

    return read_ahead(read, batches, threads)


def _pinned(batch: Any) -> Any:
    tensors = [tensor.pin_memory() for tensor in batch]
    return type(batch)(*tensors) if hasattr(batch, "_fields") else type(batch)(tensors)


class Cached:
    """A dataset whose pictures are kept after they have been read for the first time, as long as they fit in `limit` bytes."""

    def __init__(self, dataset: ItemDataset, limit: int = 1 << 30):
        self.dataset, self.left = dataset, limit
        self.kept: dict[int, Item] = {}

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """All that are not kept, in one read."""
        missing = [int(index) for index in dict.fromkeys(indices) if index not in self.kept]
        fresh = dict(zip(missing, items_of(self.dataset, missing), strict=True)) if missing else {}
        for index, item in fresh.items():
            if item.image.nbytes <= self.left:
                self.left -= item.image.nbytes
                self.kept[index] = item
        return [fresh[index] if index in fresh else self.kept[index] for index in indices]

    def __len__(self) -> int:
        return len(self.dataset)


def keep_decoded(data: DetectionData) -> DetectionData:
    """The same split, whose pictures are decoded only the first time that they are read (as far as memory is set aside for them)."""
    return replace(data, dataset=Cached(data.dataset))
