"""Parquet files of strangers: bounded footers, batches that Arrow has validated, and whole columns by a child process.

A footer can name a billion rows in a few hundred bytes, and a wrong offset can end the process that reads it. So `read_columns` reads in a
child with a limit on its memory (`foreign.children`), and takes at most so many rows.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from foreign.children import Record, read_in_child, write_records
from foreign.errors import InputError
from foreign.files import open_plain
from foreign.text import reason, visible

ROWS = 4096  # in a batch
MOST_TEXT = 4096  # characters in a cell
MOST_BYTES = 256 * 2**20  # of one batch as JSON
KINDS = ("text", "integer", "number")


class Columns(NamedTuple):
    """The metadata of a file's schema, and its columns by name; cells are str, int, float or None."""

    metadata: dict[str, str]
    columns: dict[str, list[Any]]


def open_parquet(file: Path) -> Any:
    """The file as a `pyarrow.parquet.ParquetFile`, whose footer may not ask for more memory than a real one does."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(file, thrift_string_size_limit=2**24, thrift_container_size_limit=2**20)


def validated(batches: Iterable[Any]) -> Iterator[Any]:
    """The record batches, each validated in full before it is used."""
    for batch in batches:
        batch.validate(full=True)
        yield batch


def read_columns(file: Path, wanted: Mapping[str, str], most_rows: int) -> Columns:
    """The columns `wanted` (name to "text", "integer" or "number") of a Parquet file of at most `most_rows` rows, in file order.

    Raises InputError, naming the file, if it is no Parquet file, lacks a column, has one of another type or twice, has too many rows, or a
    text of more than `MOST_TEXT` characters.
    """
    with open_plain(file) as stream:
        length = os.fstat(stream.fileno()).st_size
    arguments = [str(file), str(most_rows), json.dumps(dict(wanted))]
    records = read_in_child("foreign.tables", file, length, arguments, MOST_BYTES)
    metadata: dict[str, str] = {}
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    for number, record in enumerate(records):
        values = json.loads(record.data or b"{}")
        if number == 0:
            metadata = values
            continue
        for name in wanted:
            columns[name] += values[name]
    return Columns(metadata, columns)


def read_metadata(file: Path) -> dict[str, str]:
    """The metadata of a Parquet file's schema alone. Raises InputError as `read_columns` does."""
    return read_columns(file, {}, 0).metadata


def _records(file: Path, most_rows: int, wanted: Mapping[str, str]) -> Iterator[Record]:
    """In the child: the metadata first, then each batch as JSON. With no columns wanted only the metadata."""
    try:
        with open_parquet(file) as opened:
            metadata = opened.schema_arrow.metadata or {}
            texts = {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in metadata.items()}
            yield Record({}, json.dumps(texts).encode())
            if not wanted:
                return
            _check(file, opened, wanted, most_rows)
            rows = 0
            for batch in validated(opened.iter_batches(batch_size=ROWS, columns=list(wanted), use_threads=False)):
                rows += batch.num_rows
                if rows > most_rows:  # the footer may say another number
                    raise InputError(f"{visible(file)} has more than {most_rows:,} rows", "Split it")
                columns = {name: batch.column(name).to_pylist() for name in wanted}
                for name, kind in wanted.items():
                    if kind == "text" and any(value is not None and len(value) > MOST_TEXT for value in columns[name]):
                        raise InputError(f"{visible(file)} has a text of more than {MOST_TEXT:,} characters in {name}", "Shorten it")
                yield Record({}, json.dumps(columns).encode())
    except InputError:
        raise
    except (Exception, MemoryError) as error:
        raise InputError(f"{visible(file)} is not a Parquet file that can be read ({reason(error)})", "Fetch it again") from None


def _check(file: Path, opened: Any, wanted: Mapping[str, str], most_rows: int) -> None:
    import pyarrow as pa

    if opened.metadata.num_rows > most_rows:
        raise InputError(f"{visible(file)} has {opened.metadata.num_rows:,} rows, more than {most_rows:,}", "Split it")
    tests = {
        "text": (pa.types.is_string, pa.types.is_large_string),
        "integer": (pa.types.is_integer,),
        "number": (pa.types.is_floating, pa.types.is_integer),
    }
    names = opened.schema_arrow.names
    for name, kind in wanted.items():
        if names.count(name) != 1:
            how = "has no column" if name not in names else f"has {names.count(name)} times the column"
            raise InputError(f"{visible(file)} {how} {name!r}", f"It needs, each once: {', '.join(wanted)}")
        type_of = opened.schema_arrow.field(name).type
        if not any(fits(type_of) for fits in tests[kind]):
            raise InputError(f"{visible(file)}: the column {name!r} is {visible(type_of)}", f"Write it as {kind}")


if __name__ == "__main__":
    length_, file_, most_, wanted_ = sys.argv[1:]
    write_records(_records(Path(file_), int(most_), json.loads(wanted_)), int(length_))
