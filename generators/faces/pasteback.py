"""Putting a swapped crop back into its picture, as SimSwap does it."""

from __future__ import annotations

import numpy as np

from generators.faces.align import unwarp
from generators.faces.masks import crop_mask


def blend_crop(swapped: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`swapped` where the soft `mask` `[..., H, W]` (see `masks.face_mask`) is one, `target` where it is zero, both `[..., H, W, 3]`."""
    weight = mask[..., None]
    return swapped * weight + target * (1 - weight)


def paste_back(
    image: np.ndarray, swapped: np.ndarray, matrix: np.ndarray, *, threshold: float = 20, erode: int = 40, blur: int = 41
) -> np.ndarray:
    """`image` `uint8` `[H, W, 3]` with the crop `swapped` `[S, S, 3]`, aligned by `matrix`, in its place; `uint8`.

    `swapped` is `uint8`, or float in [0, 1] as networks give it. The edge is softened by `masks.crop_mask`, whose settings are the last
    three. Values are cut, not rounded, to bytes.
    """
    pixels = swapped / np.float32(255) if swapped.dtype == np.uint8 else swapped
    layer = unwarp(pixels.astype(np.float32, copy=False), matrix, image.shape).astype(np.float64) * 255
    mask = crop_mask(matrix, len(swapped), image.shape, threshold=threshold, erode=erode, blur=blur)[..., None]
    return np.clip(mask * layer + (1 - mask) * image, 0, 255).astype(np.uint8)
