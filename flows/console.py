"""What a person or a script sees of a command: text, tables, JSON, notes, errors; how much of it, and the file that keeps it.

Light to import. Bars and lines on the way are in `flows.progress`.
"""

from __future__ import annotations

import enum
import io
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleDimensions
from rich.errors import MarkupError
from rich.markup import escape

from foreign.text import escape_controls

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from flows.journal import Journal
    from pipelines.plan.shards import Shard
    from pipelines.store.pending import Note


WIDE = 100_000  # columns where the output is not a terminal, so that scripts get every name whole


class Detail(enum.Enum):
    """How much a command says of itself: only results, warnings and errors; also notes and progress; also what libraries say."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


class SafeConsole(Console):
    """rich's console for text in which names, keys and prompts of strangers may stand.

    What could move the cursor, colour the screen or turn the direction of writing is shown as `\\x1b`. Brackets that are no markup, as the
    name of a tensor may have them, are shown as they are. Where the output is no terminal, no line is broken and no name is cut. What is
    printed is written into the journal too, if there is one.
    """

    journal: Journal | None = None

    @property
    def size(self) -> ConsoleDimensions:
        size = super().size
        return size if self.is_terminal else ConsoleDimensions(max(WIDE, size.width), size.height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **options)
        if self.journal is not None:
            text = io.StringIO()
            SafeConsole(file=text, highlight=False).print(*objects, **options)
            self.journal.write(text.getvalue())

    def render_str(self, text: str, **options: Any) -> Text:
        shown = escape_controls(text)
        try:
            return super().render_str(shown, **options)
        except MarkupError:
            return super().render_str(shown, **{**options, "markup": False})


def cell(text: object) -> str:
    """A name of a stranger as a cell of a table: its brackets are no markup."""
    return escape(str(text))


def plain(message: str) -> str:
    """A message in one line, whose brackets are no markup."""
    return escape(" ".join(message.split()))


out = SafeConsole(highlight=False)
err = SafeConsole(stderr=True, highlight=False)
_chosen = {"detail": Detail.NORMAL}  # by the options of `ntf`; a process is one command


def set_detail(detail: Detail) -> None:
    """How much this process says from now on."""
    _chosen["detail"] = detail


def detail() -> Detail:
    """How much this process says."""
    return _chosen["detail"]


def only_errors() -> None:
    """Has this process print errors and nothing else: another one prints the results of both."""
    set_detail(Detail.QUIET)
    out.quiet = True


def set_journal(journal: Journal) -> None:
    """Has all that is printed from now on written to a file too."""
    out.journal = err.journal = journal


def note_in_journal(text: str) -> None:
    """Writes what is not printed here into the journal, if there is one."""
    if err.journal is not None:
        err.journal.write(text)


def close_journal(code: object) -> None:
    """Ends the journal, if there is one, with the exit code of the command."""
    if err.journal is not None:
        err.journal.close(code)
    out.journal = err.journal = None


def table(*headers: str, title: str = "") -> Table:
    """An empty table with these headers. What does not fit into a terminal's width goes on in the next line; nothing is cut."""
    from rich.table import Column, Table

    return Table(*(Column(header, overflow="fold") for header in headers), title=title or None)


def print_json(data: object) -> None:
    """Prints data as JSON (RFC 8259: a number that is none is null), for scripts. Paths and dates are strings."""
    out.print_json(json.dumps(_finite(data), default=str))


def _finite(data: Any) -> Any:
    """The same data with null for NaN and infinities, which JSON has no word for."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not -float("inf") < data < float("inf") else data


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 image", "2,000 images"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def say(notes: Iterable[str]) -> None:
    """Prints notes on standard error, so that standard output stays for results; nothing if only results are wanted."""
    for note in notes if detail() is not Detail.QUIET else ():
        err.print(f"note: {note}", soft_wrap=True, markup=False)


def complain(message: str, fix: str = "") -> None:
    """An error that a person can fix, in one line on standard error."""
    text = f"{message}. Fix: {fix}" if fix else message
    err.print(f"[bold red]error:[/bold red] {plain(text)}", soft_wrap=True)


def describe(shard: Shard, note: Note | None) -> str:
    """A shard in a line: what it is, how many images, how fast, how many were rejected; or that it failed."""
    if note is None:
        return f"{shard.title}: failed"
    rejections = sum(note.rejected.values())
    rate = f", {_speed(note.written, note.seconds)}" if shard.generator and note.written and note.seconds > 0 else ""
    rejected = f", {rejections} rejected" if rejections else ""
    return f"{shard.title}: {counted(note.written, 'image')}{rate}{rejected}"


def _speed(images: int, seconds: float) -> str:
    """ "1.5 a second"; "40.0 s each" for images that take longer than a second."""
    return f"{images / seconds:.1f} a second" if images >= seconds else f"{seconds / images:.1f} s each"
