"""Versions: what differs between them and why, going back, forgetting a person, cleaning up, verifying."""

from __future__ import annotations

import json
from pathlib import Path

import lance
import pytest
import yaml

from generators.errors import InputError
from pipelines.build.build import run_build, status
from pipelines.examine.diff import diff
from pipelines.examine.lineage import expected_chain, stale_shards
from pipelines.examine.verify import verify
from pipelines.images import decode
from pipelines.store import Store
from pipelines.store.forget import forget
from pipelines.store.garbage import collect_garbage
from tests.pipelines.store.fakes import FakeSampler, edited, planned, write


def summary(store: Store, before: int, after: int) -> dict[tuple[str, str], tuple[int, int, int, dict[str, int]]]:
    return {
        (each.subset, each.role): (each.added, each.removed, each.replaced, {str(cause): n for cause, n in each.causes.items()})
        for each in diff(store, before, after)
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
    causes = {str(cause) for each in diff(store, 2, 3) for cause in each.causes}
    assert causes == {"step 1: seed", "step 2: seed", "step 2: source images"}


def test_a_changed_section_of_the_manifest_is_named(store: Store, manifest: Path) -> None:
    write(manifest, yaml.safe_load(manifest.read_text()) | {"faces": {"min_similarity": 0.1}})
    plan = planned(manifest)
    reasons = {str(reason) for group in stale_shards(plan, store, status(plan, store).stale) for reason in group.reasons}
    assert reasons == {"manifest faces"}


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


def test_a_plan_expects_the_chains_that_a_build_records(store: Store, manifest: Path) -> None:
    plan = planned(manifest)
    for row in store.rows("role = 'final'"):
        shard = next(shard for shard in plan.shards if shard.key == row.shard_key)
        assert expected_chain(plan, shard, row.index, [link["attempt"] for link in row.chain]) == row.chain


def test_an_older_version_becomes_the_newest_again(store: Store, manifest: Path) -> None:
    first = store.version()
    run_build(planned(edited(manifest, Swapped=None)), store, "cpu")
    assert store.digest() != first.digest
    third = store.checkout(1)
    assert (third.number, third.digest, store.digest()) == (3, first.digest, first.digest)
    assert json.loads(third.properties["manifest"])["dataset"] == "fake"
    assert store.checkout(3).number == 3  # the newest already
    with pytest.raises(InputError, match="no version"):
        store.checkout(17)


def test_a_person_and_what_was_made_from_them_are_forgotten(store: Store, manifest: Path) -> None:
    drawn = next(row for row in store.rows("subset = 'Chained' AND role = 'final'"))
    person = drawn.identity
    assert person
    shown = [row for row in store.rows(images=True) if row.role == "final"]
    store.write_shard("e" * 64, "waits, with the person", [row for row in shown if row.id == drawn.id])
    store.write_shard("d" * 64, "waits, without", [row for row in shown if row.identity is None][:1])
    found = forget(store, person)
    assert found.waiting == 1
    assert set(store.notes.read()) == {"d" * 64}
    store.notes.drop(["d" * 64])
    assert found.version is not None
    assert found.rows["real"] == 2 and found.rows["final"] >= 1 and found.older == (1,)
    gone = {row.id for row in store.rows(f"identity = '{person}'", version=1) if row.role == "real"}
    for row in store.rows():
        assert row.identity != person and row.id not in gone
        assert not any(link.get(use) in gone for link in row.chain for use in ("source", "target"))
    assert found.version.digest == store.digest()
    assert run_build(planned(manifest), store, "cpu").version is None  # the same plan does not bring them back
    collect_garbage(store, keep=1)
    assert [version.number for version in store.log()] == [2]
    with pytest.raises(InputError, match="no real image"):
        forget(store, "nobody")


def test_cleaning_keeps_tagged_versions_waiting_shards_and_live_builders(store: Store, manifest: Path) -> None:
    store.tag("first", 1)
    rows = store.rows(images=True)[:2]
    store.write_shard("f" * 64, "waiting", rows)
    orphan = Path(store.uri) / "data" / "0000000000000000000000000000000000000000.lance"
    orphan.write_bytes(b"left by a killed writer")
    (store.notes.folder / "abc.json.1.partial").write_text("{")
    run_build(planned(edited(manifest, Swapped=None)), store, "cpu")
    run_build(planned(edited(manifest, Chained=None)), store, "cpu")
    assert collect_garbage(store, dry_run=True).files == (orphan.name,) and orphan.exists()
    with store.building(), pytest.raises(InputError, match="another build holds"):
        collect_garbage(store)
    found = collect_garbage(store, keep=1)
    assert (found.files[0], found.notes, found.versions) == (orphan.name, ("abc.json.1.partial",), (2,))
    assert not orphan.exists() and set(store.notes.read()) == {"f" * 64}
    assert store.digest("first") == store.version("first").digest
    assert [version.number for version in store.log()] == [1, 3]
    assert len(store.shard("f" * 64)) == 2


def test_verify_reads_back_and_makes_again(store: Store, manifest: Path) -> None:
    found = verify(store, sample=12, device="cpu")
    assert found.passed and found.images == len(store.rows()) and found.remade
    assert set(found.remade.values()) == {"bit-exact"} and len(found.remade) == 12
    (manifest.parent / "sampler.txt").write_text("4")
    found = verify(store, sample=24, device="cpu")
    outcomes = {name.split("/")[0]: outcome for name, outcome in found.remade.items()}
    assert outcomes == {"Sampled": "not possible here", "Chained": "not possible here", "Swapped": "bit-exact"}
    assert found.passed


def test_verify_tells_an_image_that_comes_out_different(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    original = FakeSampler._sample
    monkeypatch.setattr(FakeSampler, "_sample", lambda self, seeds, settings: original(self, seeds, settings) + 1)
    found = verify(store, sample=24, device="cpu")
    assert {outcome for name, outcome in found.remade.items() if "Sampled" in name} == {"within one grey level"} and found.passed
    monkeypatch.setattr(FakeSampler, "_sample", lambda self, seeds, settings: original(self, seeds, settings) + 9)
    found = verify(store, sample=24, device="cpu")
    assert {outcome for name, outcome in found.remade.items() if "Sampled" in name} == {"different"} and not found.passed


def test_verify_finds_damage(store: Store) -> None:
    file = Path(store.uri) / "data" / lance.dataset(store.uri).get_fragments()[0].metadata.files[0].path
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    found = verify(store)
    assert not found.passed and "instead of" in found.damaged[0] and file.name in found.damaged[0]
    png = whole.index(b"IDAT")
    file.write_bytes(whole[: png + 8] + bytes(byte ^ 0xFF for byte in whole[png + 8 : png + 16]) + whole[png + 16 :])
    found = verify(store)
    assert not found.passed and "sha256 differs" in found.damaged[0]
    file.unlink()
    assert "is not there" in verify(store).damaged[0]
    file.write_bytes(whole)
    assert verify(store).passed and decode(store.rows("role = 'final'", images=True)[0].image, "").shape == (16, 16, 3)
