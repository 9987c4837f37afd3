"""Features of an image file that are not its pixels: what the container says, and who wrote it.

They are read from the file's own structure. No pixel is decoded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from foreign.errors import InputError
from foreign.pictures import FORMAT_NAMES, opened
from foreign.text import reason
from pipelines.audit.families import DIMENSIONS, ENCODER, FILE_FAMILIES, FORMAT, METADATA, SIZE, Family
from pipelines.audit.formats.jpeg import read_jpeg
from pipelines.audit.formats.png import Png, read_png
from pipelines.audit.metadata import metadata

WEBP_METADATA = {b"EXIF": "exif", b"XMP ": "xmp", b"ICCP": "icc"}


@dataclass(frozen=True)
class Container:
    """The features of one file by family, its `size` in bytes, how many `pixels` it has, and its structure if it is a PNG."""

    families: dict[str, Family]
    size: int
    pixels: int
    png: Png | None = None


def read_container(data: bytes, name: str, suffix: str = "") -> Container:
    """The features of an encoded image. `suffix` is the ending of the file's name, if it is a file. InputError if it is no image."""
    try:
        with opened(data, name) as picture:
            form, mode, (width, height) = picture.format, picture.mode, picture.size
            compression = str(picture.info.get("compression", "")) if form == "TIFF" else None
        png = read_png(data, height) if form == "PNG" else None
        if png is not None:
            own = {METADATA: png.metadata, ENCODER: png.encoder}
        elif form == "JPEG":
            own = read_jpeg(data)
        elif form == "WEBP":
            own = _read_webp(data, width * height)
        else:
            own = {ENCODER: {"compression": compression}}
    except InputError:
        raise
    except Exception as error:  # damaged structure, which is told by struct, zlib or an index that is not there
        raise InputError(f"{name} is not an image that can be read ({reason(error)})", f"Use {FORMAT_NAMES}, or remove it") from None
    common: dict[str, Family] = {DIMENSIONS: dimensions_of(width, height), FORMAT: {"format": form, "mode": mode, "suffix": suffix.lower()}}
    families: dict[str, Family] = {family: {} for family in FILE_FAMILIES}
    return Container(families | common | own, len(data), width * height, png)


def dimensions_of(width: int, height: int) -> Family:
    """The features of a picture's size."""
    dimensions: Family = {"width": width, "height": height, "pixels": width * height, "aspect": width / height}
    dimensions["whole_blocks"] = float(width % 8 == 0) + 2 * float(height % 8 == 0)
    return dimensions


def _read_webp(data: bytes, pixels: int) -> dict[str, Family]:
    chunks: list[bytes] = []
    described: dict[str, int] = {}
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack("<4sI", data[at : at + 8])
        if kind in WEBP_METADATA:
            described[WEBP_METADATA[kind]] = length
        else:
            chunks.append(kind)
        at += 8 + length + length % 2
    encoder: Family = {"chunks": " ".join(kind.decode("latin-1") for kind in chunks)}
    # No table says the quality of a lossy WebP, so its size has to.
    size: Family = {"bytes_per_pixel": float(np.log(len(data) / pixels))} if b"VP8 " in chunks else {}
    return {METADATA: metadata(described, max(0, len(data) - at)), ENCODER: encoder, SIZE: size}
