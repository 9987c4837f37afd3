"""Versions of a dataset, on Lance.

Writing is in two halves. Workers write shards (`write_shard`): each becomes one fragment that no reader sees. One commit then makes a
version of all of them (`commit`), and drops the fragments of the shards that the new plan does not have. A reader sees a version whole or
not at all, and a build that is killed anywhere loses nothing that was committed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock
import lance
from lance.file import LanceFileReader
from lance.fragment import write_fragments

from generators.errors import InputError
from pipelines.store.digest import Digest
from pipelines.store.pending import Note, Notes
from pipelines.store.schema import LIGHT_COLUMNS, SCHEMA, SCHEMA_VERSION, Row, from_table, to_table

BATCH_ROWS = 4096


@dataclass(frozen=True)
class Version:
    """One immutable state of a dataset."""

    number: int
    created: datetime
    tags: tuple[str, ...]
    rows: int
    properties: dict[str, str]

    @property
    def digest(self) -> str:
        return self.properties.get("digest", "")


class Store:
    """The store of one dataset name in a folder. Opening it touches nothing; the first write makes the folder."""

    def __init__(self, root: Path | str, name: str):
        self.root = Path(root)
        self.name = name
        self.path = self.root / f"{name}.lance"
        self.notes = Notes(self.root / f"{name}.pending", self.path / "data")

    # Reading

    def exists(self) -> bool:
        return (self.path / "_versions").is_dir()

    def dataset(self, version: int | str | None = None) -> lance.LanceDataset:
        """The Lance dataset at a version number, a tag, or the newest. InputError if there is none, or it is of a newer schema."""
        if not self.exists():
            raise InputError(f"there is no dataset {self.name!r} in {self.root}", "Build one with `ntf build`")
        try:
            found = lance.dataset(str(self.path), version=_number_or_tag(version))
        except (ValueError, OSError) as error:
            raise InputError(f"{self.name} has no version {version!r}", "`ntf store log` lists them") from error
        stored = int((found.schema.metadata or {}).get(b"ntf.schema", b"0"))
        if stored > SCHEMA_VERSION:
            raise InputError(f"{self.path} has schema {stored}, and this program knows {SCHEMA_VERSION}", "Use the newer ntf that wrote it")
        return found

    def keys(self, version: int | str | None = None) -> dict[str, int]:
        """The keys of the shards of a version, each with its fragment."""
        if not self.exists():
            return {}
        scanner = self.dataset(version).scanner(columns=["shard_key"], with_row_address=True, batch_size=BATCH_ROWS)
        found: dict[str, int] = {}
        for batch in scanner.to_batches():
            for key, address in zip(batch.column("shard_key").to_pylist(), batch.column("_rowaddr").to_pylist(), strict=True):
                found[key] = address >> 32
        return found

    def rows(self, where: str | None = None, version: int | str | None = None, images: bool = False) -> list[Row]:
        """The rows for which the SQL expression `where` holds, in the order of their ids; with their encoded bytes if `images`."""
        columns = SCHEMA.names if images else LIGHT_COLUMNS
        return sorted(from_table(self.dataset(version).to_table(columns=columns, filter=where)), key=lambda row: (row.id, row.attempt))

    def shard(self, key: str) -> list[Row]:
        """All rows of a shard with their images, committed or not, in the order of their index."""
        notes = self.notes.read()
        if key in notes:
            rows: list[Row] = []
            for name, _ in notes[key].files:
                rows += from_table(LanceFileReader(str(self.path / "data" / name)).read_all().to_table())
        else:
            rows = from_table(self.dataset().to_table(filter=f"shard_key = '{key}'"))
        return sorted(rows, key=lambda row: (row.index, row.attempt, row.id))

    def log(self) -> list[Version]:
        """All versions, oldest first."""
        dataset = self.dataset()
        tags: dict[int, list[str]] = {}
        for tag, facts in dataset.tags.list().items():
            tags.setdefault(facts["version"], []).append(tag)
        found = []
        for entry in dataset.versions():
            number = entry["version"]
            transaction = dataset.read_transaction(number)
            properties = dict((transaction.transaction_properties if transaction else None) or {})
            rows = int(entry["metadata"].get("total_rows", 0))
            found.append(Version(number, entry["timestamp"], tuple(sorted(tags.get(number, []))), rows, properties))
        return found

    def version(self, version: int | str | None = None) -> Version:
        """One version: by number, tag, or the newest."""
        number = self.dataset(version).version
        return next(each for each in self.log() if each.number == number)

    def digest(self, version: int | str | None = None) -> str:
        """The digest of a version, from its rows."""
        return Digest().add(self.dataset(version).to_batches(columns=LIGHT_COLUMNS, batch_size=BATCH_ROWS)).hex()

    # Writing

    @contextmanager
    def building(self) -> Iterator[None]:
        """Holds the store for one builder. InputError if another holds it, or the folder cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".{self.name}.{os.getpid()}.probe"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(f"cannot write to the store {self.root}: {error.strerror}", "Check its permissions and the disk") from None
        lock = filelock.FileLock(self.root / f"{self.name}.lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise InputError(f"another build holds {self.name} in {self.root}", "Wait for it to end, or stop it") from None
        try:
            yield
        finally:
            lock.release()

    def write_shard(self, key: str, title: str, rows: Sequence[Row], short: int = 0, seconds: float = 0.0) -> Note:
        """Writes a shard as a fragment that waits for a commit, and notes it. InputError if the disk is full or read-only."""
        table = to_table(list(rows))
        try:
            mode = "append" if self.exists() else "create"
            (fragment,) = write_fragments(
                table, str(self.path), schema=SCHEMA, mode=mode, max_rows_per_file=max(1, len(rows)), max_bytes_per_file=2**40
            )
            rejected: dict[str, int] = {}
            for row in rows:
                if row.role == "rejected":
                    rejected[row.reason or ""] = rejected.get(row.reason or "", 0) + 1
            written = sum(row.role != "rejected" for row in rows)
            note = Note(key, title, fragment.to_json(), written, rejected, short, seconds)
            self.notes.write(note)
        except OSError as error:
            raise InputError(f"cannot write to the store {self.path}: {error}", "Free some space, then run the same build again") from None
        return note

    def commit(self, keys: Iterable[str], run_id: str, properties: dict[str, str] | None = None) -> Version | None:
        """Makes one version that holds exactly the shards `keys`, all of which are committed or noted. None if the newest version is that.

        The digest is kept with the version. Nothing is committed twice: a commit that landed just before its builder was killed has its
        shards among the committed ones when the next builder looks. Call it under `building`, which keeps other builders out.
        """
        wanted = set(keys)
        committed, notes = self.keys(), self.notes.read()
        if absent := wanted - set(committed) - set(notes):
            raise KeyError(f"{len(absent)} shards are neither committed nor noted, such as {min(absent)[:12]}")
        fresh = [notes[key] for key in sorted(wanted - set(committed))]
        stale = sorted({fragment for key, fragment in committed.items() if key not in wanted})
        if not fresh and not stale and self.exists():
            self.notes.drop([key for key in notes if key in committed])
            return None
        fragments = [lance.FragmentMetadata.from_json(json.dumps(note.fragment)) for note in fresh]
        digest = self._digest_after(set(stale), fresh)
        everything = {**(properties or {}), "run_id": run_id, "digest": digest, "schema": str(SCHEMA_VERSION)}
        if self.exists():
            operation: Any = lance.LanceOperation.Update(
                removed_fragment_ids=stale, updated_fragments=[], new_fragments=fragments, fields_modified=[]
            )
            read_version = self.dataset().version
        else:
            operation, read_version = lance.LanceOperation.Overwrite(SCHEMA, fragments), 0
        transaction = lance.Transaction(read_version=read_version, operation=operation, transaction_properties=everything)
        lance.LanceDataset.commit(str(self.path), transaction)
        self.notes.drop([note.key for note in fresh])
        return self.version()

    def tag(self, name: str, version: int | str | None = None) -> None:
        """Names a version. InputError if the name is taken or is no name."""
        dataset = self.dataset(version)
        try:
            dataset.tags.create(name, dataset.version)
        except (ValueError, OSError) as error:
            reason = "it is taken" if name in dataset.tags.list() else str(error).split("\n", 1)[0]
            raise InputError(f"cannot tag version {dataset.version} as {name!r}: {reason}", "Choose another name") from None

    def _digest_after(self, stale: set[int], fresh: list[Note]) -> str:
        """The digest of the version that a commit is about to make."""
        digest = Digest()
        if self.exists():
            kept = [fragment for fragment in self.dataset().get_fragments() if fragment.fragment_id not in stale]
            for fragment in kept:
                digest.add(fragment.to_batches(columns=LIGHT_COLUMNS, batch_size=BATCH_ROWS))
        for note in fresh:
            for name, _ in note.files:
                reader = LanceFileReader(str(self.path / "data" / name), columns=LIGHT_COLUMNS)
                digest.add(reader.read_all(batch_size=BATCH_ROWS).to_batches())
        return digest.hex()


def _number_or_tag(version: int | str | None) -> int | str | None:
    return int(version) if isinstance(version, str) and version.isdigit() else version
