"""Detectors that are a head on an encoder: how they prepare pictures, and how they are saved and loaded with their encoder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ntf_model.data.images import corner_crops
from ntf_model.encoders.build import encoder_config, encoder_note
from ntf_model.encoders.encoder import Encoder
from ntf_model.networks.weights import load_into
from ntf_model.recipes.network import NetworkDetector
from ntf_model.recipes.transforms import Preprocess
from ntf_model.runs import load_weights, save_weights


@dataclass(frozen=True)
class Crops(Preprocess):
    """`count` crops of a picture, the middle and then the corners: float32 `[count, 3, crop, crop]`. Small pictures are padded by
    reflection."""

    count: int = 1

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        return torch.stack([self.tensor(crop) for crop in corner_crops(image, self.crop or min(image.shape[:2]), self.count)])


class HeadOnEncoder(nn.Module):
    """`model` is an encoder. The logit of a picture is the mean over its crops."""

    def __init__(self, model: Encoder):
        super().__init__()
        self.model = model

    @abstractmethod
    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised `[N, 3, H, W]` to `[N, 1]`."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised `[N, 3, H, W]`, or `[N, crops, 3, H, W]`, to logits `[N, 1]`."""
        if images.dim() == 4:
            return self.logits(images)
        return self.logits(images.flatten(0, 1)).reshape(len(images), -1).mean(1, keepdim=True)


class LinearOnEncoder(HeadOnEncoder):
    """`fc` on the encoder's embedding."""

    def __init__(self, model: Encoder):
        super().__init__(model)
        self.fc = nn.Linear(model.dim, 1)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.model(images))


class EncoderDetector(NetworkDetector):
    """A detector whose network is a `HeadOnEncoder` and whose configuration an `EncoderConfig` with `test_crops`."""

    batch_pixels = 16 * 224 * 224

    @classmethod
    @abstractmethod
    def network_of(cls, config: Any, saved: Mapping[str, Any] | None = None) -> Any:
        """The network; `saved` as in `ntf_model.encoders.build.encoder_of`."""

    @classmethod
    def build(cls, config: Any) -> nn.Module:
        return cls.network_of(config)

    @property
    def note(self) -> str:
        return encoder_note(self.config, self.network.model)

    @property
    def preprocess(self) -> Preprocess:
        """Parts of the picture as they are, never resized."""
        encoder = self.network.model
        return Crops(crop=encoder.crop, stats=(encoder.mean, encoder.std), count=self.config.test_crops)

    def save_pretrained(self, folder: Path) -> None:
        values = {"config": self.config.model_dump(mode="json"), "backbone": encoder_config(self.network.model)}
        save_weights(Path(folder), self.name, values, self.network.state_dict())

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str | torch.device | None = None) -> Self:
        values, tensors = load_weights(folder, cls.name)
        config = cls.parse_config(values.get("config", {}))
        network = cls.network_of(config, values.get("backbone"))
        load_into(network, tensors, folder)
        return cls(config, network, device)
