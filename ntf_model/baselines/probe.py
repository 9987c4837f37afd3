"""A frozen-feature probe: logistic regression on the features of an encoder that is not trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from pydantic import AliasChoices, Field

from foreign.progress import Progress
from ntf_model.data.data import DetectionData, DetectionSplits
from ntf_model.data.loader import batches_of
from ntf_model.detector import TrainingRun, best_device
from ntf_model.encoders.build import AUTO, EncoderConfig, encoder_of
from ntf_model.encoders.crop import fit_to_pictures
from ntf_model.encoders.probing import STRENGTHS, fit_probe
from ntf_model.recipes.on_encoder import Crops, EncoderDetector, LinearOnEncoder
from ntf_model.registry import register_detector
from ntf_model.runs import write_run
from ntf_model.training.meter import Meter

BATCH = 16


class ProbeConfig(EncoderConfig):
    """The encoder as in `ntf_model.encoders.build.EncoderSettings`; nothing of it learns. Of the strengths of regularisation
    (scikit-learn's C) the best on validation is taken. In testing the logits of `test_crops` crops
    (the middle, then the corners) are averaged. `model` and `size` are other names of `encoder` and `image_size`."""

    encoder: str = Field(AUTO, validation_alias=AliasChoices("encoder", "model"))
    image_size: int | None = Field(None, ge=16, validation_alias=AliasChoices("image_size", "size"))
    adaptation: Literal["frozen"] = "frozen"
    test_crops: int = Field(1, ge=1, le=5)
    strengths: tuple[float, ...] = Field(STRENGTHS, min_length=1)


@register_detector("probe")
class FeatureProbe(EncoderDetector):
    title = "Frozen-feature probe"
    Config = ProbeConfig
    DEMO: ClassVar[dict[str, Any]] = {"encoder": "efficientnet-lite0"}
    SCRATCH: ClassVar[dict[str, Any]] = {"encoder": "efficientnet-lite0"}

    @classmethod
    def network_of(cls, config: ProbeConfig, saved: Mapping[str, Any] | None = None) -> LinearOnEncoder:
        """`fc` gets the features' standardisation folded in."""
        return LinearOnEncoder(encoder_of(config, saved).eval())

    @classmethod
    def train(cls, splits: DetectionSplits, config: ProbeConfig, run: TrainingRun) -> Self:
        """Every picture goes through the model once, so there is nothing to resume."""
        with Meter(run.device) as meter:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                detector = cls(config, cls.build(config), best_device(run.device))
            fit_to_pictures(detector.network.model, splits.train, config.image_size, config.upscale)
            measured = detector._fit_head(splits, run.on_progress)
        if run.output:
            detector.save_pretrained(run.output)
            write_run(run.output, splits, config, {**measured, "seconds": meter.seconds, "peak_memory": meter.peak_memory})
        return detector

    def _fit_head(self, splits: DetectionSplits, on_progress: Progress) -> dict[str, float]:
        """Sets `fc` to the best logistic regression; what it measured on validation."""
        features, labels = self._features(splits.train, on_progress), splits.train.labels
        held_out, truth = self._features(splits.validation, on_progress), splits.validation.labels
        probe = fit_probe(features, labels, held_out, truth, self.config.strengths)
        probe.copy_to(self.network.fc)
        return {"validation_ap": probe.validation_ap, "validation_accuracy": probe.validation_accuracy, "strength": probe.strength}

    def _features(self, data: DetectionData, on_progress: Progress) -> np.ndarray:
        """Float64 `[N, C]` of every picture."""
        parts: list[np.ndarray] = []
        middle = replace(cast(Crops, self.preprocess), count=1)
        for items in batches_of(data, BATCH):
            batch = torch.stack([middle(item.image) for item in items]).to(self.device)
            with torch.inference_mode():
                parts.append(self.network.model(batch.flatten(0, 1)).double().cpu().numpy())
            on_progress(sum(map(len, parts)), len(data), "features for probe")
        return np.concatenate(parts)
