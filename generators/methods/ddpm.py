"""DDPM: Ho et al., Denoising Diffusion Probabilistic Models (2020). Ancestral sampling, fresh noise at every step."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field

from generators.denoiser import original_timesteps
from generators.pixel_denoiser import PixelDenoiser, PixelDenoiserParameters
from generators.registry import register


@register("ddpm")
class DDPM(PixelDenoiser):
    title = "DDPM"

    class Parameters(PixelDenoiserParameters):
        steps: int | None = Field(None, ge=1, description="denoising steps; by default as many as the checkpoint was trained with")
        variance_type: Literal["fixed_small", "fixed_large"] | None = None
        clip_sample: bool | None = None  # clamp the predicted x_0 to [-1, 1] at every step
        official: bool = False  # fixed_large and clipping, as ermongroup/ddim and hojonathanho/diffusion sample 256 px

    @property
    def learned_variance(self) -> bool:
        """Whether the network also says the variance of each step, as guided-diffusion's do. Then no other can be chosen."""
        return self.unet.config.out_channels == 2 * self.unet.config.in_channels

    @property
    def usual_steps(self) -> int:
        return self.most_steps

    def predict(self, x: torch.Tensor, t: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """The noise in `x`, and what the network says of its variance, if anything: the scheduler takes both."""
        return self.network_output(x, t, classes)

    def scheduler(self, settings: Parameters) -> Any:
        from generators.networks.diffusion.host_noise import HostNoiseDDPM

        variance_type = "learned_range" if self.learned_variance else settings.variance_type
        chosen = {"variance_type": variance_type, "clip_sample": settings.clip_sample}
        if settings.official:
            chosen = {"variance_type": variance_type or "fixed_large", "clip_sample": settings.clip_sample is not False}
        steps = self.step_count(settings)
        scheduler = self.build_scheduler(HostNoiseDDPM, chosen)
        scheduler.set_timesteps(steps)
        if settings.official:
            scheduler.timesteps = original_timesteps(scheduler.config.num_train_timesteps, steps)
        return scheduler
