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
    image: np.ndarray,
    swapped: np.ndarray,
    matrix: np.ndarray,
    *,
    target: np.ndarray | None = None,
    threshold: float = 20,
    erode: int = 40,
    blur: int = 41,
) -> np.ndarray:
    """`image` `uint8` `[H, W, 3]` with the crop `swapped` `[S, S, 3]`, aligned by `matrix`, in its place; `uint8`.

    Crops are `uint8`, or float in [0, 1] as networks give it. The edge is softened by `masks.crop_mask`, whose settings are the last three.
    With `target`, the crop as it was before the swap, only what the swap changed is added to the picture: detail finer than the crop stays,
    and a swap that changed nothing gives the picture itself. Without, as in SimSwap, the crop replaces what was there, and values are cut,
    not rounded, to bytes.
    """
    mask = crop_mask(matrix, len(swapped), image.shape, threshold=threshold, erode=erode, blur=blur)[..., None]
    if target is not None:
        change = unwarp(_unit_range(swapped) - _unit_range(target), matrix, image.shape)
        return np.clip(np.rint(image + mask * change * 255.0), 0, 255).astype(np.uint8)
    layer = unwarp(_unit_range(swapped), matrix, image.shape).astype(np.float64) * 255
    return np.clip(mask * layer + (1 - mask) * image, 0, 255).astype(np.uint8)


def _unit_range(crop: np.ndarray) -> np.ndarray:
    return crop / np.float32(255) if crop.dtype == np.uint8 else crop.astype(np.float32, copy=False)
