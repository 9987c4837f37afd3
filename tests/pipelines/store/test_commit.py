"""A commit makes a version of exactly the shards that it is asked for, from what is committed and what waits, and says so in its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from generators.errors import InputError
from pipelines.store import Row, Store, StoreDamaged
from pipelines.store import schema as schemas
from pipelines.store.digest import Digest
from pipelines.store.holding import StoreBusy
from pipelines.store.schema import SCHEMA, SCHEMA_VERSION, to_table
from pipelines.store.upgrade import RENAMED, UPGRADED, is_older, schema_version, stored_columns, with_columns
from pipelines.store.versions.contents import Contents, Entry

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


def shard(key: str, count: int = 3) -> list[Row]:
    first = Row(f"S/r/{key[0]}0/0", "final", 1, "S", "r", "GAN", "GAN", 0, "train", "g", key, "CC0", sha256=key, image=key.encode())
    return [replace(first, id=f"S/r/{key[0]}{number}/0", index=number) for number in range(count)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", "d")


def write(store: Store, *keys: str) -> None:
    for key in keys:
        store.write_shard(key, f"shard {key[0]}", shard(key), seconds=1.5)


def digest_of(*keys: str) -> str:
    return Digest().add(to_table([row for key in keys for row in shard(key)]).to_batches()).hex()


def test_versions_hold_what_was_asked_for_and_nothing_else(store: Store) -> None:
    write(store, A, B, C)
    first = store.commit([A, B], "run 1", {"manifest": "{}"})
    assert first is not None
    assert (first.number, first.rows, first.digest) == (1, 6, digest_of(A, B))
    facts = {"manifest": "{}", "run_id": "run 1", "seconds": "3.0", "digest": first.digest, "schema": str(SCHEMA_VERSION)}
    assert first.properties == facts
    assert (set(store.keys()), set(store.notes.read())) == ({A, B}, {C})
    second = store.commit(iter([B, C]), "run 2")
    assert second is not None
    assert (second.number, second.rows, second.digest, second.properties["run_id"]) == (2, 6, digest_of(B, C), "run 2")
    assert "manifest" not in second.properties
    assert (set(store.keys()), set(store.keys(1)), store.notes.read()) == ({B, C}, {A, B}, {})
    assert [row.id for row in store.rows(images=True)] == [row.id for key in (B, C) for row in shard(key)]
    assert {row.id: row.image for row in store.rows(images=True)} == {row.id: row.image for key in (B, C) for row in shard(key)}
    assert store.digest() == second.digest and store.digest(1) == first.digest
    assert [version.number for version in store.log()] == [1, 2]


def test_the_same_shards_again_make_no_version_and_keep_what_waits(store: Store) -> None:
    write(store, A, B)
    store.commit([A], "run")
    write(store, A)  # as a builder does that was killed after its commit, before it dropped the notes
    assert store.commit([A], "again") is None
    assert (store.version().number, set(store.notes.read()), set(store.keys())) == (1, {B}, {A})


def test_only_dropping_makes_a_version(store: Store) -> None:
    write(store, A, B)
    store.commit([A, B], "run")
    dropped = store.commit([B], "less")
    assert dropped is not None and (dropped.number, dropped.rows, dropped.digest) == (2, 3, digest_of(B))
    none = store.commit([], "nothing")
    assert none is not None and (none.rows, none.digest, store.keys()) == (0, digest_of(), {})


def test_a_shard_that_is_nowhere_is_named_and_nothing_is_committed(store: Store) -> None:
    write(store, A)
    with pytest.raises(KeyError, match="2 shards are neither committed nor noted, such as bbbbbbbbbbbb"):
        store.commit([A, C, B], "run")
    assert not store.exists() and set(store.notes.read()) == {A}


def test_a_note_says_what_came_of_a_shard(store: Store) -> None:
    tried = [
        replace(row, role="rejected", reason=reason, image=None) for row, reason in zip(shard(A), ("blank", "face", "blank"), strict=True)
    ]
    note = store.write_shard(A, "a title", [*tried, *shard(A, 2)], short=1, seconds=2.5)
    assert (note.key, note.title, note.written, note.rejected) == (A, "a title", 2, {"blank": 2, "face": 1})
    assert (note.short, note.seconds) == (1, 2.5)
    assert store.notes.read() == {A: note}
    kept = sorted((row.index, row.role) for row in store.shard(A))
    assert kept == [(0, "final"), (0, "rejected"), (1, "final"), (1, "rejected"), (2, "rejected")]
    assert [row.index for row in store.shard(A)] == [0, 0, 1, 1, 2]


def test_what_two_builders_committed_is_there_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another builder, whom no lock kept out, commits the same shard and one of its own just before."""
    write(store, A)
    store.commit([A], "first")
    write(store, B, C)
    other = Store(store.root.location, store.name)
    commit: Callable[..., object] = lance.LanceDataset.commit
    came = []

    def after_the_other(*arguments: object, **options: object) -> object:
        if not came:
            came.append(True)
            monkeypatch.setattr(lance.LanceDataset, "commit", commit)
            write(other, B, D)
            other.commit([A, B, D], "other")
            write(store, B)  # the other builder dropped its note
        return commit(*arguments, **options)

    monkeypatch.setattr(lance.LanceDataset, "commit", after_the_other)
    version = store.commit([A, B, C], "own")
    assert version is not None
    ids = [row.id for row in store.rows()]
    assert ids == sorted({*ids}) == [row.id for key in (A, B, C, D) for row in shard(key)]
    assert version.digest == store.digest() == digest_of(A, B, C, D)


