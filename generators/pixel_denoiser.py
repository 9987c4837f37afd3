"""What DDPM, DDIM and PNDM share: the network of Ho et al., which one checkpoint gives to all three."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field

from generators import base
from generators.checkpoints import Checkpoint
from generators.denoiser import Denoiser
from generators.networks.diffusion.pixel_unet import load_pixel_unet


class PixelDenoiserParameters(base.Parameters):
    """`None` means: as the checkpoint's own scheduler configuration says, which is what users of diffusers get."""

    steps: int = Field(50, ge=1, le=1000, description="denoising steps")
    strength: float = Field(0.5, gt=0, le=1, description="edit: the part of the schedule that the noise reaches")


class PixelDenoiser(Denoiser):
    """A denoiser of pixels. A method adds its scheduler and that scheduler's settings."""

    licence = "Apache-2.0"

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Self:
        return cls(*load_pixel_unet(checkpoint), device, dtype)
