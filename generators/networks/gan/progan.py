"""ProGAN's generator (Karras et al. 2018, "Progressive Growing of GANs", table 2), in the one form that every release comes down to.

The releases differ in how they scale weights and in how they upsample, not in what they compute. Here He's constant is part of the weights
and nearest upsampling is part of the convolution after it; `progan_layouts` brings the released files to this form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from generators.networks.upsample import UpsamplingConv

WIDTHS_1024 = (512, 512, 512, 512, 256, 128, 64, 32, 16)  # channels at 4, 8, ... 1024 px in the paper; fewer entries for less

OFFICIAL_SIZES = {
    "progan-celebahq-256": {"z_dim": 512, "widths": WIDTHS_1024[:7]},
    "progan-celebahq-1024": {"z_dim": 512, "widths": WIDTHS_1024},
}


class ProGAN(nn.Module):
    """`widths[i]` channels at `4 * 2**i` px. `lod` is how many of the last doublings are not yet in use (a fraction blends two
    resolutions); a finished network has 0."""

    def __init__(
        self,
        z_dim: int,
        widths: Sequence[int],
        image_channels: int = 3,
        label_size: int = 0,
        leak: float = 0.2,
        lod: float = 0.0,
        final_tanh: bool = False,
    ):
        super().__init__()
        self.z_dim, self.label_size, self.leak, self.lod, self.final_tanh = z_dim, label_size, leak, lod, final_tanh
        self.widths = tuple(widths)
        self.dense = nn.Linear(z_dim + label_size, 16 * self.widths[0])
        self.ups = nn.ModuleList(UpsamplingConv(before, width) for before, width in zip(self.widths, self.widths[1:], strict=False))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in self.widths)
        self.to_rgb = nn.ModuleList(nn.Conv2d(width, image_channels, 1) for width in self.widths)

    @property
    def resolution(self) -> int:
        """Height and width of the images, in pixels."""
        return 4 * 2 ** (len(self.widths) - 1)

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None, lod: float | None = None) -> torch.Tensor:
        """Images `[N, image_channels, R, R]`, nominally in [-1, 1] and not clamped, of latents `[N, z_dim]` from N(0, 1) and, for a
        conditional network, one-hot labels `[N, label_size]`. `lod` takes the place of the network's own."""
        lod = self.lod if lod is None else lod
        last = len(self.widths) - 1
        if not 0 <= lod <= last:
            raise ValueError(f"lod is {lod}, but this network has levels of detail from 0 to {last}")
        z = _unit(z)
        if labels is not None:
            z = _unit(torch.cat([z, labels], dim=1))
        x = F.leaky_relu_(self.dense(z), self.leak).view(len(z), self.widths[0], 4, 4)
        x = pixel_norm(x.contiguous(memory_format=torch.channels_last))
        finest = last - math.floor(lod)  # the last block in use
        for level in range(finest + 1):
            if level:
                before = x
                x = pixel_norm(F.leaky_relu_(self.ups[level - 1](x), self.leak))
            x = pixel_norm(F.leaky_relu_(self.convs[level](x), self.leak))
        image = self.to_rgb[finest](x)
        if coarse := lod - math.floor(lod):
            image = torch.lerp(image, _double(self.to_rgb[finest - 1](before)), coarse)
        image = _double(image, last - finest)
        return image.tanh() if self.final_tanh else image


def pixel_norm(x: torch.Tensor) -> torch.Tensor:
    """`x` `[N, C, H, W]` over the root mean square of each pixel's channels (eq. in section 4.2, epsilon 1e-8). In place where no gradient
    is wanted: at high resolutions writing a second copy costs more than the arithmetic. The mean is a float32 number: in float16 the sum of
    512 squares overflows where they are 128, and epsilon is 0."""
    mean_square = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32).square().mul_(1 / x.shape[1])
    scale = mean_square.add_(1e-8).rsqrt_()
    return (x * scale).to(x.dtype) if torch.is_grad_enabled() else x.mul_(scale)


def _unit(z: torch.Tensor) -> torch.Tensor:
    return z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def _double(image: torch.Tensor, times: int = 1) -> torch.Tensor:
    return image if times == 0 else F.interpolate(image, scale_factor=2**times, mode="nearest")
