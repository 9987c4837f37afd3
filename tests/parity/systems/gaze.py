"""DiffFace's gaze network with stored statistics and, as DiffFace runs it, with those of the crop."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from generators.checkpoints import Checkpoint
from generators.networks.faces.gaze import GazeNet, load_gaze
from tests.parity.cases import Case

# DETECTORS.md: the sharp soft argmax magnifies rounding, so each output has a bound of its own.
HEATMAPS, LANDMARKS, GAZE = 5e-6, 3e-3, 1e-4
GRADIENT = {"eval": 5e-3, "train": 2e-2}  # of the gradient's maximum


def check(case: Case) -> None:
    mode = case.config.get("mode", "eval")
    network = _load(case, mode == "train")
    if "crop" in case.arrays:
        _check_crop(case, network, mode)
    else:
        _check_images(case, network)


def _load(case: Case, crop_statistics: bool) -> GazeNet:
    sizes = {name: case.config[name] for name in ("nstack", "nfeatures", "nlandmarks")}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "GazeEstimator.pt"
        torch.save({**sizes, "model_state_dict": case.weights("net"), "best_val_loss": 1.0}, file)
        return load_gaze(Checkpoint(file), crop_statistics)


def _check_images(case: Case, network: GazeNet) -> None:
    name = next(iter(case.facts["inputs"]))
    eyes = np.clip(case.input(name) * np.float32(0.25) + np.float32(0.5), 0, 1)[:, 0]
    assert np.array_equal(eyes.ravel()[:8], case.arrays["x_first8"])
    with torch.inference_mode():
        heatmaps, landmarks, gaze = network(torch.from_numpy(eyes))
    _compare_maps(case, "heatmaps", heatmaps.flatten(0, 1))
    case.compare("landmarks", landmarks, LANDMARKS)
    case.compare("gaze", gaze, GAZE)
    case.compare("heatmap_argmax_last_stack", heatmaps[:, -1].flatten(2).argmax(-1).int())


def _check_crop(case: Case, network: GazeNet, mode: str) -> None:
    crop = case.tensor("crop").requires_grad_()
    resized = torch.nn.functional.interpolate(crop.unsqueeze(1), (96, 160), mode="bilinear").squeeze(1)
    with torch.no_grad():
        heatmaps, landmarks, _ = network(resized)
    gaze = network.look(crop)
    _compare_maps(case, "heatmaps_last_stack", heatmaps[:, -1])
    case.compare("landmarks", landmarks, LANDMARKS)
    case.compare("gaze", gaze, GAZE)
    if "grad_crop" in case.arrays:
        (gradient,) = torch.autograd.grad(gaze.sum(), crop)
        case.compare("grad_crop", gradient, GRADIENT[mode] * float(np.abs(case.arrays["grad_crop"]).max()))


def _compare_maps(case: Case, name: str, maps: torch.Tensor) -> None:
    """Heat maps are stored as 4x4 means and a crop, unlike the other arrays' 8x8."""
    n, k, height, width = maps.shape
    if name in case.arrays:
        case.compare(name, maps, HEATMAPS)
        return
    pooled = maps.double().reshape(n, k, height // 4, 4, width // 4, 4).mean((3, 5))
    stored = case.arrays[f"{name}__crop"]
    top, left = (height - stored.shape[2]) // 2, (width - stored.shape[3]) // 2
    case.compare(f"{name}__pool4", pooled, HEATMAPS)
    case.compare(f"{name}__crop", maps[:, :, top : top + stored.shape[2], left : left + stored.shape[3]], HEATMAPS)
