"""`ntf compare` and `ntf evaluate` with several detectors: what is trained, evaluated together, and said when something does not fit."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flows.judging import export_onnx
from ntf_model.data.data import single_split
from ntf_model.data.images import read_image
from pipelines.errors import CheckFailed
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

    again = ntf("leaderboard", "all", "--per-generator", "--output", "board")
    assert again.code == 0, again.err
    assert "| 1 | 1 to " in again.out
    assert "theirs" in again.out
    first, second = (json.loads(Path(file).read_text()) for file in ("all/comparison.json", "board/comparison.json"))
    assert first["cells"] == second["cells"]
    assert first["paired"] == second["paired"]
    listed = json.loads(ntf("leaderboard", "all", "--json").out)
    assert listed[0]["cells"] == first["cells"]
    assert ntf("leaderboard", "data").code == 2
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
    (logged,) = json.loads(ntf("store", "log", "tiny", "--json").out)
    recorded = json.loads(Path("runs/rehearsal/probe/run.json").read_text())["dataset"]
    assert [recorded[key] for key in ("name", "version", "store_digest")] == ["tiny", logged["version"], logged["digest"]]
    assert recorded["store_digest"][:16] in ntf("store", "log", "tiny").out
    assert "no manifest" in ntf("compare", "nonsense").err
    assert "folders of the same name" in ntf("evaluate", "tiny", "--run", "a/x", "--run", "b/x").err


def test_detect_keeps_the_order_and_says_by_its_exit_code_what_could_not_be_read(ntf: Ntf, folders: Path, tmp_path: Path) -> None:
    """det/20."""
    assert ntf("train", "data", "--detector", "probe", "--preset", "demo", "--output", "run").code == 0
    long = tmp_path / ("x" * 120 + ".png")
    long.write_bytes(next((folders / "smooth" / "fake").iterdir()).read_bytes())
    Path("bad.png").write_text("x")
    plain = ntf("detect", str(long), "bad.png", str(long), "--model", "run")
    assert plain.code == 1
    assert [line.split()[-1] for line in plain.out.splitlines()] == ["image", str(long), "bad.png", str(long)]
    assert "not read: bad.png" in plain.err
    lines = [json.loads(line) for line in ntf("detect", str(long), "bad.png", "--json", "--model", "run").out.splitlines()]
    assert [line["file"] for line in lines] == [str(long), "bad.png"]
    assert lines[1].keys() == {"file", "error"}
    header, first, second = csv.reader(io.StringIO(ntf("detect", str(long), "bad.png", "--csv", "--model", "run").out))
    assert header == ["file", "probability", "distance", "is_fake", "threshold", "calibrated", "verdict", "error"]
    assert float(first[1]) == lines[0]["probability"]
    assert (second[0], second[1], bool(second[-1])) == ("bad.png", "", True)
    assert ntf("detect", "bad.png", "--model", "run").code == 1
    assert ntf("detect", str(long), "--model", "run").code == 0
    assert ntf("detect", str(long), "--json", "--csv", "--model", "run").code == 2


def test_thresholds_by_wish_and_a_band_with_a_stated_error(ntf: Ntf, folders: Path) -> None:
    assert ntf("train", "data", "--detector", "probe", "--preset", "demo", "--set", "encoder=small", "--output", "run").code == 0
    saved = json.loads(Path("run/calibration.json").read_text())
    real = len(saved["real"])
    photo = str(next((folders / "smooth" / "fake").iterdir()))
    wish = 1 / (real + 1)
    answer = ntf("detect", photo, "--model", "run", "--fpr", f"{wish}", "--error", "0.4", "--json")
    assert answer.code == 0, answer.err
    row = json.loads(answer.out)
    assert row["threshold"] == saved["real"][-1]
    assert row["is_fake"] == (row["probability"] > row["threshold"])
    assert row["verdict"] in ("real", "fake", "unsure")
    assert f"about {100 * wish:.3g} % of reals are called fake, and at most 40 % of fakes real" in " ".join(answer.err.split())
    plain = ntf("detect", photo, "--model", "run")
    assert plain.out.split()[-2] == "unsure", "three validation pictures of a class allow no verdict with an error of 5 %"
    for wrong in (("--fpr", "0.001"), ("--fpr", "2"), ("--error", "0.7"), ("--error", "0")):
        refused = ntf("detect", photo, "--model", "run", *wrong)
        assert refused.code == 2
        assert refused.err.count("\n") == 1, refused.err
    measured = ntf("evaluate", "data", "--run", "run", "--fpr", f"{wish}")
    assert measured.code == 0, measured.err
    assert f"for a wished FPR of {100 * wish:g} %" in measured.out
    assert "Brier score, calibrated" in measured.out
    evaluation = json.loads(Path("run/data/evaluation.json").read_text())
    assert evaluation["threshold"] == saved["real"][-1]
    assert {wished["wished"] for wished in evaluation["reliability"]["wishes"]} == {0.01, 0.05, wish}
    assert ntf("evaluate", "data", "--run", "run", "--fpr", "0.001").code == 2


def test_onnx_writes_a_file_that_agrees_or_none(ntf: Ntf, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ntf("train", "data", "--detector", "probe", "--preset", "demo", "--set", "encoder=small", "--output", "run").code == 0
    answer = ntf("onnx", "run", "out/probe.onnx", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["difference"] < 1e-4
    assert Path("out/probe.onnx").stat().st_size > 100_000
    monkeypatch.setattr("ntf_model.onnx_file.difference", lambda data, detector: float("nan"))
    with pytest.raises(CheckFailed, match="was not written"):
        export_onnx(Path("run"), Path("other.onnx"))
    assert not Path("other.onnx").exists()
    assert ntf("onnx", "nothing", "x.onnx").code == 2


def test_a_folder_without_splits_is_evaluated_on_what_training_set_apart(ntf: Ntf, folders: Path) -> None:
    assert ntf("train", "data", "--detector", "probe", "--preset", "demo", "--output", "run").code == 0
    answer = ntf("evaluate", "data", "--run", "run", "--json")
    assert answer.code == 0, answer.err
    assert "that training set apart for testing" in answer.err
    assert sum(row["n_fake"] for row in json.loads(answer.out)["subsets"]) < 20
    write_folders(Path("other"), count=10, seed=9)
    whole = ntf("evaluate", "other", "--run", "run", "--json")
    assert "evaluated on all of the 40 pictures of other, which has no split folders" in whole.err
    assert sum(row["n_fake"] for row in json.loads(whole.out)["subsets"]) == 20


def test_resuming_with_another_seed_is_refused(ntf: Ntf, folders: Path) -> None:
    """det/04, for a detector that has nothing to resume."""
    train = ("train", "data", "--detector", "probe", "--preset", "demo", "--output", "run")
    assert ntf(*train).code == 0
    before = Path("run/run.json").read_bytes()
    answer = ntf(*train, "--resume", "--set", "seed=3")
    assert (answer.code, "trained on other settings (seed 0, not 3)" in answer.err) == (2, True)
    assert Path("run/run.json").read_bytes() == before
    assert ntf(*train, "--resume").code == 0


def test_thresholds_are_not_fixed_on_test_scores(ntf: Ntf, tmp_path: Path) -> None:
    """det/08: files are numbered alike in every split, and the scores are those of the test pictures alone."""
    for seed, split in enumerate(("train", "validation", "test")):
        write_folders(tmp_path / "d" / split, count=6, seed=seed)
    ids = [name.removeprefix("test/") for name in single_split(tmp_path / "d", split="test").picture_ids()]
    Path("x.csv").write_text("id,score\n" + "".join(f"{name},{0.8 if '/fake/' in name else 0.6}\n" for name in ids))
    answer = ntf("compare", "d", "--detectors", "probe", "--scores", "x=x.csv", "--output", "out")
    assert answer.code == 0, answer.err
    evaluation = json.loads(Path("out/x/evaluation.json").read_text())
    assert evaluation["threshold"] == 0.5
    assert {row["measures"]["acc_fixed"]["value"] for row in evaluation["subsets"]} == {0.5}


def test_a_rehearsal_stays_one_when_it_is_evaluated_again(ntf: Ntf, folders: Path) -> None:
    compared = ntf("compare", "data", "--detectors", "probe", "--limit", "8")
    assert "rehearsal" in compared.out
    write_folders(Path("other"), count=10, seed=9)
    again = ntf("evaluate", "other", "--run", "runs/rehearsal/probe")
    assert "(rehearsal)" in again.out
