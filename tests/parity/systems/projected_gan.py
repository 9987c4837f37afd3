"""FastGAN and FastGAN-lite, from a pickle-like file {G_ema: state dict}; StyleGAN2 networks of ProjectedGAN are StyleGAN2's cases."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from generators.checkpoints import Checkpoint
from generators.methods.projected_gan import ProjectedGAN
from tests.parity.cases import Case


def check(case: Case) -> None:
    config = case.config
    resolution = config.get("img_resolution", 256)
    (name,) = case.facts["weights"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "official.pth"
        torch.save({name: case.weights(name)}, path)
        options = {"img_resolution": resolution} if resolution < 128 else {}
        network = ProjectedGAN.load(Checkpoint(path, options)).network
    assert network.lite == bool({**config.get("synthesis_kwargs", {}), **config}.get("lite", False))
    assert network.resolution == resolution
    assert bool(network.classes) == bool(config.get("cond", 0))
    z = case.tensor("z")
    labels = next((case.tensor(key) for key in ("c", "label", "labels") if key in case.arrays), None)
    if labels is not None and labels.ndim == 2:
        labels = labels.argmax(1)
    outputs = {re.sub(r"__(pool8|crop)$", "", array) for array in case.arrays if array.startswith("img")}
    assert outputs, f"{case.id} has no images"
    with torch.inference_mode():
        for output in sorted(outputs):
            seed = re.search(r"seed\(?(\d+)", f"{output} {case.facts['arrays'].get(output, {}).get('note', '')}")
            case.compare(output, network(z, labels if network.classes else None, _torch_noise(len(z), int(seed[1])) if seed else None))


def _torch_noise(batch: int, seed: int) -> Callable[[int], torch.Tensor]:
    """The noise that the official code draws from torch's own stream, for the whole batch at once."""
    stream = torch.Generator().manual_seed(seed)
    return lambda size: torch.randn(batch, 1, size, size, generator=stream)
