"""CNNDetection (Wang et al. 2020): a ResNet-50 that learned ProGAN under blur and JPEG, and found other generators' images too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from ntf_model.data.data import Item
from ntf_model.networks.resnet import ResNet, load_imagenet, name_of, official_key
from ntf_model.networks.weights import load_into, read_state
from ntf_model.recipes.baseline import Baseline, BaselineConfig, Batch
from ntf_model.recipes.transforms import IMAGENET, BlurJpeg, Preprocess, flip, random_crop, resize_shorter
from ntf_model.registry import register_detector


class Wang2020Config(BaselineConfig):
    """Adam 1e-4, batch 64, a tenth of the rate on a plateau until it is under 1e-6 (`epochs` is only a bound). The authors start from
    ImageNet weights (`init`)."""

    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet50"
    resize: int | None = Field(256, ge=16)  # the shorter side before a training crop; None leaves it
    blur: float = Field(0.5, ge=0, le=1)  # the authors' other release has 0.1 for both
    jpeg: float = Field(0.5, ge=0, le=1)


@register_detector("wang2020")
class Wang2020(Baseline):
    title = "Wang2020"
    Config = Wang2020Config
    DEMO: ClassVar[dict[str, Any]] = {
        "backbone": "resnet18",
        "size": 32,
        "resize": None,
        "epochs": 6,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "precise_bn": 3,
    }
    official = staticmethod(official_key)
    stem_stride: ClassVar[int] = 2

    @classmethod
    def build(cls, config: Wang2020Config) -> nn.Module:
        network = ResNet(config.backbone, outputs=1, stem_stride=cls.stem_stride)
        if config.init:
            load_imagenet(network, config.init)
        return network

    @property
    def note(self) -> str:
        depth = self.config.backbone.removeprefix("resnet")
        return "" if depth == "50" else f"a ResNet-{depth}, not ResNet-50"

    @property
    def preprocess(self) -> Preprocess:
        """The middle of the picture as it is, never resized (section 3.3: resizing wipes out the traces)."""
        return Preprocess(crop=self.config.size, stats=IMAGENET)

    def view(self, item: Item, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        image = item.image if self.config.resize is None else resize_shorter(item.image, self.config.resize)
        image = self.augment(image, rng)
        image = flip(random_crop(image, self.config.size, rng), rng)
        return self.preprocess.tensor(image), torch.tensor(float(item.label))

    def augment(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return BlurJpeg(self.config.blur, self.config.jpeg)(image, rng)

    def loss(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(network(batch[0]).flatten(), batch[1])

    @classmethod
    def from_released(cls, path: Path | str, device: str | torch.device | None = None) -> Self:
        """`blur_jpg_prob0.5.pth` and its like."""
        state = read_state(path)
        config = cls.Config(backbone=name_of(state))
        network = cls.build(config)
        load_into(network, {key: _as_linear(key, value) for key, value in state.items()}, path, cls.official)
        return cls(config, network, device)


def _as_linear(key: str, value: torch.Tensor) -> torch.Tensor:
    """A classifier that is stored as a 1x1 convolution, as a matrix."""
    return value.flatten(1) if key == "fc.weight" else value
