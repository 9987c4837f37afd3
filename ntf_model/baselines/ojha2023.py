"""UniversalFakeDetect (Ojha et al. 2023): a linear layer on the image features of a frozen CLIP ViT-L/14."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from ntf_model.data.data import Item
from ntf_model.errors import InputError
from ntf_model.networks import clip
from ntf_model.networks.frozen import FrozenFeatures
from ntf_model.networks.weights import read_state
from ntf_model.recipes.baseline import Baseline, BaselineConfig, Batch
from ntf_model.recipes.transforms import CLIP, BlurJpeg, Preprocess, flip, random_crop, resize_shorter
from ntf_model.registry import register_detector

RELEASED_CLIP = "openai/clip-vit-large-patch14"


class Tower(BaseModel):
    """The shape of CLIP's image tower; the defaults are ViT-L/14."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(1024, ge=1)
    layers: int = Field(24, ge=1)
    patch: int = Field(14, ge=1)
    size: int = Field(224, ge=1)
    embedding: int = Field(768, ge=1)


class Ojha2023Config(BaselineConfig):
    """AdamW 1e-4 without weight decay, batch 256, a tenth of the rate on a plateau. `init` is a CLIP that transformers saved (a folder, or
    an id in its cache); without it the tower is random, of the shape `tower`, and only good for trying things out."""

    batch_size: int = Field(256, ge=2)
    resize: int | None = Field(256, ge=16)
    init: str | None = RELEASED_CLIP
    tower: Tower = Tower()


class CLIPClassifier(FrozenFeatures):
    """`model` gives features `[N, embedding]`, not normalised; `fc` one logit. Only `fc` learns."""

    def __init__(self, tower: nn.Module):
        super().__init__(tower, tower.config.projection_dim)
        nn.init.normal_(self.fc.weight, std=0.02)
        nn.init.zeros_(self.fc.bias)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.model(images).image_embeds


@register_detector("ojha2023")
class Ojha2023(Baseline):
    title = "Ojha2023"
    Config = Ojha2023Config
    DEMO: ClassVar[dict[str, Any]] = {
        "size": 32,
        "resize": None,
        "epochs": 10,
        "batch_size": 32,
        "learning_rate": 1e-2,
        "init": None,
        "tower": {"width": 128, "layers": 3, "patch": 8, "size": 32, "embedding": 64},
    }
    SCRATCH: ClassVar[dict[str, Any]] = {"init": None}
    batch_pixels = 16 * 224 * 224

    @classmethod
    def build(cls, config: Ojha2023Config) -> nn.Module:
        return CLIPClassifier(clip.load_folder(config.init) if config.init else clip.build(**config.tower.model_dump()))

    def __init__(self, config: Ojha2023Config, network: CLIPClassifier, device: str | torch.device | None = None):
        tower = network.model.config
        shape = Tower(
            width=tower.hidden_size,
            layers=tower.num_hidden_layers,
            patch=tower.patch_size,
            size=tower.image_size,
            embedding=tower.projection_dim,
        )
        super().__init__(config.model_copy(update={"tower": shape, "size": tower.image_size}), network, device)

    @property
    def note(self) -> str:
        if self.config.init:
            return ""
        if self.config.tower == Tower():
            return "CLIP ViT-L/14 is random"
        return f"CLIP is a small random tower ({self.config.tower.width} wide, {self.config.tower.layers} layers), not ViT-L/14"

    @property
    def preprocess(self) -> Preprocess:
        """The middle of the picture as it is, never resized."""
        return Preprocess(crop=self.config.size, stats=CLIP)

    def view(self, item: Item, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        image = item.image if self.config.resize is None else resize_shorter(item.image, self.config.resize)
        image = flip(random_crop(BlurJpeg()(image, rng), self.config.size, rng), rng)
        return self.preprocess.tensor(image), torch.tensor(float(item.label))

    def loss(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(network(batch[0]).flatten(), batch[1])

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=self.config.learning_rate, weight_decay=0.0)

    @classmethod
    def from_released(cls, path: Path | str, device: str | torch.device | None = None, backbone: str = RELEASED_CLIP) -> Self:
        """`fc_weights.pth` (the linear layer alone; CLIP then comes from `backbone`), or a training checkpoint with CLIP in it."""
        state = read_state(path)
        if set(state) == {"weight", "bias"}:
            network = CLIPClassifier(clip.load_folder(backbone))
            head = state
        else:
            network, head = _with_tower(state, path)
        try:
            network.fc.load_state_dict(head)
        except RuntimeError:
            shapes = {key: list(value.shape) for key, value in head.items()}
            raise InputError(
                f"{path}: the linear layer is {shapes}, for a CLIP with {network.fc.in_features} features", "Take the CLIP it was made for"
            ) from None
        return cls(cls.Config(init=backbone), network, device)


def _with_tower(state: dict[str, torch.Tensor], path: Path | str) -> tuple[CLIPClassifier, dict[str, torch.Tensor]]:
    """The classifier with the image tower of `state` ("model.visual.*"), and the linear layer. The text tower is left out."""
    visual = {key.removeprefix("model.visual."): value for key, value in state.items() if key.startswith("model.visual.")}
    head = {key.removeprefix("fc."): value for key, value in state.items() if key.startswith("fc.")}
    known = ("model.visual.", "fc.", *(f"model.{name}" for name in (*clip.TEXT_TOWER, *clip.JIT_EXTRAS)))
    unknown = [key for key in state if not key.startswith(known)]
    if unknown:
        raise InputError(f"{path} has an unexpected key {unknown[0]!r}", "It is no checkpoint of UniversalFakeDetect")
    network = CLIPClassifier(clip.build(**clip.shape_of(visual)))
    try:
        network.model.load_state_dict(clip.from_openai(visual))
    except RuntimeError as error:
        raise InputError(f"{path}: {str(error).splitlines()[1].strip()}", "It is no checkpoint of UniversalFakeDetect") from None
    return network, head


def oracle_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """The threshold that UniversalFakeDetect finds on the test set itself, for its second column of accuracies; not used for ours.

    `scores` `[N]` lists the reals first and then as many fakes. If a gap parts them it is the middle of the gap; otherwise the score at
    or above which calling a picture fake is right most often, the last one in order among equals.
    """
    half = len(scores) // 2
    if scores[:half].max() <= scores[half:].min():
        return float((scores[:half].max() + scores[half:].min()) / 2)
    right = ((scores[None] >= scores[:, None]) == (labels[None] == 1)).mean(1)
    return float(scores[np.flatnonzero(right == right.max())[-1]])


def accuracies(labels: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float, float]:
    """Share of reals, of fakes, and of all that are on their side; a score equal to the threshold counts as real."""
    right = (scores > threshold) == (labels == 1)
    return float(right[labels == 0].mean()), float(right[labels == 1].mean()), float(right.mean())
