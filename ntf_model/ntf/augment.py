"""Views of a picture that leave its forensic traces alone: crops and flips, and on request blur and JPEG.

Colour jitter, greyscale and resized crops are not here on purpose: they damage the traces that a detector of this kind reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from ntf_model.data.data import ItemDataset, items_of
from ntf_model.data.images import gaussian_blur, jpeg_compress, reflect_to
from ntf_model.data.loader import Batch
from ntf_model.data.sampling import Draw


class Augmentation(BaseModel):
    """Which views are drawn. `blur` and `jpeg` are probabilities; the ranges are those of Wang et al. 2020, section 3.2."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: bool = True
    blur: float = Field(0.0, ge=0, le=1)
    blur_sigma: tuple[float, float] = (0.0, 3.0)
    jpeg: float = Field(0.0, ge=0, le=1)
    jpeg_quality: tuple[int, int] = (30, 100)

    def view(self, image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """A random view, `uint8` `[size, size, 3]`. The same `rng` state always draws the same view."""
        top, left, flip, blur, sigma, jpeg, quality = rng.random(7)
        image = reflect_to(image, size)
        top, left = int(top * (image.shape[0] - size + 1)), int(left * (image.shape[1] - size + 1))
        out = image[top : top + size, left : left + size]
        if self.flip and flip < 0.5:
            out = out[:, ::-1]
        if blur < self.blur:
            low, high = self.blur_sigma
            out = gaussian_blur(out, low + sigma * (high - low))
        if jpeg < self.jpeg:
            low, high = self.jpeg_quality
            out = jpeg_compress(out, low + int(quality * (high - low + 1)))
        return out


class View(Protocol):
    def __call__(self, image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray: ...


class Views:
    """`views` random crops of each drawn picture. All randomness comes from the draws' seeds."""

    def __init__(self, dataset: ItemDataset, view: View, size: int, views: int = 1):
        self.dataset, self.view, self.size, self.views = dataset, view, size, views

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """The pictures of a batch in one read, each view copied once, to its place."""
        rows = [draw.row for draw in draws]
        items = items_of(self.dataset, rows)
        pixels = np.empty((len(draws), self.views, 3, self.size, self.size), np.uint8)
        for places, item, draw in zip(pixels, items, draws, strict=True):
            rng = np.random.default_rng(draw.seed)
            for place in places:
                place[:] = self.view(item.image, self.size, rng).transpose(2, 0, 1)
        return Batch(torch.from_numpy(pixels), torch.tensor([item.label for item in items]), torch.tensor(rows))

    def __len__(self) -> int:
        return len(self.dataset)


def to_tensor(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device | str) -> torch.Tensor:
    """`uint8` `[..., 3, H, W]` to float32 on `device`, scaled to [0, 1] and normalised by channel. Where `images` are in pinned memory, the
    host does not wait for a GPU to be done with the batch before."""
    pixels = images.to(device, non_blocking=True).float().div_(255)
    return pixels.sub_(_by_channel(tuple(mean), torch.device(device))).div_(_by_channel(tuple(std), torch.device(device)))


@lru_cache(maxsize=64)
def _by_channel(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """`[3, 1, 1]`, brought to `device` once: each such copy waits for all that the device was given."""
    with torch.inference_mode(False):  # it is used in training too
        return torch.tensor(values, device=device).view(-1, 1, 1)
