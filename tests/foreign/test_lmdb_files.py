"""Our reader of LMDB against the library that writes it, and against pages that lie."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from foreign.errors import InputError
from foreign.lmdb_files import lmdb_entries

lmdb = pytest.importorskip("lmdb")
MOST = 2**20


def written(folder: Path, values: dict[bytes, bytes], dropped: tuple[bytes, ...] = (), **flags: bool) -> Path:
    """Half of the values in one transaction, the rest in a second, which also drops some."""
    with lmdb.open(str(folder), map_size=2**26, max_dbs=2) as database:
        name = {"db": database.open_db(b"inner", **flags)} if flags else {}
        items = list(values.items())
        for part in (items[: len(items) // 2], items[len(items) // 2 :]):
            with database.begin(write=True, **name) as transaction:
                for key, value in part:
                    transaction.put(key, value)
                for key in dropped:
                    transaction.delete(key)
    return folder / "data.mdb"


def read(file: Path) -> list[tuple[bytes, bytes | None]]:
    return [(entry.key, entry.value) for entry in lmdb_entries(file, MOST)]


@pytest.mark.parametrize("count", [0, 1, 40, 3_000])
def test_every_entry_is_what_the_library_wrote(tmp_path: Path, count: int) -> None:
    rng = random.Random(count)
    sizes = [0, 1, 100, 2_000, 2_030, 5_000] if count < 100 else [0, 10, 300]
    values = {rng.randbytes(rng.randrange(1, 60)): rng.randbytes(rng.choice(sizes)) for _ in range(count)}
    dropped = tuple(list(values)[::5])
    file = written(tmp_path, values, dropped)
    assert read(file) == sorted((key, value) for key, value in values.items() if key not in dropped)


def test_a_value_that_is_too_long_is_named_and_not_read(tmp_path: Path) -> None:
    file = written(tmp_path, {b"a": bytes(MOST), b"b": bytes(MOST + 1)})
    assert [(entry.key, entry.size, entry.value is None) for entry in lmdb_entries(file, MOST)] == [
        (b"a", MOST, False),
        (b"b", MOST + 1, True),
    ]


def changed(data: bytes) -> Iterator[tuple[str, bytes]]:
    page = 4096
    root_at = page + 16 + 24 + 48 + 40  # in the second header, which the newest transaction wrote or the one before it
    for header in (0, page):
        for place, value in ((root_at - page, 2**60), (root_at - page, 1), (root_at - page - 42, 60_000)):
            yield f"root {header} {value}", patched(data, header + place, struct.pack("<Q" if value != 60_000 else "<H", value))
        yield f"last page {header}", patched(data, header + 16 + 24 + 96, struct.pack("<Q", 2**50))
        yield f"page size {header}", patched(data, header + 16 + 24, struct.pack("<I", 4097))
    for number in range(2, len(data) // page):
        for offset in (10, 12, 14, 16, 18):
            yield f"page {number} at {offset}", patched(data, number * page + offset, b"\xff\xff")


def patched(data: bytes, place: int, value: bytes) -> bytes:
    return data[:place] + value + data[place + len(value) :]


def test_a_wrong_number_is_one_line_or_harmless(tmp_path: Path) -> None:
    file = written(tmp_path, {b"%04d" % number: bytes(200 if number % 9 else 9_000) for number in range(200)})
    refused = 0
    for name, data in changed(file.read_bytes()):
        file.write_bytes(data)
        try:
            assert len(read(file)) <= 400, name
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
            assert "data.mdb" in str(error)
    assert refused > 50


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_file_that_is_cut_is_said(tmp_path: Path, share: float) -> None:
    file = written(tmp_path, {b"%04d" % number: bytes(3_000) for number in range(100)})
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(InputError, match="is cut short"):
        read(file)


def test_a_value_that_many_keys_share_is_not_read_for_ever(tmp_path: Path) -> None:
    """All leaf entries are made to point at one value of many pages."""
    file = written(tmp_path, {b"%04d" % number: bytes(100_000) for number in range(8)} | {b"x%04d" % n: bytes(8) for n in range(400)})
    data = bytearray(file.read_bytes())
    head = struct.pack("<HHHH", 100_000 % 65_536, 100_000 // 65_536, 1, 4) + b"0000"
    number = data[data.index(head) + 12 :][:8]
    small = struct.pack("<HHHH", 8, 0, 0, 5)
    for place in [place for place in range(0, len(data) - 21, 2) if data[place : place + 9] == small + b"x"]:
        data[place : place + 8] = struct.pack("<HHHH", 100_000 % 65_536, 100_000 // 65_536, 1, 5)
        data[place + 13 : place + 21] = number
    file.write_bytes(data)
    with pytest.raises(InputError, match="longer than the file"):
        read(file)


def test_databases_within_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has databases inside"):
        read(written(tmp_path, {b"a": b"b"}, dupsort=True))


@pytest.mark.parametrize("data", [b"", b"a" * 100, bytes(9_000)])
def test_another_file_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(data)
    with pytest.raises(InputError, match=r"cut short|does not begin as one does"):
        read(tmp_path / "data.mdb")
