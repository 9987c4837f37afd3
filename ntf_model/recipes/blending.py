"""Self-Blended Images (Shiohara and Yamasaki 2022): a fake made from one real face, by blending it with a changed copy of itself."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ntf_model.recipes.transforms import jpeg

RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)


class BlendDraw(NamedTuple):
    """What is random in a blend: the size at which the mask is blurred, two kernel widths (odd), the second sigma, the strength."""

    height: int
    width: int
    kernel_1: int
    kernel_2: int
    sigma: float
    ratio: float


def draw_blend(rng: np.random.Generator) -> BlendDraw:
    """Ranges of the paper's section 3.2 and its code."""
    odd = np.arange(5, 26, 2)
    return BlendDraw(
        int(rng.integers(192, 257)),
        int(rng.integers(192, 257)),
        int(rng.choice(odd)),
        int(rng.choice(odd)),
        float(rng.integers(5, 46)),
        RATIOS[int(rng.integers(len(RATIOS)))],
    )


def hull_mask(landmarks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """1 inside the convex hull of the landmarks, 0 outside: `uint8` `[H, W]`."""
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.asarray(landmarks).astype(np.int32)), 1)
    return mask


def soft_mask(mask: np.ndarray, draw: BlendDraw) -> np.ndarray:
    """The mask with soft edges, float `[H, W]` in [0, 1]: what a first blur leaves whole, blurred again so that its peak is 1.

    A `uint8` mask of 0 and 1 (what the official code passes) stays nearly as large, since its first blur rounds; a float one is eroded.
    """
    first = cv2.GaussianBlur(cv2.resize(mask, (draw.width, draw.height)), (draw.kernel_1,) * 2, 0)
    whole = (first == first.max()) & (first > 0)
    if not whole.any():  # the hull lies outside the picture
        return np.zeros(mask.shape, np.float32)
    second = cv2.GaussianBlur(whole.astype(np.float32), (draw.kernel_2,) * 2, draw.sigma)
    return cv2.resize(second / second.max(), mask.shape[::-1])


def blend(source: np.ndarray, target: np.ndarray, mask: np.ndarray, draw: BlendDraw) -> np.ndarray:
    """`source` on `target` (both `[H, W, 3]`, 0 to 255) through `soft_mask` times the drawn strength; cut down to `uint8`."""
    weight = (soft_mask(mask, draw) * draw.ratio)[..., None]
    return (weight * source.astype(np.float64) + (1 - weight) * target.astype(np.float64)).astype(np.uint8)


def self_blend(image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A face and its pseudo-fake, both `uint8` `[H, W, 3]`, from one real face (section 3.2).

    Of two copies one gets other colours and another sharpness. Either may be the source, which is moved a little, or the target, which
    the source is blended into through the hull of the landmarks (a quarter of the time without the forehead), moved with it and bent.
    """
    changed = change_statistics(image, rng)
    source, target = (changed, image) if rng.random() < 0.5 else (image, changed)
    outline = landmarks if rng.random() < 0.75 else landmarks[:68]
    height, width = image.shape[:2]
    move = draw_move(height, width, rng)
    mask = cv2.warpAffine(hull_mask(outline, image.shape), move, (width, height), flags=cv2.INTER_NEAREST)
    mask = bend_mask(mask, alpha=50, sigma=7, rng=rng)
    return target, blend(cv2.warpAffine(source, move, (width, height)), target, mask, draw_blend(rng))


def change_statistics(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other colours (a shift in 30 % of cases, always saturation, brightness and contrast), then less resolution or more sharpness."""
    out = shift_colours(image, 20, rng) if rng.random() < 0.3 else image
    out = change_brightness_contrast(change_hsv(out, 0.3, rng), 0.1, rng)
    return downscale(out, int(rng.choice([2, 4])), rng) if rng.random() < 0.5 else sharpen(out, rng)


def draw_move(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Scaled about the middle by 0.95 to 1/0.95 and shifted by up to 3 % across and 1.5 % down: an affine matrix `[2, 3]`."""
    scale = rng.uniform(0.95, 1 / 0.95)
    shift = rng.uniform(-1, 1, 2) * [0.03 * width, 0.015 * height]
    middle = np.array([width, height]) / 2
    return np.column_stack([scale * np.eye(2), (1 - scale) * middle + shift])


def augment_pair(real: np.ndarray, fake: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same draw on both pictures: colour shift, saturation, brightness and contrast (30 % each), JPEG 40 to 100 (50 %)."""
    seed, chances, quality = int(rng.integers(2**63)), rng.random(4), int(rng.integers(40, 101))
    pair = []
    for image in (real, fake):
        own = np.random.default_rng(seed)
        out = shift_colours(image, 20, own) if chances[0] < 0.3 else image
        out = change_hsv(out, 0.3, own) if chances[1] < 0.3 else out
        out = change_brightness_contrast(out, 0.3, own) if chances[2] < 0.3 else out
        pair.append(jpeg(out, quality, "cv2") if chances[3] < 0.5 else out)
    return pair[0], pair[1]


def shift_colours(image: np.ndarray, limit: float, rng: np.random.Generator) -> np.ndarray:
    """Adds one number from [-limit, limit] to each colour."""
    return _uint8(image + rng.uniform(-limit, limit, 3))


def change_hsv(image: np.ndarray, limit: float, rng: np.random.Generator) -> np.ndarray:
    """Adds up to `limit` (in units of OpenCV's 8-bit hue, saturation and value) to each: as small as in the official code."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32) + rng.uniform(-limit, limit, 3)
    hsv[..., 0] %= 180
    return cv2.cvtColor(_uint8(hsv), cv2.COLOR_HSV2RGB)


def change_brightness_contrast(image: np.ndarray, limit: float, rng: np.random.Generator) -> np.ndarray:
    """Contrast times 1 +- limit, then brightness plus up to `limit` of the full range."""
    contrast, brightness = rng.uniform(-limit, limit, 2)
    return _uint8(image * (1 + contrast) + brightness * 255)


def downscale(image: np.ndarray, factor: int, rng: np.random.Generator) -> np.ndarray:
    """Smaller by `factor` (nearest or cubic) and back: the loss of resolution of a generator's output."""
    height, width = image.shape[:2]
    how = (cv2.INTER_NEAREST, cv2.INTER_CUBIC)[int(rng.integers(2))]
    small = cv2.resize(image, (max(1, width // factor), max(1, height // factor)), interpolation=how)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def sharpen(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A 3x3 sharpening, 20 to 50 % of it."""
    alpha, lightness = rng.uniform(0.2, 0.5), rng.uniform(0.5, 1.0)
    strong = np.full((3, 3), -1, np.float32)
    strong[1, 1] = 8 + lightness
    same = np.zeros((3, 3), np.float32)
    same[1, 1] = 1
    return cv2.filter2D(image, -1, (1 - alpha) * same + alpha * strong)


def bend_mask(mask: np.ndarray, alpha: float, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Elastic deformation (Simard et al. 2003): displaced by noise blurred with `sigma` pixels, times `alpha`."""
    height, width = mask.shape[:2]
    field = [cv2.GaussianBlur(rng.uniform(-1, 1, (height, width)).astype(np.float32), (0, 0), sigma) * alpha for _ in range(2)]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(mask, columns + field[0], rows + field[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)


def _uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
