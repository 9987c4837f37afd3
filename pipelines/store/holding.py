"""Holding a store for one builder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import filelock

from generators.errors import InputError
from pipelines.store.place import Place


class StoreBusy(InputError):
    """Another build holds the dataset."""


@contextmanager
def held(root: Place, name: str) -> Iterator[None]:
    """Holds the dataset `name` in `root` for one builder. StoreBusy if another holds it, InputError if the folder cannot be written."""
    probe = f".{name}.{os.getpid()}.probe"
    try:
        root.write(probe, b"")
        root.remove(probe)
    except OSError as error:
        raise InputError(
            f"cannot write to the store {root.location}: {error.strerror or error}", "Check its permissions and the disk"
        ) from None
    lock = filelock.FileLock(root.lock_file(name), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise StoreBusy(f"another build holds {name} in {root.location}", "Wait for it to end, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def probes(root: Place, name: str) -> list[str]:
    """The probes in `root` that killed builders left, whole or half-written. Call it while the dataset is held."""
    pattern = re.compile(rf"\.{re.escape(name)}\.\d+\.probe|\.\.{re.escape(name)}\.\d+\.probe\.\d+\.[0-9a-f]{{8}}\.partial")
    return sorted(file for file in root.sizes() if pattern.fullmatch(file))
