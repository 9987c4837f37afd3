"""What differs between two versions, and which ingredient made the difference."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines.build.build import run_build, status
from pipelines.examine.diff import diff
from pipelines.examine.lineage import stale_shards
from pipelines.store import Store
from tests.pipelines.store.fakes import FakeSampler, edited, planned, write


def summary(store: Store, before: int, after: int) -> dict[tuple[str, str], tuple[int, int, int, dict[str, int]]]:
    return {
        (difference.subset, difference.role): (
            difference.added,
            difference.removed,
            difference.replaced,
            {str(cause): n for cause, n in difference.causes.items()},
        )
        for difference in diff(store, before, after)
    }


def test_a_new_checkpoint_replaces_what_it_made_and_nothing_else(store: Store, manifest: Path) -> None:
    old = planned(manifest).catalogue.identity("swapper")["sha256"][:8]
    (manifest.parent / "swapper.txt").write_text("9")
    plan = planned(manifest)
    new = plan.catalogue.identity("swapper")["sha256"][:8]
    state = status(plan, store)
    assert {(shard.subset, shard.step) for shard in state.missing} == {("Swapped", 0), ("Chained", 1)}
    reasons = {group.title: [str(reason) for reason in group.reasons] for group in stale_shards(plan, store, state.stale)}
    assert reasons == {
        "Swapped step 1": [f"step 1: checkpoint swapper {old} -> {new}"],
        "Chained step 2": [f"step 2: checkpoint swapper {old} -> {new}"],
    }
    report = run_build(plan, store, "cpu")
    assert (report.made, report.dropped) == (4, 4)
    assert summary(store, 1, 2) == {
        ("Swapped", "final"): (0, 0, 8, {f"step 1: checkpoint swapper {old} -> {new}": 8}),
        ("Chained", "final"): (0, 0, 8, {f"step 2: checkpoint swapper {old} -> {new}": 8}),
    }
    assert diff(store, 2, 2) == []


def test_a_parameter_the_code_and_the_seed_are_told_apart(store: Store, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = {"sample": "fake_sampler", "checkpoint": "sampler", "brightness": 7}
    run_build(planned(edited(manifest, Sampled={"count": 8, "real": "people", "chain": [chain]}, Swapped=None)), store, "cpu")
    assert summary(store, 1, 2) == {
        ("Sampled", "final"): (0, 0, 8, {"step 1: parameter fake_sampler brightness 0 -> 7": 8}),
        ("Swapped", "final"): (0, 8, 0, {}),
    }
    monkeypatch.setattr(FakeSampler, "output_version", 2)
    plan = planned(manifest)
    reasons = {str(reason) for group in stale_shards(plan, store, status(plan, store).stale) for reason in group.reasons}
    assert reasons == {"step 1: code fake_sampler output version 1 -> 2"}
    monkeypatch.undo()
    data = yaml.safe_load(manifest.read_text()) | {"seed": 1}
    write(manifest, data)
    run_build(planned(manifest), store, "cpu")
    causes = {str(cause) for difference in diff(store, 2, 3) for cause in difference.causes}
    assert causes == {"step 1: seed", "step 2: seed", "step 2: source images"}


def test_new_reals_change_only_the_draws_that_fall_on_them(store: Store, manifest: Path) -> None:
    picture = manifest.parent / "reals" / "000.png"
    picture.write_bytes((manifest.parent / "reals" / "001.png").read_bytes())  # one real less: the same content counts once
    data = yaml.safe_load(manifest.read_text())
    data["reals"]["people"]["count"] = 23
    write(manifest, data)
    plan = planned(manifest)
    reasons = {str(reason) for group in stale_shards(plan, store, status(plan, store).stale) for reason in group.reasons}
    assert "source images or their size or codec" in reasons
    assert reasons <= {"source images or their size or codec", "step 1: source images", "step 2: source images"}
