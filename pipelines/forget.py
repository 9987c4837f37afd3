"""Taking a person out of a dataset, with everything that was made from them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from generators.errors import InputError
from pipelines.store import Store, Version
from pipelines.store.store import BATCH_ROWS


@dataclass(frozen=True)
class Forgotten:
    """The version without the person, how many rows of each role it lacks, and the older versions that still hold them."""

    version: Version
    rows: dict[str, int]
    older: tuple[int, ...]
    tags: tuple[str, ...]


def forget(store: Store, identity: str, real: str | None = None) -> Forgotten:
    """Makes a version without the real images of `identity` (of the real source `real`, or of all) and all that was made from them.

    Older versions keep what they had until `collect_garbage(store, keep=1)` drops them; tagged ones keep it for good. Put the identity on
    the manifest's `exclude` list, so that no later build draws it again. Raises InputError if the newest version has no such person.
    """
    with store.building():
        gone = rows_of_person(store, identity, real)
        counts: dict[str, int] = {}
        for role in gone.values():
            counts[role] = counts.get(role, 0) + 1
        newest = store.version()
        facts = {name: value for name, value in newest.properties.items() if name not in ("digest", "schema")}
        version = store.without(gone.keys(), {**facts, "forgotten": json.dumps(counts)})
    older = [each for each in store.log() if each.number < version.number]
    return Forgotten(version, counts, tuple(each.number for each in older), tuple(tag for each in older for tag in each.tags))


def rows_of_person(store: Store, identity: str, real: str | None = None) -> dict[str, str]:
    """The ids, with their roles, of a person's real images and of all images that have one of them anywhere in their chain."""
    quoted = identity.replace("'", "''")
    where = f"role = 'real' AND identity = '{quoted}'" + (f" AND subset = '{real.replace(chr(39), chr(39) * 2)}'" if real else "")
    dataset = store.dataset()
    reals = {value for batch in dataset.to_batches(columns=["id"], filter=where) for value in batch.column("id").to_pylist()}
    if not reals:
        raise InputError(f"{store.name} has no real image of {identity!r}", "`ntf store show DATASET IMAGE` tells whom an image shows")
    found = dict.fromkeys(reals, "real")
    for batch in dataset.to_batches(columns=["id", "role", "chain"], filter="role <> 'real'", batch_size=BATCH_ROWS):
        for row in batch.to_pylist():
            if any(link.get(use) in reals for link in json.loads(row["chain"]) for use in ("source", "target")):
                found[row["id"]] = row["role"]
    return found
