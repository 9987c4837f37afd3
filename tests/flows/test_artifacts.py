"""What Prefect's page shows: a ledger with named columns, a sheet with names, the report's place, descriptions, one line a shard."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont

from flows import artifacts
from flows.deployments import deployments
from flows.logs import OF_TASKS, one_line_for_a_shard
from flows.outputs import Outputs
from pipelines.build.build import BuildReport
from pipelines.build.runner import Failure
from pipelines.report.sheets import FONT, GAP, LEAST_WIDTH, LINE, TILE, _broken, labelled_sheet


def opened(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(picture)).convert("RGB"))


def test_the_ledger_says_what_became_of_the_images() -> None:
    shard: Any = SimpleNamespace(subset="B\x1b", title="B step 1 faces 0-3", count=4)
    built = BuildReport(None, 3, 0, 0, 20, 1.0, {"A": {"no face": 2, "blank": 1}}, {}, [Failure(shard, "out of memory")])
    assert artifacts.ledger_rows(built) == [
        {"subset": "all", "outcome": "written", "images": 20},
        {"subset": "A", "outcome": "rejected: no face", "images": 2},
        {"subset": "A", "outcome": "rejected: blank", "images": 1},
        {"subset": "B\\x1b", "outcome": "failed: B step 1 faces 0-3: out of memory", "images": 4},
    ]


@pytest.mark.parametrize("side", [8, 32, 500])
def test_a_name_on_a_sheet_does_not_run_off_it(side: int) -> None:
    picture = np.full((side, side, 3), (200, 0, 0), np.uint8)
    short, long = (opened(labelled_sheet([(name, [picture] * 2)])) for name in ("A", "W" * 120))
    assert short.shape[1] == long.shape[1] == max(LEAST_WIDTH, 2 * TILE + GAP)
    assert len(long) >= len(short) + 3 * LINE  # in several lines
    font = ImageFont.load_default(FONT)
    lines = _broken("W" * 120, font, short.shape[1])
    assert "".join(lines) == "W" * 120 and max(map(font.getlength, lines)) <= short.shape[1]
    reds = (short[..., 0] > 150) & (short[..., 1] < 60)
    assert reds.sum() > 0.9 * 2 * TILE * TILE


def test_the_last_line_and_an_empty_sheet() -> None:
    plain = opened(labelled_sheet([("A", [np.zeros((8, 8, 3), np.uint8)])]))
    assert len(opened(labelled_sheet([("A", [np.zeros((8, 8, 3), np.uint8)])], "and 3 more"))) > len(plain)
    assert opened(labelled_sheet([])).size > 0


@pytest.mark.parametrize(
    ("output", "shown"), [("runs [1]", "/runs [1]/d/report.html"), ("s3://bucket/runs", "s3://bucket/runs/d/report.html")]
)
def test_the_report_is_named_and_not_linked(output: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, Any] = {}
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda text, **facts: said.update(facts, text=text))
    outputs = Outputs(output if "://" in output else str(tmp_path / output), "d")
    store: Any = SimpleNamespace(name="d", version=lambda: SimpleNamespace(number=3, digest="f" * 64))
    artifacts.show_report(outputs.folder / "report.html", outputs, store)
    assert any(line.startswith("    ") and line.endswith(shown) for line in said["text"].splitlines())
    assert "](" not in said["text"] and "file:/" not in said["text"]
    assert said["description"] == "Report of d, version 3"


def test_flows_deployments_and_parameters_are_described() -> None:
    for deployment in deployments("demo", "store", "runs", "auto", None):
        assert deployment.description and len(deployment.description) < 200 and deployment.description.endswith(".")
        for name, facts in deployment._parameter_openapi_schema.model_dump()["properties"].items():
            assert facts.get("description", "").endswith("."), f"{deployment.name}: {name} is not described"


def test_prefect_says_nothing_more_of_a_shard_that_was_made() -> None:
    def is_said(task: str, line: str) -> bool:
        return bool(logging.getLogger(OF_TASKS).filter(logging.makeLogRecord({"task_name": task, "msg": line})))

    with one_line_for_a_shard():
        assert not is_said("shard", "Finished in state Completed()")
        assert is_said("shard", "Finished in state Failed()")
        assert is_said("train-ntf", "Finished in state Completed()")
    assert is_said("shard", "Finished in state Completed()")
