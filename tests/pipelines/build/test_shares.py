"""A build that is shared out: the shares are disjoint, need nothing of each other, and come to the whole."""

from __future__ import annotations

from pathlib import Path

from pipelines.build.build import Build, run_build
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import make_plan
from pipelines.store import Store


def test_shares_come_to_the_whole(tmp_path: Path, manifest_file: Path) -> None:
    plan = make_plan(load_manifest(manifest_file))
    reference, store = Store(tmp_path / "reference", "tiny"), Store(tmp_path / "store", "tiny")
    run_build(plan, reference, "cpu")
    with Build(plan, store, "cpu", (0, 2)) as first, Build(plan, store, "cpu", (1, 2)) as second:
        shares = [{shard.key for shard in build.missing} for build in (first, second)]
        assert shares[0].isdisjoint(shares[1])
        assert shares[0] | shares[1] == plan.keys
        assert min(map(len, shares)) >= len(plan.shards) // 3
        second.run()
        first.run()
        first.notes()
        second.notes()
    report = run_build(plan, store, "cpu")
    assert (report.made, report.reused) == (0, len(plan.shards))
    assert store.digest() == reference.digest()
