"""Diff-StyleGAN2 (Wang et al., "Diffusion-GAN: Training GANs with Diffusion", 2023): StyleGAN2's generator, against a discriminator that
sees real and generated images after the same forward diffusion, and is told the timestep.

The diffusion takes the place of augmentation. It is as long as the discriminator needs: its last timestep grows while the discriminator
tells real from generated too well, and shrinks when it does not (section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from generators.demo.pictures import Picture
from generators.training.gan.discriminator import Discriminator, DiscriminatorLearner, EqualConv
from generators.training.gan.stylegan2 import StyleGAN2Trainer

BETA = (1e-4, 0.02)  # of the first and of the thousandth timestep, in a line between
T_MIN, T_MAX = 8.0, 1000.0
NOISE_STD = 0.05  # of the noise, where the images are in [-1, 1]
D_TARGET = 0.6  # mean sign of the logits of real images that the last timestep is steered for
ADAPT_EVERY = 4  # steps
ADAPT_BY = 4.0  # timesteps; a run is a few thousand steps long
TIME_FEATURES = 32


class DiffusedDiscriminator(Discriminator):
    """`forward(images, t)`: logits `[N]` of images diffused for `t` (int64 `[N]`) timesteps; 0 is none."""

    def __init__(self, size: int, channels: int, channel_max: int):
        super().__init__(size, channels, channel_max)
        self.by_time = EqualConv(TIME_FEATURES, self.out.weight.shape[1], 1)
        self.register_buffer("last_t", torch.tensor(T_MIN))  # kept with the state of a run

    def forward(self, images: torch.Tensor, t: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # it is told the time
        summary = self.summary(images)
        at_time = (summary * self.by_time(time_features(t))).flatten(1).sum(1) / math.sqrt(summary.shape[1])
        return self.out(summary).flatten() + at_time


class DiffusedLearner(DiscriminatorLearner):
    def __init__(self, network: DiffusedDiscriminator):
        super().__init__(network)
        self.alpha_bar = torch.cat([torch.ones(1), (1 - torch.linspace(*BETA, int(T_MAX))).cumprod(0)])

    def learn(self, real: torch.Tensor, fake: torch.Tensor, *, step: int, lr_factor: float) -> dict[str, float]:
        losses = super().learn(real, fake, step=step, lr_factor=lr_factor)
        last_t = self.network.last_t
        if step % ADAPT_EVERY == 0:
            last_t.add_(math.copysign(ADAPT_BY, losses["real_sign"] - D_TARGET)).clamp_(T_MIN, T_MAX)
        return {**losses, "last_t": last_t.item()}

    def show(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Half of the images as they are, the others diffused for a timestep from 1 to the last; the later, the likelier (equation 7)."""
        count = len(images)
        drawn = (torch.rand(count).sqrt() * self.network.last_t).ceil().long().clamp_min(1)
        t = torch.where(torch.rand(count) < 0.5, 0, drawn)
        kept = self.alpha_bar[t][:, None, None, None]
        return kept.sqrt() * images + (1 - kept).sqrt() * NOISE_STD * torch.randn_like(images), t


class DiffStyleGAN2Trainer(StyleGAN2Trainer):
    name = "diff_stylegan2"

    def __init__(self, size: int, pictures: Sequence[Picture], channel_max: int = 64):
        super().__init__(size, pictures, channel_max)

    def make_discriminator(self, size: int, channel_max: int) -> DiscriminatorLearner:
        return DiffusedLearner(DiffusedDiscriminator(size, self.channels, channel_max))


def time_features(t: torch.Tensor) -> torch.Tensor:
    """`[N, TIME_FEATURES, 1, 1]`: sines and cosines of `t` at wavelengths from about 6 to 6,000 timesteps."""
    frequencies = torch.logspace(0, -3, TIME_FEATURES // 2)
    angles = t[:, None] * frequencies
    return math.sqrt(2) * torch.cat([angles.sin(), angles.cos()], 1)[:, :, None, None]
