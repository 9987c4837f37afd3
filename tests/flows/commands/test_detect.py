"""`ntf compare` and `ntf evaluate` with several detectors: what is trained, evaluated together, and said when something does not fit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ntf_model.data.data import single_split
from ntf_model.data.images import read_image
from tests.commands import Answer
from tests.ntf_model.conftest import write_folders

Ntf = Callable[..., Answer]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "data", count=10)


def test_compare_then_evaluate_the_same_runs_beside_scores_from_elsewhere(ntf: Ntf, folders: Path, tmp_path: Path) -> None:
    compared = ntf("compare", "data", "--detectors", "probe,ojha2023", "--limit", "8", "--output", "runs/both")
    assert compared.code == 0, compared.err
    assert compared.out.startswith("### All subsets")
    assert "| parameters (M) | images/s |" in compared.out
    comparison = json.loads(Path("runs/both/comparison.json").read_text())
    assert [row["name"] for row in comparison["detectors"]] == ["probe", "ojha2023"]
    assert Path("runs/both/ojha2023/evaluation.json").is_file()

    ids = single_split(folders).picture_ids()
    Path("theirs.csv").write_text("".join(f"{name},{0.9 if 'fake' in name else 0.1}\n" for name in ids))
    together = ntf("evaluate", "data", "--detectors", "probe,ojha2023", "--runs", "runs/both", "--scores", "theirs.csv", "--output", "all")
    assert together.code == 0, together.err
    row = next(line for line in together.out.splitlines() if line.startswith("| theirs*"))
    assert row.split("|")[2].strip() == "**100.00**"
    assert json.loads(Path("all/comparison.json").read_text())["cells"]["theirs"]["mean"]["acc"]["value"] == 1
    assert json.loads(Path("all/theirs/evaluation.json").read_text())["detector"] == "theirs"

    alone = ntf("evaluate", "data", "--scores", "perfect=theirs.csv", "--output", "alone", "--json")
    assert json.loads(alone.out)["detectors"][0]["name"] == "perfect"


def test_no_picture_is_decoded_twice_for_training_and_evaluating_several_detectors(
    ntf: Ntf, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter = Counter()

    def counting(file: Path) -> np.ndarray:
        read[file.name, file.parent.parent.name] += 1
        return read_image(file)

    monkeypatch.setattr("ntf_model.data.data.read_image", counting)
    assert ntf("compare", "data", "--detectors", "probe,ojha2023,ntf", "--limit", "8").code == 0
    assert len(read) == 3 * 8
    assert set(read.values()) == {1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[1:], "has no score for"),
        (lambda lines: [*lines, lines[0]], "comes a second time"),
        (lambda lines: [*lines, "stranger.png,0.5"], "has a score for 1 id that no picture of the data has, such as 'stranger.png'"),
        (lambda lines: [lines[0].rpartition(",")[0] + ",nan", *lines[1:]], "the score nan is not between 0 and 1"),
    ],
)
def test_scores_that_do_not_fit_are_one_line(ntf: Ntf, folders: Path, change: Callable[[list[str]], list[str]], message: str) -> None:
    lines = [f"{name},0.5" for name in single_split(folders).picture_ids()]
    Path("bad.csv").write_text("\n".join(change(lines)))
    answer = ntf("evaluate", "data", "--scores", "bad.csv")
    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_runs_of_other_data_or_settings_are_not_taken_over(ntf: Ntf, folders: Path) -> None:
    first = ("compare", "data", "--detectors", "probe", "--output", "out")
    assert ntf(*first, "--limit", "8").code == 0
    assert ntf(*first, "--limit", "8").code == 0
    assert "was trained on other data" in ntf(*first, "--limit", "10").err
    run = json.loads(Path("out/probe/run.json").read_text())
    run["config"]["seed"] = 7
    Path("out/probe/run.json").write_text(json.dumps(run))
    assert "was trained on other settings" in ntf(*first, "--limit", "8").err


@pytest.mark.slow
def test_a_rehearsal_runs_networks_of_full_size_within_memory(ntf: Ntf, folders: Path) -> None:
    answer = ntf("compare", "data", "--detectors", "sbi,caddm,xception", "--preset", "default", "--limit", "4")
    assert answer.code == 0, answer.err
    rows = {row["name"]: row for row in json.loads(Path("runs/rehearsal/comparison.json").read_text())["detectors"]}
    assert {name: row["parameters"] for name, row in rows.items()} == {"sbi": 17_552_202, "caddm": 44_003_162, "xception": 20_811_050}
    assert max(row["memory_mib"] for row in rows.values()) < 5120
    assert not any(row["note"] for row in rows.values())


def test_a_manifest_names_the_dataset_and_how_detectors_are_trained(ntf: Ntf, manifest_file: Path) -> None:
    missing = ntf("compare", str(manifest_file), "--detectors", "probe")
    assert missing.code == 2
    assert "ntf build" in missing.err
    assert ntf("build", str(manifest_file), "--device", "cpu").code == 0
    answer = ntf("compare", str(manifest_file), "--detectors", "probe", "--limit", "8", "--preset", "demo")
    assert answer.code == 0, answer.err
    assert Path("runs/rehearsal/probe/run.json").is_file()
    assert "no manifest" in ntf("compare", "nonsense").err
    assert "folders of the same name" in ntf("evaluate", "tiny", "--run", "a/x", "--run", "b/x").err
