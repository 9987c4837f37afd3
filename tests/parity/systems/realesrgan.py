"""Real-ESRGAN's networks and the tool around them, loaded from a torch file as the method loads a release."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generators.checkpoints import Checkpoint
from generators.methods.real_esrgan import RealESRGAN
from generators.networks.restoration.upscale import enhance
from tests.parity.cases import Case


def check(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = load(case, Path(folder))
    for run in case.config["runs"]:
        if case.config["kind"] == "network":
            with torch.inference_mode():
                case.compare(run["out"], model.network(case.tensor(run["x"])))
        else:
            check_enhance(case, model, run)


def load(case: Case, folder: Path) -> RealESRGAN:
    key = case.config["checkpoint_key"]
    torch.save({key: case.weights(key)}, folder / "released.pth")
    options = {"activation": case.config["network"].get("act_type", "prelu")}
    components = {}
    if len(case.config.get("files", [])) > 1:
        second = case.config["files"][1]
        torch.save({second["checkpoint_key"]: case.weights(second["weights"])}, folder / "wdn.pth")
        components = {"wdn": Checkpoint(folder / "wdn.pth", options)}
    return RealESRGAN.load(Checkpoint(folder / "released.pth", options, components))


def check_enhance(case: Case, model: RealESRGAN, run: dict[str, Any]) -> None:
    """The tool's function, and, where a picture is one that the method takes, the method itself."""
    image = swapped(case.arrays[run["image"]])
    settings = {name: run[name] for name in ("tile", "tile_pad", "pre_pad")}
    strength = run["dni_weight"][0] if "dni_weight" in run else 1.0 if model.wdn is not None else None
    parameters: dict[str, Any] = {**settings, "outscale": run["outscale"]}
    if strength is not None:
        parameters["denoise_strength"] = strength
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
        edited = model.edit(image[None], [0], **parameters)[0]
        case.compare(run["out"], swapped(edited))
    with torch.inference_mode():
        case.compare(run["out"], swapped(enhance(model.network, image, run["outscale"], **settings)))


def swapped(image: np.ndarray) -> np.ndarray:
    """OpenCV's order of channels to ours, or back."""
    if image.ndim == 2:
        return image
    return np.ascontiguousarray(image[..., [2, 1, 0, 3][: image.shape[2]]])
