"""The images in what others pack them in: folders, zip and tar files, LMDB, Parquet and Arrow.

Nothing is unpacked to disk, nothing in it is executed, and every read has a bound. Names inside an archive are only labels: nothing opens
a path by them.
"""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from generators.errors import InputError
from pipelines.images import MAX_BYTES, SUFFIXES

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "bytes")


@dataclass(frozen=True)
class PackedImage:
    """An image as it lies in its package: a name to report it by, its encoded bytes (or why it was not read), and whom it shows."""

    name: str
    data: bytes | None
    identity: str | None = None
    refusal: str = ""


def open_package(path: Path, column: str | None = None) -> tuple[str, Iterator[PackedImage]]:
    """What `path` is (folder, zip, lmdb, parquet, arrow, webdataset), and its images. InputError if it is none of them."""
    if not path.exists():
        raise InputError(f"there is no {path}", "Give a folder, a .zip, .tar or .parquet file, or an LMDB folder")
    if path.is_dir():
        if (path / "data.mdb").is_file():
            return "lmdb", lmdb(path)
        for suffix, kind, images in ((".parquet", "parquet", parquet), (".arrow", "arrow", arrow), (".tar", "webdataset", webdataset)):
            if files := sorted(path.rglob(f"*{suffix}")):
                return kind, images(files, column)
        return "folder", folder(path)
    if path.suffix.lower() == ".parquet":
        return "parquet", parquet([path], column)
    if path.name.lower().endswith((".tar", ".tar.gz", ".tgz")):
        return "webdataset", webdataset([path], column)
    if path.suffix.lower() == ".zip":
        return "zip", zipped(path)
    raise InputError(
        f"{path} is not a package that images can be imported from", "Give a folder, a .zip, .tar or .parquet file, or an LMDB folder"
    )


def folder(path: Path) -> Iterator[PackedImage]:
    """Image files at any depth. A link that leads out of the folder is refused."""
    top = path.resolve()
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    for file in files:
        name = file.relative_to(path).as_posix()
        real = file.resolve()
        if not real.is_relative_to(top):
            yield PackedImage(name, None, refusal="a link out of the folder")
        elif real.is_file():
            with real.open("rb") as stream:
                yield _bounded(name, stream, real.stat().st_size)


def zipped(path: Path) -> Iterator[PackedImage]:
    """The images of a zip file, read one by one."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.is_dir() or PurePosixPath(entry.filename).suffix.lower() not in SUFFIXES:
                    continue
                if entry.flag_bits & 1:
                    raise InputError(f"{path} is encrypted", "Decrypt it first")
                with archive.open(entry) as stream:
                    yield _bounded(entry.filename, stream, entry.file_size)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is damaged or not a zip file ({error})", "Fetch it again") from None


def lmdb(path: Path) -> Iterator[PackedImage]:
    """LSUN's form: every value is an encoded image, every key its name."""
    try:
        import lmdb as library
    except ImportError:
        raise InputError("reading LMDB needs the package lmdb", "pip install 'natural-trace-foundry[export]'") from None
    try:
        with (
            library.open(str(path), readonly=True, lock=False, readahead=False, max_readers=1) as database,
            database.begin() as transaction,
        ):
            for key, value in transaction.cursor():
                name = key.decode("ascii", "backslashreplace")
                yield PackedImage(name, bytes(value)) if len(value) <= MAX_BYTES else PackedImage(name, None, refusal=_too_long(len(value)))
    except library.Error as error:
        raise InputError(f"{path} is not an LMDB that can be read ({error})", "Give the folder with data.mdb in it") from None


def parquet(files: list[Path], column: str | None) -> Iterator[PackedImage]:
    """Parquet files with an image column: bytes, or the struct of bytes and path that Hugging Face writes."""
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                yield from _from_batches(file, opened.schema_arrow, opened.iter_batches(batch_size=32), column)
        except pa.ArrowInvalid as error:
            raise InputError(f"{file} is not a Parquet file that can be read ({error})", "Fetch it again") from None


