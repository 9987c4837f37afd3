"""Work on pictures beside the network: what it will be given is prepared ahead of it, and what it gave is finished behind it.

The order of results is the order of what was given, and each result is what the plain loop would give. Only the thread that asks runs
networks; the others decode, look for faces, warp, and measure. Those libraries release Python's lock while they work.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

THREADS = 8  # the most that prepare and finish pictures for one network
AHEAD = 32  # pictures that are prepared before they are asked for

Item = TypeVar("Item")
Done = TypeVar("Done")


class Begun(Generic[Done]):
    """Work on several pictures that was begun."""

    def __init__(self, waiting: Sequence[Future[Done]]):
        self._waiting = waiting

    def results(self) -> list[Done]:
        """What came of each, in order; waits for it. Raises what the first of them raised."""
        return [future.result() for future in self._waiting]

    def cancel(self) -> None:
        """Lets nothing more of it begin."""
        for future in self._waiting:
            future.cancel()


class Threads:
    """A few threads. With `count` 0 there are none: everything is done at once, where it is asked for (the plain way)."""

    def __init__(self, count: int | None = None):
        wanted = min(THREADS, os.cpu_count() or 1) if count is None else count
        self._pool = ThreadPoolExecutor(wanted, thread_name_prefix="pictures") if wanted else None

    def in_order(self, act: Callable[[Item], Done], items: Iterable[Item], ahead: int | Callable[[], int] = AHEAD) -> Iterator[Done]:
        """`act` of each item, in order. At most `ahead` results wait to be asked for; a function is asked again for each item.

        What `act` raises is raised where its result would come. Closing the iterator lets nothing more begin.
        """
        waiting: deque[Future[Done]] = deque()
        try:
            for item in items:
                waiting.append(self._submit(act, item))
                while len(waiting) > (ahead() if callable(ahead) else ahead):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            Begun(waiting).cancel()

    def begin(self, act: Callable[[Item], Done], items: Iterable[Item]) -> Begun[Done]:
        """Begins `act` of each item."""
        return Begun([self._submit(act, item) for item in items])

    def behind(self, begun: Iterable[Begun[Done]], lag: Callable[[], int] = lambda: 1) -> Iterator[list[Done]]:
        """The results of each piece of work, taken in once `lag` more pieces were begun: so making the next one does not wait for it."""
        waiting: deque[Begun[Done]] = deque()
        try:
            for piece in begun:
                waiting.append(piece)
                while len(waiting) > lag():
                    yield waiting.popleft().results()
            while waiting:
                yield waiting.popleft().results()
        finally:
            for piece in waiting:
                piece.cancel()

    def _submit(self, act: Callable[[Item], Done], item: Item) -> Future[Done]:
        if self._pool is not None:
            return self._pool.submit(act, item)
        future: Future[Done] = Future()
        try:
            future.set_result(act(item))
        except BaseException as error:
            future.set_exception(error)
        return future
