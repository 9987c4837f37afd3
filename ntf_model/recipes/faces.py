"""Where the face is: landmarks, and the crops that the baselines' authors take by them.

Landmarks are `[68, 2]` (x, y) in the order of the 300-W annotation (jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67), or
`[81, 2]` with 13 points of the forehead after them. Boxes are (left, top, right, bottom) in pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

# Pupils, nose tip and mouth corners of CADDM's mean face, in units of its canvas, centre at the origin
MEAN_FACE = np.array([[-0.17607, -0.172844], [0.1736, -0.17356], [-0.00182, 0.0357164], [-0.14617, 0.20185], [0.14496, 0.19943]])
EYE_DISTANCE = 0.34967  # of that mean face

# Pupils and mouth corners of a face that was aligned as CelebA-HQ and FFHQ are, as fractions of the picture's side
ALIGNED_FIVE = np.array([[0.385, 0.479], [0.615, 0.479], [0.5, 0.605], [0.408, 0.708], [0.592, 0.708]])
ALIGNED_JAW = 0.30  # half the width of the jaw
ALIGNED_CHIN = 0.86


class SquareBox(NamedTuple):
    x: int
    y: int
    size: int

    def crop(self, image: np.ndarray) -> np.ndarray:
        return image[self.y : self.y + self.size, self.x : self.x + self.size]


def square_box(box: tuple[int, int, int, int], width: int, height: int, scale: float = 1.3, minimum: int | None = None) -> SquareBox:
    """The square that FaceForensics++ cuts round a face: `scale` times its longer side, shrunk until it is inside `width` x `height`."""
    left, top, right, bottom = (int(value) for value in box)
    size = max(int(max(right - left, bottom - top) * scale), minimum or 0)
    x, y = (max((left + right) // 2 - size // 2, 0), max((top + bottom) // 2 - size // 2, 0))
    return SquareBox(x, y, min(size, width - x, height - y))


class Margins(NamedTuple):
    """What is added to a box on each side, as fractions of its width (left, right) and height (top, bottom)."""

    left: float
    right: float
    top: float
    bottom: float

    def times(self, factors: tuple[float, float, float, float]) -> Margins:
        return Margins(*(side * factor for side, factor in zip(self, factors, strict=True)))


AROUND_BOX = Margins(1 / 4, 1 / 4, 1 / 4, 1 / 4)  # Self-Blended Images' margins round a detector's box
AROUND_LANDMARKS = Margins(1 / 8, 1 / 8, 1 / 2, 1 / 5)  # and round the landmarks, which end at the brows and the chin
TEST_FACTORS = (0.5, 0.5, 0.5, 0.5)
WIDE_FACTORS = (4.0, 4.0, 2.0, 2.0)  # the larger picture from which training crops are taken


def random_factors(rng: np.random.Generator | np.random.RandomState) -> tuple[float, float, float, float]:
    """The margins of a training crop are scaled by 0.2 to 0.8, drawn for left, right, top and bottom in turn."""
    left, right, top, bottom = (float(rng.random()) * 0.6 + 0.2 for _ in range(4))
    return left, right, top, bottom


def box_of(points: np.ndarray) -> tuple[float, float, float, float]:
    """The box round landmarks; the forehead's points beyond the 68th do not count."""
    low, high = points[:68].min(0), points[:68].max(0)
    return low[0], low[1], high[0], high[1]


