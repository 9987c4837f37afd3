"""Resampling with a small filter, as StyleGAN's networks do it between resolutions ("upfirdn": upsample, filter, downsample).

Upsampling by two needs no zeros put between the samples: a transposed convolution of stride two computes the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def make_filter(taps: Sequence[float]) -> torch.Tensor:
    """The filter `[K, K]` that `taps` spans, of sum one. `[1, 3, 3, 1]` is StyleGAN2's."""
    line = torch.as_tensor(taps, dtype=torch.float32)
    square = torch.outer(line, line)
    return square / square.sum()


def upsample2(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """`[N, C, H, W]` to `[N, C, 2H, 2W]`, smoothed by `kernel` `[K, K]` (K > 1), brightness kept."""
    channels, height, width = x.shape[1:]
    taps = kernel.shape[-1]
    weight = (4 * kernel).to(x.dtype).expand(channels, 1, taps, taps)
    out = F.conv_transpose2d(x, weight, stride=2, padding=taps - 1 - (taps + 1) // 2, groups=channels)
    return out[:, :, : 2 * height, : 2 * width]


def smooth(x: torch.Tensor, kernel: torch.Tensor, gain: float, padding: tuple[int, int]) -> torch.Tensor:
    """`x` `[N, C, H, W]` convolved with `gain * kernel` `[K, K]`, each channel alone, after `padding` zeros before and after."""
    channels, taps = x.shape[1], kernel.shape[-1]
    weight = (gain * kernel).flip((0, 1)).to(x.dtype).expand(channels, 1, taps, taps)
    before, after = padding
    if before == after:
        return F.conv2d(x, weight, padding=before, groups=channels)
    return F.conv2d(F.pad(x, (before, after, before, after)), weight, groups=channels)
