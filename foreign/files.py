"""Opening what a path names, if it is a plain file. Reading a FIFO may block for ever, and reading a device may have side effects."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from foreign.errors import InputError
from foreign.text import visible

KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def open_plain(path: Path) -> BufferedReader:
    """The file at `path`, open for reading bytes. Links are followed. Raises InputError if it is no plain file or cannot be opened."""
    try:
        require_plain(path)  # before it is opened, because opening a device can have side effects
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _require_kind(path, os.fstat(handle).st_mode)  # again, because another process may have put something else there
            return os.fdopen(handle, "rb")
        except BaseException:
            os.close(handle)
            raise
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def read_plain(path: Path, most: int) -> bytes:
    """The bytes of a plain file of at most `most` bytes. Raises InputError if it is none, is longer, or cannot be read."""
    try:
        with open_plain(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            data = stream.read(most + 1) if size <= most else b""
    except OSError as error:
        raise unreadable(path, error) from None
    if max(size, len(data)) > most:
        raise InputError(f"{visible(path)} has {max(size, len(data)):,} bytes", f"At most {most:,} are read")
    return data


def require_plain(path: Path) -> None:
    """Raises InputError if `path` is there and is no plain file. Raises OSError if it is not there."""
    _require_kind(path, path.stat().st_mode)


def unreadable(path: Path, error: OSError | ValueError) -> InputError:
    """The InputError for what went wrong on opening or reading `path`: an OSError, or Python's ValueError for a NUL in a name."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError):
        return InputError(f"there is no file {visible(path)}", "Check the path")
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(f"cannot read {visible(path)}: {why}", "Check the path and its permissions")


def _require_kind(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "no plain file")
        raise InputError(f"{visible(path)} is {kind}, not a file", "Name a plain file")
