"""The same past for real and fake: JPEG compression and sizes that the reals went through, given to the fakes.

A real photograph was stored as JPEG, at some size, before it became an image of the dataset; a fake was not. A fake gets the past of one
real image, its donor: the one that it was made from, where its chain begins with one, and otherwise one drawn by the fake's own seed from
its real source and its own split.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from foreign.pictures import opened, orientation_of
from generators.seeding import numpy_rng
from pipelines.images import decode, fill, fit, read_bytes
from pipelines.manifest.schema import Parity, Recompression
from pipelines.manifest.sizes import LARGEST, SMALLEST

CHROMA = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
# The luma quantisation table of JPEG's Annex K.1, in rows: what libjpeg's quality scales.
LUMA_TABLE = (
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip


@dataclass(frozen=True)
class History:
    """What a file says of an image's past: its height and width, and for JPEG its quantisation tables (one for each component class) and
    chroma subsampling, a key of `CHROMA`.

    `window` is where the dataset's part of it begins (top, left), if that is not its middle square.
    """

    height: int
    width: int
    tables: tuple[tuple[int, ...], ...] = ()
    subsampling: int = 0
    window: tuple[int, int] | None = None

    @property
    def begins(self) -> tuple[int, int]:
        """Top and left of what the dataset takes."""
        return self.window or ((self.height - self.side) // 2, (self.width - self.side) // 2)

    @property
    def side(self) -> int:
        """Of the centre square that the dataset takes."""
        return min(self.height, self.width)

    def as_data(self) -> dict[str, Any]:
        """As a row's measures have it."""
        data: dict[str, Any] = {"side": self.side}
        if self.tables:
            data |= {"quality": quality_of(self.tables[0]), "chroma": CHROMA[self.subsampling], "tables": [*map(list, self.tables)]}
        return data


@lru_cache(maxsize=4096)
def read_history(file: Path) -> History:
    """The past of an image file, from its header. InputError if it is no image."""
    with opened(read_bytes(file), str(file)) as picture:
        width, height = picture.size
        if orientation_of(picture) >= 5:  # lying on its side
            width, height = height, width
        if not isinstance(picture, JpegImagePlugin.JpegImageFile):
            return History(height, width)
        tables = tuple(tuple(min(255, step) for step in picture.quantization[number]) for number in sorted(picture.quantization))
        sampling = JpegImagePlugin.get_sampling(picture)
        return History(height, width, tables, sampling if sampling in CHROMA else 0)


def quality_of(luma: tuple[int, ...]) -> int:
    """The libjpeg quality whose luma table is nearest to `luma`, 1 to 100."""
    scales = [5000 / quality if quality < 50 else 200 - 2 * quality for quality in range(1, 101)]
    tables = np.clip((np.outer(scales, LUMA_TABLE) + 50) // 100, 1, 255)
    return int(np.abs(tables - np.array(luma)).sum(1).argmin()) + 1


def with_history(pixels: np.ndarray, donor: History, parity: Parity) -> np.ndarray:
    """A fake `uint8` RGB `[H, W, 3]` taken through its donor's past, as far as `parity` asks: its size, then its compression.

    What the dataset takes of the donor begins anywhere in the donor's 8x8 grid; the fake is put at the same place. Where it takes the
    donor whole, the fake gets its height and width.
    """
    if parity.sizes == "reals" and donor.window is None:
        pixels = fit(pixels, donor.side)
    elif parity.sizes == "reals" and min(donor.height, donor.width) >= SMALLEST and max(donor.height, donor.width) <= LARGEST:
        pixels = fill(pixels, donor.height, donor.width)
    return compressed_as(pixels, donor, donor.begins) if parity.jpeg == "reals" else pixels


def compressed_as(pixels: np.ndarray, donor: History, begins: tuple[int, int]) -> np.ndarray:
    """An image `uint8` RGB `[H, W, 3]` compressed with the tables and the chroma of a JPEG file, as if it began at `begins` (top, left) of
    it; as it is if the file is no JPEG."""
    if not donor.tables:
        return pixels
    top, left = (start % 8 for start in begins)
    padded = np.pad(pixels, ((top, 0), (left, 0), (0, 0)), mode="symmetric")
    options = {"qtables": [list(table) for table in donor.tables], "subsampling": donor.subsampling}
    return _through_jpeg(padded, **options)[top:, left:]


def recompressed(pixels: np.ndarray, asked: Recompression, seed: int) -> np.ndarray:
    """Any image, real or fake, after one JPEG compression with a quality that its own seed draws."""
    low, high = asked.quality
    subsampling = next(number for number, name in CHROMA.items() if name == asked.chroma)
    return _through_jpeg(pixels, quality=int(numpy_rng(seed, "jpeg").integers(low, high + 1)), subsampling=subsampling)


def _through_jpeg(pixels: np.ndarray, **options: Any) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **options)
    return decode(stream.getvalue(), "a compressed image")
