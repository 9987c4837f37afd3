"""What is damaged in a store, in one line that names the file: data files that are cut, missing or spoilt.

Lance raises errors of many classes for such files, and some of its code panics. What reads a version runs within `explained`, which looks
for the damaged file only after a read has failed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import lance
import pyarrow as pa

from generators.errors import InputError
from pipelines.place import Place

# The end of a Lance file: where three tables begin, how many buffers and columns they list, the format's version, and its mark.
FOOTER = struct.Struct("<QQQIIHH4s")
MAGIC = b"LANC"
TABLE_ENTRY = 16  # bytes: a position and a length
_checked: dict[str, tuple[int, int]] = {}  # files whose footers were looked at, with their time and size

Source: TypeAlias = Any  # a lance.LanceDataset or a lance.LanceFragment


class StoreDamaged(InputError):
    """A part of a store that was there once cannot be read, or is not what was written."""


def damaged(name: str, what: str) -> StoreDamaged:
    """The error that `what` is damaged in the dataset `name`, with the way out."""
    fix = f"`ntf store mend {name}` drops what is damaged, and the next `ntf build` makes it again; `ntf store verify {name}` lists it"
    return StoreDamaged(what, fix)


def is_reading_fault(error: BaseException) -> bool:
    """Whether Lance or Arrow raised this over what they read. Lance's panics are no `Exception`."""
    return isinstance(error, (OSError, RuntimeError, ValueError, pa.ArrowException)) or type(error).__name__ == "PanicException"


def reason_of(error: BaseException) -> str:
    """The first line of what Lance says, without the places in its source code."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    return text.split(", /", 1)[0].split(", location:", 1)[0][:200]


@contextmanager
def explained(source: Source, columns: Sequence[str], is_filtered: bool = False, is_scan: bool = True) -> Iterator[None]:
    """Turns a failed read of `columns` (as the version names them) into StoreDamaged, with the name of the file.

    A scan looks at the footers of all files first: see `_footers`. Where no file is damaged, it is InputError, or for a read with a
    condition the error itself: the condition may be at fault.
    """
    dataset = source if isinstance(source, lance.LanceDataset) else source._ds
    name = dataset.uri.rstrip("/").rsplit("/", 1)[-1].removesuffix(".lance")
    if is_scan and (fault := _footers(source)):
        raise damaged(name, fault)
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not is_reading_fault(error):
            raise
        fault = first_fault(source, columns)
        if fault:
            raise damaged(name, fault) from None
        if is_filtered:
            raise
        raise InputError(f"cannot read {dataset.uri}: {reason_of(error)}", "Check the disk, or the network and the credentials") from None


def first_fault(source: Source, columns: Sequence[str]) -> str | None:
    """The first damaged data file of a version or fragment, and what is wrong with it; None if all can be read."""
    dataset = source if isinstance(source, lance.LanceDataset) else source._ds
    fragments = source.get_fragments() if isinstance(source, lance.LanceDataset) else [source]
    try:
        sizes = Place.of(dataset.uri).child("data").sizes()
    except OSError:
        return None
    faults = (fault_of(fragment, sizes) for fragment in fragments)
    return next((fault for fault in faults if fault), None) or next(filter(None, (_unread(part, columns) for part in fragments)), None)


def fault_of(fragment: lance.LanceFragment, sizes: Mapping[str, int]) -> str | None:
    """What is wrong with the sizes of a fragment's files, against the sizes of those that are there."""
    for file in fragment.metadata.files:
        if file.path not in sizes:
            return f"the data file {file.path} is not there"
        if file.file_size_bytes and sizes[file.path] != file.file_size_bytes:
            return f"the data file {file.path} has {sizes[file.path]:,} bytes instead of {file.file_size_bytes:,}"
    return None


def _footers(source: Source) -> str | None:
    """The first data file of a local version or fragment whose footer counts more than the file can hold; None if there is none.

    Lance would ask for that much memory, and the process would be aborted. An object storage keeps checksums of its own.
    """
    dataset = source if isinstance(source, lance.LanceDataset) else source._ds
    folder = Place.of(dataset.uri).child("data")
    if not folder.is_local:
        return None
    for fragment in source.get_fragments() if isinstance(source, lance.LanceDataset) else [source]:
        for file in fragment.metadata.files:
            path = f"{folder.location}/{file.path}"
            try:
                state = os.stat(path)
            except OSError:
                continue
            if _checked.get(path) == (state.st_mtime_ns, state.st_size):
                continue
            if fault := footer_fault(path):
                return f"the data file {file.path} {fault}"
            _checked[path] = (state.st_mtime_ns, state.st_size)
    return None


def footer_fault(path: str) -> str | None:
    """What is wrong with the numbers in the last 40 bytes of a data file. A file that is not there, or too short, is for others to tell."""
    try:
        with open(path, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - FOOTER.size))
            footer = stream.read()
    except OSError:
        return None
    if size < FOOTER.size:
        return None
    *places, buffers, columns, _, _, magic = FOOTER.unpack(footer)
    if magic == MAGIC and max(places) <= size and TABLE_ENTRY * max(buffers, columns) <= size:
        return None
    return "has a spoilt footer"


def _unread(fragment: lance.LanceFragment, columns: Sequence[str]) -> str | None:
    try:
        for batch in fragment.to_batches(columns=list(columns), batch_size=64):
            batch.validate(full=True)
    except BaseException as error:
        if not is_reading_fault(error):
            raise
        return f"the data file {fragment.metadata.files[0].path} cannot be read ({reason_of(error)})"
    return None
