"""XceptionNet (Rossler et al. 2019): Xception on the face, as FaceForensics++ and DeepfakeBench train and release it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from ntf_model.data.data import Item
from ntf_model.networks.weights import load_into, read_state
from ntf_model.networks.xception import Xception, plain_keys
from ntf_model.recipes.baseline import Baseline, BaselineConfig, Batch
from ntf_model.recipes.blending import change_brightness_contrast
from ntf_model.recipes.transforms import HALF, BlurJpeg, Preprocess, flip
from ntf_model.registry import register_detector
from ntf_model.training.schedules import ByEpoch, Schedule

DEEPFAKEBENCH_SIZE = 256


class XceptionConfig(BaselineConfig):
    """Adam 2e-4, batch 32. `release` says whose preprocessing: FaceForensics++ scales with Pillow (299 px), DeepfakeBench with OpenCV
    (256 px) and adds weight decay and blur, brightness, contrast and JPEG 40 to 100."""

    size: int = Field(299, ge=64)
    epochs: int = Field(10, ge=0)
    batch_size: int = Field(32, ge=2)
    learning_rate: float = Field(2e-4, gt=0)
    release: Literal["faceforensics", "deepfakebench"] = "faceforensics"


@register_detector("xception")
class XceptionNet(Baseline):
    """Pictures are taken to be face crops already; `ntf_model.recipes.faces.square_box` makes them from a detector's boxes."""

    title = "XceptionNet"
    Config = XceptionConfig
    DEMO: ClassVar[dict[str, Any]] = {"size": 64, "epochs": 4, "learning_rate": 1e-3, "precise_bn": 3}

    @classmethod
    def build(cls, config: XceptionConfig) -> nn.Module:
        network = Xception(outputs=2, adjust_channel=config.release == "deepfakebench")
        if config.init:
            own = network.state_dict()
            fresh = {key: value for key, value in own.items() if key.startswith(("last_linear.", "adjust_channel."))}
            load_into(network, {**plain_keys(read_state(config.init)), **fresh}, config.init)
        return network

    @property
    def preprocess(self) -> Preprocess:
        if self.config.release == "deepfakebench":
            return Preprocess(square=self.config.size, interpolation="bicubic", library="cv2", stats=HALF)
        return Preprocess(square=self.config.size, stats=HALF)

    def view(self, item: Item, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        image = flip(item.image, rng)
        if self.config.release == "deepfakebench":
            image = change_brightness_contrast(image, 0.1, rng) if rng.random() < 0.5 else image
            image = BlurJpeg(sigma=(0.0, 2.0), quality=(40, 100))(np.ascontiguousarray(image), rng)
        return self.preprocess(np.ascontiguousarray(image)), torch.tensor(item.label)

    def loss(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        return F.cross_entropy(network(batch[0]), batch[1])

    def probability(self, output: torch.Tensor) -> torch.Tensor:
        return output.double().softmax(1)[:, 1]

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        decay = 5e-4 if self.config.release == "deepfakebench" else 0.0
        return torch.optim.Adam(network.parameters(), lr=self.config.learning_rate, weight_decay=decay)

    def schedule(self) -> Schedule:
        return ByEpoch(lambda epoch: self.config.learning_rate)

    @classmethod
    def from_released(cls, path: Path | str, device: str | torch.device | None = None) -> Self:
        """A state dict of either release, told apart by its keys. FaceForensics++'s own files are whole pickled modules and are refused."""
        state = read_state(path)
        plain = plain_keys(state)
        bench = any(key.startswith("backbone.") for key in state)
        config = cls.Config(release="deepfakebench", size=DEEPFAKEBENCH_SIZE) if bench else cls.Config()
        network = Xception(
            outputs=len(plain.get("last_linear.bias", (0, 0))), adjust_channel=any(key.startswith("adjust_channel.") for key in plain)
        )
        load_into(network, plain, path)
        return cls(config, network, device)
