"""From a network's floats to `uint8` RGB pictures `[N, H, W, 3]`, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch

from generators import half
from generators.errors import CheckpointError, InputError
from generators.transfer import Fetched, constant, crosses, fetch, send

Rounding = Literal["nearest", "floor", "half_up"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow makes grey from RGB


def to_uint8(pixels: torch.Tensor, low: float = -1.0, high: float = 1.0, rounding: Rounding = "nearest") -> np.ndarray:
    """Float `[N, 3, H, W]` (or one channel, repeated) with black at `low` and white at `high`, to `uint8` `[N, H, W, 3]`.

    `rounding` is how the official code of a method makes its PNG, because that decides pixels: "nearest" is `round(255 u)` (diffusers),
    "floor" is `floor(255 u)` (taming-transformers), "half_up" is `floor(127.5 x + 128)` (NVIDIA; for the range [-1, 1]).
    Not-a-number becomes black here, once it was noted for who watches (`half`); `pipelines` rejects such an image before it is written.
    """
    return _rounded(pixels, low, high, rounding).cpu().numpy()


def fetch_uint8(
    pixels: torch.Tensor | Iterable[torch.Tensor], low: float = -1.0, high: float = 1.0, rounding: Rounding = "nearest"
) -> np.ndarray | Fetched:
    """`to_uint8` for a method that is done with its batch: a GPU sends the pixels while it makes the next one. `pixels` may be parts of
    the batch, which are rounded as they come, so that only one of them need be there as floats."""
    parts = [pixels] if isinstance(pixels, torch.Tensor) else pixels
    rounded = torch.cat([_rounded(part, low, high, rounding) for part in parts])
    return fetch(rounded) if crosses(rounded.device) else rounded.cpu().numpy()


def _rounded(pixels: torch.Tensor, low: float, high: float, rounding: Rounding) -> torch.Tensor:
    """`uint8` `[N, H, W, 3]`, still on the device."""
    scaled = (pixels.float() - low) * (255.0 / (high - low))
    if rounding == "nearest":
        scaled = scaled.round()
    elif rounding == "half_up":
        scaled = scaled + 0.5
    half.note(scaled)
    out = scaled.nan_to_num(0.0).clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return (out.expand(-1, -1, -1, 3) if out.shape[-1] == 1 else out).contiguous()


def to_float(images: np.ndarray, low: float = -1.0, high: float = 1.0, device: str | torch.device = "cpu") -> torch.Tensor:
    """`uint8` `[N, H, W, 3]` to float32 `[N, 3, H, W]` with black at `low` and white at `high`."""
    pixels = send(torch.from_numpy(np.array(images, order="C")), device)  # a copy, because torch takes no view that runs backwards
    pixels = pixels.permute(0, 3, 1, 2).float()
    return pixels * ((high - low) / 255.0) + low


def check_images(images: np.ndarray, count: int, source: str) -> np.ndarray:
    """`images` if they are `uint8` RGB `[count, H, W, 3]`; otherwise a TypeError that names `source`."""
    if not (isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4 and images.shape[-1] == 3):
        dtype, shape = getattr(images, "dtype", type(images).__name__), getattr(images, "shape", None)
        raise TypeError(f"{source} must give uint8 RGB [N, H, W, 3], not {dtype} {shape}")
    if len(images) != count:
        raise TypeError(f"{source} must give as many images as seeds ({count}), not {len(images)}")
    return images


def require_colours(channels: int, source: str) -> None:
    """CheckpointError if a network of so many channels makes no pictures, RGB or grey: one with an alpha channel, of depth, of labels."""
    if channels not in (1, 3):
        what = " (RGBA)" if channels == 4 else ""
        raise CheckpointError(f"{source} makes images of {channels} channels{what}, and pictures have 3 or 1", "Give one that makes RGB")


def require_size(images: np.ndarray, size: int, name: str) -> None:
    """InputError if `images` are not `size` pixels a side: how to resize is the pipeline's choice, because it decides pixels."""
    if images.shape[1:3] != (size, size):
        raise InputError(f"{name} reworks images of {size}x{size} pixels, not {images.shape[2]}x{images.shape[1]}", "Resize them first")


def luminance(images: torch.Tensor) -> torch.Tensor:
    """`[N, 1, H, W]` of RGB float `[N, 3, H, W]`."""
    return torch.tensordot(images, constant(LUMA, images.device, torch.float32), dims=([1], [0])).unsqueeze(1)


def imagenet_normalise(pixels: torch.Tensor) -> torch.Tensor:
    """RGB float `[N, 3, H, W]` in [0, 1] to zero mean and unit variance over ImageNet."""
    return (pixels - _rgb(IMAGENET_MEAN, pixels)) / _rgb(IMAGENET_STD, pixels)


def imagenet_restore(pixels: torch.Tensor) -> torch.Tensor:
    """The inverse of `imagenet_normalise`."""
    return pixels * _rgb(IMAGENET_STD, pixels) + _rgb(IMAGENET_MEAN, pixels)


def _rgb(values: tuple[float, float, float], like: torch.Tensor) -> torch.Tensor:
    return constant(values, like.device, like.dtype)[:, None, None]
