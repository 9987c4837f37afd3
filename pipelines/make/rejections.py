"""Reasons to reject an image, and the checks that every image goes through."""

from __future__ import annotations

import cv2
import numpy as np

BLANK_STD = 1.0  # grey levels; an image with less variation than this shows nothing
NO_OP_MEAN = 0.5  # grey levels; a swap that changes less than this on average is its target

BLANK = "blank"
NO_OP = "no-op swap"
NO_INPUT = "no image to work on"
NO_PERSON = "no other identity to draw"
NO_FACE = {"source": "no face in source", "target": "no face in target"}
SEVERAL_FACES = {"source": "more than one face in source", "target": "more than one face in target"}
NOT_MOVED = "identity not moved"
TOO_SMALL = "smaller than the dataset's size"
TOO_LARGE = "larger than a dataset may hold"
OUT_OF_WINDOW = "nothing reworked inside the window"
NO_FACE_PARSED = "the face parser finds no face in the target"  # what DiffFace says
# Of a picture's size. What is made from noise or text has the same size at every attempt, so no other attempt is made.
SIZE_REASONS = frozenset({TOO_SMALL, TOO_LARGE})
# A new source would not help: the steps before must make a new target.
INPUT_REASONS = frozenset({NO_INPUT, NO_FACE["target"], SEVERAL_FACES["target"], NO_FACE_PARSED, OUT_OF_WINDOW})


def reason_against(image: np.ndarray, target: np.ndarray | None = None) -> str | None:
    """Why `image` (`uint8` `[H, W, 3]`) must be rejected, or None. `target`, of the same size, is what a swap worked on.

    Not-a-number pixels leave a generator as black, so they are found here as blank.
    """
    image = np.ascontiguousarray(image)
    if spread(image) < BLANK_STD**2:
        return BLANK
    if target is not None and cv2.norm(image, np.ascontiguousarray(target), cv2.NORM_L1) / image.size < NO_OP_MEAN:
        return NO_OP
    return None


def spread(values: np.ndarray) -> float:
    """The variance of all values of an array of whole numbers (`uint8` or int16, `[H, W]` or `[H, W, C]`), from sums that are exact."""
    mean = sum(cv2.sumElems(values)) / values.size
    return max(0.0, cv2.norm(values, cv2.NORM_L2SQR) / values.size - mean * mean)
