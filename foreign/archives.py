"""Zip and tar files of strangers, member by member, with a budget for what they unpack to.

The budget is of bytes, and not of members: an archive may unpack to `FREE` bytes and to `RATIO` times its own length. Pictures hardly
shrink in an archive, so an honest one stays far below. Nothing is written to disk, and no path is opened by a name inside.
"""

from __future__ import annotations

import bz2
import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreign.errors import InputError
from foreign.files import open_plain
from foreign.text import reason, visible

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")  # the endings of what `tar_members` reads
ARCHIVE_ENDINGS = (".zip", *TAR_ENDINGS, ".tar.zst", ".7z", ".rar")  # and those of all that counts as an archive, read or not
FREE = 64 * 2**20
RATIO = 64
CHUNK = 2**16
XZ_MEMORY = 256 * 2**20  # a dictionary of xz may have 4 GB
ZIP_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "Deflate", zipfile.ZIP_BZIP2: "bzip2"}
EMPTY_READS = 64  # reads at the end of a file that give nothing; after so many, a header has announced bytes that are not there


END_MARK, HEADER_ERROR, DamagedTar = tarfile.EOFHeaderError, tarfile.HeaderError, tarfile.ReadError  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name there, its size as the archive has it, and its bytes, or None if it was larger than asked for.

    `offset` is where its bytes begin in the archive; None where the archive is packed.
    """

    name: str
    size: int
    data: bytes | None
    offset: int | None = None


class Budget:
    """What may still be unpacked of one archive."""

    def __init__(self, path: Path, length: int):
        self.path, self.left = path, FREE + RATIO * length

    def spend(self, count: int) -> None:
        """Raises InputError that names the archive if it unpacks to more than its budget."""
        self.left -= count
        if self.left < 0:
            raise InputError(
                f"{visible(self.path)} unpacks to far more than its own size", f"More than {RATIO} times as much is not unpacked"
            )


def zip_members(path: Path, wanted: Callable[[str], bool], most: int) -> Iterator[Member]:
    """The members of a zip file whose names are `wanted`, at most `most` bytes each. Raises InputError that names the archive.

    Members may be stored or packed by Deflate or bzip2. An encrypted or damaged member, or one of another method, ends the reading.
    """
    with open_plain(path) as stream, _one_line(path, "zip"), zipfile.ZipFile(stream) as archive:
        budget = Budget(path, os.fstat(stream.fileno()).st_size)
        for entry in archive.infolist():
            if not entry.filename or entry.is_dir() or not wanted(entry.filename):
                continue
            if entry.flag_bits & 1:
                raise InputError(f"{visible(path)} is encrypted", "Decrypt it first")
            if entry.compress_type not in ZIP_METHODS:
                raise InputError(
                    f"{visible(path)}: {visible(entry.filename)} is packed by method {entry.compress_type}",
                    f"Only {', '.join(ZIP_METHODS.values())} are read: pack it again",
                )
            if entry.file_size > most:
                yield Member(entry.filename, entry.file_size, None)
                continue
            budget.spend(entry.file_size)
            with archive.open(entry) as member:
                data = member.read(entry.file_size + 1)  # the library stops at the size that the archive declares, and checks the sum
            yield Member(entry.filename, len(data), data)


def tar_members(path: Path, wanted: Callable[[str], bool], most: int, odd: Callable[[str], object] | None = None) -> Iterator[Member]:
    """The plain files in a tar whose names are `wanted`, at most `most` bytes each; the tar may be packed by gzip, bzip2 or xz.

    Links and devices are passed over, and `odd` is called with their names. Raises InputError that names the archive, also for a sparse
    file, whose size is made up.
    """
    with open_plain(path) as stream, _one_line(path, "tar"):
        budget = Budget(path, os.fstat(stream.fileno()).st_size)
        unpacked = _Unpacked(stream, budget)
        with tarfile.open(fileobj=unpacked, mode="r|", encoding="utf-8", errors="backslashreplace", tarinfo=_Member) as archive:
            for entry in archive:
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                if entry.issparse():
                    raise InputError(f"{visible(path)}: {visible(entry.name)} is a sparse file", "Make the archive without --sparse")
                if odd is not None and not (entry.isreg() or entry.isdir()):
                    odd(entry.name)
                if not entry.isreg() or not wanted(entry.name):
                    continue
                offset = None if unpacked.make else entry.offset_data
                if entry.size > most:
                    yield Member(entry.name, entry.size, None, offset)
                    continue
                member = archive.extractfile(entry)
                data = member.read(entry.size) if member else b""
                if len(data) != entry.size:
                    raise InputError(f"{visible(path)} is cut short at {visible(entry.name)}", "Fetch it again")
                yield Member(entry.name, entry.size, data, offset)
        while unpacked.read(CHUNK):  # on to the end, where a packed tar has its checksum
            pass


class _Member(tarfile.TarInfo):
    """A member whose damaged or missing header is an error. tarfile takes it for the end, and would leave out the rest without an error."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(tarfile)
        except END_MARK:
            raise
        except HEADER_ERROR as error:
            raise DamagedTar(f"it is cut off, or a header is damaged: {error}") from None


class _Unpacked(io.RawIOBase):
    """The bytes of a stream, unpacked if they are packed, in reads of bounded length and within a budget."""

    def __init__(self, stream: Any, budget: Budget):
        self.stream, self.budget, self.empty = stream, budget, 0
        head = stream.read(6)
        stream.seek(0)
        self.make: Callable[[], Any] | None = None
        if head[:2] == b"\x1f\x8b":
            self.make = _Gzip
        elif head[:3] == b"BZh":
            self.make = bz2.BZ2Decompressor
        elif head == b"\xfd7zXZ\x00":
            self.make = lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY)
        self.unpacker: Any = self.make() if self.make else None
        self.ready = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = CHUNK if size is None or size < 0 else size
        parts, length = [], 0
        while length < size:
            part = self._some(size - length)
            if not part:
                break
            parts.append(part)
            length += len(part)
        self.empty = 0 if length else self.empty + 1
        if self.empty > EMPTY_READS:
            raise tarfile.ReadError("it ends before what its headers announce")
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        size = min(size, CHUNK)
        if self.make is None:
            data = self.stream.read(size)
        else:
            data = b""
            while not data:
                if self.unpacker.eof:
                    rest = self.unpacker.unused_data or self.stream.read(CHUNK)
                    if not rest.strip(b"\0"):
                        return b""
                    self.unpacker = self.make()
                    data = self.unpacker.decompress(rest, size)
                elif self.unpacker.needs_input:
                    packed = self.stream.read(CHUNK)
                    if not packed:
                        return b""
                    data = self.unpacker.decompress(packed, size)
                else:
                    data = self.unpacker.decompress(b"", size)
        self.budget.spend(len(data))
        return data


class _Gzip:
    """zlib's unpacker with the interface of those of bz2 and lzma."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, most)


class _one_line:  # noqa: N801 (used as a function)
    """Turns what the libraries raise on a damaged archive into an InputError that names it."""

    def __init__(self, path: Path, kind: str):
        self.path, self.kind = path, kind

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, InputError) or not isinstance(error, Exception):
            return
        raise InputError(f"{visible(self.path)} is damaged or not a {self.kind} file ({reason(error)})", "Fetch it again") from None
