"""CADDM (Dong et al. 2023): finds the swapped region at four scales, so that it cannot lean on who the person is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from ntf_model.baselines._caddm.boxes import Anchors, match, multibox_loss
from ntf_model.baselines._caddm.facial_swap import WINDOWS, swap
from ntf_model.data.data import FAKE, REAL, DetectionData, Item
from ntf_model.networks.caddm import CADDM, INPUT_SIZE, Output, backbone_of, official_key
from ntf_model.networks.resnet import load_imagenet
from ntf_model.networks.weights import load_into, read_state
from ntf_model.recipes.baseline import Baseline, BaselineConfig, Batch
from ntf_model.recipes.landmarks import Landmarks
from ntf_model.recipes.transforms import Preprocess, jpeg
from ntf_model.registry import register_detector
from ntf_model.training.schedules import ByEpoch, Schedule

DETECTION_WEIGHT = 0.1


class CADDMConfig(BaselineConfig):
    """AdamW, weight decay 4e-3, batch 128, 200 epochs; `learning_rate` for four epochs, then 1/3.6 of it, from the tenth 1/7.2."""

    size: Literal[224] = INPUT_SIZE
    epochs: int = Field(200, ge=0)
    batch_size: int = Field(128, ge=2)
    learning_rate: float = Field(3.6e-4, gt=0)
    backbone: Literal["resnet18", "resnet34", "efficientnet-b3", "efficientnet-b4"] = "resnet34"
    landmarks: str | None = None  # a JSON file {picture id: 68 or 81 points}; None: the template of an aligned face


@register_detector("caddm")
class CADDMDetector(Baseline):
    """Pictures are taken to be face crops already; `ntf_model.recipes.faces.align` makes the authors' own crop from landmarks.

    The authors swap between a fake and the real frame that it was made from. A dataset of generated pictures has no such frame, so a real
    picture of the subset's own real source takes its place.
    """

    title = "CADDM"
    Config = CADDMConfig
    DEMO: ClassVar[dict[str, Any]] = {"backbone": "resnet34", "epochs": 1, "batch_size": 16, "learning_rate": 5e-4, "precise_bn": 3}
    clip_value = 2.0
    data: DetectionData  # set by `begin`
    official = staticmethod(official_key)

    def __init__(self, config: CADDMConfig, network: nn.Module, device: str | torch.device | None = None):
        super().__init__(config, network, device)
        self.anchors, self.landmarks = Anchors().boxes(), Landmarks()

    @classmethod
    def build(cls, config: CADDMConfig) -> nn.Module:
        network = CADDM(config.backbone)
        if config.init and config.backbone == "resnet34":
            load_imagenet(network.base_model, config.init)
        elif config.init:
            load_into(network.base_model, read_state(config.init), config.init)
        return network

    @property
    def note(self) -> str:
        return "a ResNet-18, not one of the released networks" if self.config.backbone == "resnet18" else ""

    @property
    def preprocess(self) -> Preprocess:
        """BGR, 0 to 255, not normalised."""
        return Preprocess(square=self.config.size, library="cv2", bgr=True)

    def begin(self, data: DetectionData) -> None:
        self.data, self.landmarks = data, Landmarks(self.config.landmarks)

    def view(self, item: Item, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """The picture `[3, 224, 224]`, its label, and the targets of the anchors."""
        image, points = self._scaled(item)
        boxes = None
        if item.label == FAKE:
            image, boxes = self._swapped(item, image, points, rng)
        mirrored = bool(rng.random() < 0.5)
        image, boxes = jitter(image, boxes, rng)
        if mirrored:
            image = np.ascontiguousarray(image[:, ::-1])
            boxes = (
                None
                if boxes is None
                else np.stack([self.config.size - boxes[:, 2], boxes[:, 1], self.config.size - boxes[:, 0], boxes[:, 3]], 1)
            )
        loc, conf = torch.zeros(len(self.anchors), 4), torch.zeros(len(self.anchors), dtype=torch.long)
        if boxes is not None:
            loc, conf = match(torch.from_numpy(boxes / self.config.size).float(), self.anchors)
        return self.preprocess.tensor(degrade(image, rng)), torch.tensor(item.label), loc, conf

    def loss(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        images, labels, loc_target, conf_target = batch
        out = network(images)
        loc, conf = multibox_loss(out.loc, out.conf, loc_target, conf_target)
        return F.cross_entropy(out.logits, labels) + DETECTION_WEIGHT * (loc + conf)

    def probability(self, output: Output) -> torch.Tensor:
        return output.logits.double().softmax(1)[:, 1]

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(network.parameters(), lr=self.config.learning_rate, weight_decay=4e-3)

    def schedule(self) -> Schedule:
        return ByEpoch(lambda epoch: self.config.learning_rate / (1.0 if epoch < 4 else 3.6 if epoch < 10 else 7.2))

    @classmethod
    def from_released(cls, path: Path | str, device: str | torch.device | None = None) -> Self:
        """`resnet34.pkl`, `efficientnet-b3.pkl` or `efficientnet-b4.pkl`."""
        state = read_state(path)
        config = cls.Config(backbone=backbone_of(state))
        network = CADDM(config.backbone, classes=len(state.get("fc.bias", (0, 0))))
        load_into(network, state, path, cls.official)
        return cls(config, network, device)

    def _scaled(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        height, width = item.image.shape[:2]
        return self.preprocess.pixels(item.image), self.landmarks.of(item) * self.config.size / [width, height]

    def _swapped(self, item: Item, image: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The fake as it is (1 in 5), or a swap of all (3 in 5) or part (1 in 5) of the face between it and a real picture."""
        real = self._scaled(self._real_for(item, rng))[0]
        whole = np.array([[0, 0, self.config.size, self.config.size]], np.float32)
        if rng.random() < 0.2:
            return swap(image, real, points, rng, WINDOWS[int(rng.integers(len(WINDOWS)))]) or (image, whole)
        if rng.random() > 0.5:
            return swap(real, image, points, rng) or (image, whole)
        return (swap(image, real, points, rng) if rng.random() >= 0.5 else None) or (image, whole)

    def _real_for(self, item: Item, rng: np.random.Generator) -> Item:
        """A real picture of the subset's own source."""
        rows = np.flatnonzero((self.data.labels == REAL) & np.isin(self.data.subsets, self.data.sources_of(item.subset)))
        if not len(rows):
            rows = np.flatnonzero(self.data.labels == REAL)
        return self.data.dataset[int(rng.choice(rows))]


