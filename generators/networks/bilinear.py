"""Bilinear doubling followed by a 3x3 convolution, as one convolution on the small map.

Each pixel of the doubled map is a fixed mix of two neighbours along each axis, so each of the four pixels that a small pixel becomes is a
3x3 convolution of the small map, with a kernel of its own. Those four go through one convolution with four times the channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from generators.networks.winograd import WinogradConv

# How the kernel's three taps (columns) fall on three small pixels (rows), for the first and the second of two doubled pixels.
PHASES = torch.tensor([
    [[0.75, 0.25, 0.0], [0.25, 0.75, 0.75], [0.0, 0.0, 0.25]],
    [[0.25, 0.0, 0.0], [0.75, 0.75, 0.25], [0.0, 0.25, 0.75]],
], dtype=torch.float64)  # fmt: skip


class BilinearUpConv(nn.Module):
    """Made from a 3x3 `nn.Conv2d` with zero padding of one that follows a bilinear doubling (corners not aligned): float `[N, C, H, W]` to
    `[N, O, 2H, 2W]`, the same numbers, from Winograd products on the small map."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        weight = torch.einsum("pak,ockl,qbl->opqcab", PHASES, conv.weight.detach().double(), PHASES).flatten(0, 2)
        phases = nn.Conv2d(conv.in_channels, 4 * conv.out_channels, 3)
        phases.weight = nn.Parameter(weight.float(), requires_grad=False)
        phases.bias = nn.Parameter(conv.bias.detach().repeat_interleave(4), requires_grad=False)
        self.phases = WinogradConv(phases)
        self.conv = conv  # for the border

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.pixel_shuffle(self.phases(F.pad(x, (1, 1, 1, 1), mode="replicate")), 2)
        # Doubling repeats the last pixel outwards, the convolution sees zeros there: the outermost ring is made the plain way.
        out[:, :, 0] = self._direct(x[:, :, :2])[:, :, 0]
        out[:, :, -1] = self._direct(x[:, :, -2:])[:, :, -1]
        out[:, :, :, 0] = self._direct(x[:, :, :, :2])[:, :, :, 0]
        out[:, :, :, -1] = self._direct(x[:, :, :, -2:])[:, :, :, -1]
        return out

    def _direct(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
