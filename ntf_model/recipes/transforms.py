"""What the baselines do to a picture before their networks see it. Pictures are `uint8` RGB `[H, W, 3]` until they become tensors."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from PIL import Image

from ntf_model.data.images import jpeg_compress

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

Stats = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each colour
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Codec = Literal["cv2", "pil"]
_PIL = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resize_shorter(image: np.ndarray, size: int, interpolation: Interpolation = "bilinear") -> np.ndarray:
    """The shorter side scaled to `size` pixels, the longer in proportion (rounded down), by Pillow, which smooths when it shrinks."""
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    if short == size:
        return image
    other = int(size * long / short)
    return resize(image, (size, other) if height <= width else (other, size), interpolation)


def resize(image: np.ndarray, size: tuple[int, int], interpolation: Interpolation = "bilinear") -> np.ndarray:
    """To `size` = (height, width) by Pillow, whatever the proportions were."""
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), _PIL[interpolation]))


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The middle `[size, size, 3]`; black is added round a picture that is too small (as torchvision's CenterCrop does)."""
    image = pad_black(image, size)
    top, left = round((image.shape[0] - size) / 2), round((image.shape[1] - size) / 2)
    return image[top : top + size, left : left + size]


def random_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A `[size, size, 3]` part of the picture anywhere; black is added round one that is too small."""
    image = pad_black(image, size)
    top, left = (int(rng.integers(side - size + 1)) for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def pad_black(image: np.ndarray, size: int) -> np.ndarray:
    missing = [max(0, size - side) for side in image.shape[:2]]
    if not any(missing):
        return image
    return np.pad(image, [*((side // 2, side - side // 2) for side in missing), (0, 0)])


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, each colour by itself, the values cut down to whole numbers after each of the two passes.

    So does Wang et al.'s code, which filters in place; the picture becomes about one grey level darker.
    """
    from scipy.ndimage import gaussian_filter

    return np.stack([gaussian_filter(image[..., colour], sigma, output=np.uint8) for colour in range(3)], axis=-1)


def jpeg(image: np.ndarray, quality: int, codec: Codec = "pil") -> np.ndarray:
    """Compressed and decompressed as a baseline JPEG with halved chroma, by OpenCV or Pillow at their default settings."""
    if codec == "cv2":
        return jpeg_compress(image, quality)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="jpeg", quality=int(quality))
    return np.asarray(Image.open(stream))


def to_tensor(image: np.ndarray, stats: Stats | tuple[Sequence[float], Sequence[float]] | None = None) -> torch.Tensor:
    """Float32 `[3, H, W]` in [0, 1], then, with `stats` = (mean, std), normalised for each colour."""
    pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1) / 255
    if stats is None:
        return pixels.contiguous()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in stats)
    return ((pixels - mean) / std).contiguous()


@dataclass(frozen=True)
class Preprocess:
    """From a picture to what a network takes at test time. Two detectors whose preprocessing is equal share its result.

    In this order, each where it is given: `shorter` scales the shorter side, `square` the whole picture to a square (by Pillow, or by
    OpenCV, which does not smooth), `crop` takes the middle. Then the colours: in [0, 1], normalised with `stats`, or with `bgr` 0 to 255
    in the order blue, green, red.
    """

    shorter: int | None = None
    square: int | None = None
    crop: int | None = None
    interpolation: Interpolation = "bilinear"
    library: Literal["pil", "cv2"] = "pil"
    stats: Stats | None = None
    bgr: bool = False

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """`uint8` `[H, W, 3]` to `uint8` at the size that the network takes."""
        if self.shorter is not None:
            image = resize_shorter(image, self.shorter, self.interpolation)
        if self.square is not None:
            image = resize_square(image, self.square, self.interpolation, self.library)
        return image if self.crop is None else center_crop(image, self.crop)

    def tensor(self, image: np.ndarray) -> torch.Tensor:
        """`uint8` pixels of the right size to float32 `[3, H, W]`."""
        if self.bgr:
            return torch.from_numpy(image[..., ::-1].astype(np.float32)).permute(2, 0, 1).contiguous()
        return to_tensor(image, self.stats)

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        return self.tensor(self.pixels(image))


def resize_square(
    image: np.ndarray, size: int, interpolation: Interpolation = "bilinear", library: Literal["pil", "cv2"] = "pil"
) -> np.ndarray:
    """`[size, size, 3]` from the whole picture."""
    if library == "pil":
        return resize(image, (size, size), interpolation)
    how = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}
    return cv2.resize(image, (size, size), interpolation=how[interpolation])


@dataclass(frozen=True)
class BlurJpeg:
    """Wang et al. 2020, section 3.2: blur with probability `blur`, then JPEG with probability `jpeg`, by either library."""

    blur: float = 0.5
    jpeg: float = 0.5
    sigma: tuple[float, float] = (0.0, 3.0)
    quality: tuple[int, int] = (30, 100)  # both ends included

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() < self.blur:
            image = blur(image, rng.uniform(*self.sigma))
        if rng.random() < self.jpeg:
            codec: Codec = "cv2" if rng.random() < 0.5 else "pil"
            image = jpeg(image, int(rng.integers(self.quality[0], self.quality[1] + 1)), codec)
        return image


def flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrored left to right, every second time."""
    return image[:, ::-1] if rng.random() < 0.5 else image
