"""Chains of any order and length, from small checkpoints into the store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generators import registry
from generators.errors import InputError
from generators.faces import guidance
from pipelines.build.build import Build, run_build, status
from pipelines.errors import CheckFailed
from pipelines.make import rejections
from pipelines.manifest.chains import ChainStep
from pipelines.manifest.load import load_manifest
from pipelines.plan.pairs import NobodyLeft, Pairing, person
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.reals import RealPool
from pipelines.store import Store
from tests.support import six_chains, write_manifest

ROOT = Path(__file__).parents[3]
SAMPLE = {"sample": "stylegan2", "checkpoint": "sg2"}
SWAP = {"swap": "simswap", "checkpoint": "swap", "source": "faces"}
EDIT = {"edit": "ddim", "checkpoint": "unet", "steps": 4, "strength": 0.5}


def planned(folder: Path, data: dict[str, Any], subsets: dict[str, Any] | None = None) -> Plan:
    whole = json.loads(json.dumps({**data, **({"subsets": subsets} if subsets else {})}))  # no object twice: YAML would write anchors
    return make_plan(load_manifest(write_manifest(folder / "m.yaml", whole)))


def people(plan: Plan) -> dict[str, str]:
    return {image.id: person(image) for pool in plan.pools.values() for image in pool.images}


@pytest.fixture
def small_parser(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """DiffFace's parser looks at 64 px instead of 512, and at one copy of a face: the same code, in seconds."""
    monkeypatch.setattr(guidance, "PARSER_SIZE", 64)
    monkeypatch.setattr(guidance, "LOGIT_SIZE", 32)
    monkeypatch.setattr(guidance.FaceGuidance.__init__, "__defaults__", (2,))
    yield


def test_the_six_chains_of_the_paper(tmp_path: Path, small_parser: None) -> None:
    """Random networks make noise, but every chain runs from its checkpoints to rows that tell the whole way."""
    plan, store = planned(tmp_path, six_chains(tmp_path)), Store(tmp_path / "store", "chains")
    report = run_build(plan, store, "cpu")
    assert report.short == {}
    rows = store.rows("label = 1 AND role <> 'rejected'")
    assert Counter((row.subset, row.role) for row in rows) == {
        (name, role): 2 for name in plan.manifest.subsets for role in ("final", "intermediate")
    }
    ids = {row.id for row in rows}
    for row in rows:
        if row.role == "final":
            swapper, first = row.subset.split("_")
            assert [link["generator"] for link in row.chain] == [
                {"Style2": "stylegan2", "VQ": "vqgan", "Proj": "projected_gan", "LDM": "ldm"}[first],
                swapper.lower(),
            ]
            assert row.target_id in ids
            assert row.chain[1]["source"] == row.source_id
            assert row.measures["sharpness"] > 0
            assert (row.width, row.height) == (32, 32)


