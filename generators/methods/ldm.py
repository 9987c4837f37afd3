"""LDM: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models (2022). DDIM in the latent space of a VQGAN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field

from generators import base
from generators.checkpoints import Checkpoint, read
from generators.diffusion import Denoiser, build_part, diffusers_folder, load_part, to_device
from generators.registry import register


@register("ldm")
class LDM(Denoiser):
    title = "LDM"
    licence = "Apache-2.0"

    class Parameters(base.Parameters):
        steps: int = Field(200, ge=1, le=1000, description="DDIM steps; the paper uses 200")
        eta: float = Field(0.0, ge=0, le=1, description="the paper uses 0 for CelebA-HQ and 1 for FFHQ")
        strength: float = Field(0.5, gt=0, le=1, description="edit: the part of the schedule that the noise reaches")

    def __init__(self, unet: Any, vqvae: Any, schedule: Mapping[str, Any], device: str | torch.device, dtype: torch.dtype):
        super().__init__(unet, schedule, device, dtype)
        self.vqvae = to_device(vqvae, device, dtype)

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> LDM:
        from diffusers import DDIMScheduler, UNet2DModel, VQModel  # noqa: PLC0415

        folder = diffusers_folder(checkpoint)
        if folder is not None:
            parts = load_part(folder, "unet", UNet2DModel), load_part(folder, "vqvae", VQModel)
            return cls(*parts, dict(load_part(folder, "scheduler", DDIMScheduler).config), device, dtype)
        contents = read(checkpoint.path)
        parts = build_part(contents, "unet", UNet2DModel, checkpoint.path), build_part(contents, "vqvae", VQModel, checkpoint.path)
        return cls(*parts, contents.config.get("scheduler", {}), device, dtype)

    @property
    def resolution(self) -> int:
        return int(self.unet.config.sample_size) * 2 ** (len(self.vqvae.config.block_out_channels) - 1)

    def scheduler(self, settings: Parameters) -> Any:
        from diffusers import DDIMScheduler  # noqa: PLC0415

        scheduler = DDIMScheduler.from_config(self.schedule)
        scheduler.set_timesteps(settings.steps)
        return scheduler

    def step_options(self, settings: Parameters, rngs: list[torch.Generator]) -> dict[str, Any]:
        return {"eta": settings.eta, "generator": rngs}

    def encode(self, images: torch.Tensor, rngs: list[torch.Generator]) -> torch.Tensor:
        return self.vqvae.encode(images.to(self.dtype)).latents.float() * self.vqvae.config.scaling_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        scaled = (latents / self.vqvae.config.scaling_factor).to(self.dtype)
        return self.vqvae.decode(scaled).sample.float()
