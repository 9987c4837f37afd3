"""openai/guided-diffusion's models with classes (Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021).

A checkpoint is the released state dict: 64x64_diffusion.pt, 128x128_diffusion.pt, 256x256_diffusion.pt, 512x512_diffusion.pt, or one
without classes. Options are the release's own flags, where no tensor tells: `image_size` (default 256), `num_head_channels` (default 64)
or `num_heads`, `use_new_attention_order`, `noise_schedule` ("linear" or "cosine").
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from generators import base
from generators.base import Generator, Output
from generators.checkpoints import Checkpoint
from generators.checkpoints.names import read_weights
from generators.diffusers_files import to_device
from generators.errors import CheckpointError
from generators.images import fetch_uint8, require_size, to_float
from generators.networks.diffusion import openai_names
from generators.networks.diffusion.pixel_unet import original_state
from generators.networks.diffusion.respaced import BETAS, Respaced, cosine_betas
from generators.registry import register
from generators.seeding import draw_classes, randn_rows, torch_rng
from generators.transfer import send

SCHEDULES = {"linear": BETAS, "cosine": cosine_betas()}


@register("guided_diffusion")
class GuidedDiffusion(Generator):
    """The base models, as the release's `image_sample.py` samples them: without a classifier."""

    title = "ADM"
    family = "DM"
    kinds = ("sample", "edit")
    licence = "MIT"
    networks = ("unet",)

    class Options(base.Options):
        """The release's own flags, where no tensor tells."""

        image_size: int = Field(256, ge=1)
        num_heads: int = -1
        num_head_channels: int = -1
        num_heads_upsample: int = -1
        use_new_attention_order: bool = False
        noise_schedule: Literal["linear", "cosine"] = "linear"

    class Parameters(base.Parameters):
        steps: int = Field(250, ge=1, le=1000, description="denoising steps, spread over the 1000 of training")
        class_index: int | None = Field(None, ge=0, description="of ImageNet's 1000; by default each image's class comes from its seed")
        ddim: bool = False  # deterministic steps; 25 of them do for the larger models
        clip_denoised: bool = True  # clamp the predicted x_0 to [-1, 1] at every step
        strength: float = Field(0.5, gt=0, le=1, description="edit: the part of the schedule that the noise reaches")

    def __init__(self, unet: Any, betas: np.ndarray, device: str | torch.device, dtype: torch.dtype):
        self.unet = to_device(unet, device, dtype)
        self.betas = betas
        self.device, self.dtype = torch.device(device), dtype

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> GuidedDiffusion:
        schedule = checkpoint.option("noise_schedule", "linear")
        source = checkpoint.path.name
        if schedule not in SCHEDULES:
            raise CheckpointError(f"{source}: there is no noise_schedule {schedule!r}", f"Known: {', '.join(SCHEDULES)}")
        size = int(checkpoint.option("image_size", 256))
        unet = openai_names.build(original_state(read_weights(checkpoint.path)), size, openai_names.heads_of(checkpoint.options), source)
        if unet.config.out_channels != 2 * unet.config.in_channels:
            raise CheckpointError(f"{source} does not predict the variance of its steps", "Give it to `ddpm`")
        return cls(unet, SCHEDULES[schedule], device, dtype)

    @property
    def resolution(self) -> int:
        return int(self.unet.config.sample_size)

    def _sample(self, seeds: list[int], settings: Parameters) -> Output:
        rngs, process = [torch_rng(seed) for seed in seeds], Respaced(settings.steps, self.betas)
        return self._denoised(self._noise(rngs), len(process.timesteps), process, seeds, rngs, settings)

    def _edit(self, images: np.ndarray, seeds: list[int], settings: Parameters) -> Output:
        """SDEdit (Meng et al. 2022): noise to `strength` of the schedule, then denoise."""
        require_size(images, self.resolution, self.name)
        rngs, process = [torch_rng(seed) for seed in seeds], Respaced(settings.steps, self.betas)
        count = max(1, int(settings.steps * settings.strength))
        x = process.noised(to_float(images, device=self.device), count - 1, self._noise(rngs))
        return self._denoised(x, count, process, seeds, rngs, settings)

    def _denoised(
        self, x: torch.Tensor, count: int, process: Respaced, seeds: list[int], rngs: list[torch.Generator], settings: Parameters
    ) -> Output:
        """`x` through the last `count` steps. Noise of step k comes from each image's own generator."""
        classes = draw_classes(seeds, int(self.unet.config.num_class_embeds or 0), settings.class_index)
        labels = None if classes is None else send(classes, self.device)
        for k in reversed(range(count)):
            t = torch.full((len(x),), process.timesteps[k], device=self.device)
            eps, interpolation = self.unet(x.to(self.dtype), t, class_labels=labels).sample.float().chunk(2, 1)
            start = process.start(x, eps, k)
            start = start.clamp(-1, 1) if settings.clip_denoised else start
            if settings.ddim:
                x = process.ddim(x, start, k)
                continue
            mean, log_variance = process.posterior(x, start, interpolation, k)
            x = mean + (0.5 * log_variance).exp() * self._noise(rngs) if k else mean
        return fetch_uint8(x, rounding="half_up")

    def _noise(self, rngs: list[torch.Generator]) -> torch.Tensor:
        shape = (self.unet.config.in_channels, self.resolution, self.resolution)
        return send(randn_rows(rngs, shape), self.device)
