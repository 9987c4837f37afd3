"""What a person sees while a command runs: progress bars, and counts that agree with their nouns. Light to import."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.errors import MarkupError
from rich.markup import escape

from foreign.text import escape_controls

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.text import Text

    from pipelines.build.shares import OnShard
    from pipelines.plan.shards import Shard
    from pipelines.store.pending import Note


class SafeConsole(Console):
    """rich's console for text in which names, keys and prompts of strangers may stand.

    What could move the cursor, colour the screen or turn the direction of writing is shown as `\\x1b`. Brackets that are no markup, as the
    name of a tensor may have them, are shown as they are.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        shown = escape_controls(text)
        try:
            return super().render_str(shown, **options)
        except MarkupError:
            return super().render_str(shown, **{**options, "markup": False})


def cell(text: object) -> str:
    """A name of a stranger as a cell of a table: its brackets are no markup."""
    return escape(str(text))


out = SafeConsole(highlight=False)
err = SafeConsole(stderr=True, highlight=False)


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 image", "2,000 images"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def say(notes: Iterable[str]) -> None:
    """Prints notes on standard error, so that standard output stays for results."""
    for note in notes:
        err.print(f"note: {note}", soft_wrap=True, markup=False)


def complain(message: str, fix: str = "") -> None:
    """An error that a person can fix, in one line on standard error."""
    text = f"{message}. Fix: {fix}" if fix else message
    err.print(f"[bold red]error:[/bold red] {escape(' '.join(text.split()))}", soft_wrap=True)


@contextmanager
def progress() -> Iterator[Progress]:
    """A set of progress bars on standard error, so that standard output stays for results; none where that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as bars:
        yield bars


@contextmanager
def shard_progress(lines: bool = True) -> Iterator[OnShard]:
    """A bar over the shards of a build and, if `lines`, a line for every shard: images, images per second, rejections."""
    with progress() as bars:
        bar = bars.add_task("shards", total=None)

        def show(shard: Shard, note: Note | None, done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total, description=cell(escape_controls(f"shards: {shard.title}")))
            if lines:
                bars.console.print(f"[dim]{cell(describe(shard, note))}[/dim]")

        yield show


@contextmanager
def step_progress(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar over the steps of one job."""
    with progress() as bars:
        bar = bars.add_task(title, total=None)

        def show(done: int, total: int, message: str) -> None:
            bars.update(bar, completed=done, total=total, description=cell(escape_controls(f"{title}: {message}")))

        yield show


def describe(shard: Shard, note: Note | None) -> str:
    """A shard in a line: what it is, how many images, how fast, how many were rejected; or that it failed."""
    if note is None:
        return f"{shard.title}: failed"
    rejections = sum(note.rejected.values())
    rate = f", {note.written / note.seconds:.1f} a second" if shard.generator and note.seconds > 0 else ""
    rejected = f", {rejections} rejected" if rejections else ""
    return f"{shard.title}: {counted(note.written, 'image')}{rate}{rejected}"
