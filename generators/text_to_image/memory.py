"""Pipelines that do not fit into a device's memory as a whole: parts wait in main memory until their turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from generators.checkpoints import Checkpoint
from generators.errors import InputError
from generators.memory import free_memory

Offload = Literal["none", "model", "sequential"]
CHOICES = ("auto", "none", "model", "sequential")
ROOM = 1.3  # free memory, as a multiple of the weights: activations need their part


def place(pipeline: Any, checkpoint: Checkpoint, device: torch.device) -> Any:
    """The pipeline ready to run on `device`.

    Option `offload`: "none" puts it there whole; "model" moves one network at a time (text encoders, denoisers, autoencoder) there for its
    turn; "sequential" moves layer by layer, which is slow and fits nearly everywhere; "auto" (the default) takes the first that fits. On a
    CPU there is nothing to move. InputError for another word.
    """
    asked = checkpoint.option("offload", "auto")
    if asked not in CHOICES:
        raise InputError(f"{checkpoint.path.name}: there is no offload {asked!r}", f"Known: {', '.join(CHOICES)}")
    if device.type != "cuda":
        return pipeline.to(device)
    chosen = asked if asked != "auto" else choose(network_bytes(pipeline), free_memory(device))
    if chosen == "none":
        return pipeline.to(device)
    if chosen == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)
    return pipeline


def choose(networks: Mapping[str, int], free: int) -> Offload:
    """How much has to be moved when the networks have so many bytes each, and so many are free."""
    if sum(networks.values()) * ROOM <= free:
        return "none"
    return "model" if max(networks.values(), default=0) * ROOM <= free else "sequential"


def network_bytes(pipeline: Any) -> dict[str, int]:
    """The bytes of the weights of each network of a pipeline."""
    return {
        name: sum(weight.numel() * weight.element_size() for weight in part.parameters())
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module)
    }
