"""Taking a person out of a dataset, with everything that was made from them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from generators.errors import InputError
from pipelines.store import Store, Version
from pipelines.store.pending import Note
from pipelines.store.schema import parsed

COLUMNS = ["id", "role", "subset", "identity", "chain"]


@dataclass(frozen=True)
class Forgotten:
    """The version without the person (None if only shards that waited for a commit held them), how many rows of each role it lacks, the
    older versions that still hold them, and how many waiting shards were dropped; the next build makes those again."""

    version: Version | None
    rows: dict[str, int]
    older: tuple[int, ...]
    tags: tuple[str, ...]
    waiting: int


def forget(store: Store, identity: str, real: str | None = None) -> Forgotten:
    """Makes a version without the real images of `identity` (of the real source `real`, or of all) and all that was made from them:
    finals, intermediate images, and the record of tries that were rejected.

    Older versions keep what they had until `collect_garbage(store, keep=1)` drops them; tagged ones keep it for good. Put the identity on
    the manifest's `exclude` list, so that no later build draws it again. Raises InputError if neither the newest version nor a shard that
    waits for a commit has such a person.
    """
    with store.building():
        waiting = {key: _waiting_rows(store, note) for key, note in store.notes.read().items()}
        reals = {row["id"] for row in chain(_committed_rows(store), *waiting.values()) if _shows(row, identity, real)}
        if not reals:
            raise InputError(f"{store.name} has no real image of {identity!r}", "`ntf store show DATASET IMAGE` tells whom an image shows")
        gone = {row["id"]: row["role"] for row in _committed_rows(store) if _made_from(row, reals)}
        held = [key for key, rows in waiting.items() if any(_made_from(row, reals) for row in rows)]
        for name in [name for key in held if (note := store.notes.get(key)) for name, _ in note.files]:
            store.data.remove(name)
        store.notes.drop(held)
        counts = dict(Counter(gone.values()))
        version = None
        if gone:
            version = store.without(gone.keys(), {**store.version().inheritable, "forgotten": json.dumps(counts)})
    older = [entry for entry in store.log() if entry.number < version.number] if version else []
    tags = tuple(tag for entry in older for tag in entry.tags)
    return Forgotten(version, counts, tuple(entry.number for entry in older), tags, len(held))


def _committed_rows(store: Store) -> Iterator[dict[str, Any]]:
    """The newest version's rows, if there is one."""
    if store.exists():
        for batch in store.scan(COLUMNS):
            yield from batch.to_pylist()


def _waiting_rows(store: Store, note: Note) -> list[dict[str, Any]]:
    return [row for batch in store.waiting(note, COLUMNS) for row in batch.to_pylist()]


def _shows(row: dict[str, Any], identity: str, real: str | None) -> bool:
    return _is_real(row) and row["identity"] == identity and real in (None, row["subset"])


def _is_real(row: dict[str, Any]) -> bool:
    """Whether a row is a real image, one that was rejected for its size or was delivered included: only those have an empty chain."""
    return row["role"] == "real" or not parsed(row, "chain")


def _made_from(row: dict[str, Any], reals: set[str]) -> bool:
    """Whether a row is one of `reals`, or has one of them anywhere in its chain."""
    if _is_real(row):
        return row["id"].partition("@")[0] in reals  # a delivered image has its image's id before the mark
    return any(link.get(use) in reals for link in parsed(row, "chain") for use in ("source", "target"))
