"""The page shows what training, comparing and ablating leave in their folders."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.artifacts import sample_sheet
from flows.data import splits_of_store
from flows.report import read_inputs, write_page
from generators.errors import InputError
from ntf_model.comparing.compare import compare
from ntf_model.comparing.comparison_data import ComparisonData
from ntf_model.comparing.comparison_tables import write_comparison
from ntf_model.errors import InputError as DetectorInputError
from ntf_model.judging.deliveries import DeliveredResults
from ntf_model.judging.evaluate import Evaluation, evaluate
from ntf_model.judging.robustness import Robustness
from ntf_model.ntf.ablation import Ablation
from pipelines.report import Inputs
from pipelines.store import Store
from tests.ntf_model.comparing.test_compare import Smoothness
from tests.pipelines.report.report_support import report_inputs, store_of


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Inputs, Path]:
    """A store, inputs of a report on it, and the same inputs in folders as the commands leave them."""
    folder = tmp_path_factory.mktemp("inputs")
    store = store_of(folder, 3, 8)
    known = report_inputs(store, folder / "run")
    run = known.runs[0]
    files = {
        "run/evaluation.json": run.evaluation,
        "run/run.json": run.record,
        "run/robustness.json": run.robustness,
        "run/distance.json": run.distance,
        "run/embeddings.json": run.embeddings,
        "run/gradcam.json": run.gradcam,
        "run/deliveries.json": run.deliveries,
        "compare/comparison.json": known.comparison,
        "ablation/ablation.json": known.ablation,
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(data))
    return store, known, folder


def test_the_inputs_have_the_forms_that_the_detectors_write(site: tuple[Store, Inputs, Path]) -> None:
    _, known, _ = site
    kinds: list[tuple[Any, Any]] = [
        (Evaluation, known.runs[0].evaluation),
        (Evaluation, known.runs[0].distance),
        (Robustness, known.runs[0].robustness),
        (DeliveredResults, known.runs[0].deliveries),
        (ComparisonData, known.comparison),
        (Ablation, known.ablation),
    ]
    for kind, data in kinds:
        assert kind.model_validate(data).model_dump().keys() == data.keys()


def test_folders_become_a_page_with_every_section(site: tuple[Store, Inputs, Path], tmp_path: Path) -> None:
    store, _, folder = site
    arguments = {"comparison": folder / "compare", "ablation": folder / "ablation"}
    page = write_page(store, tmp_path / "report.html", None, [folder / "run"], **arguments).read_text(encoding="utf-8")
    assert 'id="missing"' not in page
    for text in ("Grad-CAM++", "Mean AP under blur", "Ablation", "minus each other detector", "The distance to the natural trace"):
        assert text in page


def test_a_damaged_file_is_named(site: tuple[Store, Inputs, Path], tmp_path: Path) -> None:
    _, _, folder = site
    with pytest.raises(DetectorInputError, match=r"empty.evaluation\.json"):
        read_inputs([tmp_path / "empty"])
    with pytest.raises(InputError, match=r"ablation\.json"):
        read_inputs([], ablation=tmp_path)
    with pytest.raises(DetectorInputError, match=r"comparison\.json"):
        read_inputs([], comparison=tmp_path)
    for name in ("evaluation", "robustness"):
        (tmp_path / f"{name}.json").write_text((folder / "run" / f"{name}.json").read_text())
    (tmp_path / "robustness.json").write_text("{}")
    with pytest.raises(InputError, match=r"robustness\.json: it is damaged.*ntf robustness"):
        read_inputs([tmp_path])


def test_a_sheet_has_a_row_for_every_part_of_a_subset(site: tuple[Store, Inputs, Path]) -> None:
    store, _, _ = site
    small, large = (Image.open(BytesIO(b64decode(sample_sheet(store, columns).split(",")[1]))) for columns in (1, 3))
    assert small.width < large.width
    parts = {row.id.rsplit("/", 2)[0] for row in store.rows("role = 'final'")}
    assert len(parts) > 1
    assert small.height > len(parts) * 96  # a row of pictures and a name for each


def test_a_figure_has_one_interval_on_the_page(site: tuple[Store, Inputs, Path], tmp_path: Path) -> None:
    """`ntf evaluate` and `ntf compare` measure the same detector on the same pictures, and the page shows both."""
    store, _, _ = site
    splits = splits_of_store(store)
    detectors = {"smoothness": Smoothness(0.2), "other": Smoothness(0.0)}
    for name, detector in detectors.items():
        detector.title = name
    evaluate(detectors["smoothness"], splits.test, splits.validation).save(tmp_path / "run" / "evaluation.json")
    (tmp_path / "run" / "run.json").write_text("{}")
    write_comparison(compare(detectors, splits.test, splits.validation), tmp_path / "compare")
    page = write_page(store, tmp_path / "report.html", None, [tmp_path / "run"], comparison=tmp_path / "compare").read_text(
        encoding="utf-8"
    )
    means = {"all (unweighted)": "mean", "all (weighted)": "weighted mean"}
    alone = {means.get(row["subset"], row["subset"]): row for row in table_of(page, "Results of smoothness by subset")}
    for measure in ("AP", "AUROC", "FPR", "ACC at the validation threshold"):
        together = table_of(page, f"{measure} by detector and subset, %")
        compared = next(row for row in together if row.pop("detector") == "smoothness")
        assert {"mean", "weighted mean", *splits.test.fake_subsets} <= compared.keys()
        shown = {column: alone[column][measure] for column in compared if column in alone}
        assert all("[" in figure for figure in shown.values())
        assert {column: compared[column] for column in shown} == shown and len(shown) == 2 + len(splits.test.fake_subsets)


def table_of(page: str, caption: str) -> list[dict[str, str]]:
    """The rows of the table of this caption, each by the words of the head: texts without marks."""
    (table,) = [part for part in page.split("<table>") if part.startswith(f"<caption><span>{caption}</span>")]
    rows = [
        [" ".join(re.sub(r"<[^>]*>|[①②]", " ", cell).split()) for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr[ >].*?</tr>", table.split("</table>")[0], re.DOTALL)
    ]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
