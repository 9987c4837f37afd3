"""Face parsing against the official network."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from generators.checkpoints import Checkpoint
from generators.faces.parsing import FaceParser
from tests.parity.cases import Case


def check(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "79999_iter.pth"
        torch.save(case.weights("net"), path)
        parser = FaceParser.load(Checkpoint(path))
    images = torch.from_numpy(case.input("x")) if "inputs" in case.facts else case.tensor("x")
    with torch.inference_mode():
        out, out16, out32 = parser.network.forward_all(images)
        assert torch.equal(parser.network(images), out)
    for name, logits in (("out", out), ("out16", out16), ("out32", out32)):
        compare_stored(case, name, logits.numpy())
    labels = out.argmax(1).numpy().astype(np.uint8)
    stored = case.arrays["argmax"]
    ties = case.facts["tolerance"].get("argmax_pixels_with_top2_margin_below_1e-4", 0)
    assert np.sum(labels.reshape(stored.shape) != stored) <= ties


def compare_stored(case: Case, name: str, got: np.ndarray) -> None:
    """A large output is stored as the means of squares (`out16__pool32`) and a crop from the middle."""
    if name in case.arrays:
        case.compare(name, got)
        return
    pooled_name = next((key for key in case.arrays if key.startswith(f"{name}__pool")), None)
    if pooled_name is None:
        return
    side = int(pooled_name.rsplit("pool", 1)[1])
    n, c, h, w = got.shape
    pooled = got.astype(np.float64).reshape(n, c, h // side, side, w // side, side).mean((3, 5))
    crop = case.arrays[f"{name}__crop"]
    top, left = (h - crop.shape[2]) // 2, (w - crop.shape[3]) // 2
    for stored, mine in ((case.arrays[pooled_name], pooled), (crop, got[:, :, top : top + crop.shape[2], left : left + crop.shape[3]])):
        off = np.abs(mine - stored).max()
        assert off <= case.tolerance(name), f"{case.id} {name}: off by {off:.3g}, allowed {case.tolerance(name):.3g}"
