"""What is measured of every image and of every swapped face, kept in a row's `measures`."""

from __future__ import annotations

import cv2
import numpy as np

from pipelines.make.rejections import spread

LEFT_EYE, RIGHT_EYE, NOSE = 0, 1, 2
FIXED, MOUTH = [LEFT_EYE, RIGHT_EYE, NOSE], [3, 4]  # the points that only the pose moves, and those that the expression moves too


def sharpness(image: np.ndarray) -> float:
    """The variance of the Laplacian of the grey image (`uint8` RGB `[H, W, 3]`): 0 for a flat image, hundreds for a sharp photograph."""
    return round(spread(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_16S)), 2)


def face_distances(landmarks: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """How far a swapped face's five landmarks are from the target's, both `[5, 2]` in one picture, in distances between the target's eyes.

    `pose_distance` is the mean over eyes and nose; `expression_distance` the mean over the corners of the mouth, once the mean movement
    of eyes and nose is taken off. Five points tell no more of an expression than where the mouth ends.
    """
    eyes = float(np.linalg.norm(target[RIGHT_EYE] - target[LEFT_EYE]))
    moved = (np.asarray(landmarks, np.float64) - target) / max(eyes, 1e-6)
    mouth = moved[MOUTH] - moved[FIXED].mean(0)
    return {
        "pose_distance": round(float(np.linalg.norm(moved[FIXED], axis=1).mean()), 4),
        "expression_distance": round(float(np.linalg.norm(mouth, axis=1).mean()), 4),
    }
