"""StyleGAN2 (Karras et al. 2020) on few pictures: the non-saturating loss with R1, augmentation, and an averaged generator."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from generators.images import to_uint8
from generators.networks import stylegan2
from generators.seeding import legacy_randn
from generators.training.discriminator import Discriminator, DiscriminatorLearner
from generators.training.loop import Batch, Trainer, cosine, half, set_lr, update_ema
from generators.training.pictures import Picture, channels_of

LR = 1.5e-3  # well below the discriminator's: at equal rates the generator outran it and its faces stayed etchings
EMA_DECAY = 0.998


class StyleGAN2Trainer(Trainer):
    name = "stylegan2"
    batch_size = 16

    def __init__(self, size: int, pictures: Sequence[Picture], channel_max: int = 128):
        self.channels = channels_of(pictures)
        self.config: dict[str, Any] = {
            "z_dim": 64, "c_dim": 0, "w_dim": 128, "img_resolution": size, "img_channels": self.channels,
            "mapping_kwargs": {"num_layers": 2}, "channel_base": 8 * channel_max, "channel_max": channel_max,
            "use_noise": False,  # at this size it has no hair or pores to place, and a short run leaves its pattern in every image
        }  # fmt: skip
        self.generator = stylegan2.Generator(**self.config)
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.discriminator = self.make_discriminator(size, channel_max)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=LR, betas=(0.0, 0.99))

    def make_discriminator(self, size: int, channel_max: int) -> DiscriminatorLearner:
        return DiscriminatorLearner(Discriminator(size, self.channels, channel_max))

    def state(self) -> dict[str, Any]:
        return {
            "generator": self.generator, "ema": self.ema, "optimizer": self.optimizer,
            "discriminator": self.discriminator.network, "d_optimizer": self.discriminator.optimizer,
        }  # fmt: skip

    def step(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        # Constant for the first half: a GAN follows a moving target, and a rate that falls from the start would stop it short.
        factor = cosine(0.03 + 0.97 * max(0.0, 2 * progress - 1))
        real = batch.images[:, : self.channels]
        ws = self.generator.mapping(torch.randn(len(real), self.config["z_dim"]), update_w_avg=True)
        fake = self.generator.synthesis(ws, noise_mode="random")
        losses = self.discriminator.learn(real, fake.detach(), step=step, lr_factor=factor)
        loss = self.discriminator.fooled(fake)
        set_lr(self.optimizer, LR * factor)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        update_ema(self.ema, self.generator, step, EMA_DECAY)
        return {**losses, "generator": loss.item()}

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        z = torch.from_numpy(np.stack([legacy_randn(seed, (self.config["z_dim"],)) for seed in range(48)])).float()
        return to_uint8(self.ema(z), rounding="half_up")

    def checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return half("", self.ema), self.config
