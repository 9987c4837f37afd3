"""What the cases of several systems share: choosing the check of a case, reading a release, and comparing pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ntf_model.detector import Detector
from ntf_model.networks.weights import count_parameters, official_state
from tests.parity.cases import Case

ONE_LEVEL = 1 / 255
Check = Callable[[Case], None]


def check_by_key(checks: Mapping[str, Check], otherwise: Check) -> Check:
    """A system's check of all its cases: the check of the first key that a case has in its configuration or among its arrays."""

    def check(case: Case) -> None:
        next((chosen for key, chosen in checks.items() if key in case.config or key in case.arrays), otherwise)(case)

    return check


def released_network(case: Case, kind: type[Detector], beside: Mapping[str, Any], name: str = "released.pth") -> Any:
    """The detector from a file with the case's weights under "model" and what is `beside` them. Its size and keys are the official ones."""
    weights = case.weights("net")
    keys = weights.keys()
    detector = released({"model": weights, **beside}, lambda file: kind.from_released(file, "cpu"), name)
    assert count_parameters(detector.network) == case.config["params"]
    assert official_state(detector.network, detector.official).keys() == keys
    return detector


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
