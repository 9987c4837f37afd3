"""What DDPM, DDIM and PNDM share: the network of Ho et al., which one checkpoint gives to all three."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import torch
from pydantic import Field

from generators import base
from generators.checkpoints import Checkpoint
from generators.denoiser import Denoiser, Predict
from generators.errors import CheckpointError
from generators.networks.diffusion.pixel_unet import PixelUNetOptions, load_pixel_unet
from generators.seeding import draw_classes
from generators.transfer import send


class PixelDenoiserParameters(base.Parameters):
    """`None` means: as the checkpoint's own scheduler configuration says, which is what users of diffusers get."""

    steps: int | None = Field(None, ge=1, description="denoising steps; by default 50, or as many as the checkpoint was trained with")
    strength: float = Field(0.5, gt=0, le=1, description="edit: the part of the schedule that the noise reaches")
    class_index: int | None = Field(None, ge=0)  # of a conditional network; if not given, each image's class comes from its seed


class PixelDenoiser(Denoiser):
    """A denoiser of pixels. A method adds its scheduler and that scheduler's settings."""

    licence = "Apache-2.0"
    Options = PixelUNetOptions

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Self:
        unet, schedule = load_pixel_unet(checkpoint)
        require_pictures(unet.config, checkpoint.path.name)
        return cls(unet, schedule, device, dtype)

    def predictor(self, seeds: list[int], settings: Any) -> Predict:
        classes = draw_classes(seeds, self.unet.config.num_class_embeds or 0, settings.class_index)
        return self.predict if classes is None else partial(self.predict, classes=send(classes, self.device))


def require_pictures(config: Any, source: str) -> None:
    """CheckpointError if a UNet of this configuration makes no grey or RGB pictures from noise, and a class, alone."""
    channels = config.in_channels
    if channels not in (1, 3):
        raise CheckpointError(
            f"{source}: its UNet takes {channels} channels, and a picture has 1 (grey) or 3 (RGB)",
            "RGBA networks, upscalers and other networks that see a second picture are not supported",
        )
    if config.out_channels not in (channels, 2 * channels):
        raise CheckpointError(
            f"{source}: its UNet gives {config.out_channels} channels for {channels}, neither the noise nor the noise and its variance",
            "Give a network that predicts the noise of a picture",
        )
    if config.class_embed_type is not None:
        raise CheckpointError(
            f"{source}: its UNet is conditioned by class_embed_type {config.class_embed_type!r}",
            "Give one without classes, or with a table of classes (num_class_embeds)",
        )
