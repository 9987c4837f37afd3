"""Which shard lies in which fragment of a version, in a form that can be kept beside it, so that nobody has to scan its rows for it.

The file is the sha256 of all that follows, and an Arrow table of some 190 bytes for each fragment. It names the sha256 of the version's
manifest, so that it counts for that version alone. It says nothing that the rows and the manifest do not say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.store.digest import Digest

MANIFEST = b"ntf.manifest"  # the sha256 of the manifest that the contents are of
_COLUMNS = pa.schema(
    [
        ("fragment", pa.int64()),
        ("file", pa.string()),
        ("bytes", pa.int64()),  # of the data file; 0 where Lance does not say it
        ("key", pa.string()),
        ("rows", pa.int64()),
        ("sum", pa.binary(32)),  # of the rows (`Digest.text`), null where it is not known
    ]
)


@dataclass(frozen=True)
class Entry:
    """One fragment: its data file, the shard in it, and `text`, the sum of its rows as `Digest.text` gives it, "" where it is not known."""

    fragment: int
    file: str
    bytes: int
    key: str
    text: str


@dataclass(frozen=True)
class Added:
    """A fragment that is to be committed: its shard, the sum of its rows as far as it is known, and what the shard is, for people."""

    metadata: lance.FragmentMetadata
    key: str
    text: str
    title: str = ""

    @property
    def file(self) -> str:
        return str(self.metadata.files[0].path)

    def entry(self, text: str) -> Entry:
        """The entry with `text` as the sum of its rows, before Lance gives it a number."""
        return Entry(-1, self.file, self.metadata.files[0].file_size_bytes or 0, self.key, text)


class Contents:
    """The fragments of one version, one shard in each."""

    def __init__(self, table: pa.Table):
        self._table = table

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Contents:
        columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS.names}
        for entry in entries:
            rows, _, total = entry.text.partition(":")
            values = (entry.fragment, entry.file, entry.bytes, entry.key, int(rows or 0), bytes.fromhex(total) if total else None)
            for name, value in zip(_COLUMNS.names, values, strict=True):
                columns[name].append(value)
        return cls(pa.table(columns, schema=_COLUMNS))

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @cached_property
    def keys(self) -> dict[str, int]:
        """The key of every shard with its fragment."""
        return dict(zip(self._list("key"), self._list("fragment"), strict=True))

    @cached_property
    def files(self) -> dict[str, int]:
        """Every data file with its fragment."""
        return dict(zip(self._list("file"), self._list("fragment"), strict=True))

    @cached_property
    def fragments(self) -> list[int]:
        return self._list("fragment")

    def entries(self) -> Iterator[Entry]:
        for row in self._table.to_pylist():
            yield Entry(row["fragment"], row["file"], row["bytes"], row["key"], f"{row['rows']}:{row['sum'].hex()}" if row["sum"] else "")

    def fault(self, sizes: Mapping[str, int]) -> str | None:
        """The first data file that is not there or has another size than it had, against the `sizes` of those that are there."""
        for file, size in zip(self._list("file"), self._list("bytes"), strict=True):
            there = sizes.get(file)
            if there is None:
                return f"the data file {file} is not there"
            if size and there != size:
                return f"the data file {file} has {there:,} bytes instead of {size:,}"
        return None

    @cached_property
    def is_plain(self) -> bool:
        """Whether each fragment has one shard, and each shard one fragment."""
        return len(set(self.fragments)) == len(self.keys) == len(self)

    def digest(self) -> Digest:
        """The sum of all rows. Raises TypeError where that of a fragment is not known: see `unsummed`."""
        table = self._table
        if not self.is_plain:  # a fragment of two shards counts once
            first = {fragment: place for place, fragment in reversed(list(enumerate(self.fragments)))}
            table = table.take(sorted(first.values()))
        return Digest().take_all(table.column("rows").to_pylist(), table.column("sum").to_pylist())

    def unsummed(self) -> Iterator[Entry]:
        """The fragments whose sums are not known."""
        return Contents(self._table.filter(pc.is_null(self._table.column("sum")))).entries()

    def with_sums(self, texts: Mapping[int, str]) -> Contents:
        """The contents with the sums of some fragments."""
        return Contents.of(replace(entry, text=texts.get(entry.fragment, entry.text)) for entry in self.entries())

    def without(self, fragments: Collection[int]) -> Contents:
        """The contents without some fragments."""
        if not fragments:
            return self
        gone = pc.is_in(self._table.column("fragment"), pa.array(sorted(fragments), pa.int64()))
        return Contents(self._table.filter(pc.invert(gone)))

    def joined(self, entries: Iterable[Entry]) -> Contents:
        """The contents with further fragments."""
        return Contents(pa.concat_tables([self._table, Contents.of(entries)._table]))

    def to_bytes(self, manifest: str) -> bytes:
        """The file, for the version whose manifest has this sha256."""
        stream = pa.BufferOutputStream()
        table = self._table.replace_schema_metadata({MANIFEST: manifest})
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        body = stream.getvalue()
        return hashlib.sha256(body).digest() + body.to_pybytes()

    @classmethod
    def from_bytes(cls, data: bytes | None, manifest: str | None = None) -> Contents | None:
        """What `to_bytes` gave. None for anything else, and for the file of a version with another manifest if `manifest` is given."""
        if not data:
            return None
        body = memoryview(data)[32:]
        if hashlib.sha256(body).digest() != data[:32]:
            return None
        try:
            table = pa.ipc.open_stream(pa.py_buffer(body)).read_all()
        except (pa.ArrowException, OSError):
            return None
        metadata = table.schema.metadata or {}
        if manifest is not None and metadata.get(MANIFEST) != manifest.encode():
            return None
        table = table.replace_schema_metadata(None)
        return cls(table) if table.schema.equals(_COLUMNS) and not table.column("key").null_count else None

    def _list(self, column: str) -> list[Any]:
        return list(self._table.column(column).to_pylist())
