"""Which shards a plan has, and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.manifest.load import load_manifest
from pipelines.plan.pairs import person
from pipelines.plan.plan import make_plan
from pipelines.plan.shards import image_split
from tests.support import write_manifest


def test_inputs_come_before_what_is_made_from_them(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    shards = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", manifest_data))).shards
    seen: set[str] = set()
    for shard in shards:
        assert set(shard.inputs) <= seen
        seen.add(shard.key)
    assert len(seen) == len(shards)


def test_shards_cover_every_step_of_every_part(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    plan = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", manifest_data)))
    for name, number, part in plan.manifest.walk():
        for step in range(len(part.chain)):
            shards = [shard for shard in plan.shards if (shard.subset, shard.part, shard.step) == (name, number, step)]
            assert [index for shard in shards for index in range(shard.start, shard.stop)] == list(range(part.count))
            assert {shard.role for shard in shards} == {"final" if step == len(part.chain) - 1 else "intermediate"}
            assert all(plan.step(shard) is part.chain[step] for shard in shards)


def test_nobody_is_put_on_an_image_that_shows_him_already(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    """Neither by another picture of the same person, nor where an earlier step took him as its target."""
    plan = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", manifest_data)))
    shards = [shard for shard in plan.shards if (shard.subset, shard.step) == ("SimSwap_Style2", 1)]
    assert shards
    for shard in shards:
        for index in range(shard.start, shard.stop):
            free = plan.draws(shard, index, 0, [{"attempt": 0}])["source"]
            for role in ("source", "target"):
                other = plan.draws(shard, index, 0, [{role: free.id, "attempt": 0}])["source"]
                assert person(other) != person(free)
                assert other.split == free.split


def test_a_target_that_is_made_again_may_meet_anybody(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    plan = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", manifest_data)))
    (shard,) = [shard for shard in plan.shards if (shard.subset, shard.step, shard.start) == ("SimSwap_Style2", 1, 0)]
    people = {person(plan.draws(shard, 0, attempt, [{"attempt": 0}])["source"]) for attempt in range(4)}
    assert len(people) == 4, "on one target nobody is tried twice"
    again = plan.draws(shard, 0, 3, [{"attempt": 3}])["source"]
    assert again == plan.draws(shard, 0, 3, [{"attempt": 1}, {"attempt": 3}])["source"], "only the last link's attempt counts"


def test_the_estimated_size_is_that_of_all_images(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    """40 reals, 22 fakes and 6 images between the steps of the chain, at 32 px: PNG takes 1.1 bytes a pixel and JPEG 0.35."""
    png = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", manifest_data))).estimated_bytes()
    assert png == int((40 + 22 + 6) * 32**2 * 1.1)
    manifest_data["codec"] = {"format": "jpeg", "quality": 90}
    jpeg = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", manifest_data))).estimated_bytes()
    assert jpeg == pytest.approx((40 + 22) * 32**2 * 0.35 + 6 * 32**2 * 1.1, abs=1)


def test_where_sizes_differ_the_estimate_takes_those_of_the_checkpoint_and_of_the_reals(
    tmp_path: Path, manifest_data: dict[str, Any]
) -> None:
    """A first step that samples has the size of its checkpoint, if that is known; all else has the reals'."""
    manifest_data["checkpoints"]["sg2"]["resolution"] = 48
    plan = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", {**manifest_data, "size": "native"})))
    height, width = plan.pools["faces"].images[0].shape
    swaps = 1.1 * (6 * 48**2 + 6 * height * width)  # the checkpoint of the second step has no size
    assert plan.estimated_bytes() == pytest.approx(1.1 * (10 * 48**2 + (40 + 6) * height * width) + swaps, abs=1)


def test_the_donor_of_a_chain_is_the_real_image_that_it_began_with(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    plan = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", manifest_data)))
    shard = next(shard for shard in plan.shards if shard.role == "final")
    first, second = (image.id for image in plan.pools["faces"].images[:2])
    donor = plan.donor(shard, shard.start, [{"target": first, "source": second}, {"target": None, "source": second}])
    assert donor is not None and donor.id == first
    drawn = plan.donor(shard, shard.start, [{"target": None}])
    assert drawn is not None
    assert drawn.split == image_split(plan.manifest, shard.subset, shard.real, shard.part, shard.start)
    assert plan.donor(shard, shard.start, [{}]) == drawn
