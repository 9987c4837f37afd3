"""`refresh` takes new checkpoints in, rebuilds only what they touch, and says what they did to the detector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.build_multistep import build_multistep
from flows.current import read_current
from flows.drift import read_history
from flows.refresh import refresh
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

    first = build_multistep(manifest, **where)
    assert first["version"] == 1
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
    assert [(drift["from_version"], drift["to_version"]) for drift in drifts] == [(1, 2)]
    assert drifts[0]["is_compared"] and drifts[0]["checkpoints"].keys() == {"swap"}  # the first refresh compares with the build's detector
    swapped = next(subset for subset in drifts[0]["subsets"] if subset["name"] == "SimSwap_Style2")
    untouched = next(subset for subset in drifts[0]["subsets"] if subset["name"] == "StyleGAN2")
    assert (swapped["replaced"], untouched["replaced"]) == (16, 0)
    assert 0 <= untouched["old"]["ap"]["value"] <= 1 + 1e-9
    assert drifts[0]["time_to_detect"] > 0
    assert drifts[0]["retrained"] == bool(drifts[0]["fallen"]) == second["retrained"]
    assert "Version 1 to 2" in (folder / "report.html").read_text()

    register_swap(tmp_path, 8)
    with store.building():  # another build
        state = refresh(manifest, **where, return_state=True)
    assert state.is_completed() and "another build holds tiny" in state.message
    assert store.version().number == 2

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("flows.refreshing._evaluate", killed)
        with pytest.raises(BaseException):  # noqa: B017 (whatever Prefect makes of it)
            refresh(manifest, **where)
    assert store.version().number == 3  # committed, and nobody has said what it did
    third = refresh(manifest, **where)
    assert (third["version"], third["made"]) == (3, 0)
    last = read_history(folder)[-1]
    assert (last["from_version"], last["to_version"], list(last["checkpoints"])) == (2, 3, ["swap"])
    assert next(subset for subset in last["subsets"] if subset["name"] == "SimSwap_Style2")["replaced"] == 16
    assert "refresh-3" in store.version(3).tags
    assert refresh(manifest, **where) == {"version": 3, "made": 0, "retrained": False, "fallen": []}
