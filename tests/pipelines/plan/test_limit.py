"""`--limit` bounds fakes and not the people that swaps draw from; where people run out, the message says whom, where and how many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from generators.errors import InputError
from pipelines.build.build import run_build
from pipelines.manifest.chains import ChainStep
from pipelines.manifest.load import load_manifest
from pipelines.plan.pairs import NobodyLeft, Pairing, person
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.reals import RealPool
from pipelines.store import Store
from tests.support import write_manifest

SD = {"prompt": "stable_diffusion", "checkpoint": "stable-diffusion-demo-32", "safety": "off"}


def planned(folder: Path, data: dict[str, Any], limit: int | None = None) -> Plan:
    return make_plan(load_manifest(write_manifest(folder / "m.yaml", data)).limited(limit))


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_keeps_the_people_and_the_draws(limit: int, tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    manifest_data["reals"]["faces"]["pool"] = manifest_data["reals"]["faces"].pop("count")
    whole, limited = planned(tmp_path, manifest_data), planned(tmp_path, manifest_data, limit)
    assert limited.missing == ()
    pool = limited.pools["faces"]
    assert len(pool.images) == len(whole.pools["faces"].images)
    assert pool.taken == limit
    assert sum(shard.count for shard in limited.shards if shard.role == "real") == limit
    assert all(shard.stop <= limit for shard in limited.shards)
    (shard,) = [shard for shard in limited.shards if shard.subset == "SimSwap_Style2" and shard.step == 1]
    for index in range(limit):
        link = [{"attempt": 0}]
        assert limited.draws(shard, index, 0, link)["source"].id == whole.draws(shard, index, 0, link)["source"].id


def test_a_limit_of_one_builds(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    store = Store(tmp_path / "store", "tiny")
    report = run_build(planned(tmp_path, manifest_data, 1), store, "cpu")
    assert report.version is not None
    assert not report.failures
    assert {row.subset for row in store.rows("role = 'final'")} == set(manifest_data["subsets"])


def test_a_target_that_is_made_again_does_not_use_up_people(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    images = tuple(image for image in planned(tmp_path, manifest_data).pools["faces"].images if image.split == "train")[:3]
    people = {person(image) for image in images}
    step = ChainStep(kind="swap", generator="simswap", checkpoint="swap", source="faces")
    pairing = Pairing(step, 1, 7, ["train"], {"faces": RealPool("faces", "test", images, len(images))}, "S")
    same = [person(pairing.draw(0, attempt)["source"]) for attempt in range(len(people))]
    assert set(same) == people, "on one target everybody is tried once"
    said = rf"subset S: real source faces has {len(people)} people in the train split, and at least {len(people) + 1} are needed"
    with pytest.raises(NobodyLeft, match=said):
        pairing.draw(0, len(people))
    assert all(pairing.draw(0, attempt, (), since=attempt) for attempt in range(20)), "a new target may meet anybody"


def test_the_plan_names_the_split_that_has_nobody(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    """Two pictures of one person, and a swap that needs another."""
    folder = tmp_path / "reals"
    folder.mkdir()
    for name, grey in (("a.png", 50), ("b.png", 90)):
        Image.new("RGB", (32, 32), (grey, grey, grey)).save(folder / name)
    (tmp_path / "ids.csv").write_text("a.png,alice\nb.png,alice\n")
    manifest_data["reals"]["one"] = {"path": str(folder), "identities": str(tmp_path / "ids.csv"), "licence": "MIT"}
    swap = manifest_data["subsets"]["SimSwap_Style2"]["chain"][1]
    manifest_data["subsets"]["Lonely"] = {"count": 4, "real": "one", "chain": [{**swap, "source": "one", "target": "one"}]}
    plan = planned(tmp_path, manifest_data)
    (missing,) = plan.missing
    assert missing.needed_by == ("Lonely",)
    assert missing.problem.startswith("subset Lonely: real source one has ")
    assert missing.problem.endswith("are needed")
    assert {shard.subset for shard in plan.shards if not shard.key} == {"Lonely"}
    with pytest.raises(InputError, match="subset Lonely"):
        plan.require_complete()


def test_everything_that_is_no_use_is_in_the_plan(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    (tmp_path / "empty").mkdir()
    manifest_data["reals"]["none"] = {"path": str(tmp_path / "empty"), "licence": "MIT"}
    manifest_data["checkpoints"]["sg2"]["sha256"] = "0" * 64
    chain = [{**SD, "prompts": str(tmp_path / "gone.txt")}]
    manifest_data["subsets"]["SD"] = {"count": 1, "real": "none", "chain": chain}
    problems = {missing.what: missing.problem for missing in planned(tmp_path, manifest_data).missing}
    assert set(problems) == {"checkpoint sg2", "real source none", "a file of prompts"}
    assert "is not the checkpoint sg2" in problems["checkpoint sg2"]
    assert "no images in" in problems["real source none"]
    assert "gone.txt" in problems["a file of prompts"]


def test_paths_are_looked_up_beside_the_manifest_and_then_here(
    tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here / "data" / "mine", there / "data" / "both", here / "data" / "both"):
        folder.mkdir(parents=True)
    (here / "captions.txt").write_text("a sky")
    for entry in manifest_data["checkpoints"].values():
        if "file" in entry:
            entry["file"] = str(Path(entry["file"]).resolve())
    monkeypatch.chdir(here)
    manifest_data["subsets"]["SD"] = {"count": 1, "real": "mine", "chain": [{**SD, "prompts": "captions.txt"}]}
    for name in ("mine", "both", "gone"):
        manifest_data["reals"][name] = {"path": f"data/{name}", "licence": "MIT"}
    manifest = load_manifest(write_manifest(there / "m.yaml", manifest_data))
    places = {name: manifest.reals[name].path for name in ("mine", "both", "gone")}
    assert places == {"mine": here / "data/mine", "both": there / "data/both", "gone": there / "data/gone"}
    assert manifest.subsets["SD"].parts[0].chain[0].prompts == here / "captions.txt"


def test_the_shipped_manifest_looks_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.data import find_manifest

    monkeypatch.chdir(tmp_path)
    manifest = load_manifest(find_manifest("paper"))
    assert all(real.path and real.path.is_relative_to(tmp_path / "data") for real in manifest.reals.values())
