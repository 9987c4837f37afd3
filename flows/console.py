"""What a person sees while a command runs: progress bars, tables, and errors in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipelines.make import Made
from pipelines.plan import Shard

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


@contextmanager
def progress() -> Iterator[Progress]:
    """A set of progress bars on standard error, so that standard output stays for results."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=False) as bars:
        yield bars


@contextmanager
def shard_progress() -> Iterator[Callable[[Shard, Made, int, int], None]]:
    """A bar over the shards of a build, with a line for each: images, images per second, rejections."""
    with progress() as bars:
        bar = bars.add_task("shards", total=None)

        def show(shard: Shard, made: Made, done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total, description=f"shards: {shard.title}")
            bars.console.print(f"[dim]{describe(shard, made)}[/dim]")

        yield show


@contextmanager
def step_progress(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar over the steps of one job."""
    with progress() as bars:
        bar = bars.add_task(title, total=None)

        def show(done: int, total: int, message: str) -> None:
            bars.update(bar, completed=done, total=total, description=f"{title}: {message}")

        yield show


def describe(shard: Shard, made: Made) -> str:
    """A shard in a line: what it is, how many images, how fast, what was rejected."""
    rejected = sum(picture.row.role == "rejected" for picture in made.pictures)
    written = len(made.pictures) - rejected
    rate = written / made.seconds if made.seconds > 0 else 0.0
    tail = f", {rejected} rejected" if rejected else ""
    return f"{shard.title}: {written} images, {rate:.1f} a second{tail}"
