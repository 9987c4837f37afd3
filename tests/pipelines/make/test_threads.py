"""Work beside the network: order, bounds, errors, and that closing it lets nothing more begin."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pipelines.make.threads import Threads


@pytest.mark.parametrize("count", [0, 1, 4])
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    def act(item: int) -> int:
        time.sleep(0.001 * (7 - item % 7))  # later ones end earlier
        return item * item

    assert list(Threads(count).in_order(act, range(30), 5)) == [item * item for item in range(30)]


def test_no_more_is_taken_ahead_than_the_bound_allows() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            taken.append(item)
            yield item

    results = Threads(2).in_order(lambda item: item, items(), 3)
    assert next(results) == 0
    assert len(taken) == 4  # the one that was asked for, and three more
    results.close()
    assert len(taken) == 4


@pytest.mark.parametrize("count", [0, 3])
def test_an_error_comes_in_its_turn(count: int) -> None:
    def act(item: int) -> int:
        if item == 3:
            raise ValueError("the fourth")
        return item

    results = Threads(count).in_order(act, range(8), 8)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the fourth"):
        next(results)


def test_what_is_begun_is_taken_in_after_the_next_was_begun() -> None:
    """The plain way ends each piece before the next one; with a lag of one the next begins first."""
    for lag, expected in ((0, ["make 0", "took 0", "make 1", "took 1"]), (1, ["make 0", "make 1", "took 0", "took 1"])):
        events: list[str] = []
        threads = Threads(1)

        def pieces(threads: Threads = threads, events: list[str] = events) -> Iterator:
            for piece in range(2):
                events.append(f"make {piece}")
                yield threads.begin(lambda item: item, [piece])

        for (piece,) in threads.behind(pieces(), lambda lag=lag: lag):
            events.append(f"took {piece}")
        assert events == expected


def test_the_asking_thread_goes_on_while_others_work() -> None:
    """An item waits for what its successor does: possible only if both are worked on at once."""
    met = threading.Barrier(2, timeout=30)
    assert list(Threads(2).in_order(lambda item: (met.wait() >= 0, item)[1], range(2), 2)) == [0, 1]
