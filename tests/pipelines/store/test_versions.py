"""Versions: going back, forgetting a person, cleaning up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from generators.errors import InputError
from pipelines.build.build import run_build
from pipelines.store import Store
from pipelines.store.forget import forget
from pipelines.store.garbage import collect_garbage
from tests.pipelines.store.fakes import edited, planned


def test_an_older_version_becomes_the_newest_again(store: Store, manifest: Path) -> None:
    first = store.version()
    run_build(planned(edited(manifest, Swapped=None)), store, "cpu")
    assert store.digest() != first.digest
    third = store.checkout(1)
    assert (third.number, third.digest, store.digest()) == (3, first.digest, first.digest)
    assert json.loads(third.properties["manifest"])["dataset"] == "fake"
    assert store.checkout(3).number == 3  # the newest already
    with pytest.raises(InputError, match="no version"):
        store.checkout(17)


def test_a_person_and_what_was_made_from_them_are_forgotten(store: Store, manifest: Path) -> None:
    drawn = next(row for row in store.rows("subset = 'Chained' AND role = 'final'"))
    person = drawn.identity
    assert person
    shown = [row for row in store.rows(images=True) if row.role == "final"]
    store.write_shard("e" * 64, "waits, with the person", [row for row in shown if row.id == drawn.id])
    store.write_shard("d" * 64, "waits, without", [row for row in shown if row.identity is None][:1])
    forgotten = forget(store, person)
    assert forgotten.waiting == 1
    assert set(store.notes.read()) == {"d" * 64}
    store.notes.drop(["d" * 64])
    assert forgotten.version is not None
    assert forgotten.rows["real"] == 2 and forgotten.rows["final"] >= 1 and forgotten.older == (1,)
    gone = {row.id for row in store.rows(f"identity = '{person}'", version=1) if row.role == "real"}
    for row in store.rows():
        assert row.identity != person and row.id not in gone
        assert not any(link.get(use) in gone for link in row.chain for use in ("source", "target"))
    assert forgotten.version.digest == store.digest()
    assert run_build(planned(manifest), store, "cpu").version is None  # the same plan does not bring them back
    collect_garbage(store, keep=1)
    assert [version.number for version in store.log()] == [2]
    with pytest.raises(InputError, match="no real image"):
        forget(store, "nobody")


def test_cleaning_keeps_tagged_versions_waiting_shards_and_live_builders(store: Store, manifest: Path) -> None:
    store.tag("first", 1)
    rows = store.rows(images=True)[:2]
    store.write_shard("f" * 64, "waiting", rows)
    orphan = Path(store.uri) / "data" / "0000000000000000000000000000000000000000.lance"
    orphan.write_bytes(b"left by a killed writer")
    (store.notes.folder / "abc.json.1.partial").write_text("{")
    run_build(planned(edited(manifest, Swapped=None)), store, "cpu")
    run_build(planned(edited(manifest, Chained=None)), store, "cpu")
    assert collect_garbage(store, dry_run=True).files == (orphan.name,) and orphan.exists()
    with store.building(), pytest.raises(InputError, match="another build holds"):
        collect_garbage(store)
    garbage = collect_garbage(store, keep=1)
    assert (garbage.files[0], garbage.notes, garbage.versions) == (orphan.name, ("abc.json.1.partial",), (2,))
    assert not orphan.exists() and set(store.notes.read()) == {"f" * 64}
    assert store.digest("first") == store.version("first").digest
    assert [version.number for version in store.log()] == [1, 3]
    assert len(store.shard("f" * 64)) == 2


@pytest.mark.parametrize("name", ["ünï", "12", "٣", "a/b", "", "-x", ".x", "a..b", "x.lock", "a b", "x" * 200])
def test_a_name_that_is_no_tag_is_refused_before_anything_is_written(store: Store, name: str) -> None:
    with pytest.raises(InputError, match="cannot tag"):
        store.tag(name)
    assert [version.tags for version in store.log()][-1] == ()


def test_a_tag_is_taken_once_and_can_be_removed(store: Store) -> None:
    store.tag("first-release")
    with pytest.raises(InputError, match="it is taken"):
        store.tag("first-release")
    with pytest.raises(InputError, match="Its tags: first-release"):
        store.untag("second")
    number = store.version("first-release").number
    assert store.untag("first-release") == number
    with pytest.raises(InputError, match="no version 'first-release'"):
        store.version("first-release")
    store.tag("first-release")


def test_a_tag_of_an_older_release_that_locks_the_store_can_be_removed(store: Store) -> None:
    dataset = store.dataset()
    dataset.tags.create("ünï", dataset.version)
    with pytest.raises(InputError, match=r"ntf store untag \S+ ünï"):
        store.log()
    assert store.untag("ünï") == dataset.version
    assert store.log()


@pytest.mark.parametrize("version", ["²", "9" * 30, "ünï", "a/b", "-1"])
def test_a_version_that_is_none_is_one_line(store: Store, version: str) -> None:
    with pytest.raises(InputError, match="has no version"):
        store.dataset(version)
