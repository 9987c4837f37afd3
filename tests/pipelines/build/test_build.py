"""A build makes what is missing, once, and one version of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch._inductor.cpp_builder import cpp_compiler_search

from generators import registry
from generators.errors import InputError
from pipelines.build.build import Build, run_build, status
from pipelines.build.runner import local_runner
from pipelines.build.shares import run_shards
from pipelines.errors import CheckFailed
from pipelines.images import decode
from pipelines.make import rejections
from pipelines.plan.plan import Plan
from pipelines.store import Row, Store
from tests.pipelines.build.conftest import planned
from tests.support import simswap_checkpoint, write_manifest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def built(tmp_path: Path, manifest_file: Path) -> tuple[Plan, Store]:
    plan, store = planned(manifest_file), Store(tmp_path / "store", "tiny")
    run_build(plan, store, "cpu")
    return plan, store


def test_a_compiler_that_is_not_there_is_said_before_anything_is_made(
    tmp_path: Path, manifest_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = planned(manifest_file), Store(tmp_path / "store", "tiny")
    name = next(shard.checkpoint for shard in plan.shards if shard.generator == "ddim")
    entry = plan.catalogue.entries[name]
    entries = {**plan.catalogue.entries, name: entry.model_copy(update={"options": {**entry.options, "compile": True}})}
    plan = replace(plan, catalogue=replace(plan.catalogue, entries=entries))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    cpp_compiler_search.cache_clear()
    for _ in range(2):  # the store is free again
        with pytest.raises(InputError, match=rf"{name}: compile needs a C\+\+ compiler"), Build(plan, store, "cpu"):
            pass
    with Build(plan, store, "cpu", elsewhere=True):
        pass


def test_every_planned_image_is_there(built: tuple[Plan, Store]) -> None:
    _, store = built
    rows = store.rows()
    assert Counter((row.subset, row.role) for row in rows if row.role != "rejected") == {
        ("faces", "real"): 40,
        ("StyleGAN2", "final"): 10,
        ("DDIM", "final"): 6,
        ("SimSwap_Style2", "intermediate"): 6,
        ("SimSwap_Style2", "final"): 6,
    }
    assert len({row.id for row in rows}) == len(rows)


def test_a_row_tells_how_its_image_was_made(built: tuple[Plan, Store]) -> None:
    _, store = built
    rows = {row.id: row for row in store.rows(images=True)}
    swap = next(row for row in rows.values() if row.subset == "SimSwap_Style2" and row.role == "final")
    assert [link["generator"] for link in swap.chain] == ["stylegan2", "simswap"]
    assert swap.chain[1]["source"] == swap.source_id
    assert rows[swap.target_id].role == "intermediate"
    assert rows[swap.source_id].role == "real" if swap.source_id in rows else swap.source_id.startswith("real/faces/")
    assert all(len(link["identity"]["sha256"]) == 64 for link in swap.chain)
    assert decode(swap.image, swap.id).shape == (32, 32, 3)
    target = decode(rows[swap.target_id].image, "target")
    assert np.abs(decode(swap.image, swap.id).astype(int) - target).mean() > rejections.NO_OP_MEAN


def test_an_image_and_its_source_are_in_one_split(built: tuple[Plan, Store]) -> None:
    plan, store = built
    split_of_real = {image.id: image.split for image in plan.pools["faces"].images}
    swaps = [row for row in store.rows("subset = 'SimSwap_Style2' AND role = 'final'")]
    assert swaps
    assert all(split_of_real[row.source_id] == row.split for row in swaps)


def test_a_generator_gives_the_stored_image_again(built: tuple[Plan, Store]) -> None:
    plan, store = built
    row = store.rows("subset = 'StyleGAN2'", images=True)[3]
    generator = registry.get("stylegan2").load(plan.catalogue.checkpoint("sg2"))
    again = generator.sample([row.seed], **row.chain[0]["parameters"])[0]
    assert np.abs(again.astype(int) - decode(row.image, row.id)).max() <= 1


def test_a_second_build_has_nothing_to_do(built: tuple[Plan, Store]) -> None:
    plan, store = built
    before = store.version()
    report = run_build(plan, store, "cpu")
    assert (report.made, report.version) == (0, None)
    assert store.version() == before


def test_the_digest_is_that_of_the_rows_and_the_same_elsewhere(tmp_path: Path, built: tuple[Plan, Store]) -> None:
    plan, store = built
    other = Store(tmp_path / "elsewhere", "tiny")
    run_build(plan, other, "cpu")
    assert store.digest() == store.version().digest == other.digest()


def test_a_changed_swap_checkpoint_remakes_the_swaps_alone(
    tmp_path: Path, manifest_data: dict[str, Any], built: tuple[Plan, Store]
) -> None:
    _, store = built
    first = store.version().number
    manifest_data["checkpoints"]["swap"]["file"] = str(simswap_checkpoint(tmp_path / "new.safetensors", seed=9))
    plan = planned(write_manifest(tmp_path / "n.yaml", manifest_data))
    state = status(plan, store)
    assert {(shard.subset, shard.step) for shard in state.missing} == {("SimSwap_Style2", 1)}
    assert len(state.stale) == len(state.missing) == 2
    run_build(plan, store, "cpu")
    old = {row.id: row.sha256 for row in store.rows(version=first)}
    new = {row.id: row.sha256 for row in store.rows()}
    assert {name for name in old if old[name] != new.get(name)} == {
        name for name in old if name.startswith("SimSwap_Style2") and name.endswith("/1")
    }


def test_a_missing_checkpoint_is_named_before_anything_is_written(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    manifest_data["checkpoints"]["sg2"]["file"] = str(tmp_path / "gone.safetensors")
    plan = planned(write_manifest(tmp_path / "m.yaml", manifest_data))
    with pytest.raises(InputError, match=r"gone\.safetensors"):
        run_build(plan, Store(tmp_path / "store", "tiny"), "cpu")
    assert not (tmp_path / "store").exists()


def test_a_truncated_checkpoint_is_named_and_leaves_no_version(tmp_path: Path, manifest_of_a_cut_checkpoint: Path) -> None:
    store = Store(tmp_path / "store", "tiny")
    with pytest.raises(InputError, match=r"cut\.safetensors"):
        run_build(planned(manifest_of_a_cut_checkpoint), store, "cpu")
    assert not store.exists()


def test_an_image_that_is_none_is_named(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    folder = tmp_path / "reals"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"not an image")
    manifest_data["reals"]["faces"] = {"path": str(folder), "licence": "test"}
    manifest_data["subsets"].pop("SimSwap_Style2")
    with pytest.raises(InputError, match=r"broken\.png"):
        run_build(planned(write_manifest(tmp_path / "m.yaml", manifest_data)), Store(tmp_path / "store", "tiny"), "cpu")


def test_a_second_builder_is_kept_out(tmp_path: Path, manifest_file: Path) -> None:
    plan, store = planned(manifest_file), Store(tmp_path / "store", "tiny")
    with Build(plan, store, "cpu"), pytest.raises(InputError, match="another build"):
        Build(plan, Store(tmp_path / "store", "tiny"), "cpu").__enter__()


def test_what_is_rejected_is_tried_again_and_kept_in_the_ledger(
    tmp_path: Path, manifest_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = rejections.reason_against, []

    def reject_some(image: np.ndarray, target: np.ndarray | None = None) -> str | None:
        calls.append(target is not None)
        return rejections.NO_OP if target is not None and len([c for c in calls if c]) in (1, 3) else original(image, target)

    monkeypatch.setattr(rejections, "reason_against", reject_some)
    store = Store(tmp_path / "store", "tiny")
    report = run_build(planned(manifest_file), store, "cpu")
    assert report.rejected == {"SimSwap_Style2": {rejections.NO_OP: 2}}
    rejected = store.rows("role = 'rejected'")
    assert [row.reason for row in rejected] == [rejections.NO_OP] * 2
    assert len(store.rows("subset = 'SimSwap_Style2' AND role = 'final'")) == 6
    retried = store.rows("subset = 'SimSwap_Style2' AND role = 'final' AND attempt = 1")
    assert {row.index for row in retried} == {row.index for row in rejected}


def test_a_step_that_never_succeeds_ends_with_the_reason_and_keeps_the_rest(
    tmp_path: Path, manifest_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = rejections.reason_against
    monkeypatch.setattr(
        rejections, "reason_against", lambda image, target=None: rejections.NO_OP if target is not None else original(image)
    )
    store, plan = Store(tmp_path / "store", "tiny"), planned(manifest_file)
    with pytest.raises(CheckFailed, match=rejections.NO_OP):
        run_build(plan, store, "cpu")
    assert not store.exists()
    kept = status(plan, store)
    assert {(shard.subset, shard.step) for shard in kept.missing} == {("SimSwap_Style2", 1)}


@pytest.mark.slow
def test_a_killed_build_goes_on_and_ends_with_the_same_digest(tmp_path: Path, manifest_file: Path) -> None:
    plan = planned(manifest_file)
    reference = Store(tmp_path / "reference", "tiny")
    run_build(plan, reference, "cpu")
    command = [sys.executable, "-m", "flows.cli", "build", str(manifest_file), "--device", "cpu", "--store", str(tmp_path / "store")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    rng, kills = random.Random(0), 0
    store = Store(tmp_path / "store", "tiny")
    for shards in (1, 3, 6):
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(store.notes.folder.glob("*.json"))) < shards:
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.03))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills > 0
    before = len(store.notes.read()) + len(store.keys())
    assert subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    assert before > 0
    assert store.digest() == reference.digest()


def test_pending_rows_are_read_like_committed_ones(tmp_path: Path, manifest_file: Path) -> None:
    plan, store = planned(manifest_file), Store(tmp_path / "store", "tiny")
    shard = next(shard for shard in plan.shards if shard.subset == "StyleGAN2")
    run_shards([shard], local_runner(plan, store, ("cpu",)))
    rows: list[Row] = store.shard(shard.key)
    assert [row.index for row in rows] == list(range(shard.start, shard.stop))
    assert not store.exists()


def test_a_shard_that_fails_is_tried_again_and_the_others_go_on(
    tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest_data["allow_missing"] = 100
    monkeypatch.setattr("pipelines.build.runner.RETRY_AFTER", (0.0,))
    tries: Counter[str] = Counter()
    stylegan2 = registry.get("stylegan2")
    original = stylegan2._sample

    def break_one(self: Any, seeds: list[int], settings: Any) -> np.ndarray:
        tries[str(seeds)] += 1
        if len(tries) == 1 or (len(tries) == 2 and tries[str(seeds)] == 1):
            raise RuntimeError("the device fell over")
        return original(self, seeds, settings)

    monkeypatch.setattr(stylegan2, "_sample", break_one)
    store = Store(tmp_path / "store", "tiny")
    report = run_build(planned(write_manifest(tmp_path / "m.yaml", manifest_data)), store, "cpu")
    first, second = list(tries.values())[:2]
    assert (first, second) == (2, 2)  # the first shard failed twice, the second once
    broken = [failure.shard for failure in report.failures]
    assert len({(shard.subset, shard.start) for shard in broken}) == 1
    assert "the device fell over" in report.failures[0].reason
    chain = [shard for shard in broken if shard.subset == "SimSwap_Style2"]
    assert [shard.step for shard in chain] in ([], [0, 1])  # what stands on a failed shard is not made either
    written = {row.shard_key for row in store.rows()}
    assert written == planned(tmp_path / "m.yaml").keys - {shard.key for shard in broken}
