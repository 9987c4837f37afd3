"""ProGAN (Karras et al. 2018): generator and discriminator grow together from 4 px to the images' size, each doubling faded in.

The loss is the non-saturating one with R1, as in StyleGAN2's trainer, not the paper's WGAN-GP: it needs one pass of the discriminator less
a step, and was the more stable of the two in later work (Mescheder et al. 2018).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from generators.images import to_uint8
from generators.networks.progan import ProGAN
from generators.seeding import legacy_randn
from generators.training.discriminator import DiscriminatorLearner
from generators.training.growing import GrowingDiscriminator, equalize, shrink
from generators.training.loop import Batch, Trainer, cosine, set_lr, update_ema
from generators.training.pictures import Picture, channels_of

LR = 1e-3
EMA_DECAY = 0.998
STAGE = 0.08  # of the steps for each resolution below the last one; half of them fade it in


class ProGANTrainer(Trainer):
    name = "progan"
    batch_size = 16

    def __init__(self, size: int, pictures: Sequence[Picture], widths: tuple[int, ...] = (96, 96, 32, 16), z_dim: int = 64):
        levels = int(math.log2(size)) - 1
        widths = (widths + widths[-1:] * levels)[:levels]
        self.channels = channels_of(pictures)
        self.generator = equalize(ProGAN(z_dim, widths, self.channels))
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.discriminator = DiscriminatorLearner(GrowingDiscriminator(widths, self.channels))
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=LR, betas=(0.0, 0.99))

    def state(self) -> dict[str, Any]:
        return {
            "generator": self.generator, "ema": self.ema, "optimizer": self.optimizer,
            "discriminator": self.discriminator.network, "d_optimizer": self.discriminator.optimizer,
        }  # fmt: skip

    def step(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        lod = lod_at(progress, len(self.generator.widths))
        self.generator.lod = self.ema.lod = self.discriminator.network.lod = lod
        # A stage begins at the full rate. In the second half of the run it falls.
        factor = cosine(0.03 + 0.97 * max(0.0, 2 * progress - 1))
        real = blur(batch.images[:, : self.channels], lod)
        fake = self.generator(torch.randn(len(real), self.generator.z_dim))
        losses = self.discriminator.learn(real, fake.detach(), step=step, lr_factor=factor)
        loss = self.discriminator.fooled(fake)
        set_lr(self.optimizer, LR * factor)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        update_ema(self.ema, self.generator, step, EMA_DECAY)
        return {**losses, "generator": loss.item(), "lod": lod}

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        z = torch.from_numpy(np.stack([legacy_randn(seed, (self.generator.z_dim,)) for seed in range(48)])).float()
        return to_uint8(self.ema(z), rounding="half_up")

    def facts(self, pictures: Sequence[Picture]) -> dict[str, str]:
        return {"loss": "non-saturating, with R1 (the paper's is WGAN-GP)"}

    @torch.no_grad()
    def checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        names = ProGAN(self.ema.z_dim, self.ema.widths, self.channels).state_dict()
        tensors = {name: getattr(self.ema.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]).half() for name in names}
        return tensors, {"lod": self.ema.lod}


def lod_at(progress: float, levels: int) -> float:
    """How many of the doublings are not in use: whole while a resolution settles, falling in a line while the next one fades in."""
    stage, within = divmod(progress / STAGE, 1)
    return max(levels - 1 - stage - max(0.0, 2 * within - 1), 0.0)


def blur(images: torch.Tensor, lod: float) -> torch.Tensor:
    """`images` as sharp as a generator at `lod` can make them: the same size, in blocks of pixels."""
    whole = math.floor(lod)
    fine, coarse = (F.interpolate(shrink(images, times), images.shape[-1], mode="nearest") for times in (whole, math.ceil(lod)))
    return torch.lerp(fine, coarse, lod - whole)
