"""Why shards are stale, and which chain a plan expects."""

from __future__ import annotations

from pathlib import Path

import yaml

from pipelines.build.build import status
from pipelines.examine.lineage import expected_chain, stale_shards
from pipelines.store import Store
from tests.pipelines.store.fakes import planned, write


def test_a_changed_section_of_the_manifest_is_named(store: Store, manifest: Path) -> None:
    write(manifest, yaml.safe_load(manifest.read_text()) | {"faces": {"min_similarity": 0.1}})
    plan = planned(manifest)
    reasons = {str(reason) for group in stale_shards(plan, store, status(plan, store).stale) for reason in group.reasons}
    assert reasons == {"manifest faces"}


def test_a_plan_expects_the_chains_that_a_build_records(store: Store, manifest: Path) -> None:
    plan = planned(manifest)
    for row in store.rows("role = 'final'"):
        shard = next(shard for shard in plan.shards if shard.key == row.shard_key)
        assert expected_chain(plan, shard, row.index, [link["attempt"] for link in row.chain]) == row.chain
