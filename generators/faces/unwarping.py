"""Putting a crop back where it came from, in the part of the picture that it covers alone.

OpenCV's warp has no window: it makes the whole picture. Here its coordinates are computed for a window and given to `cv2.remap`, so that a
face in a picture of 6,000 px costs no more than the face. The pixels are those that warping the whole picture gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from generators.faces.align import invert, transform_points

FRACTION_BITS, COORDINATE_BITS = 5, 10  # of OpenCV's fixed-point warp, which it uses for float64
LANES = 16  # columns of a picture that OpenCV warps at once; those that are left over at its end it warps one by one, rounding otherwise


@dataclass(frozen=True)
class Window:
    """A part of a picture in pixels; `bottom` and `right` are outside it."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    def of(self, picture: np.ndarray, around: Window | None = None) -> np.ndarray:
        """The window of `[H, W, ...]`, as a view; of the part that the window `around` is, where only that is given."""
        top, left = (around.top, around.left) if around else (0, 0)
        return picture[self.top - top : self.bottom - top, self.left - left : self.right - left]

    def within(self, shape: tuple[int, ...], inside: np.ndarray) -> np.ndarray:
        """`inside` `[h, w]`, which fills the window, in an array of zeros of the picture's `shape`."""
        whole = np.zeros(shape[:2], inside.dtype)
        self.of(whole)[:] = inside
        return whole


def window_of(matrix: np.ndarray, size: int, shape: tuple[int, ...], margin: int = 0) -> Window:
    """The smallest window of a picture of `shape` (height, width first) that holds a `size` px crop and `margin` px around it; `matrix`
    `[2, 3]` leads into the crop. It has at least one pixel, also where the crop lies outside."""
    return window_around(invert(matrix), size, shape, margin)


def window_around(outward: np.ndarray, size: int, shape: tuple[int, ...], margin: int = 0) -> Window:
    """`window_of` by the transform `[2, 3]` that leads out of the crop, into the picture."""
    corners = transform_points(np.array([[-1, -1], [size, -1], [size, size], [-1, size]], np.float64), outward)
    low, high = np.floor(corners.min(0)) - margin, np.ceil(corners.max(0)) + margin + 1
    left, top = (int(np.clip(value, 0, side - 1)) for value, side in zip(low, (shape[1], shape[0]), strict=True))
    right, bottom = (int(np.clip(value, 1, side)) for value, side in zip(high, (shape[1], shape[0]), strict=True))
    return Window(top, left, max(bottom, top + 1), max(right, left + 1))


def unwarp_window(crop: np.ndarray, matrix: np.ndarray, window: Window, shape: tuple[int, ...]) -> np.ndarray:
    """What `align.unwarp` gives in the `window` of a picture of `shape`, bilinear and black around the crop. `crop` is float32 or `uint8`
    `[S, S]` or `[S, S, 3]`, or float64 `[S, S]`."""
    return warp_window(crop, invert(matrix), window, shape)


def warp_window(crop: np.ndarray, outward: np.ndarray, window: Window, shape: tuple[int, ...]) -> np.ndarray:
    """What `cv2.warpAffine(crop, outward)` gives there: `unwarp_window` by the transform that leads out of the crop."""
    back = _inverted(outward)  # as OpenCV does, in float64
    columns, rows = np.arange(window.left, window.right, dtype=np.float64), np.arange(window.top, window.bottom, dtype=np.float64)
    maps = _fixed_point(back, columns, rows) if crop.dtype == np.float64 else _single(back, columns, rows, shape[1])
    return cv2.remap(np.ascontiguousarray(crop), *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0.0)


def _single(matrix: np.ndarray, columns: np.ndarray, rows: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in float32: the row's part rounded first, then the column's added with one rounding (a fused multiply-add). In the last
    columns of a picture of that width, the shift comes after both."""
    matrix = matrix.astype(np.float32)
    last = columns >= width - width % LANES
    across, down = (
        np.concatenate([_shifted_first(line, columns[~last], rows), _shifted_last(line, columns[last], rows)], 1) for line in matrix
    )
    return across, down


def _shifted_first(line: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    start = (rows.astype(np.float32) * line[1] + line[2]).astype(np.float64)
    return (columns[None] * float(line[0]) + start[:, None]).astype(np.float32)


def _shifted_last(line: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    down = (rows.astype(np.float32) * line[1]).astype(np.float64)
    return (columns[None] * float(line[0]) + down[:, None]).astype(np.float32) + line[2]


def _fixed_point(matrix: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates as whole pixels, int16 `[h, w, 2]`, and the place in a table of 32 x 32 fractions, uint16 `[h, w]`."""
    scale, fractions = 1 << COORDINATE_BITS, 1 << FRACTION_BITS
    parts = []
    for line in matrix:
        along = np.rint(line[0] * columns * scale).astype(np.int64)
        start = np.rint((line[1] * rows + line[2]) * scale).astype(np.int64) + scale // fractions // 2
        parts.append((start[:, None] + along[None]) >> (COORDINATE_BITS - FRACTION_BITS))
    across, down = parts
    whole = np.stack([across >> FRACTION_BITS, down >> FRACTION_BITS], -1).clip(-32768, 32767).astype(np.int16)
    return whole, ((down & (fractions - 1)) * fractions + (across & (fractions - 1))).astype(np.uint16)


def _inverted(matrix: np.ndarray) -> np.ndarray:
    """The inverse as OpenCV's warp computes it, which rounds in another order than `cv2.invertAffineTransform`."""
    (a, b, x), (c, d, y) = np.asarray(matrix, np.float64)
    determinant = a * d - b * c
    factor = 1 / determinant if determinant else 0.0
    p, q, r, s = d * factor, b * -factor, c * -factor, a * factor
    return np.array([[p, q, -p * x - q * y], [r, s, -r * x - s * y]])
