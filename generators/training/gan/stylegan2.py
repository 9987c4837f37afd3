"""StyleGAN2 (Karras et al. 2020) on few pictures: the non-saturating loss with R1, augmentation, and an averaged generator."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from generators.demo.pictures import Picture, channels_of
from generators.networks.gan import stylegan2
from generators.training.gan.discriminator import Discriminator, DiscriminatorLearner
from generators.training.gan.trainer import GANTrainer, samples
from generators.training.loop import Batch, half, late_cosine

LR = 1.5e-3  # well below the discriminator's: at equal rates the generator learnt too fast for it, and faces looked like line drawings


class StyleGAN2Trainer(GANTrainer):
    name = "stylegan2"
    lr = LR

    def __init__(self, size: int, pictures: Sequence[Picture], channel_max: int = 128):
        self.channels = channels_of(pictures)
        self.config: dict[str, Any] = {
            "z_dim": 64, "c_dim": 0, "w_dim": 128, "img_resolution": size, "img_channels": self.channels,
            "mapping_kwargs": {"num_layers": 2}, "channel_base": 8 * channel_max, "channel_max": channel_max,
            "use_noise": False,  # pictures this small have no hair or pores for it to vary; a short run leaves its pattern in all images
        }  # fmt: skip
        self.generator = stylegan2.Generator(**self.config)
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.discriminator = self.make_discriminator(size, channel_max)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=LR, betas=(0.0, 0.99))

    def make_discriminator(self, size: int, channel_max: int) -> DiscriminatorLearner:
        return DiscriminatorLearner(Discriminator(size, self.channels, channel_max))

    def step(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        factor = late_cosine(progress)
        real = batch.images[:, : self.channels]
        ws = self.generator.mapping(torch.randn(len(real), self.config["z_dim"]), update_w_avg=True)
        fake = self.generator.synthesis(ws, noise_mode="random")
        return self.play(real, fake, step, factor)

    def sheet(self) -> np.ndarray:
        return samples(self.ema, self.config["z_dim"])

    def checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return half("", self.ema), self.config