def test_without_rows_the_other_shards_are_not_written_anew(store: Store) -> None:
    write(store, A, B, C)
    store.commit([A, B, C], "run", {"manifest": "{}"})
    before = store.keys()
    gone = [shard(A)[0].id, *(row.id for row in shard(B))]
    left = store.without(gone, {"why": "asked"})
    assert (left.number, left.rows, left.properties["why"]) == (2, 5, "asked")
    assert [row.id for row in store.rows()] == sorted(row.id for key in (A, C) for row in shard(key) if row.id not in gone)
    after = store.keys()
    assert set(after) == {A, C} and after[C] == before[C] and after[A] != before[A]
    assert store.digest() == left.digest and store.rows(version=1) != store.rows()


def test_without_files_their_shards_are_gone(store: Store) -> None:
    write(store, A, B)
    store.commit([A, B], "run")
    gone = next(part for part in store.dataset().get_fragments() if part.fragment_id == store.keys()[A])
    left = store.without_files([gone.metadata.files[0].path], {"why": "damaged"})
    assert (left.number, left.rows, left.digest, left.properties["why"]) == (2, 3, digest_of(B), "damaged")
    assert set(store.keys()) == {B}


def test_numbers_tags_and_the_newest(store: Store) -> None:
    with pytest.raises(InputError, match="there is no dataset 'd'"):
        store.dataset()
    write(store, A, B)
    store.commit([A], "run 1")
    store.commit([A, B], "run 2")
    store.tag("old", 1)
    store.tag("also", 1)
    assert [store.version(which).number for which in (None, 1, "1", "old", 2)] == [2, 1, 1, 1, 2]
    assert [version.tags for version in store.log()] == [("also", "old"), ()]
    for which in (3, 0, "3", "new"):
        with pytest.raises(InputError, match="has no version"):
            store.version(which)


