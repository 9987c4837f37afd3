"""Multi-scale facial swap (Dong et al. 2023, section 3.4): fakes in which only part of a face, or all of it, is exchanged."""

from __future__ import annotations

import cv2
import numpy as np

from ntf_model.recipes.blending import bend_mask

WINDOWS = ((40, 80), (80, 120), (120, 160), (224, 224))  # height and width of a swapped part, in pixels of a 224 px face
MIN_CHANGED = 40 * 40 * 3  # values with a visible difference that a partial swap must leave
VISIBLE = 1e-3


def hull(landmarks: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator | None = None) -> np.ndarray:
    """255 in the convex hull of the landmarks, `uint8` `[H, W, 3]`; with `rng` bent elastically every second time."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [cv2.convexHull(np.asarray(landmarks).astype(np.int32))], (255, 255, 255))
    if rng is not None and rng.random() > 0.5:
        mask = bend_mask(mask, alpha=float(rng.integers(300, 501)), sigma=shape[0] * 0.08, rng=rng)
    return mask


def dssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural dissimilarity (1 - SSIM) / 2 at every value of two `uint8` `[H, W, 3]`, with SSIM's 11 px Gaussian window."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    kernel = cv2.getGaussianKernel(11, 1.5)
    mean_a, mean_b, square_a, square_b, product = (cv2.sepFilter2D(x, -1, kernel, kernel) for x in (a, b, a * a, b * b, a * b))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    var_a, var_b, cov = square_a - mean_a**2, square_b - mean_b**2, product - mean_a * mean_b
    ssim = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return np.abs(1 - ssim) / 2


def densest_window(difference: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the window with the largest sum of `difference` `[H, W, 3]`, among places a fifth of the side apart."""
    rows, columns = difference.shape[:2]
    height, width = min(height, rows), min(width, columns)
    best, place = -1.0, (0, 0)
    for top in range(0, rows - height + 1, max(1, rows // 5)):
        for left in range(0, columns - width + 1, max(1, columns // 5)):
            total = float(difference[top : top + height, left : left + width].sum())
            if total > best:
                best, place = total, (left, top)
    left, top = place
    return left, top, left + width, top + height


def paste(patch: np.ndarray, onto: np.ndarray, mask: np.ndarray, poisson: bool) -> np.ndarray:
    """`patch` on `onto` (`uint8` `[H, W, 3]`) where `mask` is 255: by Poisson blending (Perez et al. 2003), or through a softened mask."""
    inside = np.argwhere(mask[..., 0])
    if poisson and len(inside):
        low, high = inside.min(0), inside.max(0)
        center = (int(low[1] + high[1]) // 2, int(low[0] + high[0]) // 2)
        try:
            return cv2.seamlessClone(patch, onto, mask, center, cv2.NORMAL_CLONE)
        except cv2.error:  # a mask that touches the border cannot be cloned: alpha blending can do it
            pass
    weight = cv2.GaussianBlur(mask, (5, 5), 3).astype(np.float32) / 255
    return np.rint(weight * patch + (1 - weight) * onto).astype(np.uint8)


def swap(
    patch: np.ndarray, onto: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator, window: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """The face (or, with `window`, the most different part of it) of `patch` on `onto`, both `uint8` `[S, S, 3]` with the same landmarks.

    Returns the picture and the boxes `[1 or 2, 4]` of what is fake, in pixels (the whole face always, then the part); None if a part was
    to be swapped and the two look alike there.
    """
    size = onto.shape[0]
    poisson = bool(rng.random() >= 0.5)
    whole = [0, 0, size, size]
    if window is None:
        return paste(patch, onto, hull(landmarks, onto.shape, rng), poisson), np.array([whole], np.float32)
    mask = hull(landmarks, onto.shape)
    difference = dssim(patch, onto)
    difference[mask == 0] = 0
    height, width = (max(1, side * size // 224) for side in window)
    left, top, right, bottom = densest_window(difference, height, width)
    if np.sum(difference[top:bottom, left:right] > VISIBLE) <= MIN_CHANGED * (size / 224) ** 2:
        return None
    part = np.zeros_like(mask)
    part[top:bottom, left:right] = 255
    return paste(patch, onto, part, poisson), np.array([whole, [left, top, right, bottom]], np.float32)
