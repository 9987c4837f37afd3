"""What a file is: its sha256, computed once and remembered for as long as the file does not change."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from foreign.json_files import read_json
from generators.checkpoints import sha256_of, sha256_of_listing
from generators.checkpoints.folders import folder_files
from generators.errors import CheckpointError
from pipelines.files import cache_folder, update_cache


def cached_sha256(path: Path, variant: str | None = None) -> str:
    """`sha256_of(path)`, of a file or a folder, remembered by size and modification time: a 4 GB checkpoint is read once, not at every
    plan. Of a folder only the files that are read count, so a README or the notes of a download change nothing."""
    if not path.is_dir():
        return cached_sha256s([path])[0]
    names = folder_files(path, variant)
    return sha256_of_listing(dict(zip(names, cached_sha256s([path / name for name in names]), strict=True)))


def remember(sums: Mapping[Path, str]) -> None:
    """Notes the sha256 of files that was taken while they were written, so that they are not read again for it."""
    _note({os.path.abspath(path): [*_stamp(path.stat()), digest] for path, digest in sums.items()})


def cached_sha256s(paths: Sequence[Path]) -> list[str]:
    """`cached_sha256` of many files, with the cache read and written once for all of them. CheckpointError if one cannot be read."""
    known = _read_cache(_cache_file())
    fresh: dict[str, list[Any]] = {}
    sums = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}", "Run `ntf plan` to see where it comes from") from None
        key, stamp = os.path.abspath(path), _stamp(status)
        noted = fresh.get(key) or known.get(key) or [None]
        if noted[:2] != stamp:
            noted = fresh[key] = [*stamp, sha256_of(path)]
        sums.append(noted[2])
    if fresh:
        _note(fresh)
    return sums


def _note(entries: Mapping[str, list[Any]]) -> None:
    """Adds to the cache as it is now: another process or thread may have added to it since it was read."""
    file = _cache_file()
    update_cache(file, lambda: _read_cache(file), lambda known: {**known, **entries})


def _cache_file() -> Path:
    return cache_folder() / "sha256.json"


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns]


def _read_cache(file: Path) -> dict[str, list[Any]]:
    """The cache, parsed once for as long as the file does not change: a manifest with 50 checkpoints looks 50 times. Two writes can have
    one time, since clocks of file systems tick every few milliseconds, but not one inode too."""
    try:
        status = file.stat()
        return _parsed_cache(file, (status.st_mtime_ns, status.st_ino, status.st_size))
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=1)
def _parsed_cache(file: Path, state: tuple[int, int, int]) -> dict[str, list[Any]]:
    return read_json(file)
