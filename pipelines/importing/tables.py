"""The images in Parquet files, Arrow streams and LMDB folders.

Arrow's library trusts the offsets in a file. A wrong one ends the process, or gives bytes of somebody else's memory for an image. So every
batch is validated in full before anything of it is used. LMDB is read by our own reader, which checks every page number.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from foreign.errors import InputError
from foreign.files import open_plain
from foreign.lmdb_files import lmdb_entries
from foreign.tables import open_parquet, validated
from foreign.text import reason, visible
from pipelines.images import MAX_BYTES
from pipelines.importing.packed import PackedImage, identity_of, too_long

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "bytes")
ROWS = 32


def read_tables(kind: str, files: list[Path], column: str | None) -> Iterator[PackedImage]:
    """The images of Parquet files (kind "parquet"), Arrow streams ("arrow") or of one LMDB folder ("lmdb")."""
    for file in files:
        with open_plain(file / "data.mdb" if kind == "lmdb" else file):
            pass  # a FIFO or a device is said before a library opens it
        try:
            yield from READERS[kind](file, column)
        except InputError:
            raise
        except (Exception, MemoryError) as error:  # each library has errors of its own, and passes on those of others
            raise InputError(f"{visible(file)} is not {KINDS[kind]} that can be read ({reason(error)})", "Fetch or save it again") from None


def _parquet(file: Path, column: str | None) -> Iterator[PackedImage]:
    """Parquet files with an image column: bytes, or the struct of bytes and path that Hugging Face writes."""
    with open_parquet(file) as opened:
        image, person = _columns(file, opened.schema_arrow, column)
        names = [image, *([person] if person else [])]
        yield from _from_batches(file, opened.iter_batches(batch_size=ROWS, columns=names, use_threads=False), image, person)


def _arrow(file: Path, column: str | None) -> Iterator[PackedImage]:
    """What `datasets.Dataset.save_to_disk` wrote."""
    with file.open("rb") as stream, pa.ipc.open_stream(stream) as opened:
        yield from _from_batches(file, opened, *_columns(file, opened.schema, column))


def _lmdb(path: Path, _: str | None) -> Iterator[PackedImage]:
    """LSUN's form: every value is an encoded image, every key its name."""
    for entry in lmdb_entries(path / "data.mdb", MAX_BYTES):
        name = entry.key.decode("ascii", "backslashreplace")
        yield PackedImage(name, entry.value, refusal="" if entry.value is not None else too_long(entry.size))


READERS = {"parquet": _parquet, "arrow": _arrow, "lmdb": _lmdb}
KINDS = {"parquet": "a Parquet file", "arrow": "an Arrow stream", "lmdb": "an LMDB"}


def _from_batches(file: Path, batches: Any, image: str, person: str | None) -> Iterator[PackedImage]:
    number = 0
    for batch in validated(batches):
        for row in range(batch.num_rows):  # one by one: a list of all could take many times the memory of the file
            value = batch.column(image)[row].as_py()
            identity = None if person is None else batch.column(person)[row].as_py()
            data = value.get("bytes") if isinstance(value, dict) else value
            given = value.get("path") if isinstance(value, dict) else None
            label = f"{file.name}/{number}" + (f" ({given})" if given else "")
            number += 1
            if not isinstance(data, bytes):
                yield PackedImage(label, None, refusal="the row has no bytes: the file that it names lies elsewhere")
            elif len(data) > MAX_BYTES:
                yield PackedImage(label, None, refusal=too_long(len(data)))
            else:
                yield PackedImage(label, data, identity_of(identity, f"{visible(file)}, row {number}"))


def _columns(file: Path, schema: pa.Schema, column: str | None) -> tuple[str, str | None]:
    """The image column, and the column `identity` if there is one. InputError if there is no image column, or one of them is double."""

    def fits(kind: pa.DataType) -> bool:
        is_struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or is_struct

    names = schema.names
    usable = [field.name for field in schema if fits(field.type)]
    matching = [name for name in usable if name == column or (column is None and name in IMAGE_COLUMNS)]
    if column is None and not matching:
        matching = usable
    if len(set(matching)) > 1:
        several = visible(", ".join(matching))
        raise InputError(f"{visible(file)} has several columns of images: {several}", f"Name one, such as --column {matching[0]}")
    if not matching and column is None and "file_name" in names:
        raise InputError(f"{visible(file)} only names its pictures, in `file_name`", "Give the folder that they lie in, without this file")
    if not matching:
        raise InputError(
            f"{visible(file)} has no column {visible(column or 'with images')}", f"Name it with --column: {visible(', '.join(names))}"
        )
    for name in (matching[0], "identity"):
        if names.count(name) > 1:
            raise InputError(f"{visible(file)} has the column {visible(name)} {names.count(name)} times", "Rename or remove one")
    return matching[0], "identity" if "identity" in names else None
