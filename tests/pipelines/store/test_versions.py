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
