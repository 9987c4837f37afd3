"""The values of an LMDB file, read page by page.

The library maps the file and follows whatever page numbers stand in it: one that is wrong or cut off ends the process by a signal. This
reader checks each number against the file's length. It reads the main database of the newest transaction, as `data.mdb` has it (format 1,
64 bits, little-endian; the layout is that of the structs MDB_page, MDB_node, MDB_db and MDB_meta in LMDB's mdb.c).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import IO

from foreign.errors import InputError
from foreign.files import open_plain
from foreign.text import visible

PAGE = Struct("<QHHHH")  # number, padding, flags, end of the node offsets, begin of the nodes
META = Struct("<IIQQ")  # magic number, version, address, map size; then two databases and LAST
DATABASE = Struct("<IHHQQQQQ")  # page size (of the first database), flags, depth, branch, leaf and overflow pages, entries, root
LAST = Struct("<QQ")  # last page, transaction
NODE = Struct("<HHHH")  # low and high half of the size, flags, length of the key
OFFSET, PAGE_NUMBER = Struct("<H"), Struct("<Q")
MAGIC, VERSION = 0xBEEFC0DE, 1
BRANCH, LEAF, OVERFLOW, META_PAGE = 1, 2, 4, 8
BIG_DATA = 1  # the value lies on pages of its own
SORTED_VALUES = 4  # a flag of a database: a key has several values
NO_PAGE = 2**64 - 1
MAX_DEPTH = 32
NODE_BYTES = 10  # what an entry takes beside its key and value


@dataclass(frozen=True)
class Entry:
    """A key, the length of its value, and the value, or None if it was longer than asked for."""

    key: bytes
    size: int
    value: bytes | None


def lmdb_entries(file: Path, most: int) -> Iterator[Entry]:
    """The entries of the LMDB file `file` (`data.mdb`) in the order of their keys, with values of at most `most` bytes.

    All that is read together is no more than the file is long. Raises InputError that names the file if it is damaged, cut short, of
    another form, or has several values for a key.
    """
    with open_plain(file) as stream:
        yield from _Reader(file, stream, os.fstat(stream.fileno()).st_size, most).entries()


class _Reader:
    def __init__(self, file: Path, stream: IO[bytes], length: int, most: int):
        self.file, self.stream, self.length, self.most = file, stream, length, most
        self.left = length  # bytes of entries that may still be read: a whole file has each entry once

    def entries(self) -> Iterator[Entry]:
        self.size = self._page_size()
        flags, depth, root, last = max(self._meta(number) for number in (0, 1))[1:]
        if (last + 1) * self.size > self.length:
            raise InputError(f"{visible(self.file)} is cut short", "Fetch it again")
        if flags & SORTED_VALUES:
            raise self._damaged("it has several values for a key")
        if root == NO_PAGE:
            return
        if not 0 < depth <= MAX_DEPTH:
            raise self._damaged(f"its tree has {depth} levels")
        visits, waiting = last + 1, [(root, 1)]
        while waiting:
            number, level = waiting.pop()
            visits -= 1
            if visits < 0 or level > depth or number > last:
                raise self._damaged(f"page {number:,} is out of place")
            page = self._read(number * self.size, self.size)
            kind = PAGE.unpack_from(page)[2] & (BRANCH | LEAF | OVERFLOW | META_PAGE)
            if kind == BRANCH:
                waiting += [(child, level + 1) for child in reversed([self._child(page, place) for place in self._nodes(page)])]
            elif kind == LEAF:
                for place in self._nodes(page):
                    yield self._entry(page, place, last)
            else:
                raise self._damaged(f"page {number:,} is of another kind")

    def _page_size(self) -> int:
        head = self._read(0, PAGE.size + META.size + DATABASE.size)
        size: int = DATABASE.unpack_from(head, PAGE.size + META.size)[0]
        if META.unpack_from(head, PAGE.size)[:2] != (MAGIC, VERSION) or not 256 <= size <= 65_536 or size & (size - 1):
            raise self._damaged("it does not begin as one does")
        return size

    def _meta(self, number: int) -> tuple[int, int, int, int, int]:
        """Of one of the two headers: transaction, flags, depth and root of the main database, last page."""
        page = self._read(number * self.size, PAGE.size + META.size + 2 * DATABASE.size + LAST.size)
        if META.unpack_from(page, PAGE.size)[:2] != (MAGIC, VERSION):
            raise self._damaged(f"header {number} is damaged")
        _, flags, depth, *_, root = DATABASE.unpack_from(page, PAGE.size + META.size + DATABASE.size)
        last, transaction = LAST.unpack_from(page, PAGE.size + META.size + 2 * DATABASE.size)
        return transaction, flags, depth, root, last

    def _nodes(self, page: bytes) -> list[int]:
        """Where the nodes of a page begin."""
        lower = PAGE.unpack_from(page)[3]
        if lower < PAGE.size or lower > self.size or lower % 2:
            raise self._damaged("a page has a wrong number of entries")
        places = [OFFSET.unpack_from(page, place)[0] for place in range(PAGE.size, lower, 2)]
        if any(place < lower or place + NODE.size > self.size for place in places):
            raise self._damaged("an entry lies outside its page")
        return places

    @staticmethod
    def _child(page: bytes, place: int) -> int:
        low, high, top, _ = NODE.unpack_from(page, place)
        return int(low | high << 16 | top << 32)

    def _entry(self, page: bytes, place: int, last: int) -> Entry:
        low, high, flags, key_size = NODE.unpack_from(page, place)
        size, start = low | high << 16, place + NODE.size + key_size
        if flags & ~BIG_DATA:
            raise self._damaged("it has databases inside")
        if start + (PAGE_NUMBER.size if flags else size) > self.size:
            raise self._damaged("an entry lies outside its page")
        key = page[start - key_size : start]
        self._spend(NODE_BYTES + key_size + min(size, self.most))
        if not flags:
            value = page[start : start + size]
        else:
            number = PAGE_NUMBER.unpack_from(page, start)[0]
            begin = number * self.size + PAGE.size
            if number > last or begin + size > self.length:
                raise self._damaged("a value lies outside the file")
            if not PAGE.unpack(self._read(number * self.size, PAGE.size))[2] & OVERFLOW:
                raise self._damaged("a value lies on a page of another kind")
            value = self._read(begin, size) if size <= self.most else b""
        return Entry(key, size, value if size <= self.most else None)

    def _spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise self._damaged("its entries are longer than the file")

    def _read(self, start: int, count: int) -> bytes:
        if start + count > self.length:
            raise InputError(f"{visible(self.file)} is cut short", "Fetch it again")
        self.stream.seek(start)
        data = self.stream.read(count)
        if len(data) != count:
            raise InputError(f"{visible(self.file)} is cut short", "Fetch it again")
        return data

    def _damaged(self, why: str) -> InputError:
        return InputError(f"{visible(self.file)} is no LMDB that can be read: {why}", "Fetch or make it again")
