"""The contents of versions, from their files or else from their rows.

The files are `NAME.versions/NUMBER.contents`. One that is not there, spoilt or of another version costs a scan and nothing else; so do the
versions of earlier releases, which have none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import lance

from pipelines.place import Place
from pipelines.store.damage import explained
from pipelines.store.upgrade import read_batches
from pipelines.store.versions.contents import Contents, Entry
from pipelines.store.versions.records import CONTENTS as ENDING
from pipelines.store.versions.records import Records

BATCH_ROWS = 4096
FEW = 256  # fragments that are looked up singly; Lance gives more of them faster as a list of all


class ContentsFiles:
    """The contents of the versions of a dataset, whose records are `records`."""

    def __init__(self, records: Records):
        self._records = records
        self._place: Place = records.place
        self._last: tuple[Any, Contents] | None = None  # a version never changes, and a build asks several times

    def of(self, dataset: lance.LanceDataset) -> Contents:
        """The contents of a version. StoreDamaged if a file that has to be scanned cannot be read."""
        state = (dataset.version, self._records.state(dataset.version))
        if self._last is None or self._last[0] != state:
            data = self._place.read(f"{dataset.version}{ENDING}")
            contents = Contents.from_bytes(data, self._records.manifest_sha256(dataset.version)) if data else None
            self._last = (state, contents or Contents.of(_scanned(dataset, self._known(), self._records.sums())))
        return self._last[1]

    def after(self, dataset: lance.LanceDataset, kept: Contents, added: Sequence[Entry]) -> Contents:
        """The contents of a version that was just made of the fragments `kept` and of `added`, whose numbers only Lance knows.

        Where it holds something else, because another builder's commit came between, it is looked through as any version is.
        """
        there = set(dataset.fragment_ids())
        fresh = there - set(kept.fragments)
        if len(fresh) == len(added) and len(there) == len(kept) + len(added):
            numbers = _files(dataset, fresh)
            if numbers.keys() == {entry.file for entry in added}:
                return kept.joined(replace(entry, fragment=numbers[entry.file]) for entry in added)
        known = {entry.file: entry for entry in (*kept.entries(), *added)}
        return Contents.of(_scanned(dataset, known, self._records.sums()))

    def write(self, number: int, contents: Contents, manifest: str) -> None:
        """Keeps the contents of the version of this number, whose manifest has the sha256 `manifest`. Raises OSError."""
        self._last = ((number, self._records.state(number)), contents)
        if contents.is_plain:
            self._place.write(f"{number}{ENDING}", contents.to_bytes(manifest))

    def _known(self) -> dict[str, Entry]:
        """What the files of all versions say, by data file: a data file is never changed."""
        known: dict[str, Entry] = {}
        for name in self._place.sizes():
            contents = Contents.from_bytes(self._place.read(name)) if name.endswith(ENDING) else None
            known |= {entry.file: entry for entry in contents.entries()} if contents is not None else {}
        return known


def _files(dataset: lance.LanceDataset, numbers: Collection[int]) -> dict[str, int]:
    """The data file of each of these fragments of a version, with the fragment."""
    if len(numbers) > FEW:
        fragments = [fragment for fragment in dataset.get_fragments() if fragment.fragment_id in numbers]
    else:
        fragments = [dataset.get_fragment(number) for number in numbers]
    return {fragment.metadata.files[0].path: fragment.fragment_id for fragment in fragments}


def _scanned(dataset: lance.LanceDataset, known: Mapping[str, Entry], sums: Mapping[str, str]) -> list[Entry]:
    """The fragments of a version, with an entry for each shard in them. What is `known` of a data file is not read again; `sums` has the
    sums of rows that are known besides. StoreDamaged if a file cannot be read."""
    entries, unknown = [], []
    for fragment in dataset.get_fragments():
        file = fragment.metadata.files[0]
        entry = known.get(file.path)
        if entry is None:
            unknown.append((fragment, file))
        else:
            entries.append(replace(entry, fragment=fragment.fragment_id, text=entry.text or sums.get(file.path, "")))
    keys = _keys_of(dataset, [fragment for fragment, _ in unknown], is_all=not entries)
    for fragment, file in unknown:
        text, size = sums.get(file.path, ""), file.file_size_bytes or 0
        entries += [Entry(fragment.fragment_id, file.path, size, key, text) for key in sorted(keys[fragment.fragment_id])]
    return sorted(entries, key=lambda entry: (entry.fragment, entry.key))


def _keys_of(dataset: lance.LanceDataset, fragments: Sequence[lance.LanceFragment], is_all: bool) -> dict[int, set[str]]:
    """The keys in each of these fragments of a version. One scan of all of them reads many files at a time."""
    keys: dict[int, set[str]] = {fragment.fragment_id: set() for fragment in fragments}
    if not is_all:
        for fragment in fragments:
            for batch in read_batches(fragment, ["shard_key"]):
                keys[fragment.fragment_id].update(batch.column("shard_key").to_pylist())
    elif fragments:
        with explained(dataset, ["shard_key"]):
            for batch in dataset.scanner(columns=["shard_key"], with_row_address=True, batch_size=BATCH_ROWS).to_batches():
                numbers = [address >> 32 for address in batch.column("_rowaddr").to_pylist()]
                for key, number in set(zip(batch.column("shard_key").to_pylist(), numbers, strict=True)):
                    keys[number].add(key)
    return keys
