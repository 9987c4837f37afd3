"""A build that is shared out: the shares are disjoint, need nothing of each other, and come to the whole."""

from __future__ import annotations

from pathlib import Path

from pipelines.build.build import run_build, status
from pipelines.build.runner import local_runner
from pipelines.build.shares import in_order, run_shards, share_of
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import make_plan
from pipelines.store import Store


def test_shares_come_to_the_whole(tmp_path: Path, manifest_file: Path) -> None:
    plan = make_plan(load_manifest(manifest_file))
    reference, store = Store(tmp_path / "reference", "tiny"), Store(tmp_path / "store", "tiny")
    run_build(plan, reference, "cpu")
    missing = status(plan, store).missing
    shares = [in_order(share_of(plan, missing, number, 2)) for number in (0, 1)]
    keys = [{shard.key for shard in share} for share in shares]
    assert keys[0].isdisjoint(keys[1])
    assert keys[0] | keys[1] == plan.keys
    assert min(map(len, shares)) >= len(plan.shards) // 3
    for share in reversed(shares):
        run_shards(share, local_runner(plan, store, ("cpu",)))
    assert not store.exists(), "a share commits nothing"
    report = run_build(plan, store, "cpu")
    assert (report.made, report.reused) == (0, len(plan.shards))
    assert store.digest() == reference.digest()
