"""What is kept between runs on one machine: a folder of small JSON files and locks, `$NTF_CACHE` or `~/.cache/natural-trace-foundry`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import filelock

from generators.files import write_json

Known = TypeVar("Known", bound=Mapping[str, Any])


def cache_folder() -> Path:
    return Path(os.environ.get("NTF_CACHE", Path.home() / ".cache" / "natural-trace-foundry"))


def update_cache(file: Path, read: Callable[[], Known], change: Callable[[Known], Mapping[str, Any]]) -> None:
    """Writes what `change` makes of what `read` finds in a cache, as JSON. Of several processes and threads, each waits for the one before,
    so that nothing which one of them adds is lost.

    A cache that cannot be written costs time and nothing else, so that is no error.
    """
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(file.with_suffix(".lock")):
            write_json(file, change(read()))
