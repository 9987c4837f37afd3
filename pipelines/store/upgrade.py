"""Stores of older schemas: read with the columns of today, and brought to today's schema before the first write.

Lance knows a column by its place in the schema, and a data file says for each of its columns which place it fills. So a column can be
renamed, and a new one appended, without touching a data file: a file that lacks the new column is read with null.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

import lance
import pyarrow as pa
from lance.commit import CommitConflictError
from lance.file import LanceFileReader

from generators.errors import InputError
from pipelines.store.damage import damaged, explained, footer_fault, is_reading_fault, reason_of
from pipelines.store.schema import FILLED, SCHEMA, SCHEMA_VERSION

RENAMED = {"real": "part"}  # what a column was called in schema 1
UPGRADED = "upgraded_from_schema"  # the property of a version that differs from the one before in its schema alone

Columnar = TypeVar("Columnar", pa.RecordBatch, pa.Table)


def schema_version(schema: pa.Schema) -> int:
    """The number of a dataset's schema, 0 if it has none."""
    return int((schema.metadata or {}).get(b"ntf.schema", b"0"))


def is_older(schema: pa.Schema) -> bool:
    """Whether a dataset lacks a column of today's schema, or calls one by its former name."""
    return schema_version(schema) < SCHEMA_VERSION or not set(SCHEMA.names) <= set(schema.names)


def stored_columns(schema: pa.Schema, columns: Sequence[str]) -> list[str]:
    """What to ask a dataset, a fragment or a file of `schema` for, to get `columns` from it; columns that it lacks are left out."""
    return [stored for stored in (_stored(schema, name) for name in columns) if stored is not None] or ["id"]


def with_columns(rows: Columnar, columns: Sequence[str]) -> Columnar:
    """The same rows with `columns` as today's schema has them, and with Lance's own columns (`_rowid`, ...). A column that `rows` lack is
    null, or has the value that its absence means."""
    arrays = {}
    for name in columns:
        stored = _stored(rows.schema, name)
        values = pa.nulls(rows.num_rows, SCHEMA.field(name).type) if stored is None else rows.column(stored)
        arrays[name] = values.fill_null(FILLED[name]) if name in FILLED else values
    arrays |= {name: rows.column(name) for name in rows.schema.names if name.startswith("_")}
    return type(rows).from_pydict(arrays)


def read_batches(
    source: lance.LanceDataset | lance.LanceFragment, columns: Sequence[str], where: str | None = None, batch_size: int = 4096
) -> Iterator[pa.RecordBatch]:
    """`columns` of a version or of one of its fragments, as today's schema has them. `where` is SQL over the columns that it does have."""
    stored = stored_columns(source.schema, columns)
    with explained(source, stored, where is not None):
        for batch in source.to_batches(columns=stored, filter=where, batch_size=batch_size):
            batch.validate(full=True)  # spoilt bytes may still be a column, of texts that are none
            yield with_columns(batch, columns)


def read_rows(
    source: lance.LanceDataset | lance.LanceFragment, columns: Sequence[str], where: str | None = None, row_ids: bool = False
) -> pa.Table:
    """The same as one table, with the column `_rowid` if `row_ids`."""
    stored = stored_columns(source.schema, columns)
    with explained(source, stored, where is not None):
        table = source.to_table(columns=stored, filter=where, with_row_id=row_ids)
        table.validate(full=True)
    return with_columns(table, columns)


def take_rows(dataset: lance.LanceDataset, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """`columns` of the rows with these row ids, in their order."""
    stored = stored_columns(dataset.schema, columns)
    with explained(dataset, stored, is_scan=False):  # what takes rows has scanned for them
        table = dataset._take_rows(list(rows), columns=stored)
        table.validate(full=True)
    return with_columns(table, columns)


def read_file(path: str, columns: Sequence[str], batch_size: int = 4096) -> Iterator[pa.RecordBatch]:
    """`columns` of a data file that no version may have yet, as today's schema has them. StoreDamaged if it cannot be read."""
    folder, _, file = path.rpartition("/")
    try:
        if fault := footer_fault(path):
            raise ValueError(fault)
        schema = LanceFileReader(path).metadata().schema
        reader = LanceFileReader(path, columns=stored_columns(schema, columns))
        for batch in reader.read_all(batch_size=batch_size).to_batches():
            batch.validate(full=True)
            yield with_columns(batch, columns)
    except BaseException as error:
        if isinstance(error, InputError) or not is_reading_fault(error):
            raise
        name = folder.removesuffix("/data").rpartition("/")[2].removesuffix(".lance")
        raise damaged(name, f"the data file {file} of a shard that waits for a commit cannot be read ({reason_of(error)})") from None


def upgrade(dataset: lance.LanceDataset) -> None:
    """Makes one version more, with the same rows and the same data files and the schema of today; nothing if the newest has it already.

    It takes over the properties of the version before, the digest with them: see `Digest`. Older versions and tags stay as they are. Where
    another process makes a version at the same moment, this one is made anew upon that.
    """
    while is_older(dataset.schema):
        transaction = dataset.read_transaction(dataset.version)
        properties = dict((transaction.transaction_properties if transaction else None) or {})
        facts = {**properties, "schema": str(SCHEMA_VERSION), UPGRADED: str(schema_version(dataset.schema))}
        fragments = [fragment.metadata for fragment in dataset.get_fragments()]
        operation = lance.LanceOperation.Overwrite(SCHEMA, fragments)
        transaction = lance.Transaction(dataset.version, operation, transaction_properties=facts)
        with suppress(CommitConflictError):
            lance.LanceDataset.commit(dataset.uri, transaction, max_retries=0)
        dataset = lance.dataset(dataset.uri)


def _stored(schema: pa.Schema, name: str) -> str | None:
    """The column of `schema` that holds what `name` means today: of this name and type, or of its former name; None if there is none."""
    wanted = SCHEMA.field(name).type
    return next((n for n in (name, RENAMED.get(name)) if n in schema.names and schema.field(n).type == wanted), None)
