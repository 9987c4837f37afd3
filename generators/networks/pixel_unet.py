"""The UNet of DDPM, DDIM and PNDM: one network, three samplers."""

from __future__ import annotations

from typing import Any

from generators.checkpoints import Checkpoint, read
from generators.diffusion import build_part, diffusers_folder, load_part


def load_pixel_unet(checkpoint: Checkpoint) -> tuple[Any, dict[str, Any]]:
    """The `UNet2DModel` of a checkpoint and its noise schedule (a diffusers scheduler configuration)."""
    from diffusers import DDPMScheduler, UNet2DModel  # noqa: PLC0415

    folder = diffusers_folder(checkpoint)
    if folder is not None:
        return load_part(folder, "unet", UNet2DModel), dict(load_part(folder, "scheduler", DDPMScheduler).config)
    contents = read(checkpoint.path)
    return build_part(contents, "unet", UNet2DModel, checkpoint.path), dict(contents.config.get("scheduler", {}))