def test_both_orders_and_three_steps(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    plan = planned(
        tmp_path,
        manifest_data,
        {
            "SwapEdit": {"count": 3, "real": "faces", "chain": [{**SWAP, "target": "faces"}, EDIT]},
            "Three": {"count": 3, "real": "faces", "chain": [SAMPLE, SWAP, EDIT]},
            "Twice": {"count": 3, "real": "faces", "chain": [SAMPLE, SWAP, SWAP]},
        },
    )
    store = Store(tmp_path / "store", "tiny")
    run_build(plan, store, "cpu")
    finals = store.rows("role = 'final'")
    assert Counter(row.subset for row in finals) == {"SwapEdit": 3, "Three": 3, "Twice": 3}
    known = people(plan)
    for row in finals:
        assert [link["kind"] for link in row.chain] == [step.kind for step in plan.manifest.subsets[row.subset].parts[0].chain]
        drawn = [known[link[role]] for link in row.chain for role in ("source", "target") if role in link]
        assert len(set(drawn)) == len(drawn), "nobody is put on themselves"
        assert row.identity is None or row.source_id is None or known[row.source_id] in drawn


def test_a_swapper_that_does_nothing_is_found_out_every_time(
    tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.get("simswap"), "_swap", lambda self, sources, targets, seeds, settings: targets.copy())
    store = Store(tmp_path / "store", "tiny")
    plan = planned(tmp_path, {**manifest_data, "allow_missing": 6})
    report = run_build(plan, store, "cpu")
    assert report.rejected == {"SimSwap_Style2": {rejections.NO_OP: 6 * plan.manifest.attempts}}
    assert report.short == {"SimSwap_Style2": 6}
    rejected = store.rows("role = 'rejected'")
    assert {row.reason for row in rejected} == {rejections.NO_OP}
    assert len(store.rows("subset = 'SimSwap_Style2' AND role = 'final'")) == 0
    tried = defaultdict(set)
    for row in rejected:
        tried[row.index].add(people(plan)[row.source_id])
    assert {len(sources) for sources in tried.values()} == {plan.manifest.attempts}, "every attempt is another person"


def test_a_bound_that_no_swap_reaches_ends_with_the_reason_and_keeps_the_rest(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    plan, store = planned(tmp_path, {**manifest_data, "faces": {"min_similarity": 1.0}, "attempts": 2}), Store(tmp_path / "store", "tiny")
    with pytest.raises(CheckFailed, match=rf"{rejections.NOT_MOVED} \(12 in 2 attempts\)"):
        run_build(plan, store, "cpu")
    assert not store.exists()
    assert {(shard.subset, shard.step) for shard in status(plan, store).missing} == {("SimSwap_Style2", 1)}
    easier = planned(tmp_path, {**manifest_data, "faces": {"min_similarity": -1.0}})
    assert {(shard.subset, shard.step) for shard in status(easier, store).missing} == {("SimSwap_Style2", 1)}
    run_build(easier, store, "cpu")
    rows = store.rows("subset = 'SimSwap_Style2' AND role = 'final'")
    assert all(set(row.measures["similarity"]) == {"before", "source", "target"} for row in rows)


def test_targets_without_a_face_are_made_again_and_sources_drawn_again(
    tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt of every second image has no face in its target, of the others none in its source."""
    from pipelines.make.regions.swaps import FaceSwaps

    original, seen = FaceSwaps._align, Counter()

    def blind(self: FaceSwaps, picture: np.ndarray, sha256: str | None, role: str, crop: Any) -> Any:
        seen[role] += 1
        if seen["target"] <= 4 and role == ("target" if seen["target"] % 2 else "source"):
            return rejections.NO_FACE[role]
        return original(self, picture, sha256, role, crop)

    monkeypatch.setattr(FaceSwaps, "_align", blind)
    monkeypatch.setattr("pipelines.make.threads.THREADS", 0)  # one after the other, so that they can be counted
    store = Store(tmp_path / "store", "tiny")
    plan = planned(tmp_path, manifest_data, {"Chain": {"count": 4, "real": "faces", "chain": [SAMPLE, SWAP]}})
    report = run_build(plan, store, "cpu")
    assert report.rejected == {"Chain": {"no face in source": 2, "no face in target": 2}}
    finals = {row.index: row for row in store.rows("role = 'final'")}
    attempts = {index: [link["attempt"] for link in row.chain] for index, row in finals.items()}
    assert attempts == {0: [1, 1], 1: [0, 1], 2: [1, 1], 3: [0, 1]}
    assert len(store.rows("role = 'intermediate'")) == 4 + 2


@pytest.mark.parametrize("repeat", [False, True])
def test_nobody_is_put_on_one_real_image_twice_unless_asked(tmp_path: Path, manifest_data: dict[str, Any], repeat: bool) -> None:
    """Few people and many fakes: the same pairs fall again and again."""
    plan = planned(tmp_path, manifest_data)
    images = [image for image in plan.pools["faces"].images if image.split == "train"][:10]
    pool = RealPool("faces", "test", tuple(images), len(images))
    step = ChainStep(kind="swap", generator="simswap", checkpoint="swap", source="faces", target="faces", repeat_pairs=repeat)
    pairing = Pairing(step, 0, 7, ["train"] * 30, {"faces": pool})
    backwards = [pairing.draw(index, attempt) for attempt in (1, 0) for index in range(29, -1, -1)]
    again = Pairing(step, 0, 7, ["train"] * 30, {"faces": pool})
    assert backwards == [again.draw(index, attempt) for attempt in (1, 0) for index in range(29, -1, -1)]
    pairs = [(each["target"].id, person(each["source"])) for each in backwards]
    assert (len(set(pairs)) == len(pairs)) != repeat
    assert all(person(each["target"]) != person(each["source"]) for each in backwards)
    crowded = Pairing(step, 0, 7, ["train"] * 101, {"faces": pool})
    if repeat:
        assert crowded.draw(100, 0)
    else:
        with pytest.raises(NobodyLeft, match="`repeat_pairs`"):
            crowded.draw(100, 0)


def test_excluded_people_are_never_drawn(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    before = planned(tmp_path, manifest_data)
    named = next(image.identity for image in before.pools["faces"].images if image.identity)
    (tmp_path / "exclude.txt").write_text(f"{named}\n")
    manifest_data["reals"]["faces"]["exclude"] = "exclude.txt"
    after = planned(tmp_path, manifest_data)
    assert named in people(before).values()
    assert named not in people(after).values()


@pytest.mark.parametrize(
    ("faces", "expected"),
    [
        ({"detector": "cascad"}, "Did you mean 'cascade'?"),
        ({"parsing": "nowhere"}, "no checkpoint 'nowhere' for the parsing"),
        ({"min_similarity": 2}, "less than or equal to 1"),
        ({"min_simlarity": 0.5}, "Did you mean 'min_similarity'?"),
    ],
)
def test_a_wrong_faces_section_is_named(tmp_path: Path, manifest_data: dict[str, Any], faces: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match="line ") as caught:
        planned(tmp_path, {**manifest_data, "faces": faces})
    assert expected in str(caught.value)


def test_a_detector_that_is_not_there_is_missing_for_swaps_alone(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    manifest_data["checkpoints"]["scrfd"] = {"file": str(tmp_path / "scrfd.onnx"), "licence": "research", "how": "fetch it"}
    manifest_data["faces"] = {"detector": "scrfd"}
    plan = planned(tmp_path, manifest_data)
    assert [(each.what, each.needed_by) for each in plan.missing] == [("checkpoint scrfd", ("SimSwap_Style2",))]
    assert {(shard.subset, shard.step) for shard in plan.shards if not shard.key} == {("SimSwap_Style2", 1)}


@pytest.mark.slow
def test_a_build_killed_in_the_middle_of_a_chain_resumes_at_the_step_where_it_was(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    manifest_data["shard_size"] = 2
    plan = planned(tmp_path, manifest_data, {"Three": {"count": 12, "real": "faces", "chain": [SAMPLE, SWAP, SWAP]}})
    reference = Store(tmp_path / "reference", "tiny")
    run_build(plan, reference, "cpu")
    command = [sys.executable, "-m", "flows.cli", "build", str(tmp_path / "m.yaml"), "--device", "cpu", "--store", str(tmp_path / "store")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    store = Store(tmp_path / "store", "tiny")
    chain = [shard for shard in plan.shards if shard.subset == "Three"]
    steps_at_kill = []
    for wanted in (7, 11):  # of the chain's eighteen shards: one of the second step is there, then most of them
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and sum((store.notes.folder / f"{shard.key}.json").exists() for shard in chain) < wanted:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        if not store.exists():  # killed before the commit; where all shards were made by then, it goes on after the last step
            steps_at_kill.append(min((shard.step for shard in status(plan, store).missing), default=3))
    assert steps_at_kill, "both builds ended before they could be killed"
    done = {key: note.files for key, note in store.notes.read().items()}
    with Build(plan, store, "cpu") as build:
        assert {shard.key for shard in build.missing} == {shard.key for shard in plan.shards} - set(done)
        assert all(shard.step >= steps_at_kill[-1] for shard in build.missing)
    assert subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    assert store.digest() == reference.digest()
