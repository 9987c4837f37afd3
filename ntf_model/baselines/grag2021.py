"""Gragnaniello et al. 2021: a ResNet-50 that does not downsample in its first layers, trained under stronger augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from ntf_model.baselines.wang2020 import Wang2020, Wang2020Config
from ntf_model.recipes.transforms import IMAGENET, Preprocess
from ntf_model.registry import register_detector


class Grag2021Config(Wang2020Config):
    """As Wang et al.; pictures with both sides over `tile_above` pixels are scored in tiles."""

    size: int = Field(96, ge=16)  # of training crops: full resolution throughout takes 16 times the memory
    tile_above: int = Field(1536, ge=1)
    tile: int = Field(1024, ge=16)


@register_detector("grag2021")
class Grag2021(Wang2020):
    title = "Grag2021"
    Config = Grag2021Config
    DEMO: ClassVar[dict[str, Any]] = {**Wang2020.DEMO, "epochs": 2, "batch_size": 16}
    stem_stride = 1
    batch_pixels = 2 * 256 * 256

    @property
    def preprocess(self) -> Preprocess:
        """The whole picture, at its own size."""
        return Preprocess(stats=IMAGENET)

    def augment(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Blur and JPEG, and (section 4) brightness and contrast, noise, quarter turns and a square cut out."""
        image = super().augment(image, rng)
        if rng.random() < 0.5:
            contrast, brightness = rng.uniform(0.8, 1.2), rng.uniform(-25, 25)
            image = np.clip(image * contrast + brightness, 0, 255).astype(np.uint8)
        if rng.random() < 0.2:
            image = np.clip(image + rng.normal(0, rng.uniform(0, 5), image.shape), 0, 255).astype(np.uint8)
        image = np.rot90(image, int(rng.integers(4)))
        if rng.random() < 0.2:
            side = min(image.shape[:2]) // 4
            top, left = (int(rng.integers(length - side + 1)) for length in image.shape[:2])
            image = image.copy()
            image[top : top + side, left : left + side] = 0
        return np.ascontiguousarray(image)

    def score_tensors(self, tensors: Sequence[torch.Tensor]) -> np.ndarray:
        """As of every baseline, but a large picture's logit is the mean over its tiles, weighted by their area."""
        scores = np.empty(len(tensors))
        large = [place for place, tensor in enumerate(tensors) if min(tensor.shape[1:]) > self.config.tile_above]
        small = [place for place in range(len(tensors)) if place not in large]
        scores[small] = super().score_tensors([tensors[place] for place in small])
        for place in large:
            scores[place] = torch.sigmoid(torch.tensor(self.tiled_logit(tensors[place]), dtype=torch.float64)).item()
        return scores

    def tiled_logit(self, tensor: torch.Tensor) -> float:
        """The logit of a normalised picture `[3, H, W]`, tile by tile; the tiles do not overlap, those at the edges are smaller."""
        step, total, area = self.config.tile, 0.0, 0
        with torch.inference_mode():
            for top in range(0, tensor.shape[1], step):
                for left in range(0, tensor.shape[2], step):
                    tile = tensor[:, top : top + step, left : left + step]
                    weight = tile.shape[1] * tile.shape[2]
                    total += weight * self.network(tile[None].to(self.device)).item()
                    area += weight
        return total / area
