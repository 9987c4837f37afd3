"""Restored faces: cutting them out of a picture and pasting them back as facexlib does (GFPGAN), and as CodeFormer's copy of it does.

Pictures and faces are `uint8` RGB `[H, W, 3]`; a matrix is the 2x3 transform from the picture to the crop, as in `align`. Pasting works on
the window of each face, whatever the size of the picture. Its pixels are those that working on the whole picture gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from generators.errors import InputError
from generators.faces.align import invert, template_points
from generators.faces.unwarping import Window, warp_window, window_around
from generators.networks.faces.parsenet import FACE_LABELS

TEMPLATE = "ffhq"
BORDER = (132.0, 133.0, 135.0)  # RGB outside the picture
MIN_EYE_DISTANCE = 5.0  # pixels; smaller faces are left as they are
EDGE_SHARE = 20  # the soft edge is as wide as the square root of the face's area through this
PARSING_BLUR = (101, 11)  # kernel and sigma, in pixels of the label map; applied twice
BEGINS_AT = 64  # a multiple of the columns that OpenCV filters at once, so that those left over at the end are the picture's
PARSING_MARGIN = 10  # pixels at the label map's edge that never count as face


@dataclass(frozen=True)
class PasteStyle:
    """What differs between the two tools.

    `min_side`: a picture whose shorter side is smaller is enlarged to it first. `interpolation`: how the picture is enlarged.
    `square`: whether the mask of the crop's square counts beside that of parsing; then the smaller of both counts.
    """

    min_side: int = 0
    interpolation: int = cv2.INTER_LANCZOS4
    square: bool = False


FACEXLIB = PasteStyle()
CODEFORMER = PasteStyle(min_side=512, interpolation=cv2.INTER_LINEAR, square=True)


def face_matrix(landmarks: np.ndarray, size: int) -> np.ndarray:
    """The similarity `[2, 3]` from five landmarks to the template at `size`, by least median of squares: a point far off is left out.

    InputError if the landmarks fit no similarity.
    """
    matrix = _estimated_matrix(landmarks, size)
    if matrix is None:
        raise InputError(f"no similarity takes the landmarks {np.asarray(landmarks).tolist()} to a face")
    return matrix


def cut_face(picture: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The aligned face `[size, size, 3]`, grey where the picture ends."""
    return cv2.warpAffine(np.ascontiguousarray(picture), matrix, (size, size), borderMode=cv2.BORDER_CONSTANT, borderValue=BORDER)


def is_restorable(landmarks: np.ndarray) -> bool:
    """Whether a face's eyes are far enough apart to be worth restoring, and its landmarks lie as those of a face do."""
    if not np.isfinite(landmarks).all() or np.linalg.norm(landmarks[0] - landmarks[1]) < MIN_EYE_DISTANCE:
        return False
    return _estimated_matrix(landmarks, 512) is not None


def prepared(picture: np.ndarray, style: PasteStyle) -> np.ndarray:
    """The picture in which faces are looked for: enlarged where the style wants it."""
    side = min(picture.shape[:2])
    if side >= style.min_side:
        return picture
    factor = style.min_side / side
    return cv2.resize(np.ascontiguousarray(picture), None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)


