"""Putting a swapped crop back into its picture, as SimSwap does it."""

from __future__ import annotations

import numpy as np

from generators.faces.masks import crop_mask_window
from generators.faces.unwarping import Window, unwarp_window


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
    return paste_window(image, swapped, matrix, target=target, threshold=threshold, erode=erode, blur=blur)[0]


def paste_window(
    image: np.ndarray,
    swapped: np.ndarray,
    matrix: np.ndarray,
    *,
    target: np.ndarray | None = None,
    threshold: float = 20,
    erode: int = 40,
    blur: int = 41,
) -> tuple[np.ndarray, Window, np.ndarray]:
    """`paste_back`, the window of the picture in which it may change something, and the soft mask float64 `[h, w]` in that window.

    The work is that of the window, whatever the size of the picture; the rest of the picture is copied.
    """
    window, mask = crop_mask_window(matrix, len(swapped), image.shape, threshold=threshold, erode=erode, blur=blur)
    weight, below = mask[..., None], window.of(image)
    if target is not None:
        change = unwarp_window(_unit_range(swapped) - _unit_range(target), matrix, window, image.shape)
        inside = np.clip(np.rint(below + weight * change * 255.0), 0, 255)
    else:
        layer = unwarp_window(_unit_range(swapped), matrix, window, image.shape).astype(np.float64) * 255
        inside = np.clip(weight * layer + (1 - weight) * below, 0, 255)
    picture = np.array(image)
    window.of(picture)[:] = inside.astype(np.uint8)
    return picture, window, mask


def _unit_range(crop: np.ndarray) -> np.ndarray:
    return crop / np.float32(255) if crop.dtype == np.uint8 else crop.astype(np.float32, copy=False)
