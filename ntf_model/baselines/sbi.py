"""Self-Blended Images (Shiohara and Yamasaki 2022): an EfficientNet-B4 that sees real faces and blends of them with themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from ntf_model.baselines._sbi_sam import SAM, linear_decay
from ntf_model.data.data import DetectionData, Item
from ntf_model.networks.efficientnet import EfficientNet
from ntf_model.networks.weights import load_into, read_state
from ntf_model.recipes.baseline import Baseline, BaselineConfig, Batch
from ntf_model.recipes.blending import augment_pair, self_blend
from ntf_model.recipes.faces import AROUND_LANDMARKS, box_of, crop_bounds, random_factors
from ntf_model.recipes.landmarks import Landmarks
from ntf_model.recipes.transforms import Preprocess, resize_square
from ntf_model.registry import register_detector
from ntf_model.training.schedules import ByEpoch, Schedule


class SBIConfig(BaselineConfig):
    """SAM over SGD 1e-3 with momentum 0.9, 16 real faces and their 16 blends a batch, 100 epochs, the rate falling from the 75th on.
    The authors start from EfficientNet-B4's AdvProp weights (`init`)."""

    backbone: Literal["efficientnet-b0", "efficientnet-b1", "efficientnet-b2", "efficientnet-b3", "efficientnet-b4"] = "efficientnet-b4"
    size: int = Field(380, ge=32)
    batch_size: int = Field(16, ge=2)  # real faces: the network sees twice as many pictures
    learning_rate: float = Field(1e-3, gt=0)
    rho: float = Field(0.05, gt=0)
    landmarks: str | None = None  # a JSON file {picture id: 68 or 81 points}; None: the template of an aligned face
    recompute: bool | None = None  # the network's blocks again for their gradient, which takes less memory; None: on a CPU
    crop: bool = False  # train on random crops round the landmarks, for pictures that show more than the face


@register_detector("sbi")
class SelfBlendedImages(Baseline):
    title = "SBI"
    Config = SBIConfig
    DEMO: ClassVar[dict[str, Any]] = {
        "backbone": "efficientnet-b0",
        "size": 64,
        "epochs": 3,
        "learning_rate": 1e-2,
        "precise_bn": 3,
    }
    labels = (0,)  # no fake is needed
    official = staticmethod(lambda key: f"net.{key}")

    def __init__(self, config: SBIConfig, network: nn.Module, device: str | torch.device | None = None):
        super().__init__(config, network, device)
        network.recomputes = self.device.type == "cpu" if config.recompute is None else config.recompute
        self.landmarks = Landmarks()

    @classmethod
    def build(cls, config: SBIConfig) -> nn.Module:
        network = EfficientNet(config.backbone, outputs=2, image_size=config.size)
        if config.init:
            fresh = {key: value for key, value in network.state_dict().items() if key.startswith("_fc.")}
            load_into(network, {**read_state(config.init), **fresh}, config.init)
        return network

    @property
    def note(self) -> str:
        name = self.config.backbone.removeprefix("efficientnet-").upper()
        return "" if name == "B4" else f"a small EfficientNet-{name}, not B4"

    @property
    def preprocess(self) -> Preprocess:
        """OpenCV's bilinear square in [0, 1], without a mean. The picture is the face crop already."""
        return Preprocess(square=self.config.size, library="cv2")

    def begin(self, data: DetectionData) -> None:
        self.landmarks = Landmarks(self.config.landmarks)

    def view(self, item: Item, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """A real face and its blend: `[2, 3, size, size]`."""
        image, points = item.image, self.landmarks.of(item)
        if rng.random() < 0.5:  # only the hull of the points is used, so their order need not be mirrored
            image, points = np.ascontiguousarray(image[:, ::-1]), np.stack([image.shape[1] - 1 - points[:, 0], points[:, 1]], 1)
        if min(image.shape[:2]) < self.config.size:  # the blend's shifts and bends are in pixels of a face of about this size
            scale = self.config.size / min(image.shape[:2])
            image, points = cv2.resize(image, None, fx=scale, fy=scale), points * scale
        real, fake = self_blend(image, points, rng)
        if self.config.crop:
            top, bottom, left, right = crop_bounds(box_of(points), image.shape, AROUND_LANDMARKS, random_factors(rng))
            real, fake = real[top:bottom, left:right], fake[top:bottom, left:right]
        real, fake = (resize_square(picture, self.config.size, library="cv2") for picture in (real, fake))
        pair = augment_pair(real, fake, rng)
        return (torch.stack([self.preprocess.tensor(picture) for picture in pair]),)

    def loss(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        pictures = batch[0].flatten(0, 1)
        labels = torch.arange(2, device=pictures.device).repeat(len(batch[0]))
        return F.cross_entropy(network(pictures), labels)

    def probability(self, output: torch.Tensor) -> torch.Tensor:
        return output.double().softmax(1)[:, 1]

    def optimizer(self, network: nn.Module) -> SAM:
        return SAM(network.parameters(), lr=self.config.learning_rate, rho=self.config.rho)

    def step(self, optimizer: SAM, backward: Callable[[], torch.Tensor]) -> None:
        optimizer.step(backward)

    def schedule(self) -> Schedule:
        epochs = self.config.epochs
        return ByEpoch(lambda epoch: linear_decay(self.config.learning_rate, epoch, epochs, round(0.75 * epochs)))

    @classmethod
    def from_released(cls, path: Path | str, device: str | torch.device | None = None) -> Self:
        """`FFraw.tar` or `FFc23.tar`."""
        network = cls.build(cls.Config())
        load_into(network, read_state(path), path, cls.official)
        return cls(cls.Config(), network, device)
