"""Masks: true where an image is reworked. Drawn by a seed, parsed from a face, or read beside a real image."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from generators.errors import InputError
from generators.faces.parsing import FaceParser
from generators.seeding import numpy_rng
from pipelines.images import middle, read_image
from pipelines.make.framing import Frame
from pipelines.manifest.masks import MaskSpec
from pipelines.plan.reals import RealImage

# BiSeNet's classes (`generators.networks.faces.bisenet.CLASSES`) of each part of a face.
PARTS = {
    "face": (1, 2, 3, 4, 5, 6, 10, 11, 12, 13),
    "skin": (1,),
    "brows": (2, 3),
    "eyes": (4, 5),
    "glasses": (6,),
    "ears": (7, 8),
    "nose": (10,),
    "mouth": (11, 12, 13),
    "neck": (14,),
    "hair": (17,),
}
MASK_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
STROKES = 64  # at most; a brush ends sooner when it has covered enough


def draw(spec: MaskSpec, seed: int, size: int) -> np.ndarray:
    """Bool `[size, size]`: the shape of `spec`, covering a part of the picture that the seed draws from `spec.area`."""
    rng = numpy_rng(seed, "mask")
    share = rng.uniform(*spec.area)
    canvas = np.zeros((size, size), np.uint8)
    if spec.shape == "brush":
        return _brush(canvas, rng, share)
    around = share if spec.shape == "box" else min(1.0, share * 4 / np.pi)
    aspect = np.exp(rng.uniform(np.log(0.5), np.log(2.0)))
    height = min(1.0, np.sqrt(around * aspect))
    width = min(1.0, around / height)
    height = min(1.0, around / width)
    rows, columns = max(1, round(height * size)), max(1, round(width * size))
    top, left = int(rng.integers(size - rows + 1)), int(rng.integers(size - columns + 1))
    if spec.shape == "box":
        canvas[top : top + rows, left : left + columns] = 1
    else:
        y, x = np.ogrid[:size, :size]
        inside = ((y - top - (rows - 1) / 2) / (rows / 2)) ** 2 + ((x - left - (columns - 1) / 2) / (columns / 2)) ** 2 <= 1
        canvas[inside] = 1
    return canvas.astype(bool)


def is_empty(spec: MaskSpec, seed: int) -> bool:
    """Whether the image of this seed is among those that get an empty mask."""
    return spec.empty is not None and bool(numpy_rng(seed, "empty mask").random() < spec.empty)


def parse(parser: FaceParser, picture: np.ndarray, spec: MaskSpec) -> np.ndarray | None:
    """Bool `[S, S]` of the parts of the face in a square `picture`, `uint8` `[S, S, 3]`; None if the parser sees none of them."""
    assert spec.face is not None
    labels = parser.labels(picture[None])[0]
    inside = np.isin(labels, [number for part in spec.face for number in PARTS[part]])
    mask = resized(inside, len(picture))
    return mask if mask.any() else None


def read(folder: Path, image: RealImage, root: Path, bring: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Bool `[H, W]`: the mask in `folder` of a real image that lies under `root`. InputError if there is none.

    `bring` does to the mask, as a picture, what was done to the image (`[H, W, 3]` in and out).
    """
    assert image.file is not None
    relative = image.file.relative_to(root)
    files = [folder / relative.with_suffix(suffix) for suffix in MASK_SUFFIXES]
    file = next((candidate for candidate in files if candidate.is_file()), None)
    if file is None:
        raise InputError(f"{folder} has no mask for {relative}", f"Put a picture of that name there, such as {files[0].name}")
    pixels = read_image(file)
    if not pixels.max() > 127:
        raise InputError(f"{file} is black: it masks nothing", "Make white what is to be reworked")
    return bring(pixels)[..., 0] > 127


def resized(mask: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a bool mask `[H, W]` at `size` x `size`. A pixel that is masked in part is masked."""
    if mask.shape == (size, size):
        return mask
    height, width = mask.shape
    side = min(height, width)
    square = mask[(height - side) // 2 :, (width - side) // 2 :][:side, :side].astype(np.float32)
    interpolation = cv2.INTER_AREA if size < side else cv2.INTER_NEAREST
    return cv2.resize(square, (size, size), interpolation=interpolation) > 0


def framed(mask: np.ndarray, frame: Frame) -> np.ndarray:
    """What `frame` takes of a bool mask `[H, W]`, as it takes it of the picture."""
    return np.ascontiguousarray(frame.cut(mask)) if frame.size is None else resized(frame.cut(mask), frame.size)


def filling(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """What `pipelines.images.fill` does to a picture, done to a bool mask `[H, W]`. A pixel that is masked in part is masked."""
    if mask.shape == (height, width):
        return mask
    top, left, rows, columns = middle(mask.shape, height, width)
    part = mask[top : top + rows, left : left + columns].astype(np.float32)
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if height < rows else cv2.INTER_NEAREST) > 0


def encode_mask(mask: np.ndarray) -> bytes:
    """A bool mask as a PNG of one bit a pixel, white where it is true."""
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()


def _brush(canvas: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """Strokes with a round brush that turn a little at each step, until they cover `share` of the picture."""
    size = len(canvas)
    for _ in range(STROKES):
        width = max(1, round(size * rng.uniform(0.05, 0.15)))
        point, angle = rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi)
        for _ in range(int(rng.integers(3, 9))):
            angle += rng.uniform(-0.8, 0.8)
            step = size * rng.uniform(0.05, 0.2)
            end = np.clip(point + step * np.array([np.cos(angle), np.sin(angle)]), 0, size - 1)
            ends = [tuple(int(value) for value in place) for place in (point, end)]
            cv2.line(canvas, ends[0], ends[1], 1, width)
            point = end
            if canvas.mean() >= share:
                return canvas.astype(bool)
    return canvas.astype(bool)