def arrow(files: list[Path], column: str | None) -> Iterator[PackedImage]:
    """What `datasets.Dataset.save_to_disk` wrote."""
    for file in files:
        try:
            with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as stream:
                yield from _from_batches(file, stream.schema, stream, column)
        except pa.ArrowInvalid as error:
            raise InputError(f"{file} is not an Arrow stream that can be read ({error})", "Save the dataset with `save_to_disk`") from None


def webdataset(files: list[Path], column: str | None) -> Iterator[PackedImage]:
    """Tar files with `KEY.jpg` and, if there is one, `KEY.json` with an `identity`. Only tar itself is read: no pickle, no command."""
    for file in files:
        waiting: dict[str, PackedImage] = {}
        try:
            with tarfile.open(file, "r|*") as archive:
                for entry in archive:
                    key, _, suffix = entry.name.partition(".") if "/" not in entry.name else _key(entry.name)
                    stream = archive.extractfile(entry) if entry.isreg() else None
                    if stream is None:
                        continue
                    if f".{suffix.lower()}" in SUFFIXES:
                        yield from waiting.values()
                        waiting = {key: _bounded(f"{file.name}/{entry.name}", stream, entry.size)}
                    elif suffix == "json" and key in waiting and entry.size <= 2**20:
                        image = waiting.pop(key)
                        yield PackedImage(image.name, image.data, _identity_in(stream.read()), image.refusal)
                yield from waiting.values()
        except tarfile.TarError as error:
            raise InputError(f"{file} is damaged or not a tar file ({error})", "Fetch it again") from None


def _key(name: str) -> tuple[str, str, str]:
    """WebDataset's rule: the key ends at the first dot of the last part of the name."""
    head, _, tail = name.rpartition("/")
    stem, dot, suffix = tail.partition(".")
    return f"{head}/{stem}", dot, suffix


def _identity_in(data: bytes) -> str | None:
    try:
        facts = json.loads(data)
    except ValueError:
        return None
    identity = facts.get("identity") if isinstance(facts, dict) else None
    return str(identity) if identity is not None else None


def _from_batches(file: Path, schema: pa.Schema, batches: Any, column: str | None) -> Iterator[PackedImage]:
    name = _image_column(file, schema, column)
    number = 0
    for batch in batches:
        values = batch.column(name).to_pylist()
        identities = batch.column("identity").to_pylist() if "identity" in schema.names else [None] * len(values)
        for value, identity in zip(values, identities, strict=True):
            data = value.get("bytes") if isinstance(value, dict) else value
            given = value.get("path") if isinstance(value, dict) else None
            label = f"{file.name}/{number}" + (f" ({given})" if given else "")
            number += 1
            if not isinstance(data, bytes):
                yield PackedImage(label, None, refusal="the row has no bytes: the file that it names lies elsewhere")
            elif len(data) > MAX_BYTES:
                yield PackedImage(label, None, refusal=_too_long(len(data)))
            else:
                yield PackedImage(label, data, None if identity is None else str(identity))


def _image_column(file: Path, schema: pa.Schema, column: str | None) -> str:
    def fits(name: str) -> bool:
        kind = schema.field(name).type
        return (
            pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)
        )

    usable = [name for name in schema.names if fits(name)]
    matching = [name for name in usable if name == column or (column is None and name in IMAGE_COLUMNS)]
    if column is None and not matching:
        matching = usable
    if not matching:
        raise InputError(f"{file} has no column {column or 'with images'}", f"Name it with --column: {', '.join(schema.names)}")
    return matching[0]


def _bounded(name: str, stream: IO[bytes], size: int) -> PackedImage:
    """Reads at most one byte more than is allowed, whatever the package says of the size."""
    if size > MAX_BYTES:
        return PackedImage(name, None, refusal=_too_long(size))
    data = stream.read(MAX_BYTES + 1)
    return PackedImage(name, data) if len(data) <= MAX_BYTES else PackedImage(name, None, refusal=_too_long(len(data)))


def _too_long(size: int) -> str:
    return f"{size:,} bytes; at most {MAX_BYTES:,} are read"
