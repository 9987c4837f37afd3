"""Pictures in and out: bounded decoding, the one resize and the one encoder that reals and fakes both go through."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import cv2
import imagehash
import numpy as np
from PIL import Image, ImageOps

from generators.errors import InputError
from pipelines.manifest.schema import Codec

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
MAX_PIXELS = 64 * 2**20
MAX_BYTES = 256 * 2**20


def decode(data: bytes, name: str) -> np.ndarray:
    """Encoded bytes to `uint8` RGB `[H, W, 3]`, turned upright by EXIF, which is then dropped.

    Only the formats in `FORMATS`, only the first frame, at most 64 megapixels. Raises InputError that names `name` for anything else.
    """
    if len(data) > MAX_BYTES:
        raise InputError(f"{name} has {len(data):,} bytes", f"At most {MAX_BYTES:,} are read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise InputError(f"{name} is {opened.width} x {opened.height} px", f"At most {MAX_PIXELS:,} pixels are decoded")
                return np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{name} declares far more pixels than are decoded ({MAX_PIXELS:,})", "Remove it from the folder") from None
    except Exception as error:
        raise InputError(f"{name} is not an image that can be read ({error})", f"Use {', '.join(FORMATS)}, or remove it") from None


def read_bytes(path: Path) -> bytes:
    """A file of at most `MAX_BYTES`. Raises InputError if it is longer or cannot be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has {path.stat().st_size:,} bytes", f"At most {MAX_BYTES:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "Check the path and its permissions") from None


def read_image(path: Path) -> np.ndarray:
    """A file as `uint8` RGB `[H, W, 3]`; see `decode`."""
    return decode(read_bytes(path), str(path))


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """The centre square of `image` at `size` x `size` px. An image that has that size already is not touched."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    # PIL's Lanczos filter widens with the reduction, so it does not alias; OpenCV's does not.
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.LANCZOS))


def encode(image: np.ndarray, codec: Codec) -> bytes:
    """`uint8` RGB `[H, W, 3]` to bytes. The same pixels and codec give the same bytes, and no metadata is written."""
    if codec.format == "jpeg":
        options = [cv2.IMWRITE_JPEG_QUALITY, codec.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    elif codec.format == "webp":
        options = [cv2.IMWRITE_WEBP_QUALITY, 101]  # above 100 OpenCV writes WebP without loss
    else:
        options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    done, data = cv2.imencode(f".{codec.format}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV could not encode a {image.shape} image as {codec.format}")
    return data.tobytes()


def perceptual_hash(image: np.ndarray) -> str:
    """The 64-bit DCT hash of an image, as 16 hex digits. Near-duplicates differ in few bits."""
    return str(imagehash.phash(Image.fromarray(image)))