def paste_faces(
    picture: np.ndarray,
    faces: Sequence[np.ndarray],
    matrices: Sequence[np.ndarray],
    *,
    upscale: int = 1,
    labels: Sequence[np.ndarray] | None = None,
    background: np.ndarray | None = None,
    style: PasteStyle = FACEXLIB,
) -> tuple[np.ndarray, np.ndarray]:
    """The picture at `upscale` times its size with the restored `faces` in it, and the mask float32 `[H, W]` in [0, 1] of what they cover.

    `labels` are the parsed faces, from which the mask then comes; without, it is the crop's square. `background` replaces the picture under
    the faces. Values are cut to bytes, not rounded, as in the original.
    """
    height, width = int(picture.shape[0] * upscale), int(picture.shape[1] * upscale)
    below = picture if background is None else background
    pasted = cv2.resize(np.ascontiguousarray(below), (width, height), interpolation=style.interpolation)
    whole = np.zeros((height, width), np.float32)
    outward = [_outward(matrix, upscale) for matrix in matrices]
    windows = [_window(out, len(face), pasted.shape) for out, face in zip(outward, faces, strict=True)]
    if not windows:
        return pasted, whole
    around = Window(
        *(min(edges) for edges in zip(*((window.top, window.left) for window in windows), strict=True)),
        *(max(edges) for edges in zip(*((window.bottom, window.right) for window in windows), strict=True)),
    )
    canvas = around.of(pasted).astype(np.float64)  # not rounded between faces that overlap
    for index, (face, out, window) in enumerate(zip(faces, outward, windows, strict=True)):
        layer = warp_window(face, out, window, whole.shape).astype(np.float64)
        square, eroded = _square_mask(out, len(face), window, whole.shape, upscale)
        mask = square
        if labels is not None:
            mask = _parsing_mask(labels[index], out, len(face), window, whole.shape)
            mask = np.minimum(mask, square) if style.square else mask
        if labels is None or style.square:
            layer *= eroded[..., None]
        own, covered = window.of(canvas, around), window.of(whole)
        own[:] = mask[..., None] * layer + (1 - mask[..., None]) * own
        covered[:] = mask + (1 - mask) * covered
    around.of(pasted)[:] = np.clip(canvas, 0, 255).astype(np.uint8)
    return pasted, whole


def enlarged_inverse(matrix: np.ndarray, upscale: int) -> np.ndarray:
    """The transform `[2, 3]` from the crop to the enlarged picture, without the half pixel that pasting adds."""
    return invert(matrix) * upscale


def _outward(matrix: np.ndarray, upscale: int) -> np.ndarray:
    """The transform from the crop to the enlarged picture, as pasting uses it."""
    outward = enlarged_inverse(matrix, upscale)
    if upscale > 1:
        outward[:, 2] += 0.5 * upscale
    return outward


def _window(outward: np.ndarray, size: int, shape: tuple[int, ...]) -> Window:
    """Where the crop's square may change a picture of `shape`. It begins and ends so that filters round in it as in the whole picture."""
    window = window_around(outward, size, shape, margin=BEGINS_AT)
    return replace(window, left=window.left // BEGINS_AT * BEGINS_AT)


def _estimated_matrix(landmarks: np.ndarray, size: int) -> np.ndarray | None:
    template = template_points(TEMPLATE, size)[0]
    matrix, _ = cv2.estimateAffinePartial2D(np.asarray(landmarks, np.float32), template.astype(np.float32), method=cv2.LMEDS)
    sound = matrix is not None and np.isfinite(matrix).all() and abs(np.linalg.det(matrix[:, :2])) > 0
    return matrix if sound else None


def _square_mask(outward: np.ndarray, size: int, window: Window, shape: tuple[int, ...], upscale: int) -> tuple[np.ndarray, np.ndarray]:
    """The soft mask of the crop's square, and the hard one that cuts off the crop's own edge; float32, in the window of a picture."""
    white = warp_window(np.ones((size, size), np.float32), outward, window, shape)
    eroded = cv2.erode(white, np.ones((int(2 * upscale),) * 2, np.uint8))
    edge = int(np.sqrt(window.within(shape, eroded).sum())) // EDGE_SHARE  # of the whole: a sum in float32 depends on its order
    if not edge:
        return eroded, eroded
    centre = cv2.erode(eroded, np.ones((2 * edge,) * 2, np.uint8))
    return cv2.GaussianBlur(centre, (2 * edge + 1,) * 2, 0), eroded


def _parsing_mask(labels: np.ndarray, outward: np.ndarray, size: int, window: Window, shape: tuple[int, ...]) -> np.ndarray:
    """The soft mask float32 of the face in a label map, in the window of a picture."""
    mask = np.where(np.isin(labels, FACE_LABELS), np.float32(255), np.float32(0))
    kernel, sigma = PARSING_BLUR
    for _ in range(2):
        mask = cv2.GaussianBlur(mask, (kernel, kernel), sigma)
    inside = np.zeros_like(mask)
    inside[PARSING_MARGIN:-PARSING_MARGIN, PARSING_MARGIN:-PARSING_MARGIN] = 1
    return warp_window(cv2.resize(mask * inside / 255, (size, size)), outward, window, shape)
