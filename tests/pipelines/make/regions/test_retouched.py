"""Real images that were only retouched, on the real side: in the store, in training, in exports and in the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from generators.errors import InputError
from pipelines.build.build import run_build
from pipelines.export.export import Export, export
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import make_plan
from pipelines.reading import MaskDataset, read_table
from pipelines.store import Store
from tests.pipelines.make.regions import test_edits
from tests.support import write_manifest

manifest = test_edits.manifest  # the fixture
Change = Callable[[dict[str, Any]], object]


def test_they_are_real_and_named_as_what_they_are(tmp_path: Path, manifest: dict[str, Any]) -> None:
    manifest["audit"] = {"gate": False}
    as_fakes = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", manifest)))
    manifest["subsets"]["Retouched"]["label"] = "real"
    plan = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", manifest)))
    keys = [{shard.key for shard in which.shards if shard.subset == "Retouched"} for which in (as_fakes, plan)]
    assert keys[0].isdisjoint(keys[1]), "another label makes them anew"
    store = Store(tmp_path / "store", "restored")
    assert run_build(plan, store, "cpu").short == {}
    retouched = store.rows("role = 'final' AND subset = 'Retouched'", images=True)
    assert len(retouched) == 3
    for row in retouched:
        assert (row.label, row.family, row.mode, row.real) == (0, "real", "retouched", "faces")
        assert [link["generator"] for link in row.chain] == ["gfpgan", "real_esrgan"]

    table = read_table(store)
    assert table.reals_of == {"SimSwap_GFPGAN": ("faces", "Retouched")}
    assert table.families.keys() == {"SimSwap_GFPGAN"}
    shown = 0
    for split in table.splits.values():
        for item in (MaskDataset(store, store.version().number, split)[place] for place in range(len(split))):
            if item.subset == "Retouched":
                shown += 1
                assert item.label == 0 and item.known and not item.mask.any()
    assert shown == 3

    folder = export(store, tmp_path / "out", Export("folders")).folder
    files = [path for path in folder.rglob("Retouched-*.png") if path.parent.name != "mask"]
    named = [f"{path.parent.parent.name}/{path.parent.name}" for path in files]
    fakes_in = {path.parent.parent.parent.name for path in folder.rglob("fake/SimSwap_GFPGAN-*.png")}
    assert set(named) <= {"SimSwap_GFPGAN/real", "Retouched/real"}
    assert fakes_in and len(named) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda subset: subset.update(chain=subset["chain"][1:]),
        lambda subset: subset.update(chain=[{"from": "Retouched"}, subset["chain"][1]]),
    ],
    ids=["a swap", "another subset"],
)
def test_what_was_more_than_edited_is_refused(tmp_path: Path, manifest: dict[str, Any], change: Change) -> None:
    subset = manifest["subsets"]["SimSwap_GFPGAN"]
    subset["label"] = "real"
    with pytest.raises(InputError, match="only edited"):
        load_manifest(write_manifest(tmp_path / "m.yaml", manifest))
    change(subset)
    with pytest.raises(InputError, match="only edited"):
        load_manifest(write_manifest(tmp_path / "m.yaml", manifest))
