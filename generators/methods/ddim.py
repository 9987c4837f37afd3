"""DDIM: Song et al., Denoising Diffusion Implicit Models (2021). The DDPM network, sampled in few steps, deterministic where `eta` is 0."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from generators.denoiser import original_timesteps
from generators.pixel_denoiser import PixelDenoiser, PixelDenoiserParameters
from generators.registry import register


@register("ddim")
class DDIM(PixelDenoiser):
    title = "DDIM"

    class Parameters(PixelDenoiserParameters):
        eta: float = Field(0.0, ge=0, le=1, description="0 is deterministic, 1 has the variance of DDPM (equation 16)")
        clip_sample: bool | None = None  # clamp the predicted x_0 to [-1, 1] at every step
        set_alpha_to_one: bool | None = None  # the last step ends at alpha 1 rather than at the schedule's first alpha
        official: bool = False  # no clipping and a last alpha of 1, as ermongroup/ddim

    def scheduler(self, settings: Parameters) -> Any:
        from generators.networks.diffusion.host_noise import HostNoiseDDIM

        chosen = {"clip_sample": settings.clip_sample, "set_alpha_to_one": settings.set_alpha_to_one}
        if settings.official:
            chosen = {"clip_sample": bool(settings.clip_sample), "set_alpha_to_one": settings.set_alpha_to_one is not False}
        steps = self.step_count(settings)
        scheduler = self.build_scheduler(HostNoiseDDIM, chosen)
        scheduler.set_timesteps(steps)
        if settings.official:
            scheduler.timesteps = original_timesteps(scheduler.config.num_train_timesteps, steps)
        return scheduler

    def step_options(self, settings: Parameters, rngs: list[torch.Generator]) -> dict[str, Any]:
        return {"eta": settings.eta, "generator": rngs}
