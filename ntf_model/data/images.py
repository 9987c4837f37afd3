"""Pictures in and out without a change that a forensic detector would notice, and two that it would: blur and JPEG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ntf_model.errors import InputError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})
MAX_PIXELS = 100_000_000  # a 10,000 px square; beyond it a file is taken for a decompression bomb


def read_image(source: Path | bytes, name: str = "") -> np.ndarray:
    """A picture as `uint8` RGB `[H, W, 3]`, turned upright as its EXIF says; the first frame of an animation; alpha is dropped.

    `source` is a file or its bytes; `name` is what an error calls it. Raises InputError if it is not a whole, readable picture.
    """
    name = name or (str(source) if isinstance(source, Path) else "the picture")
    try:
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(
                    f"{name} has {picture.width} x {picture.height} pixels, more than is read", "Scale it down or leave it out"
                )
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except FileNotFoundError:
        raise InputError(f"there is no file {name}", "Check the path") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} cannot be read as a picture ({_reason(error)})", "Replace it or leave it out") from None


def list_images(folder: Path) -> list[Path]:
    """All picture files under `folder`, at any depth, in order of their names; hidden files and folders are left out."""
    pictures = [file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
    return sorted(file for file in pictures if not any(part.startswith(".") for part in file.relative_to(folder).parts))


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


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its format is unknown"
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
