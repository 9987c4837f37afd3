"""DDPM (Ho et al. 2020): a small UNet that DDPM, DDIM and PNDM sample from.

It predicts the velocity (Salimans and Ho 2022, equation 10), which settles colours and large shapes in fewer steps than predicting noise
does.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from generators.demo.pictures import Picture, channels_of
from generators.images import to_uint8
from generators.seeding import randn
from generators.training.loop import Batch, Trainer, cosine, half, set_lr, update_ema

LR = 1e-3


def build_unet(size: int, widths: tuple[int, ...], in_channels: int, time_embedding: str = "default") -> nn.Module:
    """A UNet2DModel with one layer a block and attention at its lowest resolution alone. `time_embedding` is diffusers'
    `resnet_time_scale_shift`: "default" adds the timestep to the features, "scale_shift" scales them by it too."""
    from diffusers import UNet2DModel

    plain = len(widths) - 1
    return UNet2DModel(
        sample_size=size, in_channels=in_channels, out_channels=in_channels, block_out_channels=widths, layers_per_block=1,
        norm_num_groups=8, attention_head_dim=8,
        resnet_time_scale_shift=time_embedding,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",), up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
    )  # fmt: skip


def build_schedule(clip_sample: bool) -> Any:
    """DDPM's schedule: 1000 steps, beta from 1e-4 to 0.02 in a line (section 4). `clip_sample` is for what lies in [-1, 1]."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(num_train_timesteps=1000, prediction_type="v_prediction", clip_sample=clip_sample)


def plain_config(config: Any) -> dict[str, Any]:
    """A diffusers configuration as JSON can hold it, without what diffusers notes for itself."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in dict(config).items() if not key.startswith("_")}


def velocity_loss(unet: nn.Module, schedule: Any, clean: torch.Tensor) -> torch.Tensor:
    """Mean square error of the velocity at timesteps spread evenly over the schedule, one in each of N strata."""
    count = len(clean)
    t = ((torch.arange(count) + torch.rand(count)) / count * schedule.config.num_train_timesteps).long()
    noise = torch.randn_like(clean)
    velocity = schedule.get_velocity(clean, noise, t)
    return F.mse_loss(unet(schedule.add_noise(clean, noise, t), t).sample, velocity)


@torch.no_grad()
def ddim_samples(unet: nn.Module, schedule: Any, shape: tuple[int, ...], *, count: int, steps: int) -> torch.Tensor:
    """`[count, *shape]` by DDIM with eta 0, image i from seed i."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(schedule.config)
    scheduler.set_timesteps(steps)
    x = randn(range(count), shape)
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t).sample, t, x, eta=0.0).prev_sample
    return x


class DDPMTrainer(Trainer):
    name = "ddpm"
    batch_size = 16

    def __init__(self, size: int, pictures: Sequence[Picture], widths: tuple[int, ...] = (16, 32, 56, 80)):
        self.shape = (channels_of(pictures), size, size)
        self.unet = build_unet(size, widths, self.shape[0], "scale_shift")
        self.ema = copy.deepcopy(self.unet).eval().requires_grad_(False)
        self.schedule = build_schedule(clip_sample=True)
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=1e-3)

    def state(self) -> dict[str, Any]:
        return {"unet": self.unet, "ema": self.ema, "optimizer": self.optimizer}

    def step(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        set_lr(self.optimizer, LR * cosine(progress))
        loss = velocity_loss(self.unet, self.schedule, batch.images[:, : self.shape[0]])
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        update_ema(self.ema, self.unet, step)
        return {"loss": loss.item()}

    def sheet(self) -> np.ndarray:
        return to_uint8(ddim_samples(self.ema, self.schedule, self.shape, count=32, steps=25))

    def checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return half("unet.", self.ema), {"unet": plain_config(self.ema.config), "scheduler": plain_config(self.schedule.config)}
