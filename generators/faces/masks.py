"""Where a swapped face replaces the target: soft masks from the crop's square, from face parsing, and from the place that a face has in a
tight crop.

The numbers of the first two are SimSwap's.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from generators.faces.unwarping import Window, unwarp_window, window_of

FACE_CLASSES = (1, 2, 3, 4, 5, 6, 10, 11, 12, 13)  # of BiSeNet: skin, brows, eyes, glasses, nose, mouth, lips
LARGE_ERODE = 16  # px; from here on SciPy's running minimum is faster than OpenCV's erosion, whose time grows with the square it erodes by
ROUNDING = 1e-6  # OpenCV filters with large kernels by Fourier transform, which leaves about so much where there is nothing


def crop_mask(
    matrix: np.ndarray, size: int, shape: tuple[int, ...], *, threshold: float = 20, erode: int = 40, blur: int = 41
) -> np.ndarray:
    """Soft mask `[H, W]` float64 in [0, 1] of the square of a `size` px crop in an image of `shape`.

    The white square is warped back, made hard above `threshold` (of 255), eroded by a square of `erode` px and blurred over `blur` px, an
    odd number.
    """
    window, mask = crop_mask_window(matrix, size, shape, threshold=threshold, erode=erode, blur=blur)
    return window.within(shape, mask)


def crop_mask_window(
    matrix: np.ndarray, size: int, shape: tuple[int, ...], *, threshold: float = 20, erode: int = 40, blur: int = 41
) -> tuple[Window, np.ndarray]:
    """`crop_mask` where it is not zero: a window of the image, and the mask in it."""
    window = window_of(matrix, size, shape, margin=erode + blur)
    white = unwarp_window(np.full((size, size), 255.0), matrix, window, shape)
    white[white > threshold] = 255
    if erode < LARGE_ERODE:
        white = cv2.erode(white, np.ones((erode, erode), np.uint8))
    else:
        from scipy.ndimage import minimum_filter  # scipy takes a while to load, and small masks do without it

        white = minimum_filter(white, erode, mode="constant", cval=255.0)
    return window, cv2.GaussianBlur(white, (blur, blur), 0) / 255


def ellipse_mask(size: int) -> torch.Tensor:
    """`[1, 1, size, size]`, 1 inside the upright ellipse that a face fills in a tight crop, falling softly to 0 outside."""
    axis = torch.linspace(-1, 1, size)
    distance = ((axis[None, :] / 0.72).square() + ((axis[:, None] - 0.05) / 0.88).square()).sqrt()
    return ((1.1 - distance) / 0.2).clamp(0, 1)[None, None]


def face_mask(
    labels: np.ndarray,
    size: int,
    *,
    classes: Sequence[int] = FACE_CLASSES,
    min_sum: float = 5000,
    kernel_size: int = 17,
    threshold: float = 0.9,
    iterations: int = 7,
) -> np.ndarray:
    """Soft masks float32 `[N, size, size]` in [0, 1] of the face in crops, from their label maps `uint8` `[N, H, W]`.

    A label map with too little face (`min_sum`, counting 255 a pixel) gives a mask of ones: the whole crop is then used.
    """
    return np.stack([_one_face_mask(np.isin(parsed, classes), size, min_sum, (kernel_size, threshold, iterations)) for parsed in labels])


def _one_face_mask(face: np.ndarray, size: int, min_sum: float, erosion: tuple[int, float, int]) -> np.ndarray:
    if face.sum() * 255.0 < min_sum:
        return np.ones((size, size), np.float32)
    resized = cv2.resize(np.where(face, 255.0, 0.0), (size, size)) / 255
    return soft_erosion(resized.astype(np.float32), *erosion)


def soft_erosion(mask: np.ndarray, kernel_size: int = 17, threshold: float = 0.9, iterations: int = 7) -> np.ndarray:
    """A mask float32 `[H, W]` in [0, 1] shrunk softly: repeatedly the smaller of the mask and its mean under a cone; then what is above
    `threshold` becomes one, and the rest is stretched so that its largest value is one."""
    radius = kernel_size // 2
    steps = np.arange(kernel_size, dtype=np.float32) - radius
    distance = np.hypot(steps[:, None], steps[None, :])
    cone = distance.max() - distance
    cone /= cone.sum()
    soft = mask
    for _ in range(iterations - 1):
        soft = np.minimum(soft, cv2.filter2D(soft, cv2.CV_32F, cone, borderType=cv2.BORDER_CONSTANT))
    soft = cv2.filter2D(soft, cv2.CV_32F, cone, borderType=cv2.BORDER_CONSTANT)
    soft[soft < ROUNDING] = 0
    inside = soft >= threshold
    largest = soft[~inside].max(initial=0.0)
    return np.where(inside, np.float32(1), soft / largest if largest > 0 else np.float32(0))
