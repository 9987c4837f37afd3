"""The StyleGAN2 decoder of GFPGAN's "clean" networks: no FIR filters, no equalised learning rate, features steered from outside.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), with what GFPGAN (Wang et al., CVPR 2021, section 3.4) adds:
after the first convolution of each size, channels are scaled and shifted by maps that the U-Net made ("CS-SFT").
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
import torch.nn.functional as F
from torch import nn

DEMODULATION_EPS = 1e-8
SLOPE = 0.2


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by the style. Scaling the activations instead of the weights serves a whole batch."""

    def __init__(self, before: int, after: int, kernel: int, num_style_feat: int, demodulate: bool):
        super().__init__()
        self.modulation = nn.Linear(num_style_feat, before)
        self.weight = nn.Parameter(torch.empty(1, after, before, kernel, kernel))
        self.demodulate = demodulate

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        scale = self.modulation(style)
        weight = self.weight[0]
        y = F.conv2d(x * scale[:, :, None, None], weight, padding=weight.shape[-1] // 2)
        if not self.demodulate:
            return y
        norm = scale.float().square() @ weight.float().square().sum((2, 3)).T  # in float16 squares overflow, and epsilon is 0
        return y * torch.rsqrt(norm + DEMODULATION_EPS).to(y.dtype)[:, :, None, None]


class StyleConv(nn.Module):
    """A modulated 3x3 convolution, after doubling the size where `enlarging`; then noise, bias and the activation.

    `weight` is the strength of the noise: the releases call it so.
    """

    def __init__(self, before: int, after: int, num_style_feat: int, enlarging: bool):
        super().__init__()
        self.modulated_conv = ModulatedConv(before, after, 3, num_style_feat, demodulate=True)
        self.weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, after, 1, 1))
        self.enlarging = enlarging

    def forward(self, x: torch.Tensor, style: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        y = self.modulated_conv(_doubled(x) if self.enlarging else x, style) * sqrt(2)
        return F.leaky_relu(y + self.weight * noise + self.bias, SLOPE, inplace=True)


class ToRGB(nn.Module):
    """The picture at one size: a modulated 1x1 convolution plus the picture of the size before."""

    def __init__(self, before: int, num_style_feat: int):
        super().__init__()
        self.modulated_conv = ModulatedConv(before, 3, 1, num_style_feat, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: torch.Tensor, style: torch.Tensor, smaller: torch.Tensor | None = None) -> torch.Tensor:
        rgb = self.modulated_conv(x, style) + self.bias
        return rgb if smaller is None else rgb + _doubled(smaller)


class Noises(nn.Module):
    """The stored noise: `noise0` at 4 px, then two for each size."""

    def __init__(self, sizes: int):
        super().__init__()
        for index in range(2 * sizes - 1):
            side = 4 * 2 ** ((index + 1) // 2)
            self.register_buffer(f"noise{index}", torch.zeros(1, 1, side, side))


class Constant(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, channels, 4, 4))


class Normalise(nn.Module):
    """The style's second moment to one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + DEMODULATION_EPS)


class Decoder(nn.Module):
    """`widths` are the channels at 4, 8, 16, ... px. `sft_half` steers the second half of the channels, and all of them otherwise."""

    def __init__(self, widths: Sequence[int], num_style_feat: int, num_mlp: int, sft_half: bool):
        super().__init__()
        layers: list[nn.Module] = [Normalise()]
        for _ in range(num_mlp):
            layers += [nn.Linear(num_style_feat, num_style_feat), nn.LeakyReLU(SLOPE)]
        self.style_mlp = nn.Sequential(*layers)
        self.constant_input = Constant(widths[0])
        self.style_conv1 = StyleConv(widths[0], widths[0], num_style_feat, enlarging=False)
        self.to_rgb1 = ToRGB(widths[0], num_style_feat)
        self.style_convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for before, after in pairwise(widths):
            self.style_convs.append(StyleConv(before, after, num_style_feat, enlarging=True))
            self.style_convs.append(StyleConv(after, after, num_style_feat, enlarging=False))
            self.to_rgbs.append(ToRGB(after, num_style_feat))
        self.noises = Noises(len(widths))
        self.sft_half = sft_half
        self.style_count = 2 * len(widths)

    def noise_shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the noise maps, in the order in which `forward` takes them."""
        return [tuple(buffer.shape[1:]) for buffer in self.noises.buffers()]

    def forward(
        self, styles: torch.Tensor, conditions: Sequence[tuple[torch.Tensor, torch.Tensor]], noise: Sequence[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Styles `[N, style_count, num_style_feat]` and (scale, shift) for each size from 8 px on, to RGB `[N, 3, H, W]`, nominally in
        [-1, 1]. `noise` replaces the stored noise; each map is `[N, 1, side, side]`."""
        noise = list(self.noises.buffers()) if noise is None else noise
        x = self.constant_input.weight.expand(len(styles), -1, -1, -1)
        x = self.style_conv1(x, styles[:, 0], noise[0])
        rgb = self.to_rgb1(x, styles[:, 1])
        for index, (scale, shift) in enumerate(conditions):
            at = 2 * index
            x = self._steered(self.style_convs[at](x, styles[:, at + 1], noise[at + 1]), scale, shift)
            x = self.style_convs[at + 1](x, styles[:, at + 2], noise[at + 2])
            rgb = self.to_rgbs[index](x, styles[:, at + 3], rgb)
        return rgb

    def _steered(self, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        if not self.sft_half:
            return x * scale + shift
        kept, steered = x.chunk(2, 1)
        return torch.cat([kept, steered * scale + shift], 1)


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
