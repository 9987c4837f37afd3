"""`resume` goes on with the same training only, and says what differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ntf_model.data.data import DetectionSplits
from ntf_model.detector import DetectorConfig
from ntf_model.errors import InputError
from ntf_model.runs import WEIGHTS_FILE, write_run
from ntf_model.training.resume import begin_training, check_record, differences


class Config(DetectorConfig):
    batch_size: int = 8
    threads: int = 4


@pytest.fixture
def ended(splits: DetectionSplits, tmp_path: Path) -> Path:
    """A run that has ended."""
    assert not begin_training(tmp_path, "x", splits, Config(), resume=False)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"")
    write_run(tmp_path, splits, Config(), {})
    return tmp_path


def test_the_same_training_goes_on_or_is_loaded(splits: DetectionSplits, ended: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert begin_training(ended, "x", splits, Config(threads=1), resume=True)
    stopped = tmp_path_factory.mktemp("stopped")
    assert not begin_training(stopped, "x", splits, Config(), resume=True)
    assert not begin_training(stopped, "x", splits, Config(), resume=True)


@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize(
    ("detector", "config", "other_data", "message"),
    [
        ("x", Config(seed=3), False, r"trained on other settings \(seed 0, not 3\)"),
        ("x", Config(batch_size=4), True, r"trained on other data and settings \(digest .*, batch_size 8, not 4\)"),
        ("x", Config(), True, r"trained on other data \(digest \w{12}, not \w{12}\)"),
        ("y", Config(), False, r"holds another detector \(x, not y\)"),
    ],
)
def test_another_training_is_refused_with_what_differs(
    splits: DetectionSplits, ended: Path, stopped: bool, detector: str, config: Config, other_data: bool, message: str
) -> None:
    """det/04. Nothing in the folder changes."""
    if stopped:
        (ended / "run.json").unlink()
    elif detector == "x":
        (ended / "checkpoint" / "training.json").unlink()
    data = DetectionSplits(splits.train.take(range(20)), splits.validation, splits.test) if other_data else splits
    before = {file: file.read_bytes() for file in ended.rglob("*.json")}
    with pytest.raises(InputError, match=message):
        begin_training(ended, detector, data, config, resume=True)
    assert {file: file.read_bytes() for file in ended.rglob("*.json")} == before


def test_a_new_training_removes_checkpoints_of_another(splits: DetectionSplits, ended: Path) -> None:
    old = ended / "checkpoint" / "x" / "state.json"
    old.parent.mkdir()
    old.write_text("{}")
    assert not begin_training(ended, "x", splits, Config(seed=3), resume=False)
    assert not old.exists()
    assert not begin_training(ended, "x", splits, Config(seed=3), resume=True)  # not the run of seed 0 that is still there
    with pytest.raises(InputError, match="seed 3, not 0"):
        begin_training(ended, "x", splits, Config(), resume=True)


def test_checkpoints_without_a_record_are_refused(splits: DetectionSplits, tmp_path: Path) -> None:
    (tmp_path / "checkpoint" / "x").mkdir(parents=True)
    (tmp_path / "checkpoint" / "x" / "state.json").write_text("{}")
    with pytest.raises(InputError, match="does not say which data and settings"):
        begin_training(tmp_path, "x", splits, Config(), resume=True)


def test_a_damaged_record_is_named(splits: DetectionSplits, ended: Path) -> None:
    (ended / "checkpoint" / "training.json").write_text("{")
    with pytest.raises(InputError, match=r"training\.json is missing or damaged"):
        begin_training(ended, "x", splits, Config(), resume=True)


def test_only_the_first_process_writes(splits: DetectionSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert not begin_training(tmp_path, "x", splits, Config(), resume=False)
    assert not list(tmp_path.iterdir())


def test_settings_of_an_older_version_are_named(splits: DetectionSplits) -> None:
    record = {"dataset": {"digest": splits.digest}, "config": {"seed": 0, "size": 9}}
    assert differences(record, "x", splits, Config())[0][1].startswith("size: Extra inputs")
    assert differences({**record, "config": {}}, "x", splits, Config()) == []
    assert differences(record, "x", splits, None) == []
    check_record(Path("x"), record, "x", splits, None)


def test_the_record_says_where_the_data_are_from(splits: DetectionSplits, ended: Path, folders: Path) -> None:
    dataset = json.loads((ended / "run.json").read_text())["dataset"]
    assert dataset["folder"] == str(folders.resolve())
    assert dataset["digest"] == dataset["folder_digest"] == splits.digest
