"""Which shards a plan has, and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import make_plan
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
