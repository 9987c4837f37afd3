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

from generators.demo.pictures import Picture, channels_of
from generators.networks.gan.progan import ProGAN
from generators.training.gan.discriminator import DiscriminatorLearner
from generators.training.gan.growing import GrowingDiscriminator, equalize, shrink
from generators.training.gan.trainer import GANTrainer, samples
from generators.training.loop import Batch, late_cosine

LR = 1e-3
STAGE = 0.08  # of the steps for each resolution below the last one; half of them fade it in


class ProGANTrainer(GANTrainer):
    name = "progan"
    lr = LR

    def __init__(self, size: int, pictures: Sequence[Picture], widths: tuple[int, ...] = (96, 96, 32, 16), z_dim: int = 64):
        levels = int(math.log2(size)) - 1
        widths = (widths + widths[-1:] * levels)[:levels]
        self.channels = channels_of(pictures)
        self.generator = equalize(ProGAN(z_dim, widths, self.channels))
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.discriminator = DiscriminatorLearner(GrowingDiscriminator(widths, self.channels))
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=LR, betas=(0.0, 0.99))

    def step(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        lod = lod_at(progress, len(self.generator.widths))
        self.generator.lod = self.ema.lod = self.discriminator.network.lod = lod
        factor = late_cosine(progress)
        real = blur(batch.images[:, : self.channels], lod)
        fake = self.generator(torch.randn(len(real), self.generator.z_dim))
        return {**self.play(real, fake, step, factor), "lod": lod}

    def sheet(self) -> np.ndarray:
        return samples(self.ema, self.ema.z_dim)

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
