"""From five landmarks to an aligned crop and back.

Landmarks are `[5, 2]` float (x, y) in pixels: the eye, eye, nose, mouth corner and mouth corner, the ones on the left of the picture
first. A transform is a 2x3 matrix that takes points of the image to points of the crop.
"""

from __future__ import annotations

import cv2
import numpy as np

from generators.errors import InputError

# Each template: the side for which it is given, and one or more sets of five points; of several the one that fits best is used.
_ARCFACE = [[[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]]
_FFHQ = [[[192.98138, 239.94708], [318.90277, 240.1936], [256.63416, 314.01935], [201.26117, 371.41043], [313.08905, 371.15118]]]
_SIMSWAP = [  # profile, half profile, frontal, and the two mirrored: SimSwap's mode "None"
    [[51.642, 50.115], [57.617, 49.990], [35.740, 69.007], [51.157, 89.050], [57.025, 89.702]],
    [[45.031, 50.118], [65.568, 50.872], [39.677, 68.111], [45.177, 86.190], [64.246, 86.758]],
    [[39.730, 51.138], [72.270, 51.138], [56.000, 68.493], [42.463, 87.010], [69.537, 87.010]],
    [[46.845, 50.872], [67.382, 50.118], [72.737, 68.111], [48.167, 86.758], [67.236, 86.190]],
    [[54.796, 49.990], [60.771, 50.115], [76.673, 69.007], [55.388, 89.702], [61.257, 89.050]],
]
TEMPLATES = {"arcface": (112, _ARCFACE), "ffhq": (512, _FFHQ), "simswap": (112, _SIMSWAP)}
ALIGNED = "aligned"  # the image is a crop already: it is only brought to size


def template_points(template: str, size: int) -> np.ndarray:
    """The points of a template for crops of `size` pixels, float64 `[T, 5, 2]`. InputError if there is no such template.

    At multiples of 128 that are not multiples of 112, "arcface" has insightface's margin: the 112 px template in the middle of 128 px.
    """
    if template not in TEMPLATES:
        raise InputError(f"there is no face template {template!r}", f"Known: {', '.join([*TEMPLATES, ALIGNED])}")
    side, points = TEMPLATES[template]
    if template == "arcface" and size % 112 and size % 128 == 0:
        return (np.array(points) + np.array([8.0, 0.0])) * (size / 128)
    return np.array(points) * (size / side)


def estimate_transform(landmarks: np.ndarray, template: str, size: int) -> np.ndarray:
    """The similarity, float64 `[2, 3]`, that takes `landmarks` to the template at `size` with the least squared error.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991. Where a template has several
    sets of points, the set whose summed distances are the smallest. InputError if the landmarks are not five finite points, or are one.
    """
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.shape != (5, 2) or not np.isfinite(landmarks).all() or np.ptp(landmarks, axis=0).max() == 0:
        raise InputError(f"alignment needs five finite landmarks that are not one point, not {landmarks.tolist()}")
    candidates = [(_similarity(landmarks, points), points) for points in template_points(template, size)]
    errors = [np.linalg.norm(transform_points(landmarks, matrix) - points, axis=1).sum() for matrix, points in candidates]
    return candidates[int(np.argmin(errors))][0]


def align(image: np.ndarray, landmarks: np.ndarray | None, template: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The aligned crop `[size, size, 3]` of `image` `[H, W, 3]` (bilinear, black outside) and the transform `[2, 3]` that made it.

    For the template "aligned" the landmarks are not used: the whole square image is brought to `size`.
    """
    if template == ALIGNED:
        return _whole(image, size)
    if landmarks is None:
        raise InputError(f"the template {template!r} needs landmarks, and this face has none")
    matrix = estimate_transform(landmarks, template, size)
    return cv2.warpAffine(np.ascontiguousarray(image), matrix, (size, size), borderValue=0.0), matrix


def unwarp(crop: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`crop` put back where it came from, in an image of `shape` (height, width first), black around it. Any dtype that OpenCV warps."""
    return cv2.warpAffine(np.ascontiguousarray(crop), invert(matrix), (shape[1], shape[0]), borderValue=0.0)


def invert(matrix: np.ndarray) -> np.ndarray:
    """The transform from crop to image."""
    return cv2.invertAffineTransform(np.asarray(matrix, np.float64))


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points `[N, 2]` moved by a transform."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def _similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    source_mean, target_mean = source.mean(0), target.mean(0)
    source_centred, target_centred = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(target_centred.T @ source_centred / len(source))
    proper = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])  # a rotation, never a reflection
    rotation = u * proper @ vt
    scale = (singular * proper).sum() / source_centred.var(0).sum()
    return np.column_stack([scale * rotation, target_mean - scale * rotation @ source_mean])


def _whole(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    height, width = image.shape[:2]
    if height != width:
        raise InputError(f"an aligned face must be square, not {width}x{height}", "Use a swapper with a template that has landmarks")
    scale = size / height
    matrix = np.array([[scale, 0, scale / 2 - 0.5], [0, scale, scale / 2 - 0.5]])  # pixel centres lie at .5
    if height == size:
        return np.array(image), matrix
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), matrix
