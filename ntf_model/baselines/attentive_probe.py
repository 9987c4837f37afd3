"""A probe with attention pooling: the encoder is frozen, and learned queries choose the places of the picture that count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from ntf_model.data.data import Item
from ntf_model.data.images import reflect_to
from ntf_model.encoders.build import EncoderConfig, encoder_of
from ntf_model.encoders.encoder import Encoder
from ntf_model.recipes.baseline import Baseline, BaselineConfig, Batch
from ntf_model.recipes.on_encoder import EncoderDetector, HeadOnEncoder
from ntf_model.recipes.transforms import flip, random_crop, to_tensor
from ntf_model.registry import register_detector


class AttentiveProbeConfig(EncoderConfig, BaselineConfig):
    """`queries` vectors attend to the encoder's places. In testing the logits of `test_crops` crops (the middle, then the corners) are
    averaged. `size` is the crop."""

    adaptation: Literal["frozen"] = "frozen"
    queries: int = Field(4, gt=0)
    epochs: int = Field(20, ge=0)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    test_crops: int = Field(5, ge=1, le=5)


class AttentionPool(HeadOnEncoder):
    """Softmax attention of learned queries over the normalised features of places; `fc` makes one logit of what all of them read."""

    def __init__(self, model: Encoder, queries: int):
        super().__init__(model)
        with torch.no_grad():
            side = model.crop * model.upscale
            width = model.eval().places(torch.zeros(1, 3, side, side)).shape[2]
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(queries, width) * width**-0.5)
        self.fc = nn.Linear(queries * width, 1)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            places = self.model.places(self.model.enlarge(images))
        places = self.norm(places)
        weights = torch.softmax(self.queries @ places.transpose(1, 2), dim=-1)
        return self.fc((weights @ places).flatten(1))

    def train(self, mode: bool = True) -> AttentionPool:
        super().train(mode)
        self.model.eval()
        return self


@register_detector("attentive_probe")
class AttentiveProbe(EncoderDetector, Baseline):
    title = "Attentive probe"
    Config = AttentiveProbeConfig
    DEMO: ClassVar[dict[str, Any]] = {"encoder": "efficientnet-lite0", "upscale": 2, "size": 32, "epochs": 5, "batch_size": 32}
    SCRATCH: ClassVar[dict[str, Any]] = {"encoder": "efficientnet-lite0"}

    @classmethod
    def network_of(cls, config: AttentiveProbeConfig, saved: Mapping[str, Any] | None = None) -> AttentionPool:
        encoder = encoder_of(config, saved)
        encoder.crop = config.size
        return AttentionPool(encoder, config.queries)

    def optimizer(self, network: nn.Module) -> Any:
        learning = [value for value in network.parameters() if value.requires_grad]
        return torch.optim.AdamW(learning, lr=self.config.learning_rate, weight_decay=self.config.weight_decay)

    def view(self, item: Item, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        encoder = self.network.model
        image = flip(random_crop(reflect_to(item.image, self.config.size), self.config.size, rng), rng)
        return to_tensor(image, (encoder.mean, encoder.std)), torch.tensor(float(item.label))

    def loss(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        images, labels = batch
        return F.binary_cross_entropy_with_logits(network(images).flatten(), labels)
