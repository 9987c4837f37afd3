"""Where a swapped face replaces the target: soft masks from the crop's square, and from face parsing.

The numbers are SimSwap's.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from generators.faces.align import unwarp

FACE_CLASSES = (1, 2, 3, 4, 5, 6, 10, 11, 12, 13)  # of BiSeNet: skin, brows, eyes, glasses, nose, mouth, lips


def crop_mask(
    matrix: np.ndarray, size: int, shape: tuple[int, ...], *, threshold: float = 20, erode: int = 40, blur: int = 41
) -> np.ndarray:
    """Soft mask `[H, W]` float64 in [0, 1] of the square of a `size` px crop in an image of `shape`.

    The white square is warped back, made hard above `threshold` (of 255), eroded by a square of `erode` px and blurred over `blur` px, an
    odd number.
    """
    white = unwarp(np.full((size, size), 255.0), matrix, shape)
    white[white > threshold] = 255
    white = cv2.erode(white, np.ones((erode, erode), np.uint8))
    return cv2.GaussianBlur(white, (blur, blur), 0) / 255


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
    face = np.isin(labels, classes)
    resized = np.stack([cv2.resize(np.where(one, 255.0, 0.0), (size, size)) for one in face]) / 255
    soft = soft_erosion(torch.from_numpy(resized.astype(np.float32)), kernel_size, threshold, iterations).numpy()
    soft[face.sum((1, 2)) * 255.0 < min_sum] = 1.0
    return soft


def soft_erosion(masks: torch.Tensor, kernel_size: int = 17, threshold: float = 0.9, iterations: int = 7) -> torch.Tensor:
    """Masks float32 `[N, H, W]` in [0, 1] shrunk softly: repeatedly the smaller of the mask and its mean under a cone; then what is above
    `threshold` becomes one, and the rest is stretched so that its largest value is one."""
    radius = kernel_size // 2
    steps = torch.arange(kernel_size, dtype=torch.float32) - radius
    distance = (steps[:, None] ** 2 + steps[None, :] ** 2).sqrt()
    cone = distance.max() - distance
    cone = (cone / cone.sum()).to(masks.device)[None, None]
    soft = masks[:, None].float()
    for _ in range(iterations - 1):
        soft = torch.minimum(soft, F.conv2d(soft, cone, padding=radius))
    soft = F.conv2d(soft, cone, padding=radius)
    inside = soft >= threshold
    largest = soft.masked_fill(inside, 0.0).amax((1, 2, 3), keepdim=True)
    return torch.where(inside, 1.0, soft / largest.clamp_min(torch.finfo(torch.float32).tiny))[:, 0]
