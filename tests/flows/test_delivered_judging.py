"""Training on deliveries, and judging on clean and delivered pictures side by side, as the commands do it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from flows.data import delivered_tests, evaluation_of, splits_of_store
from flows.judging import compare_detectors, evaluate_anywhere, evaluate_detector, train_detector
from flows.report import read_inputs
from ntf_model.judging.deliveries import DeliveredResults
from pipelines.build.build import run_build
from pipelines.store import Store
from tests.pipelines.store.fakes import fake_dataset, fake_generators, planned, write

SMALL = {"preset": "demo", "size": 16, "epochs": 1, "precise_bn": 0}


@pytest.mark.slow
def test_a_detector_learns_from_deliveries_and_is_judged_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    path = fake_dataset(tmp_path / "data", count=16)
    write(path, {**yaml.safe_load(path.read_text()), "deliveries": {"web": "feed", "hard": ["feed", "messenger"]}})
    store = Store(tmp_path / "store", "fake")
    with fake_generators():
        run_build(planned(path), store, "cpu", deliveries=["web", "hard"])
    run = tmp_path / "run"
    train_detector("wang2020", splits_of_store(store, deliveries=["web"]), run, SMALL, device="cpu")
    record = json.loads((run / "run.json").read_text())
    assert record["dataset"]["deliveries"] == ["web"]
    assert record["dataset"]["train"]["images"] == 2 * len(splits_of_store(store).train)

    evaluated = evaluate_anywhere(run, evaluation_of("fake", tmp_path / "store"), None)
    assert run / "deliveries.md" in evaluated.files
    results = DeliveredResults.model_validate_json((run / "deliveries.json").read_text())
    assert results.deliveries == ["clean", "hard", "web"]
    assert results.detectors[0].threshold == evaluated.evaluation.threshold
    clean = results.detectors[0].results[0].overall["ap"]
    assert clean == evaluated.evaluation.overall["unweighted"].measures["ap"]
    assert read_inputs([run]).runs[0].deliveries == results.model_dump()

    again = evaluate_detector(run, splits_of_store(store), tmp_path / "flow", delivered_tests(store))  # as the flows do it
    assert DeliveredResults.model_validate_json((tmp_path / "flow" / "deliveries.json").read_text()) == results
    assert again.evaluation == evaluated.evaluation

    into = tmp_path / "compare"
    files = compare_detectors(splits_of_store(store), into, ["wang2020"], SMALL, delivered=delivered_tests(store), device="cpu")
    assert into / "deliveries.csv" in files
    assert DeliveredResults.model_validate_json((into / "deliveries.json").read_text()).detectors[0].name == "wang2020"
