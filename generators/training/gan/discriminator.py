"""The discriminator of the small GANs, and what it takes to train one on few pictures: R1, and differentiable augmentation of all that it
sees (Zhao et al. 2020), without which it would know some dozens of pictures by heart."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from generators.training.loop import set_lr

LR = 5e-3  # of weights stored as N(0, 1); higher than the paper's 2e-3, since a run is a few thousand steps
R1_GAMMA = 0.02
R1_EVERY = 8  # lazy regularisation (StyleGAN2, appendix B): every so many steps, so many times as strong


class DiscriminatorLearner:
    """A discriminator with its optimiser, and both sides of the non-saturating game."""

    def __init__(self, network: nn.Module):
        self.network = network
        # Lazy regularisation changes the effective step of Adam; its betas and rate are corrected for it.
        ratio = R1_EVERY / (R1_EVERY + 1)
        self.lr = LR * ratio
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.lr, betas=(0.0, 0.99**ratio))

    def learn(self, real: torch.Tensor, fake: torch.Tensor, *, step: int, lr_factor: float) -> dict[str, float]:
        """Tells `real` from `fake` (`[N, channels, size, size]` in [-1, 1], detached) a little better. Returns losses."""
        seen, *rest = self.show(real)
        seen.requires_grad_(step % R1_EVERY == 0)
        on_real, on_fake = self.network(seen, *rest), self.network(*self.show(fake))
        loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        losses = {"discriminator": loss.item(), "real_sign": on_real.detach().sign().mean().item()}
        if seen.requires_grad:
            (slope,) = torch.autograd.grad(on_real.sum(), seen, create_graph=True)
            penalty = slope.square().sum((1, 2, 3)).mean()
            loss = loss + penalty * (R1_GAMMA / 2 * R1_EVERY)
            losses["r1"] = penalty.item()
        set_lr(self.optimizer, self.lr * lr_factor)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return losses

    def fooled(self, fake: torch.Tensor) -> torch.Tensor:
        """The generator's loss: small when `fake` passes for real. What its gradient leaves here, `learn` clears."""
        return F.softplus(-self.network(*self.show(fake))).mean()

    def show(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the network is called with to judge `images`: altered images, and whatever else it is to know."""
        return (augment(images),)


def augment(images: torch.Tensor) -> torch.Tensor:
    """DiffAugment: brightness, contrast, translation by up to an eighth, and a square cut out, drawn for each image alone."""
    count, _, height, width = images.shape
    images = images + (torch.rand(count, 1, 1, 1) - 0.5) * 0.5
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * (torch.rand(count, 1, 1, 1) * 0.5 + 0.75) + mean
    return _cut_out(_translate(images, height // 8), height // 4, width // 4)


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
        widths = [min(8 * channel_max // resolution, channel_max) for resolution in [*resolutions, 4]]
        self.first = EqualConv(channels, widths[0], 1)
        self.blocks = nn.Sequential(*(DownBlock(narrow, wide) for narrow, wide in pairwise(widths)))
        self.conv = EqualConv(widths[-1] + 1, widths[-1], 3)
        self.dense = EqualConv(widths[-1] * 16, widths[-1], 1)
        self.out = EqualConv(widths[-1], 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.out(self.summary(images)).flatten()

    def summary(self, images: torch.Tensor) -> torch.Tensor:
        """`[N, widths, 1, 1]`: all that the logits are made of."""
        x = self.features(images)
        x = activate(self.conv(torch.cat([x, spread(x)], 1)))
        return activate(self.dense(x.reshape(len(x), -1, 1, 1)))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """`[N, widths, 4, 4]`: what is where, without the finest detail."""
        return self.blocks(activate(self.first(images)))


def spread(x: torch.Tensor, group: int = 4) -> torch.Tensor:
    """One map `[N, 1, H, W]` for each image: the mean standard deviation of the features in its group (Karras et al. 2018, section 3)."""
    count, channels, height, width = x.shape
    group = math.gcd(count, group)
    grouped = x.reshape(group, count // group, channels, height, width)
    deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    return deviation.repeat(group)[:, None, None, None].expand(-1, 1, height, width)
