"""Writing a file or a folder whole or not at all.

What is written goes to a partial beside its place first, `.NAME.PID.RANDOM.partial`, which no other process uses. It is synced to the disk
and then renamed, and a rename is one act. So a reader sees what was there before or all that is new, also after a kill or a power cut. Of
two writers the later one wins. An error removes the partial. What a killed process left behind goes when the same name is written again.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_UMASK = os.umask(0o022)
os.umask(_UMASK)
MODE = 0o666 & ~_UMASK  # of a new file
LEFTOVER_SECONDS = 3600  # a partial that nobody has touched for so long, and whose process is gone, was left behind by a kill


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Gives a path beside `file` to write to, and moves what was written there to `file` at the end of the block.

    The folder of `file` must exist. An error within the block leaves `file` as it was. Raises OSError.
    """
    partial = _partial(file)
    try:
        yield partial
        partial.chmod(MODE)  # some writers (safetensors) make files that nobody else can read
        _sync(partial)
        partial.replace(file)
        _sync(file.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives a new folder beside `folder` to fill, and moves it to `folder` at the end of the block.

    Folders above it are made. `folder` itself must not exist then, or be empty. An error within the block leaves it as it was. Raises
    OSError.
    """
    partial = _partial(folder)
    try:
        partial.mkdir(parents=True)
        yield partial
        os.sync()  # of everything at once: syncing thousands of files one by one takes minutes
        partial.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_bytes(file: Path, data: bytes) -> None:
    """Writes `data`, whole or not at all. The folder must exist. Raises OSError."""
    with whole_file(file) as partial:
        partial.write_bytes(data)


def write_text(file: Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all. The folder must exist. Raises OSError."""
    write_bytes(file, text.encode())


def write_json(file: Path, value: Any, indent: int | None = None) -> None:
    """Writes `value` as JSON, whole or not at all. The folder must exist. Raises OSError, and TypeError for what JSON has no form for."""
    write_text(file, json.dumps(value, indent=indent))


def _partial(place: Path) -> Path:
    """A new name beside `place`. Partials of the same name that a killed process left are removed."""
    pattern = re.compile(rf"\.{re.escape(place.name)}\.(\d+)\.[0-9a-f]{{8}}\.partial")
    for name in os.listdir(place.parent) if place.parent.is_dir() else ():
        match = pattern.fullmatch(name)
        if match and not is_running(int(match[1])):
            _remove_old(place.with_name(name))
    return place.with_name(f".{place.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")


def _remove_old(leftover: Path) -> None:
    with suppress(FileNotFoundError):  # another process may remove it at the same time
        if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()


def is_running(process: int) -> bool:
    """Whether this machine has a process of that number. Another machine's are told by the age of what they write."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _sync(place: Path) -> None:
    """Waits until a file or the names in a folder are on the disk, where the file system can say so."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