def crop_bounds(
    box: tuple[float, float, float, float],
    shape: tuple[int, ...],
    margins: Margins,
    factors: tuple[float, float, float, float] = (1, 1, 1, 1),
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of the box with its margins times `factors`, cut to an image of `shape` (H, W, ...)."""
    low, high = np.asarray(box).reshape(2, 2)
    extra = np.array(margins.times(factors)).reshape(2, 2)  # left, right and top, bottom
    before, after = (high - low) * extra.T
    left, top = (int(value) for value in np.maximum(low - before, 0))
    right, bottom = (int(value) + 1 for value in high + after)
    return top, min(shape[0], bottom), left, min(shape[1], right)


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Pupils, nose tip and mouth corners `[5, 2]` from 68 or 81 landmarks. The pupils are cut to whole pixels, as CADDM's code does."""
    eyes = [landmarks[first:last].mean(0).astype(int) for first, last in ((36, 42), (42, 48))]
    return np.array([*eyes, landmarks[30], landmarks[48], landmarks[54]])


def align(
    image: np.ndarray,
    landmarks: np.ndarray,
    size: int = 224,
    face_width: float = 80,
    scale: float = 0.9,
    translation: tuple[float, float] = (0, 0),
    rotation: float = 0,
    stretch: tuple[float, float] = (1, 1),
) -> tuple[np.ndarray, np.ndarray]:
    """CADDM's crop: the face turned and scaled onto the mean face, `[size, size, 3]`, and the landmarks in it `[68 or 81, 2]`.

    `face_width` is the distance of the eyes at scale 1, in pixels; `rotation` is in
    degrees; `stretch` widens the eyes against the mouth, and
    the left half against the right, by a perspective transform.
    """
    mean = _mean_face(scale, face_width, size)
    onto = np.eye(3)
    onto[:2] = _similarity(five_points(landmarks), mean)
    turned = np.eye(3)
    turned[:2] = cv2.getRotationMatrix2D((size / 2, size / 2), rotation, 1)
    corners = mean[[0, 1, 3, 4]].astype(np.float32)
    moved = corners.copy()
    for a, b, factor in ((0, 1, stretch[0]), (2, 3, 1 / stretch[0]), (0, 2, stretch[1]), (1, 3, 1 / stretch[1])):
        middle, half = (moved[a] + moved[b]) * 0.5, (moved[a] - moved[b]) * 0.5
        moved[a], moved[b] = middle + half * factor, middle - half * factor
    moved += np.array(translation)
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32)) @ turned @ onto
    points = np.asarray(landmarks) @ matrix[:, :2].T + matrix[:, 2]
    return cv2.warpPerspective(image, matrix, (size, size)), points[:, :2]


def template_landmarks(height: int, width: int) -> np.ndarray:
    """68 landmarks `[68, 2]` where an aligned face (CelebA-HQ, FFHQ) has them, for pictures without annotations.

    A mean shape: an ellipse for the jaw, arcs for brows and lips. It is good enough for a mask round the face, not for measuring one.
    """
    left_eye, right_eye, nose, left_mouth, right_mouth = ALIGNED_FIVE
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([0.5 + ALIGNED_JAW * np.cos(angle), left_eye[1] + (ALIGNED_CHIN - left_eye[1]) * np.sin(angle)], 1)
    brows = [_arc(eye - np.array([0, 0.065]), 0.075, -0.02, 5) for eye in (left_eye, right_eye)]
    bridge = np.linspace([0.5, left_eye[1]], nose, 4)
    nostrils = _arc(nose + np.array([0, 0.03]), 0.05, 0.015, 5)
    eyes = [_ring(eye, 0.042, 0.016, 6) for eye in (left_eye, right_eye)]
    mouth = (left_mouth + right_mouth) / 2
    half = (right_mouth - left_mouth)[0] / 2
    points = np.concatenate([jaw, *brows, bridge, nostrils, *eyes, _ring(mouth, half, 0.04, 12), _ring(mouth, half * 0.7, 0.012, 8)])
    return points * [width, height]


def _mean_face(scale: float, face_width: float, size: int) -> np.ndarray:
    """The mean face on a canvas of `size` pixels. The vertical scale is CADDM's own: it fixes the height of the eyes."""
    mean = MEAN_FACE * scale
    ratio = face_width / (size * EYE_DISTANCE)
    vertical = (mean[0, 1] * ratio + 0.5) * 2.42
    return np.stack([(mean[:, 0] * ratio + 0.5) * size, (mean[:, 1] * ratio + 0.5) * size / vertical], 1)


def _similarity(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Turning, scaling and moving, `[2, 3]`, by the least squares of the inverse direction (as CADDM solves it)."""
    center, goal = points.mean(0), onto.mean(0)
    d, u = points - center, onto - goal
    a, b = ((u * d).sum(), (u[:, 0] * d[:, 1] - u[:, 1] * d[:, 0]).sum()) / (d**2).sum()
    turn = np.array([[a, b], [-b, a]])
    return np.concatenate([turn, (goal - turn @ center)[:, None]], 1)


def _arc(center: np.ndarray, half_width: float, rise: float, count: int) -> np.ndarray:
    along = np.linspace(-1, 1, count)
    return center + np.stack([half_width * along, rise * (1 - along**2)], 1)


def _ring(center: np.ndarray, half_width: float, half_height: float, count: int) -> np.ndarray:
    angle = np.pi + np.linspace(0, 2 * np.pi, count, endpoint=False)
    return center + np.stack([half_width * np.cos(angle), half_height * np.sin(angle)], 1)
