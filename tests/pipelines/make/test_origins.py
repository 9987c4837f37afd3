"""Subsets that begin at another subset's final images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generators.errors import InputError
from pipelines.build.build import run_build, status
from pipelines.build.shares import chains_of
from pipelines.examine.pairs import partners
from pipelines.examine.verify import verify
from pipelines.images import decode
from pipelines.manifest.load import load_manifest
from pipelines.manifest.schema import Manifest
from pipelines.plan.plan import Plan, make_plan
from pipelines.store import Store
from tests.support import six_chains, write_manifest

EDIT = {"edit": "vqgan", "checkpoint": "vq"}
SWAP = {"swap": "simswap", "checkpoint": "swap", "source": "faces"}


def subsets(count: int = 2) -> dict[str, Any]:
    """Samples, swaps on them, and edits of the swaps: each begins at the one before. The first to be made stands last."""
    return {
        "Third": {"count": 1, "real": "faces", "chain": [{"from": "Second"}, dict(EDIT)]},
        "Second": {"count": count, "real": "faces", "chain": [{"from": "First"}, dict(SWAP)]},
        "Other": {"count": count, "real": "faces", "chain": [{"from": "First"}, dict(SWAP)]},
        "First": {"count": count, "real": "faces", "chain": [{"sample": "stylegan2", "checkpoint": "sg2"}]},
    }


def planned(folder: Path, **changes: Any) -> Plan:
    data = six_chains(folder)
    return make_plan(load_manifest(write_manifest(folder / "m.yaml", {**data, "subsets": subsets(), **changes})))


def test_nothing_is_made_twice_and_the_picture_is_the_same(tmp_path: Path) -> None:
    plan, store = planned(tmp_path), Store(tmp_path / "store", "chains")
    report = run_build(plan, store, "cpu")
    assert report.short == {}
    finals = {row.id: row for row in store.rows("role = 'final'", images=True)}
    assert sorted(finals) == ["First/faces/000000/0", "First/faces/000001/0"] + [
        f"{name}/faces/00000{index}/1" for name, index in (("Other", 0), ("Other", 1), ("Second", 0), ("Second", 1))
    ] + ["Third/faces/000000/2"]
    assert store.rows("role = 'intermediate'") == []
    for row in finals.values():
        above = finals.get(row.target_id or "")
        if row.subset != "First":
            assert above is not None and above.index == row.index
            assert row.chain[:-1] == above.chain
            assert (row.split, row.group) == (above.split, above.group)
        assert row.mode == {"First": "GAN", "Second": "GAN-GAN", "Other": "GAN-GAN", "Third": "GAN-GAN-GAN"}[row.subset]
    for index in range(2):  # the same seeds: the same people on the same picture
        one, other = (finals[f"{name}/faces/00000{index}/1"] for name in ("Second", "Other"))
        assert (one.seed, one.source_id, one.sha256) == (other.seed, other.source_id, other.sha256)
    pairs = partners(store)
    assert [list(pair.images) for pair in pairs] == [["First", "Other", "Second", "Third"], ["First", "Other", "Second"]]
    assert status(plan, store).missing == ()
    assert verify(store, sample=7).remade.keys() == finals.keys()
    assert set(verify(store, sample=7).remade.values()) <= {"bit-exact", "within one grey level"}


def test_a_compressed_origin_is_what_is_worked_on_and_remade(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, codec={"format": "jpeg", "quality": 40}), Store(tmp_path / "store", "chains")
    run_build(plan, store, "cpu")
    assert set(verify(store, sample=7).remade.values()) <= {"bit-exact", "within one grey level"}
    images = {row.subset: decode(row.image or b"", row.id) for row in store.rows("role = 'final' AND index = 0", images=True)}
    assert not np.array_equal(images["First"], images["Second"])


def test_a_chain_has_the_origins_of_its_shards(tmp_path: Path) -> None:
    plan = planned(tmp_path, shard_size=1)
    fakes = [shard for shard in plan.shards if shard.role != "real"]
    shares = chains_of(plan, plan.shards).values()
    assert sorted(shard.key for share in shares for shard in share) == sorted(shard.key for shard in plan.shards)
    for share in shares:
        keys = {shard.key for shard in share}
        assert all(set(shard.inputs) <= keys for shard in share)
    assert {shard.key: shard.inputs for shard in fakes if shard.subset == "Third"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Second": {"chain": [{"from": "Frist"}, SWAP]}}, r"line \d+: subset Second: there is no subset 'Frist'"),
        ({"Second": {"count": 3}}, "3 images cannot begin at the 2 of First"),
        ({"First": {"chain": [{"from": "Third"}, EDIT]}}, "begins at itself"),
        ({"Second": {"chain": [{"from": "First"}]}}, "a step must follow"),
        ({"Second": {"chain": [{"from": "First", "steps": 2}, SWAP]}}, "nothing else stands beside"),
        ({"Second": {"chain": [{"from": "First"}, {**SWAP, "target": "faces"}]}}, "does not work on the image of the step before it"),
        ({"Second": {"chain": [{"from": "First"}, {**SWAP, "checkpoint": "none"}]}}, "there is no checkpoint 'none'"),
    ],
)
def test_what_cannot_begin_there_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    data = subsets()
    for name, keys in change.items():
        data[name] |= keys
    with pytest.raises(InputError, match=message) as caught:
        planned(tmp_path, subsets=data)
    line = int(str(caught.value).split("line ")[1].split(":")[0])
    text = (tmp_path / "m.yaml").read_text().splitlines()
    name = "Third" if "itself" in message else next(iter(change))  # of a circle the first is named
    own = next(number for number, row in enumerate(text, 1) if row.strip() == f"{name}:")
    assert own <= line <= own + 16


def test_the_recorded_manifest_reads_as_itself(tmp_path: Path) -> None:
    manifest = planned(tmp_path).manifest
    again = Manifest.model_validate(manifest.model_dump(mode="json"))
    assert again == manifest
    assert [(part.origin, part.inherited, len(part.chain)) for _, _, part in again.walk()] == [
        ("Second", 2, 3),
        ("First", 1, 2),
        ("First", 1, 2),
        (None, 0, 1),
    ]
