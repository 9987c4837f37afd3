"""How many images and pixels a package may unpack to.

A PNG of one colour with 67 million pixels has 8 KB. A package of a hundred of them would decode for minutes. So a package may have a number
of pixels for free and more for each of its bytes, and likewise images. Honest pictures stay far below: a JPEG, WebP or AVIF has a byte for
some 5 to 30 pixels.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from foreign.errors import InputError
from foreign.pictures import opened
from foreign.text import visible
from pipelines.importing.packed import PackedImage

FREE_PIXELS, PIXELS_PER_BYTE = 32 * 2**20, 64
FREE_IMAGES, BYTES_PER_IMAGE = 1_000, 64


class Budget:
    """Images and pixels that may still be taken of a package of `length` bytes."""

    def __init__(self, source: Path, length: int):
        self.source = source
        self.pixels = FREE_PIXELS + PIXELS_PER_BYTE * length
        self.images = FREE_IMAGES + length // BYTES_PER_IMAGE

    def spend(self, image: PackedImage) -> None:
        """Counts an image, by its header. Raises InputError that names the package if its length allows no more."""
        self.images -= 1
        self.pixels -= _pixels_of(image)
        if self.images < 0:
            raise InputError(f"{visible(self.source)} has far more images than its length allows", "Take it apart, and import a part")
        if self.pixels < 0:
            raise InputError(
                f"{visible(self.source)} unpacks to far more pixels than its length allows",
                f"More than {PIXELS_PER_BYTE} for a byte are not decoded: leave out what is huge",
            )


def length_of(source: Path) -> int:
    """The bytes of a file, or of all plain files under a folder."""
    files = [str(source)] if not source.is_dir() else [os.path.join(at, name) for at, _, names in os.walk(source) for name in names]
    return sum(status.st_size for status in map(_status, files) if status is not None and stat.S_ISREG(status.st_mode))


def _pixels_of(image: PackedImage) -> int:
    if image.data is None:
        return 0
    try:
        with opened(image.data, image.name) as header:
            return header.width * header.height
    except InputError:
        return 0  # whoever decodes it says why


def _status(file: str) -> os.stat_result | None:
    try:
        return os.stat(file)
    except (OSError, ValueError):
        return None
