"""Pictures as data URIs, and several of them as one sheet."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np

from pipelines.images import fit

GAP = 2
TILE = 96  # the largest side of a picture on a sheet; smaller images keep their own pixels
LOSSLESS = 101  # as OpenCV says it


def contact_sheet(images: Sequence[np.ndarray], columns: int = 8) -> str:
    """A grid of `uint8` RGB images as a data URI (lossless WebP), each at its own size or at most `TILE` px."""
    side = min(TILE, max(image.shape[0] for image in images))
    rows = -(-len(images) // columns)
    columns = min(columns, len(images))
    sheet = np.full((rows * (side + GAP) - GAP, columns * (side + GAP) - GAP, 3), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = (place // columns) * (side + GAP), (place % columns) * (side + GAP)
        sheet[top : top + side, left : left + side] = fit(image, side)
    return data_uri(sheet)


def difference(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The absolute difference of two pictures, in grey and four times as strong."""
    side = min(len(image), len(target))
    change = np.abs(fit(image, side).astype(np.int16) - fit(target, side)).mean(-1)
    return np.repeat(np.clip(change * 4, 0, 255).astype(np.uint8)[..., None], 3, -1)


def data_uri(image: np.ndarray, quality: int = LOSSLESS) -> str:
    """A `uint8` RGB image as a WebP data URI, lossless or at a `quality` of 1 to 100."""
    _, data = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()
