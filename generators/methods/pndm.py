"""PNDM: Liu et al., Pseudo Numerical Methods for Diffusion Models on Manifolds (2022). The DDPM network, sampled by multistep methods."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from generators import base
from generators.checkpoints import Checkpoint
from generators.diffusion import Denoiser
from generators.networks.pixel_unet import load_pixel_unet
from generators.registry import register


@register("pndm")
class PNDM(Denoiser):
    title = "PNDM"
    licence = "Apache-2.0"

    class Parameters(base.Parameters):
        """`None` means: as the checkpoint's own scheduler configuration says, which is what users of diffusers get."""

        steps: int = Field(50, ge=4, le=500, description="denoising steps")
        skip_prk_steps: bool | None = None  # begin with multistep at once, rather than with three Runge-Kutta steps of four calls
        set_alpha_to_one: bool | None = None  # the last step ends at alpha 1 rather than at the schedule's first alpha
        strength: float = Field(0.5, gt=0, le=1, description="edit: the part of the schedule that the noise reaches")

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> PNDM:
        return cls(*load_pixel_unet(checkpoint), device, dtype)

    def scheduler(self, settings: Parameters) -> Any:
        from diffusers import PNDMScheduler  # noqa: PLC0415

        chosen = {"skip_prk_steps": settings.skip_prk_steps, "set_alpha_to_one": settings.set_alpha_to_one}
        scheduler = PNDMScheduler.from_config(self.schedule, **{key: value for key, value in chosen.items() if value is not None})
        scheduler.set_timesteps(settings.steps)
        return scheduler

    def step_options(self, settings: Parameters, rngs: list[torch.Generator]) -> dict[str, Any]:
        return {}