def test_what_is_asked_of_a_version_is_that_versions(store: Store) -> None:
    """The same ids, made again: each version has its own bytes, masks and facts."""
    old = [replace(row, mask=b"old mask", mask_sha256="m") for row in shard(A)]
    new = [replace(row, shard_key=B, sha256=B, image=b"new", mask=b"new mask", mask_sha256="n") for row in old]
    for key, rows in ((A, old), (B, new)):
        store.write_shard(key, "a shard", rows)
        store.commit([key], f"run {key[0]}")
    store.tag("first", 1)
    ids = [row.id for row in old[:2]]
    for version, rows in ((1, old), ("first", old), (2, new), (None, new)):
        assert store.images(ids, version) == {row.id: row.image for row in rows[:2]}
        assert store.masks(ids, version) == {row.id: row.mask for row in rows[:2]}
        assert store.named(ids, version, images=True) == rows[:2]
        assert store.named(ids, version) == [replace(row, image=None, mask=None) for row in rows[:2]]
        assert store.row(ids[1], version, image=True) == rows[1]
        assert store.row(ids[1], version).image is None
        assert store.rows(version=version) == [replace(row, image=None, mask=None) for row in rows]
        assert [row.sha256 for row in store.rows("index = 2", version)] == [rows[2].sha256]
        assert store.keys(version) == store.contents(version).keys and set(store.keys(version)) == {rows[0].shard_key}
        told = [value for batch in store.scan(["sha256"], "index > 0", version) for value in batch.column("sha256").to_pylist()]
        assert told == [rows[0].sha256] * 2
    assert (store.images([]), store.masks([]), store.named([])) == ({}, {}, [])
    with pytest.raises(InputError, match="has no image 'nobody'"):
        store.row("nobody")


def test_an_older_version_becomes_the_newest_with_its_own_facts(store: Store) -> None:
    write(store, A, B)
    first = store.commit([A], "run 1", {"manifest": "{1}"})
    store.commit([A, B], "run 2", {"manifest": "{2}"})
    assert first is not None
    assert store.checkout(2).number == 2 and len(store.log()) == 2
    back = store.checkout(1)
    assert (back.number, back.rows, back.digest) == (3, 3, first.digest)
    assert back.properties == {**first.properties, "seconds": "0.0", "restored": "1"}
    assert set(store.keys()) == {A} and store.digest() == first.digest
    assert store.commit([A], "again") is None
    write(store, B)
    again = store.commit([A, B], "run 3")
    assert again is not None and (again.number, again.digest) == (4, digest_of(A, B)) and "restored" not in again.properties


@pytest.mark.parametrize("place", ["records", "_contents"])
@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), InputError("it cannot be written", "Look")])
def test_a_record_that_cannot_be_kept_does_not_undo_a_commit(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: Exception, place: str
) -> None:
    def fail(*_: object) -> None:
        raise fault

    write(store, A)
    with monkeypatch.context() as harm:
        harm.setattr(getattr(store, place), "write", fail)
        version = store.commit([A], "run")
    assert version is not None and version.digest == digest_of(A)
    again = Store(store.root.location, store.name)
    assert again.digest() == digest_of(A) and set(again.keys()) == {A} and again.notes.read() == {}


@pytest.mark.parametrize("harm", ["cut", "zeros", "gone"])
def test_a_waiting_shard_whose_file_is_harmed_is_named(store: Store, harm: str) -> None:
    write(store, A)
    file = Path(store.data.location) / store.notes.read()[A].files[0][0]
    data = file.read_bytes()
    file.unlink() if harm == "gone" else file.write_bytes(data[:-50] if harm == "cut" else bytes(len(data)))
    with pytest.raises(StoreDamaged, match=f"the data file {file.name} of a shard that waits for a commit cannot be read.* d`"):
        store.shard(A)


def test_one_dataset_is_held_by_one_builder_and_another_is_free(store: Store) -> None:
    same, other = Store(store.root.location, store.name), Store(store.root.location, "another")
    with store.building():
        with pytest.raises(StoreBusy), same.building():
            pass
        with other.building():
            pass
    with same.building():
        pass


def test_sums_that_are_known_stay_where_others_are_added() -> None:
    entries = [
        Entry(number, f"{number}.lance", 10, str(number) * 64, f"{number}:{number:064x}" if number != 2 else "") for number in (1, 2, 3)
    ]
    contents = Contents.of(entries)
    assert [entry.fragment for entry in contents.unsummed()] == [2]
    whole = contents.with_sums({2: f"5:{7:064x}"})
    assert [entry.text for entry in whole.entries()] == [f"1:{1:064x}", f"5:{7:064x}", f"3:{3:064x}"]
    assert [*contents.entries()] == entries and not [*whole.unsummed()]
    assert whole.digest().text == f"{1 + 5 + 3}:{1 + 7 + 3:064x}"
    assert whole.without([1]).digest().text == f"8:{10:064x}" and whole.without([]) is whole
    assert [*whole.without([1, 3]).joined(entries[:1]).entries()] == [replace(entries[1], text=f"5:{7:064x}"), entries[0]]


