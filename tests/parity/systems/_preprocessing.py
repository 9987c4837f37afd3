"""What the cases of several detectors' preprocessing share."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.parity.cases import Case

ONE_LEVEL = 1 / 255


def released(contents: Any, load: Any, name: str = "released.pth") -> Any:
    """`load(file)` of a file that holds `contents` as the authors' training scripts save them. `contents` is emptied: it can be large."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        torch.save(contents, path)
        if isinstance(contents, dict):
            contents.clear()
        return load(path)


def compare_tensor(case: Case, name: str, got: torch.Tensor, std: tuple[float, ...]) -> None:
    """A normalised picture: equal up to float32's rounding, since the pixels are equal."""
    want = case.tensor(name)
    assert got.shape == want.shape, f"{case.id} {name}: {list(got.shape)}, official {list(want.shape)}"
    off = float((got - want).abs().max())
    assert off <= 1e-5, f"{case.id} {name}: off by {off:.3g}, which is {off * min(std) / ONE_LEVEL:.2f} grey levels"


def compare_pixels(case: Case, name: str, got: np.ndarray) -> None:
    """Pixels, exactly."""
    want = case.arrays[name]
    assert got.shape == want.shape, f"{case.id} {name}: {got.shape}, official {want.shape}"
    off = int(np.abs(got.astype(int) - want.astype(int)).max())
    assert off == 0, f"{case.id} {name}: off by up to {off} grey levels"
