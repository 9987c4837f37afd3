"""DDA's detector (Chen et al. 2025, "Dual Data Alignment"): DINOv2-L with LoRA of rank 8 and a linear layer, on crops of 336 px.

The paper's alignment is a matter of data: each real picture and its reconstruction by a VAE, with the same compression. A manifest makes
such pairs (`reconstruct`, `parity`); this file trains on whatever pairs it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from ntf_model.data.data import Item
from ntf_model.data.images import reflect_to
from ntf_model.encoders.adapting import Adaptation, LoRA
from ntf_model.encoders.build import EncoderConfig, encoder_of
from ntf_model.recipes.baseline import Baseline, BaselineConfig, Batch
from ntf_model.recipes.on_encoder import EncoderDetector, LinearOnEncoder
from ntf_model.recipes.transforms import BlurJpeg, flip, random_crop, to_tensor
from ntf_model.registry import register_detector


class DDAConfig(EncoderConfig, BaselineConfig):
    """Any encoder and adaptation may take the place of DINOv2-L and LoRA 8. `size` is the crop in training and in testing; `jpeg` the
    chance that a crop is compressed in training."""

    encoder: str = "facebook/dinov2-large"
    adaptation: Adaptation = "lora"
    lora: LoRA = LoRA(rank=8, alpha=8)
    size: int = Field(336, ge=16)
    epochs: int = Field(5, ge=0)
    batch_size: int = Field(16, ge=2)
    learning_rate: float = Field(1e-4, gt=0)
    jpeg: float = Field(0.5, ge=0, le=1)
    test_crops: int = Field(1, ge=1, le=5)


@register_detector("dda")
class DDA(EncoderDetector, Baseline):
    title = "DDA"
    Config = DDAConfig
    DEMO: ClassVar[dict[str, Any]] = {
        "encoder": "efficientnet-lite0",
        "upscale": 2,
        "size": 32,
        "epochs": 5,
        "batch_size": 32,
        "learning_rate": 2e-3,
        "jpeg": 0.0,
    }
    SCRATCH: ClassVar[dict[str, Any]] = {"encoder": "efficientnet-lite0", "size": 224}

    @classmethod
    def network_of(cls, config: DDAConfig, saved: Mapping[str, Any] | None = None) -> LinearOnEncoder:
        encoder = encoder_of(config, saved)
        encoder.crop = config.size
        return LinearOnEncoder(encoder)

    def optimizer(self, network: nn.Module) -> Any:
        return torch.optim.AdamW([value for value in network.parameters() if value.requires_grad], lr=self.config.learning_rate)

    def view(self, item: Item, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        size, encoder = self.config.size, self.network.model
        image = flip(random_crop(reflect_to(item.image, size), size, rng), rng)
        image = BlurJpeg(blur=0.0, jpeg=self.config.jpeg)(image, rng)
        return to_tensor(image, (encoder.mean, encoder.std)), torch.tensor(float(item.label))

    def loss(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        images, labels = batch
        return F.binary_cross_entropy_with_logits(network(images).flatten(), labels)
