"""`refresh` takes new checkpoints in, rebuilds only what they touch, and says what they did to the detector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.drift import read_history
from flows.refresh import read_current, refresh
from pipelines.catalogue.catalogue import Catalogue
from pipelines.catalogue.registering import Registration, add_checkpoint
from pipelines.store import Store
from tests.support import simswap_checkpoint, write_manifest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


def register_swap(folder: Path, seed: int) -> None:
    described = Registration(name="swap", generator="simswap", licence="test")
    add_checkpoint(simswap_checkpoint(folder / f"{seed}.safetensors", seed), described, Catalogue.shipped())


def test_refresh(prefect: None, tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTF_CHECKPOINTS", str(tmp_path / "checkpoints"))
    register_swap(tmp_path, 0)
    del manifest_data["checkpoints"]["swap"]  # the registered one
    for subset in manifest_data["subsets"].values():
        subset["count"] = 16
    stage = {"epochs": 1, "batch_size": 8}
    manifest_data["detector"] = {"preset": "demo", "retrain": "below-gate", "gate": 1.0, "config": {"stage1": stage, "stage2": dict(stage)}}
    manifest = str(write_manifest(tmp_path / "m.yaml", manifest_data))
    where = {"store": str(tmp_path / "store"), "output": str(tmp_path / "runs"), "device": "cpu"}

    first = refresh(manifest, **where)
    assert (first["version"], first["retrained"]) == (1, True)
    folder = tmp_path / "runs" / "tiny"
    trained = read_current(folder)
    assert trained is not None

    assert refresh(manifest, **where) == {"version": 1, "made": 0, "retrained": False, "fallen": []}

    store = Store(tmp_path / "store", "tiny")
    before = {row.id: row.sha256 for row in store.rows()}
    register_swap(tmp_path, 7)
    second = refresh(manifest, **where)
    assert second["version"] == 2
    assert second["made"] == 4  # the swap step of the one chain: 16 images in shards of 4
    after = {row.id: row.sha256 for row in store.rows()}
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed == {name for name in before if name.startswith("SimSwap_Style2/") and name.endswith("/1")}
    assert "refresh-2" in store.version(2).tags

    drifts = read_history(folder)
    assert [drift["to_version"] for drift in drifts] == [1, 2]
    swapped = next(subset for subset in drifts[1]["subsets"] if subset["name"] == "SimSwap_Style2")
    untouched = next(subset for subset in drifts[1]["subsets"] if subset["name"] == "StyleGAN2")
    assert (swapped["replaced"], untouched["replaced"]) == (16, 0)
    assert 0 <= untouched["old"]["ap"]["value"] <= 1 + 1e-9
    assert drifts[1]["time_to_detect"] > 0
    assert drifts[1]["retrained"] == bool(drifts[1]["fallen"]) == second["retrained"]
    assert "Version 1 to 2" in (folder / "report.html").read_text()
