"""What the baselines share as detectors: scoring in batches, saving, loading, and which pictures they can share with each other."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import nn

from ntf_model.data.data import DetectionData, DetectionSplits, Item
from ntf_model.detector import Detector, DetectorConfig, Progress, best_device, silent
from ntf_model.errors import InputError
from ntf_model.networks.weights import load_into, official_state
from ntf_model.recipes.transforms import Preprocess
from ntf_model.runs import load_weights, save_weights
from ntf_model.training.loop import Batch, Plateau, Schedule, train


class BaselineConfig(DetectorConfig):
    """Settings that every baseline has. The defaults of each are its authors' recipe."""

    size: int = Field(224, ge=16)  # height and width that the network is trained on
    epochs: int = Field(100, ge=0)
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(1e-4, gt=0)
    init: str | None = None  # a file (for ResNets also a transformers folder) of ImageNet weights to start from; None: random
    precise_bn: int = Field(0, ge=0)  # batches by which BatchNorm's statistics are measured after each epoch; 0: the running averages
    mixed_precision: Literal["no", "bf16"] = "no"
    threads: int = Field(4, gt=0)  # that read and augment pictures while the network works


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

    @property
    def note(self) -> str:
        """What a reader of a table must know of this copy, such as that its backbone is random; often nothing."""
        return ""

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


class Baseline(NetworkDetector):
    """A network detector that is trained by gradient steps, as `ntf_model.training.loop` does it."""

    Config: ClassVar[type[BaselineConfig]] = BaselineConfig
    labels: ClassVar[tuple[int, ...]] = (0, 1)  # which classes it learns from
    clip_value: ClassVar[float | None] = None  # gradients are cut to this, value by value

    @abstractmethod
    def view(self, item: Item, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """A training example from one picture: tensors that are stacked over the batch, the first of them the network's input."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        """The loss of a batch of `view`s."""

    def optimizer(self, network: nn.Module) -> Any:
        return torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=self.config.learning_rate)

    def schedule(self) -> Schedule:
        return Plateau(self.config.learning_rate)

    def begin(self, data: DetectionData) -> None:
        """Called with the training split before training: for recipes whose views need more than one picture."""

    def step(self, network: nn.Module, optimizer: Any, backward: Callable[[], torch.Tensor]) -> torch.Tensor:
        """One step of the optimizer; `backward` computes the loss and its gradients. Returns the loss, detached."""
        optimizer.zero_grad()
        loss = backward().detach()
        if self.clip_value is not None:
            nn.utils.clip_grad_value_(network.parameters(), self.clip_value)
        optimizer.step()
        return loss

    @classmethod
    def fit(
        cls,
        splits: DetectionSplits,
        config: Any = None,
        output: Path | None = None,
        *,
        resume: bool = False,
        device: str | torch.device | None = None,
        on_progress: Progress = silent,
    ) -> Self:
        config = config or cls.Config()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            detector = cls(config, cls.build(config), device)
        return train(detector, splits, config, output, resume=resume, on_progress=on_progress)
