"""Files that no version and no waiting shard needs: found, and removed on request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pipelines.store.store import Store

# An object storage has no lock that would tell of a builder on another machine: there a file must be this old to count as an orphan.
REMOTE_AGE = timedelta(days=7)


@dataclass(frozen=True)
class Garbage:
    """Orphaned data files (what a killed writer left) with their size in bytes, unreadable notes, and versions that were dropped."""

    files: tuple[str, ...]
    bytes: int
    notes: tuple[str, ...]
    versions: tuple[int, ...]


def collect_garbage(store: Store, keep: int | None = None, dry_run: bool = False) -> Garbage:
    """Removes orphaned files, and with `keep` all versions but the newest `keep` and the tagged ones, with the files that only they had.

    It holds the store while it works, so that no live builder's file is touched (InputError if there is one); shards that wait for a commit
    keep their files. With `dry_run` it removes nothing and says what it would.
    """
    with store.building():
        dropped = _droppable(store, keep)
        notes = store.notes.leftovers()
        if dropped and not dry_run:
            # Lance takes an unreferenced file of more than a week for an orphan: those that wait for a commit must look younger.
            store.data.touch(name for note in store.notes.read().values() for name, _ in note.files)
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
                store.audits.remove(f"{number}.json")
    return Garbage(tuple(orphans), sum(sizes[name] for name in orphans), tuple(notes), tuple(dropped))


def _droppable(store: Store, keep: int | None) -> list[int]:
    if keep is None or not store.exists():
        return []
    return [version.number for version in store.log()[:-keep] if not version.tags]


def _needed(store: Store, dropped: set[int]) -> set[str]:
    """The data files of all versions (but `dropped`) and of all shards that wait for a commit."""
    needed = {name for note in store.notes.read().values() for name, _ in note.files}
    if store.exists():
        dataset = store.dataset()
        for entry in dataset.versions():
            if entry["version"] not in dropped:
                for fragment in dataset.checkout_version(entry["version"]).get_fragments():
                    needed.update(file.path for file in fragment.metadata.files)
    return needed
