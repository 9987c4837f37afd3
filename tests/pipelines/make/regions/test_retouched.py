"""Real images that were only retouched, on the real side: in the store, in training, in exports and in the report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from generators.errors import InputError
from pipelines.build.build import run_build
from pipelines.export.export import Export, export
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import make_plan
from pipelines.reading import MaskDataset, read_table
from pipelines.report.inputs import Inputs
from pipelines.report.sections.dataset import overview
from pipelines.report.source import Source
from pipelines.store import Store
from tests.commands import run_ntf
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
    said = (folder / "DATASHEET.md").read_text()
    assert "3 fakes and 15 reals (3 of them retouched)" in said
    assert re.search(r"^\| Retouched \| retouched reals \|", said, re.MULTILINE)


def test_plans_and_reports_count_them_as_reals(
    tmp_path: Path, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = manifest["subsets"]["Retouched"]
    manifest["subsets"]["Retouched"] = {"parts": [{**whole, "label": "real"}, {**deepcopy(whole), "count": 1}]}
    file = write_manifest(tmp_path / "m.yaml", manifest)
    assert "2 subsets, 4 fakes, 3 retouched reals, " in " ".join(run_ntf(["plan", str(file)], monkeypatch, capsys).out.split())
    counts = json.loads(run_ntf(["plan", str(file), "--json"], monkeypatch, capsys).out)["subsets"]
    assert [(counts[name]["fakes"], counts[name]["retouched"]) for name in ("SimSwap_GFPGAN", "Retouched")] == [(3, 0), (1, 3)]
    checked = load_manifest(file)
    version = SimpleNamespace(number=1)
    source = Source(None, version, checked, [], Inputs())  # type: ignore[arg-type]
    assert overview._stages(source)[0]["facts"][:3] == ["2 subsets", "4 fakes planned", "3 retouched reals planned"]


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
