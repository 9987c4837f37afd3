"""StyleGAN2 in the layout of rosinality/stylegan2-pytorch, which the `stylegan2` method tells by the names of its tensors."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from generators import registry
from generators.checkpoints import Checkpoint
from tests.parity.cases import Case
from tests.parity.systems.stylegan2 import truncation


@torch.inference_mode()
def check(case: Case) -> None:
    (name,) = case.facts["weights"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.pt"
        torch.save({name: case.weights(name), "latent_avg": case.tensor("latent_avg")}, path)
        network = registry.get("stylegan2").load(Checkpoint(path)).network
        z = case.tensor("z")
        for array in case.facts["arrays"]:
            if array in ("z", "latent_avg"):
                continue
            ws = network.mapping(z, **truncation(array.split("_")))
            noise = "none" if "zeronoise" in array else "const"
            case.compare(array, ws[:, 0] if array == "w" else network.synthesis(ws, noise_mode=noise))
