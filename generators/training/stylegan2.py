"""StyleGAN2 (Karras et al. 2020) on few pictures: the non-saturating loss with R1, an averaged generator, and differentiable augmentation
of all that the discriminator sees (Zhao et al. 2020), without which it would know some dozens of pictures by heart."""

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

from generators.images import to_uint8
from generators.networks import stylegan2
from generators.seeding import legacy_randn
from generators.training.loop import Batch, Trainer, cosine, half, set_lr, update_ema
from generators.training.pictures import Picture, channels_of

LR = 2e-3
R1_GAMMA = 0.3
R1_EVERY = 8  # lazy regularisation (appendix B): every so many steps, so many times as strong
EMA_DECAY = 0.998


class StyleGAN2Trainer(Trainer):
    name = "stylegan2"
    batch_size = 16

    def __init__(self, size: int, pictures: Sequence[Picture], channel_max: int = 128):
        self.channels = channels_of(pictures)
        self.config = {
            "z_dim": 64, "c_dim": 0, "w_dim": 128, "img_resolution": size, "img_channels": self.channels,
            "mapping_kwargs": {"num_layers": 2}, "channel_base": 8 * channel_max, "channel_max": channel_max,
        }  # fmt: skip
        self.generator = stylegan2.Generator(**self.config)
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.discriminator = Discriminator(size, self.channels, channel_max)
        # Lazy regularisation changes the effective step of Adam; its betas and rate are corrected for it (appendix B).
        ratio = R1_EVERY / (R1_EVERY + 1)
        self.d_lr = LR * ratio
        self.g_optimizer = torch.optim.Adam(self.generator.parameters(), lr=LR, betas=(0.0, 0.99), eps=1e-8)
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=self.d_lr, betas=(0.0, 0.99**ratio), eps=1e-8)

    def state(self) -> dict[str, Any]:
        return {
            "generator": self.generator, "ema": self.ema, "discriminator": self.discriminator,
            "g_optimizer": self.g_optimizer, "d_optimizer": self.d_optimizer,
        }  # fmt: skip

    def step(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        # Constant for the first half: a GAN follows a moving target, and a rate that falls from the start would stop it short.
        factor = cosine(0.03 + 0.97 * max(0.0, 2 * progress - 1))
        set_lr(self.g_optimizer, LR * factor)
        set_lr(self.d_optimizer, self.d_lr * factor)
        real = batch.images[:, : self.channels]
        ws = self.generator.mapping(torch.randn(len(real), self.config["z_dim"]), update_w_avg=True)
        fake = self.generator.synthesis(ws, noise_mode="random")
        losses = self._learn_discriminator(real, fake.detach(), step)
        losses["generator"] = self._learn_generator(fake)
        update_ema(self.ema, self.generator, step, EMA_DECAY)
        return losses

    def _learn_discriminator(self, real: torch.Tensor, fake: torch.Tensor, step: int) -> dict[str, float]:
        real = augment(real).requires_grad_(step % R1_EVERY == 0)
        on_real, on_fake = self.discriminator(real), self.discriminator(augment(fake))
        loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        losses = {"discriminator": loss.item(), "real_sign": on_real.detach().sign().mean().item()}
        if real.requires_grad:
            (slope,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
            penalty = slope.square().sum((1, 2, 3)).mean()
            loss = loss + penalty * (R1_GAMMA / 2 * R1_EVERY)
            losses["r1"] = penalty.item()
        self.d_optimizer.zero_grad()
        loss.backward()
        self.d_optimizer.step()
        return losses

    def _learn_generator(self, fake: torch.Tensor) -> float:
        self.discriminator.requires_grad_(False)
        loss = F.softplus(-self.discriminator(augment(fake))).mean()
        self.discriminator.requires_grad_(True)
        self.g_optimizer.zero_grad()
        loss.backward()
        self.g_optimizer.step()
        return loss.item()

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        z = torch.from_numpy(np.stack([legacy_randn(seed, (self.config["z_dim"],)) for seed in range(48)])).float()
        return to_uint8(self.ema(z), rounding="half_up")

    def checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return half("", self.ema), self.config


def augment(images: torch.Tensor) -> torch.Tensor:
    """DiffAugment: brightness, contrast, translation by up to an eighth, and a square cut out, drawn for each image alone."""
    count, _, height, width = images.shape
    images = images + (torch.rand(count, 1, 1, 1) - 0.5)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * (torch.rand(count, 1, 1, 1) + 0.5) + mean
    return _cut_out(_translate(images, height // 8), height * 3 // 8, width * 3 // 8)


def _translate(images: torch.Tensor, reach: int) -> torch.Tensor:
    count, channels, height, width = images.shape
    padded = F.pad(images, (reach,) * 4)
    rows = torch.randint(2 * reach + 1, (count, 1)) + torch.arange(height)
    columns = torch.randint(2 * reach + 1, (count, 1)) + torch.arange(width)
    moved = padded.gather(2, rows[:, None, :, None].expand(-1, channels, -1, padded.shape[3]))
    return moved.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))


def _cut_out(images: torch.Tensor, tall: int, wide: int) -> torch.Tensor:
    count, _, height, width = images.shape
    top, left = torch.randint(height, (count, 1)) - tall // 2, torch.randint(width, (count, 1)) - wide // 2
    rows, columns = torch.arange(height), torch.arange(width)
    hit_rows, hit_columns = (rows >= top) & (rows < top + tall), (columns >= left) & (columns < left + wide)
    return images * ~(hit_rows[:, :, None] & hit_columns[:, None, :])[:, None]


class EqualConv(nn.Module):
    """A convolution whose weights are stored as N(0, 1) and scaled when run, so that Adam moves all layers alike."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.gain = 1 / math.sqrt(in_channels * kernel * kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight * self.gain, self.bias, padding=self.weight.shape[-1] // 2)


def activate(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


class DownBlock(nn.Module):
    """Two convolutions and a halving, beside a 1x1 convolution of the halved input."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv0 = EqualConv(in_channels, in_channels, 3)
        self.conv1 = EqualConv(in_channels, out_channels, 3)
        self.skip = EqualConv(in_channels, out_channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = activate(self.conv1(F.avg_pool2d(activate(self.conv0(x)), 2)))
        return (y + self.skip(F.avg_pool2d(x, 2))) * math.sqrt(0.5)


class Discriminator(nn.Module):
    """The residual discriminator, with the spread over the batch as a last map. `[N, channels, size, size]` to logits `[N]`."""

    def __init__(self, size: int, channels: int, channel_max: int):
        super().__init__()
        resolutions = [2**power for power in range(int(math.log2(size)), 2, -1)]
        widths = [min(6 * channel_max // resolution, channel_max) for resolution in [*resolutions, 4]]
        self.first = EqualConv(channels, widths[0], 1)
        self.blocks = nn.Sequential(*(DownBlock(narrow, wide) for narrow, wide in pairwise(widths)))
        self.conv = EqualConv(widths[-1] + 1, widths[-1], 3)
        self.dense = EqualConv(widths[-1] * 16, widths[-1], 1)
        self.out = EqualConv(widths[-1], 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.blocks(activate(self.first(images)))
        x = activate(self.conv(torch.cat([x, _spread(x)], 1)))
        return self.out(activate(self.dense(x.reshape(len(x), -1, 1, 1)))).flatten()


def _spread(x: torch.Tensor, group: int = 4) -> torch.Tensor:
    """One map `[N, 1, H, W]` for each image: the mean standard deviation of the features in its group (Karras et al. 2018, section 3)."""
    count, channels, height, width = x.shape
    group = math.gcd(count, group)
    grouped = x.reshape(group, count // group, channels, height, width)
    deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    return deviation.repeat(group)[:, None, None, None].expand(-1, 1, height, width)
