"""A store of schema 1 is read as it is, and brought to today's schema by the first write, with nothing remade and nothing lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import lance
import pyarrow as pa
import pytest
from lance.fragment import write_fragments

from pipelines.build.build import run_build
from pipelines.examine.diff import diff
from pipelines.examine.verify import verify
from pipelines.export.export import Export, export
from pipelines.reading import StoreDataset, read_table
from pipelines.store import Store, upgrade
from pipelines.store.forget import forget
from pipelines.store.pending import Note
from pipelines.store.schema import SCHEMA, Row, to_table
from tests.pipelines.store.fakes import edited, planned

STRINGS = (
    "id role subset part family mode split group chain target_id source_id identity reason measures format sha256 phash shard_key licence"
)
TYPES = {**dict.fromkeys(STRINGS.split(), pa.string()), "label": pa.int8(), "index": pa.int64(), "seed": pa.int64(), "bytes": pa.int64()}
TYPES |= {"step": pa.int16(), "attempt": pa.int16(), "width": pa.int32(), "height": pa.int32(), "image": pa.large_binary()}
NAMES = [
    "id",
    "role",
    "label",
    "subset",
    "part",
    "family",
    "mode",
    "index",
    "step",
    "attempt",
    "split",
    "group",
    "seed",
    "chain",
    "target_id",
    "source_id",
    "identity",
    "reason",
    "measures",
    "format",
    "width",
    "height",
    "bytes",
    "sha256",
    "phash",
    "shard_key",
    "licence",
    "image",
]
SCHEMA_1 = pa.schema([(name, TYPES[name]) for name in NAMES], metadata={"ntf.schema": "1"})


def table_1(rows: Sequence[Row]) -> pa.Table:
    """Rows as the first version of this program wrote them."""
    table = to_table(list(rows)).drop_columns("part").rename_columns({"real": "part"})
    return table.select(NAMES).cast(SCHEMA_1)


def digest_1(table: pa.Table) -> str:
    """The digest as the first version computed it: all columns but the image, in their order."""
    total = 0
    for values in zip(*(table.column(name).to_pylist() for name in NAMES[:-1]), strict=True):
        text = "\x1f".join("\x00" if value is None else str(value) for value in values)
        total = (total + int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")) % 2**256
    return hashlib.sha256(f"{table.num_rows}:{total:064x}".encode()).hexdigest()


def fragment_1(store: Store, rows: Sequence[Row], mode: str = "append") -> lance.FragmentMetadata:
    (fragment,) = write_fragments(table_1(rows), store.uri, schema=SCHEMA_1, mode=mode)
    return fragment


@pytest.fixture
def old(tmp_path: Path, store: Store) -> Store:
    """The same dataset as `store`, written through Lance itself as a store of schema 1; its version is tagged `first`."""
    copy = Store(tmp_path / "old", "fake")
    rows = sorted(store.rows(images=True), key=lambda row: row.shard_key)
    shards = [list(shard) for _, shard in groupby(rows, key=lambda row: row.shard_key)]
    fragments = [fragment_1(copy, shard, "create") for shard in shards]
    facts = {**store.version().properties, "schema": "1", "digest": digest_1(table_1(rows))}
    transaction = lance.Transaction(0, lance.LanceOperation.Overwrite(SCHEMA_1, fragments), transaction_properties=facts)
    lance.LanceDataset.commit(copy.uri, transaction)
    copy.tag("first")
    return copy


def changed(manifest: Path) -> Path:
    """The manifest with other pixels in one of its subsets."""
    return edited(manifest, Sampled={"count": 8, "real": "people", "chain": [sample(brightness=7)]})


def bare(rows: Sequence[Row]) -> list[Row]:
    """Rows without masks, which stores of schema 1 did not keep."""
    return [replace(row, mask=None, mask_sha256=None) for row in rows]


def sample(**parameters: int) -> dict[str, object]:
    return {"sample": "fake_sampler", "checkpoint": "sampler", **parameters}


def test_it_is_read_as_it_is(old: Store, store: Store, tmp_path: Path) -> None:
    assert old.rows() == bare(store.rows())
    assert old.rows("role = 'final'", images=True) == bare(store.rows("role = 'final'", images=True))
    assert old.digest() == old.version().digest == store.version().digest
    found = verify(old, sample=6, device="cpu")
    assert found.passed and set(found.remade.values()) == {"bit-exact"}
    key = min(old.keys())
    assert old.shard(key) == store.shard(key)
    table = read_table(old)
    assert table.reals_of == {"Sampled": ("people",), "Swapped": ("people",), "Chained": ("people",)}
    assert StoreDataset(old, 1, table.splits["train"])[0].image.shape == (16, 16, 3)
    export(old, tmp_path / "out", Export("lance", use="private"))
    assert len(Store(tmp_path / "out", "fake").rows()) == len(old.rows("role IN ('final', 'real')"))
    assert old.dataset().version == 1 and "part" in old.dataset().schema.names


def test_a_build_of_the_same_plan_makes_and_writes_nothing(old: Store, manifest: Path) -> None:
    report = run_build(planned(manifest), old, "cpu")
    assert (report.made, report.version, old.dataset().version) == (0, None, 1)


def test_the_first_write_upgrades_without_remaking_a_shard(old: Store, manifest: Path, tmp_path: Path) -> None:
    files = old.data.sizes()
    before = old.version()
    report = run_build(planned(changed(manifest)), old, "cpu")
    assert report.made == 2  # the two shards of Sampled
    _, upgraded, newest = old.log()
    assert files.items() <= old.data.sizes().items()
    assert upgraded.properties == {**before.properties, "schema": "2", upgrade.UPGRADED: "1"}
    assert newest.properties["schema"] == "2" and upgrade.UPGRADED not in newest.properties
    assert old.dataset().schema == SCHEMA
    fresh = Store(tmp_path / "fresh", "fake")
    assert run_build(planned(manifest), fresh, "cpu").version.digest == newest.digest  # type: ignore[union-attr]
    assert bare(fresh.rows(images=True)) == bare(old.rows(images=True))
    assert all(verify(old, version).passed for version in ("first", 1, 2, 3))
    assert old.version("first").number == 1
    assert diff(old, 1, 2) == [] and {entry.subset for entry in diff(old, 1, 3)} == {"Sampled"}
    assert run_build(planned(manifest), old, "cpu").made == 0


def test_a_shard_that_waited_for_a_commit_is_taken_in(old: Store, manifest: Path, tmp_path: Path) -> None:
    plan = planned(changed(manifest))
    other = Store(tmp_path / "other", "fake")
    run_build(plan, other, "cpu")
    key = next(shard.key for shard in plan.shards if shard.subset == "Sampled")
    rows = other.shard(key)
    old.notes.write(Note(key, "waiting", fragment_1(old, rows).to_json(), len(rows), {}, 0, 1.0))
    assert old.shard(key) == rows
    report = run_build(plan, old, "cpu")
    assert report.made == 1 and old.version().digest == other.version().digest
    assert verify(old).passed


def test_checkout_of_a_version_of_schema_1_is_upgraded_by_the_next_write(old: Store, manifest: Path) -> None:
    plan = planned(changed(manifest))
    run_build(plan, old, "cpu")
    newest = old.version()
    back = old.checkout("first")
    assert "part" in old.dataset().schema.names and verify(old).passed and back.digest == old.version(1).digest
    assert run_build(plan, old, "cpu").version.digest == newest.digest  # type: ignore[union-attr]
    assert old.dataset().schema == SCHEMA and verify(old).passed


def test_a_person_is_forgotten(old: Store) -> None:
    person = next(row.identity for row in old.rows("role = 'real'"))
    assert person is not None
    forgotten = forget(old, person)
    assert forgotten.version is not None and forgotten.rows["real"] and upgrade.UPGRADED not in forgotten.version.properties
    assert verify(old).passed and not old.rows(f"identity = '{person}'")


def test_another_commit_at_the_same_moment_is_kept(old: Store) -> None:
    stale = old.dataset()
    rows = stale.count_rows()
    lost = stale.get_fragments()[0].count_rows()
    removal = lance.LanceOperation.Update(removed_fragment_ids=[0], updated_fragments=[], new_fragments=[], fields_modified=[])
    lance.LanceDataset.commit(old.uri, lance.Transaction(1, removal))
    upgrade.upgrade(stale)
    assert old.dataset().version == 3 and old.dataset().schema == SCHEMA and old.dataset().count_rows() == rows - lost
    upgrade.upgrade(old.dataset())
    assert old.dataset().version == 3


def test_a_column_of_a_later_schema_is_null_in_older_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    later = SCHEMA.append(pa.field("later", pa.large_binary())).with_metadata({"ntf.schema": "3"})
    monkeypatch.setattr(upgrade, "SCHEMA", later)
    monkeypatch.setattr(upgrade, "SCHEMA_VERSION", 3)
    images = [row.sha256 for row in store.rows()]
    for _ in range(2):  # before the upgrade and after it
        table = upgrade.read_rows(store.dataset(), ["id", "part", "later", "sha256"])
        assert table.column("later").null_count == table.num_rows == len(images)
        assert sorted(map(str, table.column("sha256").to_pylist())) == sorted(map(str, images))
        upgrade.upgrade(lance.dataset(store.uri))
        monkeypatch.setattr("pipelines.store.store.SCHEMA_VERSION", 3)
    assert store.dataset().schema == later and json.loads(store.version().properties["manifest"])["dataset"] == "fake"
