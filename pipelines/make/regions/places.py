"""Where faces are in a picture, as a row's `measures` keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from generators.faces.align import invert, transform_points
from generators.faces.detect import Face
from pipelines.make.framing import Frame


def face_as_data(face: Face | None) -> dict[str, Any] | None:
    """A detected face as plain data."""
    if face is None:
        return None
    return {"box": list(face.box), "landmarks": face.landmarks.tolist(), "score": round(face.score, 4), "estimated": face.estimated}


def share_covered(matrix: np.ndarray, size: int, shape: tuple[int, ...]) -> float:
    """The share of a picture of `shape` (height, width, ...) that a square crop of `size` px covers; `matrix` (2x3) leads into the crop."""
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float64) - 0.5  # pixel centres lie at whole numbers
    frame = np.array([[0, 0], [shape[1], 0], [shape[1], shape[0]], [0, shape[0]]], np.float32) - 0.5
    area, _ = cv2.intersectConvexConvex(transform_points(corners, invert(matrix)).astype(np.float32), frame.astype(np.float32))
    return float(area) / (shape[0] * shape[1])


def in_stored_pixels(measures: Mapping[str, Any], frame: Frame | None) -> dict[str, Any]:
    """The measures of a swap or of restored faces with all places in pixels of the stored picture.

    `frame` is the part of the picture that is stored; None where it is stored as it is, or not at all. Measures without a `crop` or
    `restored_faces` come back as they are.
    """
    if "crop" not in measures and "restored_faces" not in measures:
        return dict(measures)
    scale = frame.scale if frame else 1.0
    left, top = (frame.left, frame.top) if frame else (0, 0)
    # Pixel centres lie at whole numbers: x becomes (x - left + 0.5) * scale - 0.5.
    shift = np.array([(0.5 - left) * scale - 0.5, (0.5 - top) * scale - 0.5])
    if "restored_faces" in measures:
        return {**measures, "restored_faces": [_moved(face, scale, shift) for face in measures["restored_faces"]]}
    matrix = np.array(measures["crop"])
    linear = matrix[:, :2] / scale
    return {
        **measures,
        "target_face": _moved(measures["target_face"], scale, shift),
        "source_face": _moved(measures["source_face"], 1.0, np.zeros(2)),
        "crop": np.column_stack([linear, matrix[:, 2] - linear @ shift]).round(5).tolist(),
    }


def _moved(face: Mapping[str, Any], scale: float, shift: np.ndarray) -> dict[str, Any]:
    box = np.array(face["box"]).reshape(2, 2) * scale + shift
    landmarks = np.array(face["landmarks"]) * scale + shift
    return {**face, "box": box.ravel().round(2).tolist(), "landmarks": landmarks.round(2).tolist()}
