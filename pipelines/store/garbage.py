"""Files that no version and no waiting shard needs: found, and removed on request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from generators.files import LEFTOVER_SECONDS
from pipelines.place import Place
from pipelines.store.damage import damaged
from pipelines.store.holding import probes
from pipelines.store.store import Store

# An object storage has no lock that would tell of a builder on another machine: there a file must be this old to count as an orphan.
REMOTE_AGE = timedelta(days=7)


@dataclass(frozen=True)
class Garbage:
    """Orphaned data files (what a killed writer left) with their size in bytes, unreadable notes, versions that were dropped, and small
    files that killed processes left half-written beside the dataset."""

    files: tuple[str, ...]
    bytes: int
    notes: tuple[str, ...]
    versions: tuple[int, ...]
    leftovers: tuple[str, ...] = ()


def collect_garbage(store: Store, keep: int | None = None, dry_run: bool = False) -> Garbage:
    """Removes orphaned files, and with `keep` all versions but the newest `keep` and the tagged ones, with the files that only they had.

    It holds the store while it works, so that no live builder's file is touched (InputError if there is one); shards that wait for a commit
    keep their files. With `dry_run` it removes nothing and says what it would. StoreDamaged if a version cannot be read: nobody knows then
    which files it needs.
    """
    with store.building():
        _require_sound(store)
        dropped = _droppable(store, keep)
        notes = store.notes.leftovers()
        leftovers = [(store.root, name) for name in probes(store.root, store.name)]
        leftovers += [(place, name) for place in (store.audits, store.records.place) for name in _partials(place)]
        if dropped and not dry_run:
            # Lance takes an unreferenced file of more than a week for an orphan: those that wait for a commit must look younger.
            store.data.touch(name for note in store.notes.read().values() for name, _ in note.files)
            store.records.forget(dropped, _needed(store, set(dropped)))  # before the versions, or a kill between would make them lost
            store.dataset().cleanup_old_versions(timedelta(0), versions=dropped, error_if_tagged_old_versions=False)
        sizes = store.data.sizes()
        orphans = sorted(sizes.keys() - _needed(store, set(dropped)))
        if not store.root.is_local:
            ages = store.data.ages()
            orphans = [name for name in orphans if ages[name] > REMOTE_AGE]
        if not dry_run:
            for name in orphans:
                store.data.remove(name)
            store.notes.remove(notes)
            for number in dropped:
                for name in store.audits.sizes():
                    if name.removesuffix(".json").partition("@")[0] == str(number):
                        store.audits.remove(name)
            for place, name in leftovers:
                place.remove(name)
    size = sum(sizes[name] for name in orphans)
    return Garbage(tuple(orphans), size, tuple(notes), tuple(dropped), tuple(name for _, name in leftovers))


def _require_sound(store: Store) -> None:
    for number in store.manifests.lost():
        raise damaged(store.name, f"version {number} of {store.name} is lost (its manifest is not there)")
    for number in store.manifests.numbers():
        if fault := store.manifests.fault(number):
            raise damaged(store.name, fault)


def _partials(place: Place) -> list[str]:
    """Half-written files, which nobody has touched for so long that no process can be at them."""
    ages = place.ages()
    return sorted(name for name in ages if name.endswith(".partial") and ages[name].total_seconds() > LEFTOVER_SECONDS)


def _droppable(store: Store, keep: int | None) -> list[int]:
    if keep is None or not store.exists():
        return []
    return [version.number for version in store.log()[:-keep] if not version.tags]


def _needed(store: Store, dropped: set[int]) -> set[str]:
    """The data files of all versions (but `dropped`) and of all shards that wait for a commit."""
    needed = {name for note in store.notes.read().values() for name, _ in note.files}
    if store.exists():
        for number in store.manifests.numbers():
            if number not in dropped:
                for fragment in store.dataset(number).get_fragments():
                    needed.update(file.path for file in fragment.metadata.files)
    return needed
