"""What long work calls as it goes on, whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Progress = Callable[[int, int, str], None]  # how much is done, of how much (0: nobody knows), and what is being done


def silent(done: int, total: int, message: str) -> None:
    """The progress callback that shows nothing."""


def counting(items: Iterable[Item], total: int, message: str, on_progress: Progress) -> Iterator[Item]:
    """`items`, with `on_progress` called after the work on each, and once before the first."""
    on_progress(0, total, message)
    for done, item in enumerate(items, 1):
        yield item
        on_progress(done, total, message)
