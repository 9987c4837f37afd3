"""What the trainers of GANs share: a generator, its average, and a discriminator in the non-saturating game with R1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from generators.images import to_uint8
from generators.seeding import legacy_randn
from generators.training.gan.discriminator import DiscriminatorLearner
from generators.training.loop import Trainer, set_lr, update_ema

EMA_DECAY = 0.998
SHEET = 48  # samples


class GANTrainer(Trainer):
    """A trainer sets these four, makes `fake` from its generator in `step`, and calls `play`."""

    batch_size = 16
    lr: float  # of the generator
    generator: nn.Module
    ema: nn.Module
    discriminator: DiscriminatorLearner
    optimizer: torch.optim.Optimizer

    def state(self) -> dict[str, Any]:
        return {
            "generator": self.generator, "ema": self.ema, "optimizer": self.optimizer,
            "discriminator": self.discriminator.network, "d_optimizer": self.discriminator.optimizer,
        }  # fmt: skip

    def play(self, real: torch.Tensor, fake: torch.Tensor, step: int, lr_factor: float) -> dict[str, float]:
        """The discriminator learns to tell `fake` from `real`, then the generator that made `fake` to pass. Returns losses."""
        losses = self.discriminator.learn(real, fake.detach(), step=step, lr_factor=lr_factor)
        loss = self.discriminator.fooled(fake)
        set_lr(self.optimizer, self.lr * lr_factor)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        update_ema(self.ema, self.generator, step, EMA_DECAY)
        return {**losses, "generator": loss.item()}


@torch.no_grad()
def samples(network: nn.Module, z_dim: int) -> np.ndarray:
    """What `network` makes of the first seeds' latents: `uint8` `[SHEET, size, size, 3]`."""
    z = torch.from_numpy(np.stack([legacy_randn(seed, (z_dim,)) for seed in range(SHEET)])).float()
    return to_uint8(network(z), rounding="half_up")
