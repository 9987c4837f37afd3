"""What training, comparing and ablating leave in their folders is what the page shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows import jobs
from flows.findings import read_findings
from generators.errors import InputError
from ntf_model.comparing.comparison_data import ComparisonData
from ntf_model.errors import InputError as DetectorInputError
from ntf_model.judging.evaluate import Evaluation
from ntf_model.judging.robustness import Robustness
from ntf_model.ntf.ablation import Ablation
from pipelines.report import Inputs
from pipelines.store import Store
from tests.pipelines.report.report_support import report_inputs, store_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Inputs, Path]:
    """A store, findings about it, and the same findings in folders as the commands leave them."""
    folder = tmp_path_factory.mktemp("findings")
    store = store_of(folder, 3, 8)
    found = report_inputs(store, folder / "run")
    run = found.runs[0]
    files = {
        "run/evaluation.json": run.evaluation,
        "run/run.json": run.record,
        "run/robustness.json": run.robustness,
        "run/distance.json": run.distance,
        "run/embeddings.json": run.embeddings,
        "run/gradcam.json": run.gradcam,
        "compare/comparison.json": found.comparison,
        "ablation/ablation.json": found.ablation,
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(data))
    return store, found, folder


def test_the_findings_have_the_forms_that_the_detectors_write(made: tuple[Store, Inputs, Path]) -> None:
    _, found, _ = made
    kinds: list[tuple[Any, Any]] = [
        (Evaluation, found.runs[0].evaluation),
        (Evaluation, found.runs[0].distance),
        (Robustness, found.runs[0].robustness),
        (ComparisonData, found.comparison),
        (Ablation, found.ablation),
    ]
    for kind, data in kinds:
        assert kind.model_validate(data).model_dump().keys() == data.keys()


def test_folders_become_a_page_with_every_section(made: tuple[Store, Inputs, Path], tmp_path: Path) -> None:
    store, _, folder = made
    arguments = {"comparison": folder / "compare", "ablation": folder / "ablation"}
    page = jobs.report(store, tmp_path / "report.html", None, [folder / "run"], **arguments).read_text(encoding="utf-8")
    assert 'id="missing"' not in page
    for text in ("Grad-CAM++", "Mean AP under blur", "Ablation", "minus each other detector", "The distance to the natural trace"):
        assert text in page


def test_a_damaged_file_is_named(made: tuple[Store, Inputs, Path], tmp_path: Path) -> None:
    _, _, folder = made
    with pytest.raises(DetectorInputError, match=r"empty.evaluation\.json"):
        read_findings([tmp_path / "empty"])
    with pytest.raises(InputError, match=r"ablation\.json"):
        read_findings([], ablation=tmp_path)
    with pytest.raises(DetectorInputError, match=r"comparison\.json"):
        read_findings([], comparison=tmp_path)
    for name in ("evaluation", "robustness"):
        (tmp_path / f"{name}.json").write_text((folder / "run" / f"{name}.json").read_text())
    (tmp_path / "robustness.json").write_text("{}")
    with pytest.raises(InputError, match=r"robustness\.json: it is damaged.*ntf robustness"):
        read_findings([tmp_path])


def test_a_folder_called_demo_is_not_taken_for_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ntf demo` leaves such a folder, and must run a second time."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert jobs.find_manifest("demo").name == "demo.yaml"
