"""What differs between two versions, and which ingredient made the difference."""

from __future__ import annotations

from pathlib import Path

import lance
import pytest
import yaml

from pipelines.build.build import run_build, status
from pipelines.examine.diff import _is_used, changed_checkpoints, diff
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


def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes every look at all rows of a version, by its condition."""
    asked: list[str] = []

    def noted(dataset: lance.LanceDataset, identity: str) -> bool:
        asked.append(identity)
        return _is_used(dataset, identity)

    monkeypatch.setattr("pipelines.examine.diff._is_used", noted)
    return asked


def with_new_subset_and_swapper(store: Store, manifest: Path) -> None:
    """Version 2 has a new subset, which uses the sampler as the others did before; in version 3 the swapper has changed."""
    chain = [{"sample": "fake_sampler", "checkpoint": "sampler"}]
    run_build(planned(edited(manifest, Another={"count": 8, "real": "people", "chain": chain})), store, "cpu")
    (manifest.parent / "swapper.txt").write_text("9")
    run_build(planned(manifest), store, "cpu")


def test_changed_checkpoints_are_told_from_one_shard_of_each_step(store: Store, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scans(monkeypatch)
    with_new_subset_and_swapper(store, manifest)
    assert changed_checkpoints(store, 1, 2) == set()
    assert changed_checkpoints(store, 2, 3) == changed_checkpoints(store, 1, 3) == changed_checkpoints(store, 3, 1) == {"swapper"}
    assert changed_checkpoints(store, 2, 2) == set()
    assert asked == []


def test_where_shards_have_no_names_all_rows_are_looked_at(store: Store, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scans(monkeypatch)
    with_new_subset_and_swapper(store, manifest)
    for record in Path(store.records.place.location).glob("*.json"):
        record.unlink()
    opened = Store(store.root.location, store.name)
    assert changed_checkpoints(opened, 1, 2) == set()
    assert changed_checkpoints(opened, 2, 3) == {"swapper"}
    assert len(asked) == 2


def test_a_shard_that_was_written_anew_hides_no_checkpoint(store: Store, manifest: Path) -> None:
    """Forgetting rows of every shard of a version leaves none of its names."""
    with store.building():
        store.without([row.id for row in store.rows() if row.index % 4 == 0])
    titles = store.records.titles()
    assert not titles.keys() & store.contents().files.keys()
    with_new_subset_and_swapper(store, manifest)
    assert changed_checkpoints(store, 2, 3) == set()
    assert changed_checkpoints(store, 3, 4) == {"swapper"}
