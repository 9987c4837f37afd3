"""The notebook's code cells run in order, offline, and leave a trained detector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.docs.markdown import ROOT

NOTEBOOK = ROOT / "docs" / "examples" / "from-clone-to-detector.ipynb"


def cells(kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def test_the_notebook_is_kept_without_results() -> None:
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (book["nbformat"], len({cell["id"] for cell in book["cells"]})) == (4, len(book["cells"]))
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in book["cells"] if cell["cell_type"] == "code")
    assert len(cells("markdown")) >= 5


@pytest.mark.slow
def test_the_cells_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, text in enumerate(cells("code")):
        exec(compile(text, f"{NOTEBOOK.name}, code cell {number}", "exec"), names)
    assert (names["work"] / "run" / "model.safetensors").is_file()
    assert names["work"].is_relative_to(tmp_path)
    assert names["batch"].image.shape == (16, 32, 32, 3)
    assert {row.name for row in names["evaluation"].subsets} == {"StyleGAN2", "ProGAN"}
    assert names["detector"].calibration is not None
    said = capsys.readouterr().out
    assert "| StyleGAN2 | GAN |" in said
    assert said.count("calibrated") == 8
