"""The one resize and the one encoder that reals and fakes both go through. `foreign/pictures.py` has the one decoder."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import imagehash
import numpy as np
from PIL import Image

from foreign.containers import PNG
from foreign.pictures import LARGE, MAX_BYTES, SUFFIXES, decode, read_bytes, read_image
from pipelines.manifest.schema import Codec

ENDINGS = {"png": "png", "jpeg": "jpg", "webp": "webp", "avif": "avif"}  # of the names of files, by the format that is written

CHUNK = struct.Struct(">I4s")  # the length and the kind of a PNG's chunk, before its data and their CRC-32
IHDR = CHUNK.pack(13, b"IHDR")
PLAIN = bytes([8, 2, 0, 0, 0])  # the end of a PNG's header: 8 bits, RGB, compression and filters by the one method, not interlaced

__all__ = [
    "ENDINGS",
    "MAX_BYTES",
    "SUFFIXES",
    "decode",
    "decode_stored",
    "encode",
    "encode_uncompressed",
    "fill",
    "fit",
    "middle",
    "perceptual_hash",
    "read_bytes",
    "read_image",
]


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


def fill(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of `image` with the proportions of `height` x `width` px, at that size."""
    if image.shape[:2] == (height, width):
        return image
    top, left, rows, columns = middle(image.shape, height, width)
    part = image[top : top + rows, left : left + columns]
    return np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.LANCZOS))


def middle(shape: tuple[int, ...], height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of the largest window in the middle of `shape` that has the proportions of `height` x `width`."""
    scale = min(shape[0] / height, shape[1] / width)
    rows, columns = min(shape[0], max(1, round(height * scale))), min(shape[1], max(1, round(width * scale)))
    return (shape[0] - rows) // 2, (shape[1] - columns) // 2, rows, columns


def encode(image: np.ndarray, codec: Codec) -> bytes:
    """`uint8` RGB `[H, W, 3]` to bytes. The same pixels and codec give the same bytes, and no metadata is written."""
    if codec.format == "jpeg":
        options = [cv2.IMWRITE_JPEG_QUALITY, codec.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    elif codec.format == "webp":
        options = [cv2.IMWRITE_WEBP_QUALITY, 101]  # above 100 OpenCV writes WebP without loss
    else:
        options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return _encoded(image, codec.format, options)


def encode_uncompressed(image: np.ndarray) -> bytes:
    """`uint8` RGB `[H, W, 3]` to a PNG whose pixels are stored as they are, 3 bytes each.

    Some 15 times as fast to write as `encode`, and 6 times as fast to read; less than twice as long for a photograph.
    """
    return _encoded(image, "png", [cv2.IMWRITE_PNG_COMPRESSION, 0, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE])


def _encoded(image: np.ndarray, suffix: str, options: list[int]) -> bytes:
    done, data = cv2.imencode(f".{suffix}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV could not encode a {image.shape} image as {suffix}")
    return data.tobytes()


def decode_stored(data: bytes, name: str) -> np.ndarray:
    """What `decode` gives for an image of the store, sooner where it is a PNG as `encode` writes it: then OpenCV decodes it, without
    Python's lock and without the questions that a stranger's picture is asked. The array may be written to. Raises what `decode` raises."""
    if _is_plain_png(data):
        pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if pixels is not None:
            return pixels
    pixels = decode(data, name)
    return pixels if pixels.flags.writeable else pixels.copy()


def _is_plain_png(data: bytes) -> bool:
    """Whether it is a whole PNG of 8-bit RGB, not large, that has pixels and nothing else, with every checksum right."""
    if data[:16] != PNG + IHDR or data[24:29] != PLAIN or int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big") > LARGE:
        return False
    view, at, kind = memoryview(data), len(PNG), b""
    while kind != b"IEND" and len(data) >= at + CHUNK.size:
        length, kind = CHUNK.unpack_from(data, at)
        if kind not in ((b"IHDR",) if at == len(PNG) else (b"IDAT", b"IEND")):
            return False
        end = at + CHUNK.size + length
        if zlib.crc32(view[at + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            return False
        at = end + 4
    return kind == b"IEND" and at == len(data)


def perceptual_hash(image: np.ndarray) -> str:
    """The 64-bit DCT hash of an image, as 16 hex digits. Near-duplicates differ in few bits."""
    return str(imagehash.phash(Image.fromarray(image)))
