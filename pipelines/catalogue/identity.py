"""What a file is: its sha256, computed once and remembered for as long as the file does not change."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from generators.checkpoints import sha256_of
from generators.errors import CheckpointError
from pipelines.files import cache_folder, write_cache


def cached_sha256(path: Path) -> str:
    """`sha256_of(path)`, remembered by size and modification time: a 4 GB checkpoint is read once, not at every plan."""
    return sha256_of(path) if path.is_dir() else cached_sha256s([path])[0]


def cached_sha256s(paths: Sequence[Path]) -> list[str]:
    """`cached_sha256` of many files, with the cache read and written once for all of them. CheckpointError if one cannot be read."""
    cache_file = cache_folder() / "sha256.json"
    known, fresh = _read_cache(cache_file), False
    sums = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}", "Run `ntf plan` to see where it comes from") from None
        key, stamp = os.path.abspath(path), [status.st_size, status.st_mtime_ns]
        if known.get(key, [None])[:2] != stamp:
            known[key] = [*stamp, sha256_of(path)]
            fresh = True
        sums.append(known[key][2])
    if fresh:
        write_cache(cache_file, known)
    return sums


def _read_cache(file: Path) -> dict[str, list[Any]]:
    """The cache, parsed once for as long as the file does not change: a manifest with 50 checkpoints looks 50 times."""
    try:
        return _parsed_cache(file, file.stat().st_mtime_ns)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=1)
def _parsed_cache(file: Path, changed: int) -> dict[str, list[Any]]:
    return json.loads(file.read_text())
