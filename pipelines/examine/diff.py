"""What one version has that another does not, subset by subset, and which ingredient made the difference."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import lance

from pipelines.examine.lineage import Change, changes
from pipelines.plan.shards import image_id
from pipelines.store import Store
from pipelines.store.schema import parsed
from pipelines.store.upgrade import read_batches

_COLUMNS = ["id", "role", "subset", "real", "part", "index", "step", "sha256", "format", "width", "height", "chain"]


@dataclass
class SubsetDiff:
    """The images of one subset and role (`final`, `intermediate`, `real`) that differ. `causes` counts the replaced images by ingredient;
    an image with two changed ingredients counts under both."""

    subset: str
    role: str
    added: int = 0
    removed: int = 0
    replaced: int = 0
    causes: Counter[Change] = field(default_factory=Counter)


def diff(store: Store, before: int | str | None, after: int | str | None) -> list[SubsetDiff]:
    """The differences from version `before` to version `after`, in order of subset and role; rejected tries are left aside.

    Shards that both versions share are not read, so this takes time and memory by what differs. Raises InputError for an unknown version.
    """
    old, new = _images_that_differ(store, before, after)
    entries: dict[tuple[str, str], SubsetDiff] = {}
    for name in sorted(old.keys() | new.keys()):
        row = new.get(name) or old[name]
        entry = entries.setdefault((row["subset"], row["role"]), SubsetDiff(row["subset"], row["role"]))
        if name not in old:
            entry.added += 1
        elif name not in new:
            entry.removed += 1
        elif old[name]["sha256"] != new[name]["sha256"]:
            entry.replaced += 1
            entry.causes.update(_causes(old[name], new[name]))
    return [entry for _, entry in sorted(entries.items()) if entry.added or entry.removed or entry.replaced]


def replaced_images(store: Store, before: int | str | None, after: int | str | None) -> dict[str, list[tuple[str, str]]]:
    """The final images with other bytes in `after`, by subset: the ids in both versions, which differ where another attempt succeeded.
    InputError for an unknown version."""
    old, new = _images_that_differ(store, before, after)
    pairs: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(old.keys() & new.keys()):
        if new[name]["role"] == "final" and old[name]["sha256"] != new[name]["sha256"]:
            pairs.setdefault(new[name]["subset"], []).append((old[name]["id"], new[name]["id"]))
    return pairs


def changed_checkpoints(store: Store, before: int | str | None, after: int | str | None) -> set[str]:
    """The names of the checkpoints whose weights, components or options `after` uses and `before` does not, in images that differ.

    A checkpoint that a new subset uses as others did before has not changed. Of what the versions share, one shard of each step is read
    where the records say which shard a data file holds, and all rows where they do not.
    """
    old, new = _images_that_differ(store, before, after)
    fresh = _uses(new.values()) - _uses(old.values())
    if not fresh:
        return set()
    known, unnamed = _uses_by_step(store, before)
    old_version = store.dataset(before)
    return {name for name, identity in fresh if identity not in known and not (unnamed and _is_used(old_version, identity))}


def _uses(rows: Iterable[dict[str, Any]]) -> set[tuple[str, str]]:
    """Name and identity (canonical JSON, as a chain has it) of the checkpoint of every link."""
    links = [link for chain in {row["chain"]: row for row in rows}.values() for link in parsed(chain, "chain")]
    return {(link["checkpoint"], json.dumps(link["identity"], sort_keys=True, separators=(",", ":"))) for link in links}


def _uses_by_step(store: Store, version: int | str | None) -> tuple[set[str], bool]:
    """The identities of the checkpoints of a version, from one shard of each step, and whether there are shards that nobody has named.

    A version is made by one plan, so all shards of a step are made by the same checkpoint. Records name what a build committed; versions
    of earlier releases, and shards that were written anew to forget rows, have no names.
    """
    dataset, titles = store.dataset(version), store.records.titles()
    files = store.contents(dataset.version).files
    steps = {titles[file].rpartition(" ")[0]: fragment for file, fragment in files.items() if file in titles}  # without the images' numbers
    identities = set()
    for fragment in steps.values():
        for batch in read_batches(dataset.get_fragment(fragment), ["chain"]):
            identities |= {identity for _, identity in _uses(batch.to_pylist())}
    return identities, any(file not in titles for file in files)


def _is_used(dataset: lance.LanceDataset, identity: str) -> bool:
    pattern = identity.replace("'", "''")
    return any(batch.num_rows for batch in read_batches(dataset, ["id"], f"chain LIKE '%{pattern}%'"))


Images = dict[str, dict[str, Any]]


def _images_that_differ(store: Store, before: int | str | None, after: int | str | None) -> tuple[Images, Images]:
    """The images of both versions in the shards that they do not share. A data file is never changed, so two versions that name one hold
    the same rows in it."""
    old_version, new_version = store.dataset(before), store.dataset(after)
    old, new = store.contents(old_version.version).files, store.contents(new_version.version).files
    gone = [fragment for file, fragment in old.items() if file not in new]
    fresh = [fragment for file, fragment in new.items() if file not in old]
    return _images(old_version, gone), _images(new_version, fresh)


def _images(dataset: lance.LanceDataset, fragments: Iterable[int]) -> Images:
    """The rows of some fragments, by what is planned: a final image that took another attempt is still the same one."""
    rows = {}
    for fragment in fragments:
        for batch in read_batches(dataset.get_fragment(fragment), _COLUMNS, "role != 'rejected'"):
            for row in batch.to_pylist():
                planned = f"{image_id(row['subset'], row['real'], row['part'], row['index'])}/{row['step']}"
                rows[planned if row["role"] == "final" else row["id"]] = row
    return rows


def _causes(old: dict[str, Any], new: dict[str, Any]) -> tuple[Change, ...]:
    differences = changes(parsed(old, "chain"), parsed(new, "chain"))
    if differences:
        return differences
    if any(old[name] != new[name] for name in ("format", "width", "height")):
        return (Change("encoding", 0, f"{old['format']} {old['width']} px -> {new['format']} {new['width']} px"),)
    if old["role"] == "real":
        return (Change("encoding", 0, "quality, or the code that imports"),)
    return (Change("other pixels from the same recipe"),)