def test_a_fault_is_the_first_file_that_is_not_there_or_has_another_size() -> None:
    contents = Contents.of([Entry(0, "a.lance", 10, A, ""), Entry(1, "b.lance", 0, B, ""), Entry(2, "c.lance", 3000, C, "")])
    assert contents.fault({"a.lance": 10, "b.lance": 77, "c.lance": 3000, "d": 1}) is None  # nobody knows the size of b
    assert contents.fault({"a.lance": 10, "c.lance": 3000}) == "the data file b.lance is not there"
    assert contents.fault({"a.lance": 10, "b.lance": 0, "c.lance": 1234}) == "the data file c.lance has 1,234 bytes instead of 3,000"
    twice = Contents.of([Entry(0, "a.lance", 1, A, f"2:{5:064x}"), Entry(0, "a.lance", 1, B, f"2:{5:064x}")])
    assert contents.is_plain and not twice.is_plain and twice.digest().text == f"2:{5:064x}"  # one fragment counts once


# What counts as older


def columns(*left_out: str, version: int | None = SCHEMA_VERSION, **renamed: str) -> pa.Schema:
    fields = [field.with_name(renamed.get(field.name, field.name)) for field in SCHEMA if field.name not in left_out]
    return pa.schema(fields, metadata=None if version is None else {"ntf.schema": str(version)})


@pytest.mark.parametrize(
    ("schema", "older"),
    [
        (SCHEMA, False),
        (columns(version=SCHEMA_VERSION - 1), True),  # of another number with the same columns
        (columns(version=None), True),
        (columns("delivery"), True),  # of this number, before its latest column
        (columns("image"), True),
        (columns(version=1, real="part"), True),
        (pa.schema([*SCHEMA, pa.field("a_later_one", pa.string())], metadata=SCHEMA.metadata), False),
        (columns(version=SCHEMA_VERSION + 1), False),
        (pa.schema(list(SCHEMA)[::-1], metadata=SCHEMA.metadata), False),
    ],
)
def test_a_store_is_older_if_it_lacks_a_column_or_has_a_smaller_number(schema: pa.Schema, older: bool) -> None:
    assert is_older(schema) is older


def test_the_number_of_a_schema() -> None:
    assert [schema_version(schema) for schema in (SCHEMA, columns(version=7), columns(version=None))] == [SCHEMA_VERSION, 7, 0]


def test_columns_are_asked_for_by_the_names_that_a_store_has_and_come_as_todays() -> None:
    old = pa.schema([("id", pa.string()), ("part", pa.string()), ("label", pa.int8())])
    assert (RENAMED, UPGRADED) == ({"real": "part"}, "upgraded_from_schema")  # what stores have
    assert stored_columns(old, ["id", "real", "part", "mask"]) == ["id", "part"]
    assert stored_columns(old, ["mask"]) == ["id"]  # rows must be counted, whatever was asked for
    values = {"id": ["x", "y"], "part": ["ffhq", None], "_rowid": pa.array([4, 5], pa.uint64())}
    table = pa.table({name: pa.array(column, old.field(name).type) if name in old.names else column for name, column in values.items()})
    today = with_columns(table, ["real", "part", "mask", "id"])
    assert today.column_names == ["real", "part", "mask", "id", "_rowid"]
    assert today.to_pydict() == {"real": ["ffhq", None], "part": [0, 0], "mask": [None, None], "id": ["x", "y"], "_rowid": [4, 5]}
    assert [today.schema.field(name).type for name in ("part", "mask")] == [SCHEMA.field(name).type for name in ("part", "mask")]
    assert schemas.FILLED == {"part": 0}
