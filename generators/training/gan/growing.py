"""ProGAN's networks in training (Karras et al. 2018): equalised learning rates and a growing discriminator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from generators.networks.gan.progan import ProGAN
from generators.networks.upsample import upsampling_kernel
from generators.training.gan.discriminator import EqualConv, activate, spread


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


def shrink(images: torch.Tensor, times: int) -> torch.Tensor:
    return images if times == 0 else F.avg_pool2d(images, 2**times)
