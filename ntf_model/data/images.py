"""Pictures in and out without a change that a forensic detector would notice, and two that it would: blur and JPEG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from foreign import pictures

IMAGE_SUFFIXES = pictures.SUFFIXES


def read_image(source: Path | bytes, name: str = "") -> np.ndarray:
    """A picture as `uint8` RGB `[H, W, 3]`, by the one decoder of the project (`foreign.pictures.decode_fully` says how).

    `source` is a file or its bytes; `name` is what an error calls it. Raises InputError if it is not a whole, readable picture.
    """
    data = pictures.read_bytes(source) if isinstance(source, Path) else source
    return pictures.decode(data, name or (str(source) if isinstance(source, Path) else "the picture"))


def reflect_to(image: np.ndarray, size: int) -> np.ndarray:
    """`[H, W, 3]` grown by reflection to at least `size` on both sides; a picture that is large enough comes back as it is.

    Resizing would low-pass the very traces that are looked for; reflection keeps every pixel and its neighbours.
    """
    height, width = image.shape[:2]
    below, right = max(0, size - height), max(0, size - width)
    if not below and not right:
        return image
    return np.pad(image, ((below // 2, below - below // 2), (right // 2, right - right // 2), (0, 0)), mode="symmetric")


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The middle `[size, size, 3]` of a picture, reflected first where it is too small."""
    image = reflect_to(image, size)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of `uint8` `[H, W, 3]`, kernel cut at four sigma, edges reflected; `sigma` in pixels, 0 leaves it as it is."""
    if sigma <= 0:
        return image
    width = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(image, (width, width), sigma, borderType=cv2.BORDER_REFLECT)


def jpeg_compress(image: np.ndarray, quality: int) -> np.ndarray:
    """`uint8` RGB `[H, W, 3]` through JPEG at `quality` (1 to 100) and back, by OpenCV, with halved chroma."""
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    decoded: Any = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(decoded[..., ::-1])


def corner_crops(image: np.ndarray, size: int, count: int = 1) -> list[np.ndarray]:
    """The centre crop and then as many of the four corners: `count` in 1..5 times `[size, size, 3]`."""
    image = reflect_to(image, size)
    bottom, right = image.shape[0] - size, image.shape[1] - size
    corners = [image[top : top + size, left : left + size] for top, left in ((0, 0), (0, right), (bottom, 0), (bottom, right))]
    return [center_crop(image, size), *corners][:count]
