"""Files are there whole, or as they were before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ntf_model import files
from ntf_model.errors import counted
from ntf_model.runs import read_tensors


def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_no_rest(tmp_path: Path) -> None:
    file = tmp_path / "table.md"
    files.write_text(file, "old")
    with pytest.raises(KeyboardInterrupt), files.written_whole(file) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_no_two_writers_share_a_partial_name(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with files.written_whole(file) as first, files.written_whole(file) as second:
        assert first != second
        assert first.suffix == second.suffix == ".safetensors"
        first.write_text("first")
        second.write_text("second")
    assert file.read_text() == "first"  # the inner block ended before it


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("sync"), sync(handle)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (events.append("replace"), replace(self, target))[1])
    files.write_json(tmp_path / "deep" / "run.json", {"ap": float("nan"), "scores": np.array([1.5, 2.0]), 3: (True, None)})
    assert events[:2] == ["sync", "replace"]
    assert json.loads((tmp_path / "deep" / "run.json").read_text()) == {"ap": None, "scores": [1.5, 2.0], "3": [True, None]}


def test_pictures_and_tensors_are_read_back(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(5, 7, 3), dtype=np.uint8)
    files.write_image(tmp_path / "sheet.png", pixels)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "sheet.png")), pixels)
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3)}
    files.write_tensors(tmp_path / "state.safetensors", tensors)
    assert all(value.equal(tensors[name]) for name, value in read_tensors(tmp_path / "state.safetensors").items())


def test_numbers_and_nouns_agree() -> None:
    assert [counted(1, "picture"), counted(0, "picture"), counted(2, "process")] == ["1 picture", "0 pictures", "2 processes"]


def test_weights_can_be_read_by_whoever_can_read_their_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour").touch()
    files.write_tensors(tmp_path / "model.safetensors", {"weight": torch.zeros(2)})
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "neighbour").stat().st_mode
