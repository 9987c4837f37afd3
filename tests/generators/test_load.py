"""A generator in one line of Python."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import generators
from generators.errors import CheckpointError, InputError
from tests.support import stylegan2_checkpoint

DEMO = Path(str(resources.files("generators.demo")))


def test_a_generator_by_name_and_path_makes_images(tmp_path: Path) -> None:
    path = stylegan2_checkpoint(tmp_path / "sg2.safetensors")
    images = generators.load("stylegan2", path).sample([3, 4, 5])
    assert (images.shape, images.dtype) == ((3, 32, 32, 3), np.uint8)
    alone = generators.load("stylegan2", str(path)).sample(seeds=[4], truncation_psi=1.0)
    assert np.abs(alone[0].astype(int) - images[1].astype(int)).max() <= 1


def test_options_and_what_is_wrong(tmp_path: Path) -> None:
    path = stylegan2_checkpoint(tmp_path / "sg2.safetensors")
    half = generators.load("stylegan2", path, precision="bfloat16")
    assert half.sample([0]).shape == (1, 32, 32, 3)
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*missing\.pkl"):
        generators.load("stylegan2", tmp_path / "missing.pkl")
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*face\.pth"):
        generators.load("stylegan2", path, components={"arcface": tmp_path / "face.pth"})
    with pytest.raises(InputError, match="there is no generator 'stylegan9'"):
        generators.load("stylegan9", path)
    with pytest.raises(InputError, match="precisoin"):
        generators.load("stylegan2", path, precisoin="float16")
    with pytest.raises(CheckpointError):
        generators.load("ldm", path)
