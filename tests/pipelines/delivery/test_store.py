"""Deliveries of a manifest: shards of their own, made when asked, beside the clean ones and never among them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from flows.data import delivered_tests, evaluation_of, splits_of_store
from generators.errors import InputError
from pipelines.audit import audit_version
from pipelines.build.build import Build, run_build, status
from pipelines.build.shares import chains_of, in_order
from pipelines.delivery.deliver import deliver
from pipelines.delivery.rows import seed_of
from pipelines.examine.verify import verify
from pipelines.export.export import Export, export
from pipelines.images import decode
from pipelines.manifest.deliveries import expanded
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import Plan
from pipelines.reading import deliveries_of, read_table
from pipelines.store import Store
from pipelines.store.forget import forget
from tests.pipelines.store.fakes import fake_dataset, fake_generators, planned, write

DELIVERIES: dict[str, Any] = {"web": "feed", "hard": ["feed", "messenger", {"encode": {"webp": [50, 80]}}]}


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    path = fake_dataset(tmp_path / "data", count=8)
    for number, file in enumerate(sorted((tmp_path / "data" / "reals").glob("*.png"))):
        cv2.imwrite(str(file), np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8))
    with fake_generators():
        yield changed(path, deliveries=DELIVERIES)


def changed(manifest: Path, **keys: Any) -> Path:
    return write(manifest, {**yaml.safe_load(manifest.read_text()), **keys})


def roles(store: Store) -> Counter[tuple[str, str]]:
    return Counter((row.role, row.delivery or "") for row in store.rows())


def built(manifest: Path, tmp_path: Path, *deliveries: str) -> tuple[Plan, Store]:
    plan, store = planned(manifest), Store(tmp_path / "store", "fake")
    run_build(plan, store, "cpu", deliveries=deliveries)
    return plan, store


def test_they_are_made_when_they_are_asked_for_and_kept_afterwards(manifest: Path, tmp_path: Path) -> None:
    plan, store = built(manifest, tmp_path)
    assert ("delivered", "web") not in roles(store)
    assert deliveries_of(store) == []
    clean = store.digest()
    assert len(status(plan, store, ["web"]).missing) == len(plan.deliveries(["web"])) == len(plan.delivered) // 2
    built(manifest, tmp_path, "web")
    assert roles(store)["delivered", "web"] == 24 + 24 == roles(store)["real", ""] + roles(store)["final", ""]
    built(manifest, tmp_path, "hard")
    assert deliveries_of(store) == ["hard", "web"]
    assert built(manifest, tmp_path)[1].version().number == store.version().number  # nothing to do, and nothing is dropped
    assert status(plan, store, ["web", "hard"]) == status(plan, store, ["hard", "web"])
    assert store.digest() != clean
    with pytest.raises(InputError, match="no delivery 'wab'"):
        run_build(plan, store, "cpu", deliveries=["wab"])


def test_every_row_is_its_image_delivered_by_its_own_seed(manifest: Path, tmp_path: Path) -> None:
    plan, store = built(manifest, tmp_path, "web", "hard")
    rows = {row.id: row for row in store.rows(images=True)}
    for row in [row for row in rows.values() if row.role == "delivered"]:
        clean = rows[row.target_id or ""]
        assert row.id == f"{clean.id}@{row.delivery}"
        assert (row.label, row.subset, row.split, row.group, row.chain) == (
            clean.label,
            clean.subset,
            clean.split,
            clean.group,
            clean.chain,
        )
        again = deliver(
            decode(clean.image or b"", clean.id),
            expanded(plan.manifest.deliveries[row.delivery or ""]),
            seed_of(plan.manifest, row.delivery or "", clean.id),
        )
        assert row.image == again.data
        assert row.measures["delivery"]["steps"] == list(again.steps)
        assert row.format == ("jpeg" if row.delivery == "web" else "webp")
    assert set(verify(store, sample=60).remade.values()) == {"bit-exact"}


def test_stopped_and_shared_out_builds_give_the_same_digest(manifest: Path, tmp_path: Path) -> None:
    plan, store = built(manifest, tmp_path, "web")
    other = Store(tmp_path / "other", "fake")
    with Build(plan, other, "cpu", ["web"]) as build:
        chains = list(chains_of(plan, build.missing).values())
        shares = [[shard for chain in chains[number::2] for shard in chain] for number in range(2)]
        assert sorted(shard.key for share in shares for shard in share) == sorted(shard.key for shard in build.missing)
        build.missing = in_order(shares[1])  # and is stopped before it commits
        build.run()
    run_build(planned(manifest), other, "cpu", deliveries=["web"])
    assert other.digest() == store.digest()


def test_a_recipe_decides_the_keys_of_its_delivery_alone(manifest: Path) -> None:
    before = planned(manifest)
    after = planned(changed(manifest, deliveries={**DELIVERIES, "hard": ["feed", {"encode": {"jpeg": 50}}]}))
    assert after.keys == before.keys
    own = [{shard.key for shard in plan.deliveries(["web"])} for plan in (before, after)]
    assert own[0] == own[1]
    assert not {shard.key for shard in before.deliveries(["hard"])} & {shard.key for shard in after.deliveries(["hard"])}
    assert before.keys == planned(changed(manifest, deliveries={})).keys


def test_a_delivery_that_no_longer_fits_is_dropped(manifest: Path, tmp_path: Path) -> None:
    _, store = built(manifest, tmp_path, "web")
    built(changed(manifest, deliveries={"web": "messenger"}), tmp_path)
    assert deliveries_of(store) == []


def test_clean_images_alone_are_read_audited_and_exported_unless_a_delivery_is_named(manifest: Path, tmp_path: Path) -> None:
    _, store = built(manifest, tmp_path, "web")
    clean, web = read_table(store), read_table(store, delivery="web")
    both = read_table(store, also=["web"])
    for split in ("train", "validation", "test"):
        assert not any("@" in name for name in clean.splits[split].ids)
        assert [f"{name}@web" for name in clean.splits[split].ids] == sorted(web.splits[split].ids.tolist())
        assert len(both.splits[split]) == 2 * len(clean.splits[split])
    assert audit_version(store).rows == audit_version(store, delivery="web").rows
    assert audit_version(store, delivery="web").delivery == "web"
    images = [json.loads(line) for line in (export(store, tmp_path / "out", Export("folders")).folder / "rows.jsonl").open()]
    assert {row["role"] for row in images} == {"final", "real"}
    folder = export(store, tmp_path / "web", Export("folders", delivery="web")).folder
    assert {file.suffix for file in folder.rglob("*.*") if file.parent.name in ("real", "fake")} == {".jpg"}
    assert "delivered as `web`" in (folder / "DATASHEET.md").read_text()
    with pytest.raises(InputError, match="no images delivered as 'hard'"):
        read_table(store, delivery="hard")


def test_training_may_draw_them_and_chooses_on_them_and_the_test_stays_clean(manifest: Path, tmp_path: Path) -> None:
    _, store = built(manifest, tmp_path, "web", "hard")
    plain, drawn = splits_of_store(store), splits_of_store(store, deliveries=["web", "hard"])
    assert len(drawn.train) == 3 * len(plain.train)
    assert len(drawn.validation) == 3 * len(plain.validation)
    assert drawn.test.digest == plain.test.digest
    assert drawn.train.origin["deliveries"] == drawn.validation.origin["deliveries"] == ["web", "hard"]
    judged = evaluation_of("fake", tmp_path / "store")  # thresholds come from clean pictures
    assert judged.validation is not None and judged.validation.digest == plain.validation.digest
    tests = delivered_tests(store)
    assert list(tests) == ["hard", "web"]
    assert all(len(data) == len(plain.test) for data in tests.values())
    assert list(evaluation_of("fake", tmp_path / "store").delivered) == ["hard", "web"]


def test_a_stored_jpeg_or_png_that_is_only_stripped_keeps_its_bytes(manifest: Path, tmp_path: Path) -> None:
    for form in ("jpeg", "png"):
        changed(manifest, codec={"format": form}, deliveries={"bare": "stripped"})
        store = Store(tmp_path / form, "fake")
        run_build(planned(manifest), store, "cpu", deliveries=["bare"])
        rows = {row.id: row for row in store.rows(images=True)}
        delivered = [row for row in rows.values() if row.role == "delivered"]
        assert delivered
        for row in delivered:
            assert (row.format, row.image) == (form, rows[row.target_id or ""].image)
        assert verify(store, sample=len(delivered)).passed


def test_who_is_forgotten_is_forgotten_as_delivered_too(manifest: Path, tmp_path: Path) -> None:
    plan, store = built(manifest, tmp_path, "web")
    person = plan.pools["people"].images[0].identity
    assert person is not None
    forgotten = forget(store, person)
    assert forgotten.rows["delivered"] >= forgotten.rows["real"] == 2
    left = store.rows()
    gone = {row.id for row in left if row.identity == person and not row.chain}
    assert gone == set()
    assert all((row.target_id or "") in {other.id for other in left} for row in left if row.role == "delivered")


@pytest.mark.parametrize(
    ("deliveries", "message"),
    [
        ({"web": "fed"}, r"deliveries\.web: there is no recipe 'fed'; did you mean 'feed'"),
        ({"clean": "feed"}, "'clean' is what pictures are called that were not delivered"),
        ({"web": [{"encode": {"jpeg": 500}}]}, r"deliveries\.web: step 1: encode\.jpeg: whole numbers from 1 to 100"),
        ({"web": [{"encoed": {"jpeg": 50}}]}, r"deliveries\.web: step 1: encoed: extra inputs"),
        ({"web": []}, "1 to 64 steps"),
        ({"a b": "feed"}, "deliveries"),
    ],
)
def test_a_delivery_that_is_none_is_refused(manifest: Path, deliveries: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_manifest(changed(manifest, deliveries=deliveries))
