"""ProGAN (Karras et al. 2018): generator and discriminator grow together from 4 px to the images' size, each doubling faded in.

The loss is the non-saturating one with R1, as in StyleGAN2's trainer, not the paper's WGAN-GP: it needs one pass of the discriminator less
a step, and was the more stable of the two in later work (Mescheder et al. 2018).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from generators.images import to_uint8
from generators.networks.progan import ProGAN
from generators.networks.upsample import upsampling_kernel
from generators.seeding import legacy_randn
from generators.training.discriminator import DiscriminatorLearner, EqualConv, activate, spread
from generators.training.loop import Batch, Trainer, cosine, set_lr, update_ema
from generators.training.pictures import Picture, channels_of

LR = 2e-3
EMA_DECAY = 0.998
STAGE = 0.12  # of the steps for each resolution below the last one; half of them fade it in


class Equalized(nn.Module):
    """A weight stored as N(0, 1) and multiplied by He's constant when used (section 4.1); of a doubling, the kernel of both."""

    def __init__(self, weight: torch.Tensor, gain: float, doubles: bool):
        super().__init__()
        self.shape = (weight.shape[1], weight.shape[0], 3, 3) if doubles else tuple(weight.shape)
        self.scale, self.doubles = gain / math.sqrt(math.prod(self.shape[1:])), doubles

    def forward(self, stored: torch.Tensor) -> torch.Tensor:
        return upsampling_kernel(stored * self.scale) if self.doubles else stored * self.scale

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        return torch.randn(self.shape)


def equalize(network: ProGAN) -> ProGAN:
    """`network` with equalised learning rates: new weights, and no biases, in every layer."""
    layers = [(network.dense, math.sqrt(2) / 4)]  # a quarter, since each latent feeds 4x4 pixels (the authors' code)
    layers += [(layer, math.sqrt(2)) for layer in (*network.ups, *network.convs)] + [(layer, 1.0) for layer in network.to_rgb]
    for layer, gain in layers:
        doubles = isinstance(layer, nn.ConvTranspose2d)
        parametrize.register_parametrization(layer, "weight", Equalized(layer.weight, gain, doubles), unsafe=doubles)
        nn.init.zeros_(layer.bias)
    return network


class HalvingConv(EqualConv):
    """A 3x3 convolution and the mean of 2x2 pixels, as one strided convolution (the authors' `conv2d_downscale2d`)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = F.pad(self.weight * (self.gain / 4), (1, 1, 1, 1))
        kernel = padded[:, :, 1:, 1:] + padded[:, :, :-1, 1:] + padded[:, :, 1:, :-1] + padded[:, :, :-1, :-1]
        return F.conv2d(x, kernel, self.bias, stride=2, padding=1)


class GrowingDiscriminator(nn.Module):
    """The generator's mirror: `[N, channels, size, size]` to logits `[N]`, seeing `lod` halvings fewer than there are."""

    def __init__(self, widths: Sequence[int], channels: int):
        super().__init__()
        self.lod = 0.0
        self.from_rgb = nn.ModuleList(EqualConv(channels, width, 1) for width in widths)
        self.convs = nn.ModuleList(EqualConv(width, width, 3) for width in widths[1:])
        self.downs = nn.ModuleList(HalvingConv(fine, coarse, 3) for coarse, fine in pairwise(widths))
        self.conv = EqualConv(widths[0] + 1, widths[0], 3)
        self.dense = EqualConv(widths[0] * 16, widths[0], 1)
        self.out = EqualConv(widths[0], 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        finest = len(self.downs) - math.floor(self.lod)
        images = shrink(images, math.floor(self.lod)).contiguous(memory_format=torch.channels_last)
        x = activate(self.from_rgb[finest](images))
        for level in range(finest, 0, -1):
            x = activate(self.downs[level - 1](activate(self.convs[level - 1](x))))
            if level == finest and (coarse := self.lod % 1):
                x = torch.lerp(x, activate(self.from_rgb[level - 1](shrink(images, 1))), coarse)
        x = activate(self.conv(torch.cat([x, spread(x)], 1)))
        return self.out(activate(self.dense(x.reshape(len(x), -1, 1, 1)))).flatten()


class ProGANTrainer(Trainer):
    name = "progan"
    batch_size = 16

    def __init__(self, size: int, pictures: Sequence[Picture], widths: tuple[int, ...] = (64, 64, 32, 16), z_dim: int = 64):
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

    @torch.no_grad()
    def checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        names = ProGAN(self.ema.z_dim, self.ema.widths, self.channels).state_dict()
        tensors = {name: getattr(self.ema.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]).half() for name in names}
        return tensors, {"lod": self.ema.lod}


def lod_at(progress: float, levels: int) -> float:
    """How many of the doublings are not in use: whole while a resolution settles, falling in a line while the next one fades in."""
    stage, within = divmod(progress / STAGE, 1)
    return max(levels - 1 - stage - max(0.0, 2 * within - 1), 0.0)


def shrink(images: torch.Tensor, times: int) -> torch.Tensor:
    return images if times == 0 else F.avg_pool2d(images, 2**times)


def blur(images: torch.Tensor, lod: float) -> torch.Tensor:
    """`images` as sharp as a generator at `lod` can make them: the same size, in blocks of pixels."""
    whole = math.floor(lod)
    fine, coarse = (F.interpolate(shrink(images, times), images.shape[-1], mode="nearest") for times in (whole, math.ceil(lod)))
    return torch.lerp(fine, coarse, lod - whole)
