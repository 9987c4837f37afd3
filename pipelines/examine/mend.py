"""Mending a store: what is damaged is dropped, so that the next build makes it again. Nothing that could still be read is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from generators.errors import InputError
from pipelines.examine.verify import damaged_manifests, read_back
from pipelines.store import Store, StoreDamaged, Version


@dataclass(frozen=True)
class Mended:
    """What was damaged, and what was done about it.

    `version` is the new version without the damaged shards (None if there were none), made from the version `before`. `set_aside` has the
    numbers of the versions whose manifests could not be read or were not there, and `tags` the names that those had. `before` is None if no
    version can be read.
    """

    damaged: list[str]
    version: Version | None
    before: int | None
    rows: int
    shards: int
    set_aside: tuple[int, ...]
    tags: tuple[str, ...]


def mend(store: Store, on_images: Callable[[int, int], None] = lambda done, total: None) -> Mended:
    """Sets aside the manifests that cannot be read, and makes a version of the newest one that is left without its damaged shards.

    A manifest that was set aside lies in `NAME.damaged`; one that is not as it was written, and still gives the recorded digest, stays. The
    version before the new one keeps its damaged shards, so that `checkout` brings them back once their files have been restored from a
    copy. Holds the store while it works: StoreBusy if a build does. InputError if there is no dataset.
    """
    if not store.exists():
        raise InputError(f"there is no dataset {store.name!r} in {store.root.location}", "Build one with `ntf build`")
    with store.building():
        lines = damaged_manifests(store)
        gone = [*store.manifests.lost(), *(number for number in store.manifests.numbers() if not _is_usable(store, number))]
        tags = _set_aside(store, gone) if gone else ()
        if not store.manifests.numbers():
            return Mended(list(map(str, lines)), None, None, 0, 0, tuple(gone), tags)
        dataset = store.dataset()
        back = read_back(store, dataset, on_images)
        lines += back.damaged
        files = {damage.file for damage in back.damaged if damage.file}
        sizes = {part.metadata.files[0].path: part.physical_rows for part in dataset.get_fragments()}
        version = None
        if files:
            facts = {**store.version(dataset.version).inheritable, "mended": json.dumps({"from": dataset.version, "shards": len(files)})}
            version = store.without_files(files, facts)
        rows = sum(sizes[file] for file in files)
        return Mended(list(map(str, lines)), version, dataset.version, rows, len(files), tuple(gone), tags)


def _is_usable(store: Store, number: int) -> bool:
    """Whether the manifest of a version can be used. One with spoilt bytes can where its rows still give the recorded digest, and is then
    recorded as it is now."""
    if store.manifests.fault(number):
        return False
    record = store.records.get(number)
    if not record or not record.manifest or store.records.manifest_sha256(number) == record.manifest:
        return True
    try:
        is_same = store.digest(number) == record.digest
    except StoreDamaged:
        return False
    if is_same:
        store.records.write(number, record.digest, record.rows, record.sums, record.titles)
    return is_same


def _set_aside(store: Store, gone: list[int]) -> tuple[str, ...]:
    """Moves what is left of versions to `NAME.damaged`, and takes their tags away. Gives the tags."""
    aside, files = store.root.child(f"{store.name}.damaged"), store.records.files()
    places = {"manifest": store.records.manifests, "audit": store.audits, "record": store.records.place}
    for number in gone:
        for what, place in places.items():
            name = files.get(number) if what == "manifest" else f"{number}.json"
            data = place.read(name) if name else None
            if name and data is not None:
                aside.write(f"version-{number}-{what}{Path(name).suffix}", data)
                if what != "record":
                    place.remove(name)
        for name in [file for file in store.audits.sizes() if file.startswith(f"{number}@")]:  # of its deliveries
            store.audits.remove(name)
    store.records.forget(gone, store.records.sums())
    return store.drop_tags(gone)
