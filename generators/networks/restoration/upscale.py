"""A network that enlarges pictures, on pictures of any size: padding, tiles, depth and channels as Real-ESRGAN's tool has them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from generators.images import LUMA

DEEP = 256  # a picture with a value above this has 16 bits


def upscale(network: Any, pixels: torch.Tensor, *, tile: int = 0, tile_pad: int = 10, pre_pad: int = 0) -> torch.Tensor:
    """RGB float `[N, 3, H, W]` in [0, 1] to `[N, 3, scale * H, scale * W]`, not clamped.

    The picture is padded by reflection at the right and at the bottom: by `pre_pad`, and then to the network's multiple. With `tile`,
    squares of that size are enlarged one by one, each with `tile_pad` pixels of its surroundings, and set side by side without blending.
    """
    height, width = pixels.shape[2:]
    padded = _reflect(pixels, pre_pad, pre_pad)
    padded = _reflect(padded, -padded.shape[2] % network.multiple, -padded.shape[3] % network.multiple)
    enlarged = _in_tiles(network, padded, tile, tile_pad) if tile else network(padded)
    return enlarged[:, :, : height * network.scale, : width * network.scale]


def enhance(network: Any, image: np.ndarray, outscale: float | None = None, **settings: int) -> np.ndarray:
    """A picture `[H, W, 3]` RGB, `[H, W, 4]` RGBA or `[H, W]` grey, `uint8` or `uint16`, enlarged; the result has the same form.

    A grey picture, and the alpha of an RGBA one, go through the network as three equal channels. The depth is read off the largest value,
    as in the original: a `uint16` picture without a value above 256 counts as one of 8 bits. `settings` are those of `upscale`.
    """
    white = 65535 if image.max() > DEEP else 255
    scaled = torch.from_numpy(image.astype(np.float32)) / white
    channels = scaled[None] if scaled.ndim == 2 else scaled.permute(2, 0, 1)
    if len(channels) == 1:
        result = _grey(network, channels, settings)
    elif len(channels) == 4:
        result = torch.cat([_colour(network, channels[:3], settings), _grey(network, channels[3:], settings)])
    else:
        result = _colour(network, channels, settings)
    rounded = (result * white).round().permute(1, 2, 0).cpu().numpy().astype(np.uint16 if white > 255 else np.uint8)
    rounded = rounded[..., 0] if image.ndim == 2 else rounded
    return rounded if outscale is None or outscale == network.scale else resized(rounded, image.shape, outscale)


def resized(image: np.ndarray, before: tuple[int, ...], outscale: float) -> np.ndarray:
    """`image` by Lanczos' filter at `outscale` times the size `before` (height and width first)."""
    size = (int(before[1] * outscale), int(before[0] * outscale))
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_LANCZOS4)


def _colour(network: Any, channels: torch.Tensor, settings: dict[str, int]) -> torch.Tensor:
    parameter = next(network.parameters())
    pixels = channels[None].to(parameter.device, parameter.dtype)
    return upscale(network, pixels, **settings)[0].float().clamp(0, 1)


def _grey(network: Any, channel: torch.Tensor, settings: dict[str, int]) -> torch.Tensor:
    colour = _colour(network, channel.expand(3, -1, -1), settings)
    return torch.tensordot(torch.tensor(LUMA, device=colour.device), colour, 1)[None]


def _reflect(pixels: torch.Tensor, bottom: int, right: int) -> torch.Tensor:
    """Padded by reflection, in several steps where the padding is larger than what there is to reflect."""
    while bottom or right:
        down, aside = min(bottom, pixels.shape[2] - 1), min(right, pixels.shape[3] - 1)
        if (bottom and not down) or (right and not aside):  # a single row or column has nothing but itself
            return F.pad(pixels, (0, right, 0, bottom), mode="replicate")
        pixels = F.pad(pixels, (0, aside, 0, down), mode="reflect")
        bottom, right = bottom - down, right - aside
    return pixels


def _in_tiles(network: Any, pixels: torch.Tensor, tile: int, tile_pad: int) -> torch.Tensor:
    count, channels, height, width = pixels.shape
    scale = network.scale
    result = pixels.new_empty(count, channels, height * scale, width * scale)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            above, before = max(top - tile_pad, 0), max(left - tile_pad, 0)
            window = pixels[:, :, above : min(bottom + tile_pad, height), before : min(right + tile_pad, width)]
            odd = -window.shape[2] % network.multiple, -window.shape[3] % network.multiple
            enlarged = network(_reflect(window, *odd))
            rows = slice((top - above) * scale, (bottom - above) * scale)
            columns = slice((left - before) * scale, (right - before) * scale)
            result[:, :, top * scale : bottom * scale, left * scale : right * scale] = enlarged[:, :, rows, columns]
    return result
