"""A frozen-feature probe: logistic regression on the features of any vision model of transformers, today's strongest simple detector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from torch import nn

from ntf_model.data.data import DetectionData, DetectionSplits
from ntf_model.data.loader import batches_of
from ntf_model.detector import DetectorConfig, Progress, TrainingRun, best_device
from ntf_model.errors import InputError
from ntf_model.networks.frozen import FrozenFeatures
from ntf_model.networks.weights import load_into
from ntf_model.recipes.network import NetworkDetector
from ntf_model.recipes.transforms import IMAGENET, Preprocess
from ntf_model.registry import register_detector
from ntf_model.runs import load_weights, save_weights, write_run
from ntf_model.training.meter import Meter

RANDOM_VITS: dict[str, dict[str, int]] = {  # what they change in ViT-B/16
    "small": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128, "patch_size": 8},
    "base": {},
}
BATCH = 16


class ProbeConfig(DetectorConfig):
    """`model` is a folder that transformers saved, or an id in its cache; without it the features are those of a random ViT of the size
    `random`, which is only good for trying things out. Of the strengths of regularisation (scikit-learn's C) the best on validation is
    taken."""

    model: str | None = None
    random: Literal["small", "base"] = "small"
    size: int = Field(224, ge=16)
    strengths: tuple[float, ...] = Field((1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0), min_length=1)


class Probe(FrozenFeatures):
    """`model` gives features; `fc`, with the features' standardisation folded in, one logit."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """`[N, C]`: the model's pooled output where it has one, else its first token."""
        with torch.no_grad():
            out = self.model(pixel_values=images)
        pooled = getattr(out, "pooler_output", None)
        return out.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)


@register_detector("probe")
class FeatureProbe(NetworkDetector):
    title = "Frozen-feature probe"
    Config = ProbeConfig
    DEMO: ClassVar[dict[str, Any]] = {"size": 32}
    SCRATCH: ClassVar[dict[str, Any]] = {"random": "base"}
    batch_pixels = 16 * 224 * 224

    def __init__(
        self,
        config: ProbeConfig,
        network: Probe,
        device: str | torch.device | None = None,
        stats: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET,
    ):
        super().__init__(config, network, device)
        self.stats = stats

    @classmethod
    def build(cls, config: ProbeConfig) -> Probe:
        return _probe(_load_model(config), config.size)

    @property
    def note(self) -> str:
        return "" if self.config.model else f"its features are those of a {self.config.random} random ViT"

    @property
    def preprocess(self) -> Preprocess:
        """The middle of the picture as it is, never resized."""
        return Preprocess(crop=self.config.size, stats=self.stats)

    @classmethod
    def train(cls, splits: DetectionSplits, config: ProbeConfig, run: TrainingRun) -> Self:
        """Every picture goes through the model once, so there is nothing to resume."""
        with Meter() as meter:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                detector = cls(config, cls.build(config), best_device(run.device), _stats(config))
            measured = detector._fit_head(splits, run.on_progress)
        if run.output:
            detector.save_pretrained(run.output)
            write_run(run.output, splits, config, {**measured, "seconds": meter.seconds, "peak_memory": meter.peak_memory})
        return detector

    def _fit_head(self, splits: DetectionSplits, on_progress: Progress) -> dict[str, float]:
        """Sets `fc` to the best logistic regression; what it measured on validation."""
        features, labels = self._features(splits.train, on_progress), splits.train.labels
        held_out, truth = self._features(splits.validation, on_progress), splits.validation.labels
        mean, std = features.mean(0), features.std(0) + 1e-6
        trials = []
        for strength in self.config.strengths:
            fitted = LogisticRegression(C=strength, max_iter=2000, class_weight="balanced").fit((features - mean) / std, labels)
            scores = fitted.decision_function((held_out - mean) / std)
            trials.append((float(average_precision_score(truth, scores)), float(np.mean((scores > 0) == truth)), strength, fitted))
        ap, accuracy, strength, fitted = max(trials, key=lambda trial: trial[:2])
        weight = fitted.coef_[0] / std
        with torch.no_grad():
            self.network.fc.weight.copy_(torch.from_numpy(weight[None]))
            self.network.fc.bias.fill_(float(fitted.intercept_[0] - weight @ mean))
        return {"validation_ap": ap, "validation_accuracy": accuracy, "strength": strength}

    def save_pretrained(self, folder: Path) -> None:
        values = {"config": self.config.model_dump(mode="json"), "backbone": self.network.model.config.to_dict(), "stats": self.stats}
        save_weights(Path(folder), self.name, values, self.network.state_dict())

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str | torch.device | None = None) -> Self:
        from transformers import AutoConfig, AutoModel

        values, tensors = load_weights(folder, cls.name)
        config = cls.parse_config(values.get("config", {}))
        try:
            backbone = dict(values["backbone"])
            model = _image_tower(AutoModel.from_config(AutoConfig.for_model(backbone.pop("model_type"), **backbone)))
            mean, std = (tuple(part) for part in values["stats"])
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{folder}/config.json does not describe a vision model ({error})", "Train the probe again") from None
        network = _probe(model, config.size)
        load_into(network, tensors, folder)
        return cls(config, network, device, (mean, std))

    def _features(self, data: DetectionData, on_progress: Progress) -> np.ndarray:
        """Float64 `[N, C]` of every picture."""
        parts = []
        for items in batches_of(data, BATCH):
            batch = torch.stack([self.preprocess(item.image) for item in items]).to(self.device)
            parts.append(self.network.features(batch).double().cpu().numpy())
            on_progress(sum(map(len, parts)), len(data), "features for probe")
        return np.concatenate(parts)


def _load_model(config: ProbeConfig) -> nn.Module:
    from transformers import AutoModel, ViTConfig, ViTModel

    if config.model is None:
        return _image_tower(ViTModel(ViTConfig(image_size=config.size, **RANDOM_VITS[config.random])))
    try:
        model = AutoModel.from_pretrained(config.model, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise InputError(f"{config.model} is no model that transformers can read ({reason})", "Give a folder with safetensors") from None
    return _image_tower(model)


def _image_tower(model: nn.Module) -> nn.Module:
    """Of a model with a text tower the image tower alone; without a dense pooling layer, which many checkpoints do not have, so that
    transformers fills it with random numbers."""
    model = getattr(model, "vision_model", model)
    if hasattr(getattr(model, "pooler", None), "dense"):
        model.pooler = None
    return model


def _probe(model: nn.Module, size: int) -> Probe:
    """The probe with as many inputs as the model has features."""
    network = Probe(model.eval(), 1)
    try:
        width = network.features(torch.zeros(1, 3, size, size)).shape[1]
    except (ValueError, RuntimeError, TypeError) as error:
        raise InputError(
            f"the model does not take pictures of {size} px ({str(error).splitlines()[0]})", "Set `size` to what it was made for"
        ) from None
    return Probe(model, width)


def _stats(config: ProbeConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and standard deviation of colours that the model was trained with, or ImageNet's if it does not say."""
    from transformers.utils import cached_file

    file = cached_file(config.model, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False) if config.model else None
    values = json.loads(Path(file).read_text()) if file else {}
    if "image_mean" not in values or "image_std" not in values:
        return IMAGENET
    return tuple(values["image_mean"]), tuple(values["image_std"])
