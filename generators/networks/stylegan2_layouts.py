"""The layouts in which StyleGAN2 generators are published, brought to NVIDIA's PyTorch names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from generators.checkpoints import Contents
from generators.errors import CheckpointError
from generators.networks.stylegan2 import Generator


def build(contents: Contents, path: Path) -> Generator:
    """The generator that a checkpoint holds, with its weights. Raises CheckpointError if it holds none."""
    for prefix in ("G_ema.", ""):
        tensors = contents.under(prefix)
        if "synthesis.b4.const" in tensors:
            return _fill(dict(contents.config), tensors, path)
    names = ", ".join(sorted(contents.tensors)[:3])
    raise CheckpointError(
        f"{path} holds no StyleGAN2 generator (its first tensors are {names})", "Give it to the generator that it belongs to"
    )


def _fill(config: dict[str, Any], tensors: dict[str, torch.Tensor], path: Path) -> Generator:
    try:
        network = Generator(**config)
        network.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (TypeError, RuntimeError) as error:
        problem = str(error).strip().split("\n")
        raise CheckpointError(
            f"{path}: its tensors do not fit its configuration ({problem[-1].strip()})", "It may be of another release"
        ) from None
    return network
