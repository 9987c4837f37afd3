"""A small dataset in folders: real crops of noise pictures, and two kinds of fakes that a small network can tell apart from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ntf_model.data.data import DetectionSplits, from_folders
from ntf_model.ntf.config import NTFConfig, preset

SIZE = 20


def real_picture(rng: np.random.Generator) -> np.ndarray:
    """Noise over a gradient: `uint8` `[20, 20, 3]`."""
    ramp = np.linspace(60, 180, SIZE)[:, None, None] * rng.uniform(0.7, 1.2)
    return np.clip(ramp + rng.normal(0, 25, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)


def fake_picture(rng: np.random.Generator, kind: str) -> np.ndarray:
    """The same without its fine noise ("smooth"), or with each pixel doubled ("blocky")."""
    half = Image.fromarray(real_picture(rng)).resize((SIZE // 2, SIZE // 2), Image.Resampling.BOX)
    method = Image.Resampling.BILINEAR if kind == "smooth" else Image.Resampling.NEAREST
    return np.asarray(half.resize((SIZE, SIZE), method))


def write_folders(path: Path, count: int = 24, seed: int = 0) -> Path:
    """`path/{smooth,blocky}/{real,fake}/*.png`, `count` pictures in each folder."""
    rng = np.random.default_rng(seed)
    for kind in ("smooth", "blocky"):
        for label in ("real", "fake"):
            folder = path / kind / label
            folder.mkdir(parents=True)
            for index in range(count):
                picture = real_picture(rng) if label == "real" else fake_picture(rng, kind)
                Image.fromarray(picture).save(folder / f"{label}-{index:03d}.png")
    return path


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("detector-data"))


@pytest.fixture(scope="session")
def splits(folders: Path) -> DetectionSplits:
    return from_folders(folders)


@pytest.fixture(scope="session")
def tiny() -> NTFConfig:
    """Seconds on one core."""
    stage = {"epochs": 2, "batch_size": 16}
    return preset("demo", image_size=16, stage1=stage, stage2=stage, threads=2)
