"""Versions of a dataset, on Lance.

Writing is in two halves. Workers write shards (`write_shard`): each becomes one fragment that no reader sees. One commit then makes a
version of all of them (`commit`), and drops the fragments of the shards that the new plan does not have. A reader sees a version whole or
not at all, and a build that is killed anywhere loses nothing that was committed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import write_fragments

from generators.errors import InputError
from pipelines.place import Place
from pipelines.store.damage import StoreDamaged, damaged
from pipelines.store.digest import Digest
from pipelines.store.holding import held
from pipelines.store.pending import Note, Notes
from pipelines.store.schema import LIGHT_COLUMNS, SCHEMA, SCHEMA_VERSION, Row, from_table, quoted, to_table
from pipelines.store.upgrade import is_older, read_batches, read_file, read_rows, schema_version, upgrade
from pipelines.store.versions.contents import Added, Contents, Entry
from pipelines.store.versions.contents_files import ContentsFiles
from pipelines.store.versions.manifests import Manifests
from pipelines.store.versions.records import Records
from pipelines.store.versions.tags import Tags
from pipelines.store.versions.version import SECONDS, Version

BATCH_ROWS = 4096


class Store:
    """The store of one dataset name, in a folder or under a URI such as `s3://bucket/prefix`. Opening it touches nothing; the first write
    makes the folder."""

    def __init__(self, root: Path | str, name: str):
        self.root = Place.of(root)
        self.name = name
        self.place = self.root.child(f"{name}.lance")
        self.data = self.place.child("data")
        self.notes = Notes(self.root.child(f"{name}.pending"), self.data)
        self.audits = self.root.child(f"{name}.audits")  # a JSON file for each version that was audited
        self.records = Records(self.root.child(f"{name}.versions"), self.place.child("_versions"))
        self.manifests = Manifests(name, self.place, self.records)
        self._tags = Tags(name, self.place.child("_refs").child("tags"))
        self._contents = ContentsFiles(self.records)

    @property
    def uri(self) -> str:
        """What Lance opens: a path or a URI."""
        return self.place.location

    # Reading

    def exists(self) -> bool:
        """Whether there is a version, or was one that is lost."""
        return bool(self.manifests.numbers() or self.records.numbers())

    def dataset(self, version: int | str | None = None) -> lance.LanceDataset:
        """The Lance dataset at a version number, a tag, or the newest that can be read. InputError if there is none, or it is of a newer
        schema; StoreDamaged if it is there and cannot be read.

        It has the columns that it was written with. `scan` and `table` read those of today, whatever its schema.
        """
        if not self.exists():
            raise InputError(f"there is no dataset {self.name!r} in {self.root.location}", "Build one with `ntf build`")
        dataset = self.manifests.newest() if version is None else self.manifests.open(self._number(version))
        stored = schema_version(dataset.schema)
        if stored > SCHEMA_VERSION:
            raise InputError(f"{self.uri} has schema {stored}, and this program knows {SCHEMA_VERSION}", "Use the newer ntf that wrote it")
        return dataset

    def _number(self, version: int | str) -> int:
        """The number of a version by number or tag, which has a manifest. InputError if there is none, StoreDamaged if it was lost."""
        known = self.manifests.numbers()
        if isinstance(version, str) and not (version.isascii() and version.isdigit()):
            tagged = self._tags.read(self.manifests.newest()).get(version)
            number = -1 if tagged is None else tagged
        else:
            number = int(version)
        if number in known:
            return number
        if number in self.records.numbers():
            raise damaged(self.name, f"version {number} of {self.name} is lost (its manifest is not there)")
        raise InputError(f"{self.name} has no version {version!r}", "`ntf store log` lists them")

    def scan(
        self, columns: Sequence[str], where: str | None = None, version: int | str | None = None, batch_size: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """`columns` of the rows for which the SQL expression `where` holds, a batch at a time, in no order."""
        return read_batches(self.dataset(version), columns, where, batch_size)

    def keys(self, version: int | str | None = None) -> dict[str, int]:
        """The keys of the shards of a version, each with its fragment. Nothing of the rows is read where the version's contents are kept
        beside it. StoreDamaged if a data file is not there or has another size."""
        return dict(self.contents(version).keys) if self.exists() else {}

    def contents(self, version: int | str | None = None) -> Contents:
        """Which shard lies in which fragment and data file of a version. StoreDamaged as in `keys`."""
        contents = self._contents.of(self.dataset(version))
        if fault := contents.fault(self.data.sizes()):
            raise damaged(self.name, fault)
        return contents

    def rows(self, where: str | None = None, version: int | str | None = None, images: bool = False) -> list[Row]:
        """The rows for which the SQL expression `where` holds, in the order of their ids; with their encoded bytes if `images`."""
        columns = SCHEMA.names if images else LIGHT_COLUMNS
        return sorted(from_table(read_rows(self.dataset(version), columns, where)), key=lambda row: (row.id, row.attempt))

    def named(self, ids: Collection[str], version: int | str | None = None, images: bool = False) -> list[Row]:
        """The rows with these ids, in the order of their ids. A rejected try can have the id of the image that came of a later one."""
        return self.rows(_among(ids), version, images) if ids else []

    def row(self, name: str, version: int | str | None = None, image: bool = False) -> Row:
        """The image whose id is `name`, or else the rejected try, with its encoded bytes if `image`. InputError if there is neither."""
        rows = self.named([name], version, image)
        if not rows:
            raise InputError(f"{self.name} has no image {name!r}", "The report names them, and so does the `rows.jsonl` of an export")
        return next((row for row in rows if row.role != "rejected"), rows[0])

    def images(self, ids: Collection[str], version: int | str | None = None) -> dict[str, bytes]:
        """The encoded images of the rows with these ids, by id. Ids that are not there, or have no image, are left out."""
        batches = self.scan(["id", "image"], _among(ids), version) if ids else ()
        return {row["id"]: row["image"] for batch in batches for row in batch.to_pylist() if row["image"] is not None}

    def masks(self, ids: Collection[str], version: int | str | None = None) -> dict[str, bytes]:
        """The masks (PNG) of the rows with these ids, by id. Ids without one are left out."""
        batches = self.scan(["id", "mask"], _among(ids), version) if ids else ()
        return {row["id"]: row["mask"] for batch in batches for row in batch.to_pylist() if row["mask"] is not None}

    def shard(self, key: str) -> list[Row]:
        """All rows of a shard with their images, committed or not, in the order of their index."""
        note = self.notes.get(key)
        if note:
            tables = [pa.Table.from_batches(self.waiting(note, SCHEMA.names), SCHEMA)]
        else:
            tables = [read_rows(self.dataset(), SCHEMA.names, f"shard_key = {quoted(key)}")]
        return sorted((row for table in tables for row in from_table(table)), key=lambda row: (row.index, row.attempt, row.id))

    def waiting(self, note: Note, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """`columns` of the rows of a shard that waits for a commit."""
        return chain.from_iterable(read_file(f"{self.data.location}/{name}", columns, BATCH_ROWS) for name, _ in note.files)

    def log(self) -> list[Version]:
        """All versions that can be read, oldest first."""
        self.dataset()
        return [self.version(number) for number in self.manifests.readable()]

    def version(self, version: int | str | None = None) -> Version:
        """One version: by number, tag, or the newest."""
        dataset = self.dataset(version)
        tags = sorted(tag for tag, number in self._tags.read(dataset).items() if number == dataset.version)
        created, rows, properties = self.manifests.facts(dataset)
        return Version(dataset.version, created, tuple(tags), rows, properties)

    def digest(self, version: int | str | None = None) -> str:
        """The digest of a version, from its rows. StoreDamaged if it is not the recorded one."""
        dataset = self.dataset(version)
        digest = Digest().add(read_batches(dataset, LIGHT_COLUMNS, batch_size=BATCH_ROWS)).hex()
        recorded = self.version(dataset.version).digest
        if recorded and digest != recorded:
            raise damaged(
                self.name, f"the rows of version {dataset.version} have the digest {digest[:16]}, not the recorded {recorded[:16]}"
            )
        return digest

    # Writing

    @contextmanager
    def building(self, wait: bool = False) -> Iterator[None]:
        """Holds the store for one builder. StoreBusy if another holds it and it is not to `wait`, InputError if it cannot be written."""
        with held(self.root, self.name, wait):
            yield

    def write_shard(self, key: str, title: str, rows: Sequence[Row], short: int = 0, seconds: float = 0.0) -> Note:
        """Writes a shard as a fragment that waits for a commit, and notes it. InputError if the disk is full or read-only."""
        rejected: dict[str, int] = {}
        for row in rows:
            if row.role == "rejected":
                rejected[row.reason or ""] = rejected.get(row.reason or "", 0) + 1
        written = sum(row.role != "rejected" for row in rows)
        with self._explained():
            table = to_table(list(rows))
            fragment = self._write_fragment(table)
            note = Note(key, title, fragment.to_json(), written, rejected, short, seconds, _sum_of(table))
            self.notes.write(note)
        return note

    def commit(self, keys: Iterable[str], run_id: str, properties: dict[str, str] | None = None) -> Version | None:
        """Makes one version that holds exactly the shards `keys`, all of which are committed or noted. None if the newest version is that.

        The digest is kept with the version. Nothing is committed twice: a commit that landed just before its builder was killed has its
        shards among the committed ones when the next builder looks. Call it under `building`, which keeps other builders out; on an object
        storage it cannot keep out builders on other machines, and a shard that two of them committed is dropped once here.
        """
        wanted = set(keys)
        self.manifests.require_writable()
        dataset = self.dataset() if self.exists() else None
        before = dataset.version if dataset else 0
        contents = Contents.of(()) if dataset is None else self._contents.of(dataset)
        committed, notes = contents.keys, self.notes.read()
        if absent := wanted - set(committed) - set(notes):
            raise KeyError(f"{len(absent)} shards are neither committed nor noted, such as {min(absent)[:12]}")
        fresh = [notes[key] for key in sorted(wanted - set(committed))]
        stale = sorted({fragment for key, fragment in committed.items() if key not in wanted})
        if not fresh and not stale and dataset:
            self.notes.drop([key for key in notes if key in committed])
            return None
        if dataset and is_older(dataset.schema):
            self._upgraded()  # fragments have other numbers after it
            return self.commit(wanted, run_id, properties)
        added = [Added(lance.FragmentMetadata.from_json(json.dumps(note.fragment)), note.key, note.digest, note.title) for note in fresh]
        facts = {**(properties or {}), "run_id": run_id, SECONDS: f"{sum(note.seconds for note in fresh):.1f}"}
        version = self._commit(stale, added, facts, before)
        if version.number != before + 1:  # another builder's commit came between, and Lance joined both
            version = self._commit(self._doubles(), [], {**facts, SECONDS: "0.0"}, version.number)
        self.notes.drop([note.key for note in fresh])
        return version

    def without(self, ids: Collection[str], properties: dict[str, str] | None = None) -> Version:
        """Makes a version that lacks the rows `ids`. Call it under `building`.

        The shards that they were in are written anew, so that no file of the new version holds them; they keep their keys, so that a build
        of the same plan finds nothing to do.
        """
        held = pa.array(sorted(ids), pa.string())
        touched, added = [], []
        dataset = self._upgraded() or self.dataset()
        keys = {fragment: key for key, fragment in self._contents.of(dataset).keys.items()}
        for fragment in dataset.get_fragments():
            if not pc.any(pc.is_in(fragment.to_table(columns=["id"])["id"], held)).as_py():
                continue
            touched.append(fragment.fragment_id)
            table = read_rows(fragment, SCHEMA.names)
            rest = table.filter(pc.invert(pc.is_in(table["id"], held)))
            if rest.num_rows:
                with self._explained():
                    added.append(Added(self._write_fragment(rest), keys[fragment.fragment_id], _sum_of(rest)))
        return self._commit(touched, added, properties or {}, dataset.version)

    def without_files(self, files: Collection[str], properties: dict[str, str] | None = None) -> Version:
        """Makes a version that lacks the shards in the data files `files`, which are not read. Call it under `building`."""
        self.manifests.require_writable()
        dataset = self._upgraded() or self.dataset()
        gone = [part.fragment_id for part in dataset.get_fragments() if any(file.path in files for file in part.metadata.files)]
        return self._commit(gone, [], properties or {}, dataset.version)

    def checkout(self, version: int | str) -> Version:
        """Makes an older version the newest again, as a new version with the same rows. Nothing is copied and nothing is lost."""
        self.manifests.require_writable()
        old = self.version(version)
        newest = self.dataset().version
        if old.number == newest:
            return old
        transaction = lance.Transaction(
            read_version=newest,
            operation=lance.LanceOperation.Restore(old.number),
            transaction_properties={**old.properties, SECONDS: "0.0", "restored": str(old.number)},
        )
        with self._explained():
            lance.LanceDataset.commit(self.uri, transaction)
        return self._recorded([], self._contents.of)

    def tag(self, name: str, version: int | str | None = None) -> None:
        """Names a version. InputError if the name is taken or is no name, or the store cannot be written."""
        with self._explained():
            self._tags.create(self.dataset(version), name)

    def untag(self, name: str) -> int:
        """Takes a name from the version that has it. Returns the number of the version. InputError if there is no such tag."""
        with self._explained():
            return self._tags.remove(self.dataset(), name)

    def drop_tags(self, numbers: Collection[int]) -> tuple[str, ...]:
        """Takes away the tags of versions that are no more. Gives the tags."""
        return self._tags.drop(numbers)

    def _upgraded(self) -> lance.LanceDataset | None:
        """The newest version for writing upon, in the schema of today: see `upgrade`. None if there is no version yet."""
        if not self.exists():
            return None
        dataset = self.dataset()
        if not is_older(dataset.schema):
            return dataset
        with self._explained():
            upgrade(dataset)
        return self.dataset()

    def _write_fragment(self, table: pa.Table) -> lance.FragmentMetadata:
        self.manifests.require_writable()
        dataset = self._upgraded()
        target = self.uri if dataset is None else dataset  # Lance need not open it again
        options = {"max_rows_per_file": max(1, table.num_rows), "max_bytes_per_file": 2**40}
        (fragment,) = write_fragments(table, target, schema=SCHEMA, mode="create" if dataset is None else "append", **options)
        return fragment

    def _commit(self, removed: list[int], added: list[Added], properties: dict[str, str], before: int) -> Version:
        """One version more than `before` (0: the first): without the fragments `removed`, with `added`, its digest among its properties.

        Nothing of what is kept is read, as far as the sums of its rows are known.
        """
        dataset = self.dataset(before) if before else None
        kept = Contents.of(()) if dataset is None else self._summed(dataset, self._contents.of(dataset).without(removed))
        entries = [fragment.entry(fragment.text or self._sum_of_file(fragment.file)) for fragment in added]
        digest = kept.digest()
        for entry in entries:
            digest.take(entry.text)
        everything = {**properties, "digest": digest.hex(), "schema": str(SCHEMA_VERSION)}
        metadata = [fragment.metadata for fragment in added]
        if dataset is not None:
            operation: Any = lance.LanceOperation.Update(
                removed_fragment_ids=removed, updated_fragments=[], new_fragments=metadata, fields_modified=[]
            )
        else:
            operation = lance.LanceOperation.Overwrite(SCHEMA, metadata)
        transaction = lance.Transaction(read_version=before, operation=operation, transaction_properties=everything)
        with self._explained():
            lance.LanceDataset.commit(self.uri if dataset is None else dataset, transaction)
        return self._recorded(added, lambda dataset: self._contents.after(dataset, kept, entries), entries)

    def _recorded(
        self, added: Sequence[Added], contents_of: Callable[[lance.LanceDataset], Contents], entries: Sequence[Entry] = ()
    ) -> Version:
        """The newest version, which this process has just committed with the fragments `added`. Its record and its contents are written.

        They only help to find losses, and to read less, so a disk that is full or spoilt just now does not make the commit fail.
        """
        version = self.version()
        sums = {entry.file: entry.text for entry in entries}
        titles = {fragment.file: fragment.title for fragment in added if fragment.title}
        with suppress(OSError, InputError):
            record = self.records.write(version.number, version.digest, version.rows, sums, titles)
            self._contents.write(version.number, contents_of(self.dataset()), record.manifest)
        return version

    def _doubles(self) -> list[int]:
        """Fragments that hold a shard which an older fragment holds too."""
        seen: set[str] = set()
        doubles = []
        for entry in self._contents.of(self.dataset()).entries():
            if entry.key in seen:
                doubles.append(entry.fragment)
            seen.add(entry.key)
        return doubles

    def _summed(self, dataset: lance.LanceDataset, contents: Contents) -> Contents:
        """The contents with the sums of all rows: those that nobody knows, of a version of an earlier release, are read, once."""
        known: dict[int, str] = {}
        for entry in contents.unsummed():
            if entry.fragment not in known:
                batches = read_batches(dataset.get_fragment(entry.fragment), LIGHT_COLUMNS, batch_size=BATCH_ROWS)
                known[entry.fragment] = Digest().add(batches).text
        return contents.with_sums(known) if known else contents

    def _sum_of_file(self, name: str) -> str:
        return Digest().add(read_file(f"{self.data.location}/{name}", LIGHT_COLUMNS, BATCH_ROWS)).text

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what a disk or a network refuses into one line that a person can act on."""
        try:
            yield
        except StoreDamaged:
            raise
        except OSError as error:
            reason = str(error).splitlines()[0][:300]
            raise InputError(
                f"cannot write to the store {self.uri}: {reason}", "Free some space, then run the same command again"
            ) from None


def _among(ids: Collection[str]) -> str:
    return f"id IN ({', '.join(map(quoted, sorted(set(ids))))})"


def _sum_of(table: pa.Table) -> str:
    return Digest().add(table.select(LIGHT_COLUMNS).to_batches()).text
