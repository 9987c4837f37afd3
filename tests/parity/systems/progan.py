"""ProGAN in genforce's and pytorch_GAN_zoo's layouts; where the case maps names to TensorFlow's, in the authors' own layout too."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import torch

from generators.checkpoints import Checkpoint, write_safetensors
from generators.methods.progan import ProGAN
from tests.parity.cases import Case

# what a case calls a thing that no file of its layout says, and the checkpoint option for it
_OPTIONS = ("label_size", "use_wscale", "fused_scale", "final_tanh", "alpha", "equalizedlR")


def check(case: Case) -> None:
    config = case.config
    options = {name: config[name] for name in _OPTIONS if name in config}
    if "leak" in config or "leakyReluLeak" in config:
        options["leakyReluLeak"] = config.get("leak", config.get("leakyReluLeak"))
    if "tanh" in str(config.get("generationActivation")).lower():
        options["final_tanh"] = True
    (name,) = case.facts["weights"]
    weights = case.weights(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "official.pth"
        torch.save({name: weights}, path)
        _compare(case, ProGAN.load(Checkpoint(path, options)))
        if mapping := case.facts.get("pth_to_tf_var_mapping"):
            path = Path(folder) / "tensorflow.safetensors"
            variables = {f"Gs.{variable}": _tensorflow_order(variable, weights[key]) for key, variable in mapping.items()}
            write_safetensors(path, variables, {})
            _compare(case, ProGAN.load(Checkpoint(path, {**options, "fused_scale": config.get("fused_scale", False)})))


def _compare(case: Case, generator: ProGAN) -> None:
    network = generator.network
    labels = next((case.tensor(key).float() for key in ("label", "labels") if key in case.arrays), None)
    outputs = {re.sub(r"__(pool8|crop)$", "", name) for name in case.arrays if name.startswith("img")}
    assert outputs, f"{case.id} has no images"
    with torch.inference_mode():
        for name in sorted(outputs):
            level = re.search(r"lod(\d+)(?:p(\d+))?", name)
            lod = float(f"{level[1]}.{level[2] or 0}") if level else None
            case.compare(name, network(case.tensor("z"), labels, lod))


def _tensorflow_order(variable: str, value: torch.Tensor) -> torch.Tensor:
    """A tensor of genforce's layout as TensorFlow keeps it."""
    if "Dense/weight" in variable:
        return value.flip(2, 3).transpose(0, 1).reshape(value.shape[1], -1)
    return value.permute(2, 3, 1, 0) if value.ndim == 4 else value
