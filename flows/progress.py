"""How far a command is, in one place: bars with the time left on a terminal, and elsewhere, or in a log, a line every half minute.

All of it is on standard error, so that standard output stays for results. `ntf -q` shows none of it. Light to import.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from flows import console
from flows.console import Detail, cell, err
from foreign.progress import Progress
from foreign.text import escape_controls

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, Task

    from pipelines.build.shares import OnShard
    from pipelines.catalogue.transfer import Watch
    from pipelines.plan.shards import Shard
    from pipelines.store.pending import Note

EVERY = 30.0  # seconds between lines
SPEED_OVER = 120.0  # seconds of the past that the time left is told from


@contextmanager
def step_progress(title: str) -> Iterator[Progress]:
    """A bar over the steps of one job."""
    with _shown(_counts()) as bars:
        bar = bars.add_task(title, total=None)

        def show(done: int, total: int, message: str) -> None:
            task = bars.tasks[0]
            if done < task.completed or (task.total or total) != total:  # the next part of the job
                bars.reset(bar, completed=done)
                task.total = total or None  # rich takes None for "as it was"
            bars.update(bar, completed=done, total=total or None, description=cell(escape_controls(f"{title}: {message}")))

        yield show


@contextmanager
def shard_progress(lines: bool = True) -> Iterator[OnShard]:
    """A bar over the shards of a build and, if `lines`, a line for every shard: images, images per second, rejections."""
    with _shown(_counts()) as bars:
        bar = bars.add_task("shards", total=None)

        def show(shard: Shard, note: Note | None, done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total, description=cell(escape_controls(f"shards: {shard.title}")))
            if lines and console.detail() is not Detail.QUIET:
                err.print(f"[dim]{cell(console.describe(shard, note))}[/dim]")

        yield show


@contextmanager
def transfer_progress() -> Iterator[tuple[Callable[[str], Watch], Callable[[int], None]]]:
    """A bar for each transfer and one for all: bytes, bytes a second, time left. Lines are of all together."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from pipelines.catalogue.transfer import Watch

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(True), TransferSpeedColumn(), TimeRemainingColumn())
    with _shown(columns, "bytes") as bars:
        overall = bars.add_task("in all", total=None)

        def watch_of(title: str) -> Watch:
            bar = bars.add_task(cell(escape_controls(title)), total=None, start=True)

            def advance(count: int) -> None:
                bars.advance(bar, count)
                bars.advance(overall, count)

            return Watch(advance, lambda count: bars.update(bar, total=count or None))

        yield watch_of, lambda count: bars.update(overall, total=count or None)


def _counts() -> tuple[ProgressColumn, ...]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()


@contextmanager
def _shown(columns: tuple[ProgressColumn, ...], unit: str = "") -> Iterator[Bars]:
    """A set of bars; where they cannot be seen, a line every `EVERY` seconds about the first of them."""
    from rich.progress import Progress as Bars

    wanted = console.detail() is not Detail.QUIET
    with Bars(*columns, console=err, disable=not (wanted and err.is_terminal), speed_estimate_period=SPEED_OVER) as bars:
        over = threading.Event()

        def tell() -> None:
            while not over.wait(EVERY):
                line = line_of(bars.tasks[0], unit) if bars.tasks else ""
                if wanted and not err.is_terminal:
                    err.print(line, soft_wrap=True, markup=False)
                else:
                    console.note_in_journal(line)

        teller = threading.Thread(target=tell, name="progress", daemon=True)
        teller.start()
        try:
            yield bars
        finally:
            over.set()
            teller.join()


def line_of(task: Task, unit: str = "") -> str:
    """A bar in words: what is done, of how much, since when, and how long it will take."""
    from rich.text import Text

    gone = timedelta(seconds=round(task.elapsed or 0))
    of = f" of {task.total:,.0f}" if task.total else ""
    left = None
    if task.completed and task.remaining is not None and not task.finished:
        left = (task.elapsed or 0) * task.remaining / task.completed  # from the whole past: a step may take longer than a line
    rest = "" if left is None else f", about {timedelta(seconds=round(left))} left"
    return f"{Text.from_markup(task.description).plain}: {task.completed:,.0f}{of}{f' {unit}' if unit else ''}, {gone} gone{rest}"
