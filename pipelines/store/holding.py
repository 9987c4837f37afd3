"""Holding a store for one builder: by the kernel's lock in a folder, by a lease on an object storage."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import filelock

from generators.errors import InputError
from pipelines.place import Place
from pipelines.store.leases import Leases
from pipelines.store.versions.manifests import StoreWarning

BUILDER = "builder"  # the name of a builder's lease
POLL = 1.0  # seconds between looks at the lease of another


class StoreBusy(InputError):
    """Another build holds the dataset."""


@contextmanager
def held(root: Place, name: str, wait: bool = False) -> Iterator[None]:
    """Holds the dataset `name` in `root` for one builder.

    StoreBusy if another holds it; with `wait` it says so in a warning and waits for the end of that one. A holder that was killed does not
    hold a folder any more, and holds an object storage for at most `leases.EXPIRY` seconds. InputError if the store cannot be written.
    """
    probe = f".{name}.{os.getpid()}.probe"
    try:
        root.write(probe, b"")
        root.remove(probe)
    except OSError as error:
        raise InputError.unwritable(f"write to the store {root.location}", error) from None
    with _locked(root, name, wait) if root.is_local else _leased(root, name, wait):
        yield


@contextmanager
def _locked(root: Place, name: str, wait: bool) -> Iterator[None]:
    lock = filelock.FileLock(root.lock_file(name), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        if not wait:
            raise _busy(root, name) from None
        _say(root, name)
        lock.acquire(timeout=-1)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _leased(root: Place, name: str, wait: bool) -> Iterator[None]:
    with Leases(root.child(f"{name}.leases")) as leases:
        is_said = False
        while not leases.claim([BUILDER]):
            other = leases.held().get(BUILDER)
            who = f" ({other})" if other else ""
            if not wait:
                raise _busy(root, name, who)
            if not is_said:
                _say(root, name, who)
                is_said = True
            time.sleep(POLL)
        yield


def _busy(root: Place, name: str, who: str = "") -> StoreBusy:
    return StoreBusy(f"another build holds {name} in {root.location}{who}", "Wait for it to end, or stop it")


def _say(root: Place, name: str, who: str = "") -> None:
    what = f"another build holds {name} in {root.location}{who}"
    warnings.warn(f"{what}: waiting for its end; Ctrl-C stops the waiting", StoreWarning, stacklevel=5)


def probes(root: Place, name: str) -> list[str]:
    """The probes in `root` that killed builders left, whole or half-written. Call it while the dataset is held."""
    pattern = re.compile(rf"\.{re.escape(name)}\.\d+\.probe|\.\.{re.escape(name)}\.\d+\.probe\.\d+\.[0-9a-f]{{8}}\.partial")
    return sorted(file for file in root.sizes() if pattern.fullmatch(file))
