"""Names and seeds of planned images. Two parts of a subset with one real source have their own, and are made by their own chains."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from generators.seeding import derive_seed
from pipelines.build.build import run_build
from pipelines.examine.lineage import stale_shards
from pipelines.examine.verify import verify
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard, image_group, image_id, image_seed, image_split, image_splits, part_name, part_seed
from pipelines.store import Store
from tests.pipelines.store.fakes import edited, fake_dataset, fake_generators, planned

SAMPLE = {"sample": "fake_sampler", "checkpoint": "sampler"}
SWAP = {"swap": "fake_swapper", "checkpoint": "swapper", "source": "people", "repeat_pairs": True}
ONE = {"count": 6, "real": "people", "chain": [SAMPLE]}
OTHER = {"count": 5, "real": "people", "chain": [{**SAMPLE, "brightness": 40}, SWAP]}


@pytest.fixture(autouse=True)
def _generators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    with fake_generators():
        yield


def plan_of(manifest: Path, *parts: dict) -> Plan:
    return planned(edited(manifest, Sampled={"parts": list(parts)}, Swapped=None, Chained=None))


def test_both_parts_are_made_by_their_own_chains(tmp_path: Path) -> None:
    plan = plan_of(fake_dataset(tmp_path / "data"), ONE, OTHER)
    store = Store(tmp_path / "store", "fake")
    run_build(plan, store, "cpu")
    rows = store.rows("label = 1")
    assert Counter((row.real, row.part, row.role) for row in rows) == {
        ("people", 0, "final"): 6,
        ("people", 1, "intermediate"): 5,
        ("people", 1, "final"): 5,
    }
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        steps = [(link["kind"], link["parameters"].get("brightness")) for link in row.chain]
        assert steps == ([("sample", 0)] if row.part == 0 else [("sample", 40), ("swap", 0)][: row.step + 1])
        assert row.id.startswith("Sampled/people/" if row.part == 0 else "Sampled/people+2/")
    samples = [row for row in rows if row.step == 0]
    assert len({row.seed for row in samples}) == len({row.sha256 for row in samples}) == 11
    verification = verify(store, sample=11, device="cpu")
    assert verification.passed and set(verification.remade.values()) == {"bit-exact"}


def test_a_further_part_leaves_the_first_as_it_was(tmp_path: Path) -> None:
    manifest = fake_dataset(tmp_path / "data")
    store = Store(tmp_path / "store", "fake")
    alone = run_build(plan_of(manifest, ONE), store, "cpu")
    both = run_build(plan_of(manifest, ONE, OTHER), store, "cpu")
    assert both.reused == alone.made and both.dropped == 0
    again = run_build(plan_of(manifest, ONE), store, "cpu")
    assert (again.made, again.reused) == (0, alone.made)


def test_parts_of_other_sources_may_change_places(tmp_path: Path) -> None:
    manifest = fake_dataset(tmp_path / "data")
    data = json.loads(manifest.read_text())
    data["reals"]["others"] = data["reals"]["people"]
    manifest.write_text(json.dumps(data))
    store = Store(tmp_path / "store", "fake")
    foreign = {**OTHER, "real": "others"}
    run_build(plan_of(manifest, ONE, foreign, OTHER), store, "cpu")
    assert run_build(plan_of(manifest, foreign, ONE, OTHER), store, "cpu").made == 0
    assert verify(store, sample=16, device="cpu").passed


def test_stale_shards_of_the_second_part_are_compared_with_its_own_chain(tmp_path: Path) -> None:
    manifest = fake_dataset(tmp_path / "data")
    store = Store(tmp_path / "store", "fake")
    run_build(plan_of(manifest, ONE, OTHER), store, "cpu")
    brighter = plan_of(manifest, ONE, {**OTHER, "chain": [{**SAMPLE, "brightness": 60}, SWAP]})
    reasons = {str(reason) for entry in stale_shards(brighter, store, set(store.keys()) - brighter.keys) for reason in entry.reasons}
    assert reasons == {"step 1: parameter fake_sampler brightness 40 -> 60"}


def test_the_first_part_of_a_source_has_the_seeds_that_it_always_had(tmp_path: Path) -> None:
    manifest = plan_of(fake_dataset(tmp_path / "data"), ONE, OTHER).manifest
    assert part_seed(manifest, "Sampled", "people", 0) == derive_seed(0, "Sampled", "people") == 6825147954576774066
    assert part_seed(manifest, "Sampled", "people", 1) == derive_seed(0, "Sampled", "people+2")


def test_no_real_source_can_take_the_name_of_a_second_part() -> None:
    assert part_name("people", 0) == "people" and image_id("S", "people", 0, 7) == "S/people/000007"
    assert part_name("people", 2) == "people+3" != part_name("people.3", 0)


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "SimSwap_LDM step 2 ffhq 0-255"),
        ({"part": 1}, "SimSwap_LDM step 2 ffhq+2 0-255"),
        ({"start": 256, "stop": 257}, "SimSwap_LDM step 2 ffhq 256-256"),
        ({"delivery": "web"}, "SimSwap_LDM step 2 delivered as web ffhq 0-255"),
        ({"role": "real", "subset": "", "step": 0}, "reals ffhq 0-255"),
        ({"role": "delivered", "subset": "", "step": 0, "delivery": "web"}, "reals delivered as web ffhq 0-255"),
    ],
)
def test_a_title_says_what_a_shard_is(changes: dict[str, Any], title: str) -> None:
    shard = Shard("final", "SimSwap_LDM", "ffhq", 0, 1, 0, 256, "key")
    assert replace(shard, **changes).title == title


def test_a_shard_counts_its_images() -> None:
    assert Shard("real", "", "ffhq", 0, 0, 250, 400, "key").count == 150


def test_the_seed_of_an_image_depends_on_its_part_its_step_its_number_and_its_attempt() -> None:
    assert image_seed(5, 1, 17, 2) == derive_seed(5, 1, 17, 2)
    near = [(5, 1, 17, 2), (6, 1, 17, 2), (5, 0, 17, 2), (5, 1, 18, 2), (5, 1, 17, 0), (5, 17, 1, 2), (5, 1, 2, 17)]
    assert len({image_seed(*numbers) for numbers in near}) == len(near)


def test_splits_of_a_part_are_those_of_its_images_one_by_one(tmp_path: Path) -> None:
    manifest = plan_of(fake_dataset(tmp_path / "data"), ONE, OTHER).manifest
    for part in (0, 1):
        singly = [image_split(manifest, "Sampled", "people", part, index) for index in range(1200)]
        assert set(singly) == {"train", "validation", "test"}
        assert [*image_splits(manifest, "Sampled", "people", part, 1200)] == singly
    assert image_group(manifest, "Sampled", "people", 1, 7) == "Sampled/people+2/000007"
