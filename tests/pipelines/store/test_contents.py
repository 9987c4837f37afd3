"""Which shard lies in which fragment: from the file beside a version, and from the rows where that is no use."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.build.build import run_build
from pipelines.examine.diff import diff
from pipelines.place import Place
from pipelines.store import Store, StoreDamaged
from pipelines.store.forget import forget
from pipelines.store.garbage import collect_garbage
from pipelines.store.versions import contents_files
from pipelines.store.versions.contents import Contents
from tests.pipelines.store.fakes import edited, planned


def reopened(store: Store) -> Store:
    return Store(store.root.location, store.name)


def file_of(store: Store, number: int) -> Path:
    return Path(store.records.place.location) / f"{number}.contents"


def scanned_keys(store: Store, number: int) -> dict[str, int]:
    """The keys of a version by its rows."""
    return {key: address >> 32 for key, address in _keys_and_addresses(store, number)}


def _keys_and_addresses(store: Store, number: int) -> list[tuple[str, int]]:
    table = store.dataset(number).to_table(columns=["shard_key"], with_row_address=True)
    return list(zip(table["shard_key"].to_pylist(), table["_rowaddr"].to_pylist(), strict=True))


@pytest.fixture
def history(store: Store, manifest: Path) -> Store:
    """Six versions: built, one subset less, back, a person less, a damaged shard less, and built again."""
    run_build(planned(edited(manifest, Swapped=None)), store, "cpu")
    store.checkout(1)
    person = next(row.identity for row in store.rows("subset = 'Chained' AND role = 'final'"))
    assert person
    forget(store, person)
    with store.building():
        store.without_files([next(iter(store.contents().files))])
    run_build(planned(edited(manifest, Chained=None)), store, "cpu")
    return reopened(store)


@pytest.fixture
def no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("rows were read")

    monkeypatch.setattr(contents_files, "read_batches", fail)
    monkeypatch.setattr(contents_files, "explained", fail)


def test_every_version_has_contents_that_agree_with_its_rows(history: Store, no_scan: None) -> None:
    numbers = [version.number for version in history.log()]
    assert len(numbers) >= 6
    for number in numbers:
        assert file_of(history, number).exists(), number
        contents = history.contents(number)
        assert contents.keys == scanned_keys(history, number) and contents.is_plain
        assert contents.digest().hex() == history.version(number).digest == history.digest(number)
        assert list(contents.keys.values()) == sorted(contents.keys.values())
        files = {part.metadata.files[0].path: part.fragment_id for part in history.dataset(number).get_fragments()}
        assert contents.files == files


def test_a_build_with_nothing_to_do_and_a_commit_read_no_row_of_what_is_kept(store: Store, manifest: Path, no_scan: None) -> None:
    again = reopened(store)
    assert run_build(planned(manifest), again, "cpu").version is None
    assert run_build(planned(edited(manifest, Swapped=None)), again, "cpu").version is not None
    assert again.digest() == again.version().digest


@pytest.mark.parametrize("spoil", ["gone", "cut", "a bit", "of another version", "empty", "no table"])
def test_contents_that_are_no_use_cost_a_scan_and_nothing_else(history: Store, spoil: str) -> None:
    newest = history.version()
    file, keys, digest = file_of(history, newest.number), history.keys(), newest.digest
    data = file.read_bytes()
    if spoil == "gone":
        file.unlink()
    elif spoil == "of another version":
        shutil.copyfile(file_of(history, 1), file)
    else:
        spoilt = {"cut": data[:-9], "a bit": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "empty": b"", "no table": b"x" * 99}
        file.write_bytes(spoilt[spoil])
    again = reopened(history)
    assert again.keys() == keys and again.digest() == digest
    assert again.contents().digest().hex() == digest


def test_after_a_kill_between_commit_and_record_only_what_came_with_it_is_read(history: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = history.version().number
    keys = history.keys()
    fresh = history.contents(newest).files.keys() - history.contents(newest - 1).files.keys()
    for file in (file_of(history, newest), Path(history.records.place.location) / f"{newest}.json"):
        file.unlink()
    read: list[str] = []
    original = contents_files.read_batches

    def counted(source: object, *rest: object) -> object:
        read.append(source.metadata.files[0].path)  # type: ignore[attr-defined]
        return original(source, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(contents_files, "read_batches", counted)
    assert reopened(history).keys() == keys
    assert fresh and set(read) == fresh


def test_a_store_of_an_earlier_release_is_read_once_and_keeps_its_digest(
    store: Store, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(store.records.place.location)
    old = reopened(store)
    assert old.keys() == scanned_keys(old, 1)
    run_build(planned(edited(manifest, Swapped=None)), old, "cpu")
    assert old.digest(2) == old.version(2).digest
    assert file_of(old, 2).exists() and reopened(old).keys() == scanned_keys(old, 2)


def test_two_versions_without_contents_can_be_compared(history: Store) -> None:
    differences = diff(history, 1, 2)
    for number in (1, 2):
        file_of(history, number).unlink()
    assert diff(reopened(history), 1, 2) == differences and differences


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_a_data_file_that_is_harmed_is_named_although_nothing_is_read(store: Store, manifest: Path, no_scan: None, harm: str) -> None:
    file = Path(store.data.location) / next(iter(store.contents().files))
    file.unlink() if harm == "gone" else file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreDamaged, match=file.name):
        run_build(planned(manifest), reopened(store), "cpu")


def test_cleaning_takes_the_contents_of_dropped_versions(history: Store) -> None:
    newest = history.version()
    collect_garbage(history, keep=1)
    assert [file.name for file in Path(history.records.place.location).glob("*.contents")] == [f"{newest.number}.contents"]
    again = reopened(history)
    assert again.keys() == scanned_keys(again, newest.number) and again.digest() == newest.digest


def test_contents_survive_writing() -> None:
    assert Contents.from_bytes(None) is None and Contents.from_bytes(b"x" * 40) is None
    empty = Contents.of(())
    read = Contents.from_bytes(empty.to_bytes("a"), "a")
    assert read is not None and read.keys == {} and Contents.from_bytes(empty.to_bytes("a"), "b") is None


@pytest.mark.parametrize("most", [0, 100], ids=["by a listing", "one by one"])
def test_sizes_are_those_of_the_files_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr("pipelines.place.MOST_LOOKED_UP", most)
    place = Place.of(tmp_path / "none yet")
    assert place.sizes() == place.sizes_of(["a"]) == {}
    place.write("a", b"123")
    place.write("b", b"")
    (tmp_path / "none yet" / "folder").mkdir()
    assert place.sizes() == {"a": 3, "b": 0}
    assert place.sizes_of(["a", "c", "folder"])["a"] == 3 and not {"c", "folder"} & place.sizes_of(["a", "c", "folder"]).keys()
    assert place.sizes_of([]).keys() <= {"a", "b"}
