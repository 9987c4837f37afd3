"""A detector that is one network: scoring in batches, saving and loading."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from ntf_model.detector import Detector, best_device
from ntf_model.errors import InputError
from ntf_model.networks.weights import load_into, official_state
from ntf_model.recipes.transforms import Preprocess
from ntf_model.runs import load_weights, save_weights


class NetworkDetector(Detector):
    """A detector that is one network and one way of preparing pictures for it: scoring in batches, saving and loading."""

    DEMO: ClassVar[dict[str, Any]] = {}  # what the preset "demo" changes in the defaults, which are the authors' recipe
    SCRATCH: ClassVar[dict[str, Any]] = {}  # what the preset "default" changes in them: random weights instead of any that must be fetched
    batch_pixels: ClassVar[int] = 32 * 256 * 256  # in one batch when scoring
    config: Any  # an instance of the class's own Config

    def __init__(self, config: Any, network: nn.Module, device: str | torch.device | None = None):
        self.config, self.device = config, best_device(device)
        self.network = network.to(self.device).eval()

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Any:
        """The configuration "paper" (the authors' recipe), "default" (the same network, nothing fetched) or "demo" (minutes on two cores),
        with `changes`."""
        presets = {"paper": {}, "default": cls.SCRATCH, "demo": cls.DEMO}
        if name not in presets:
            raise InputError(f"{cls.name} has no preset {name!r}", f"It has: {', '.join(presets)}")
        return cls.parse_config({**presets[name], **changes})

    @staticmethod
    def official(key: str) -> str:
        """Its authors' name for a tensor of the network."""
        return key

    @classmethod
    @abstractmethod
    def build(cls, config: Any) -> nn.Module:
        """The network with its starting weights, all of which follow from the configuration."""

    @property
    @abstractmethod
    def preprocess(self) -> Preprocess:
        """How a picture is prepared at test time."""

    def probability(self, output: Any) -> torch.Tensor:
        """P(fake) `[N]` from the network's output, by default one logit. In float64, so that sure answers keep their order."""
        return torch.sigmoid(output.flatten().double())

    def score(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return self.score_tensors([self.preprocess(image) for image in images])

    def score_tensors(self, tensors: Sequence[torch.Tensor]) -> np.ndarray:
        """P(fake) of pictures that `preprocess` has been applied to: float64 `[N]`. Pictures of one size go through together."""
        by_shape: dict[torch.Size, list[int]] = defaultdict(list)
        for place, tensor in enumerate(tensors):
            by_shape[tensor.shape].append(place)
        scores = np.empty(len(tensors))
        was_training = self.network.training
        self.network.eval()
        with torch.inference_mode():
            for shape, places in by_shape.items():
                step = max(1, self.batch_pixels // (shape[-1] * shape[-2]))
                for start in range(0, len(places), step):
                    part = places[start : start + step]
                    output = self.network(torch.stack([tensors[place] for place in part]).to(self.device))
                    scores[part] = self.probability(output).cpu().numpy()
        self.network.train(was_training)
        return scores

    def save_pretrained(self, folder: Path) -> None:
        save_weights(Path(folder), self.name, self.config.model_dump(mode="json"), official_state(self.network, self.official))

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str | torch.device | None = None) -> Self:
        values, tensors = load_weights(folder, cls.name)
        config = cls.parse_config({**values, "init": None})
        network = cls.build(config)
        load_into(network, tensors, folder, cls.official)
        return cls(config.model_copy(update={"init": values.get("init")}), network, device)