def jitter(image: np.ndarray, boxes: np.ndarray | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """Scaled by 1 +- 0.1 (normal), turned by up to 30 degrees (mostly little) and shifted by up to 25 pixels, boxes with it."""
    size = image.shape[0]
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), 30 * rng.uniform(-1, 1) ** 3, max(0.5, 1 + 0.1 * rng.standard_normal()))
    matrix[:, 2] += rng.uniform(-25, 25, 2) * size / 224
    moved = cv2.warpAffine(image, matrix, (size, size))
    if boxes is None:
        return moved, None
    corners = np.stack([boxes[:, [0, 1]], boxes[:, [2, 1]], boxes[:, [2, 3]], boxes[:, [0, 3]]], 1) @ matrix[:, :2].T + matrix[:, 2]
    low, high = corners.min(1).clip(0, size - 1), corners.max(1).clip(1, size)
    return moved, np.concatenate([low, np.maximum(high, low + 1)], 1).astype(np.float32)


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """JPEG 15 to 80, saturation, brightness, gamma, blur and noise, each now and then."""
    if rng.random() > 0.7:
        image = jpeg(np.ascontiguousarray(image), int(rng.integers(15, 80)))
    if rng.random() > 0.75:
        hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV).astype(np.float32)
        hsv[..., 1:] = np.clip(hsv[..., 1:] * rng.uniform([0.5, 0.5], [1.15, 2.0]), 0, 255)
        image = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    image = (255 * (image / 255.0) ** rng.uniform(0.6, 1.4)).astype(np.uint8)
    if rng.random() > 0.7:
        image = cv2.GaussianBlur(image, (3, 3), 0)
    if rng.random() > 0.7:
        image = np.clip(image + rng.normal(0, rng.choice([3.0, 18.0]), image.shape), 0, 255).astype(np.uint8)
    return image
