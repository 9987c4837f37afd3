"""Which part of a picture becomes an image of the dataset, and at which size: the one way that reals and fakes are brought in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from generators.seeding import numpy_rng
from pipelines.images import fit
from pipelines.make import rejections
from pipelines.manifest.sizes import LARGEST, NATIVE, SMALLEST, Crop, Size


class Unfit(ValueError):
    """A picture that cannot be brought to the size; `reason` is for the ledger."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Frame:
    """A window of a picture in pixels, and the side that it is resized to (None: its pixels stay as they are)."""

    top: int
    left: int
    height: int
    width: int
    size: int | None = None

    @property
    def scale(self) -> float:
        """From pixels of the picture to pixels of the image."""
        return self.size / self.height if self.size else 1.0

    @property
    def stored(self) -> tuple[int, int]:
        """Height and width of the image."""
        return (self.size, self.size) if self.size else (self.height, self.width)

    def of(self, picture: np.ndarray) -> np.ndarray:
        """The image: `uint8` `[H, W, 3]`. A picture that has the size already is not touched, and a cut does not hold the whole in
        memory."""
        if picture.shape[:2] == self.stored and not (self.top or self.left):
            return picture
        window = self.cut(picture)
        return np.ascontiguousarray(window) if self.size is None else fit(window, self.size)

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """The window of an array `[H, W, ...]`, as a view."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


def frame_of(shape: tuple[int, ...], size: Size, seed: int) -> Frame:
    """The frame of a picture of `shape` (height, width, ...) in a dataset of `size`. `seed` decides a window that is drawn.

    A number is the middle square, resized. Raises Unfit for a picture that is smaller than the window, or as it is outside of what a
    dataset may hold.
    """
    height, width = shape[:2]
    if size == NATIVE:
        if max(height, width) > LARGEST:
            raise Unfit(rejections.TOO_LARGE)
        if min(height, width) < SMALLEST:
            raise Unfit(rejections.TOO_SMALL)
        return Frame(0, 0, height, width)
    if isinstance(size, Crop):
        if min(height, width) < size.crop:
            raise Unfit(rejections.TOO_SMALL)
        down, across = height - size.crop, width - size.crop
        top, left = down // 2, across // 2
        if size.at == "seed":
            top, left = (int(place) for place in numpy_rng(seed, "window").integers(0, (down + 1, across + 1)))
        return Frame(top, left, size.crop, size.crop)
    side = min(height, width)
    return Frame((height - side) // 2, (width - side) // 2, side, side, int(size))
