"""What a picture looks like as a whole: colour, light, sharpness, and how large its subject is. Nothing of it is forgery."""

from __future__ import annotations

import numpy as np

from pipelines.audit.families import Family

LUMA = np.array([0.299, 0.587, 0.114])
SIDE = 256  # px to which a larger picture is thinned out
EDGES = 0.9  # the quantile of gradients above which a pixel lies on an edge


def read_appearance(pixels: np.ndarray) -> Family:
    """Features of `uint8` RGB `[H, W, 3]`: `colourfulness` (Hasler and Suesstrunk 2003, section 6), `brightness` and `contrast` (mean and
    standard deviation of the luma, 0..255), `sharpness` (logarithm of the variance of the Laplacian), and `subject` (how far the strongest
    edges are spread around their middle, as a part of the picture's sides).
    """
    step = max(1, -(-max(pixels.shape[:2]) // SIDE))
    thinned = pixels[::step, ::step].astype(np.float64)
    luma = thinned @ LUMA
    red_green = thinned[..., 0] - thinned[..., 1]
    yellow_blue = (thinned[..., 0] + thinned[..., 1]) / 2 - thinned[..., 2]
    spread = np.hypot(red_green.std(), yellow_blue.std())
    colourfulness = spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean())
    return {
        "colourfulness": float(colourfulness),
        "brightness": float(luma.mean()),
        "contrast": float(luma.std()),
        "sharpness": float(np.log1p(_laplacian(pixels).var())),
        "subject": _subject(luma),
    }


def _laplacian(pixels: np.ndarray) -> np.ndarray:
    """Of the luma of the middle, at most `SIDE` px a side, in the picture's own resolution."""
    top, left = (max(0, side - SIDE) // 2 for side in pixels.shape[:2])
    luma = pixels[top : top + SIDE, left : left + SIDE].astype(np.float64) @ LUMA
    if min(luma.shape) < 3:
        return np.zeros((1, 1))
    return 4 * luma[1:-1, 1:-1] - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]


def _subject(luma: np.ndarray) -> float:
    if min(luma.shape) < 3:
        return 0.0
    down, across = np.gradient(luma)
    strength = np.hypot(down, across)
    rows, columns = np.nonzero(strength >= max(1e-9, np.quantile(strength, EDGES)))
    if not len(rows):
        return 0.0
    return float(np.hypot(rows.std() / luma.shape[0], columns.std() / luma.shape[1]))
