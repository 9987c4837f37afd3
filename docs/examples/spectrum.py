"""The azimuthal spectrum (Durall et al. 2020): how strong each frequency is, averaged over directions, and a linear classifier of that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field
from sklearn.linear_model import LogisticRegression

from ntf_model.data.data import DetectionData, DetectionSplits
from ntf_model.detector import Detector, DetectorConfig, TrainingRun
from ntf_model.registry import register_detector
from ntf_model.runs import load_weights, save_weights, write_run


class SpectrumConfig(DetectorConfig):
    size: int = Field(224, ge=16)  # pixels of the middle that are looked at
    bins: int = Field(64, ge=4)  # frequencies, from the mean brightness to the finest pattern
    strength: float = Field(1.0, gt=0)  # scikit-learn's C: the larger, the less the weights are held back


@register_detector("spectrum")
class Spectrum(Detector):
    title = "Spectrum"
    Config = SpectrumConfig

    def __init__(self, config: SpectrumConfig, weights: np.ndarray):
        self.config, self.weights = config, weights  # `[bins + 1]`, the last one the constant

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Any:
        return cls.parse_config({**({"size": 32, "bins": 16} if name == "demo" else {}), **changes})

    @classmethod
    def train(cls, splits: DetectionSplits, config: SpectrumConfig, run: TrainingRun) -> Self:
        """Needs no gradient steps, so there is nothing to resume, and no validation split."""
        spectra = _spectra(splits.train, config)
        mean, std = spectra.mean(0), spectra.std(0) + 1e-9
        fitted = LogisticRegression(C=config.strength, class_weight="balanced", max_iter=2000)
        fitted.fit((spectra - mean) / std, splits.train.labels)
        slopes = fitted.coef_[0] / std
        detector = cls(config, np.append(slopes, fitted.intercept_[0] - slopes @ mean))
        if run.output:
            detector.save_pretrained(run.output)
            write_run(run.output, splits, config, {})
        return detector

    def score(self, images: Sequence[np.ndarray]) -> np.ndarray:
        spectra = np.stack([spectrum(image, self.config.size, self.config.bins) for image in images])
        return 1 / (1 + np.exp(-(spectra @ self.weights[:-1] + self.weights[-1])))

    def save_pretrained(self, folder: Path) -> None:
        save_weights(Path(folder), self.name, self.config.model_dump(mode="json"), {"weights": torch.from_numpy(self.weights)})

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str | torch.device | None = None) -> Self:
        values, tensors = load_weights(folder, cls.name)
        return cls(cls.parse_config(values), tensors["weights"].numpy())


def spectrum(image: np.ndarray, size: int, bins: int) -> np.ndarray:
    """Log power of the middle of a `uint8` `[H, W, 3]` picture at `bins` frequencies: float64 `[bins]`. Never resized."""
    top, left = (max(0, (side - size) // 2) for side in image.shape[:2])
    grey = image[top : top + size, left : left + size].mean(-1) / 255
    power = np.abs(np.fft.fftshift(np.fft.fft2(grey))) ** 2
    rows, columns = (np.linspace(-1, 1, side, endpoint=False) for side in power.shape)
    ring = np.minimum((np.hypot(rows[:, None], columns) / np.sqrt(2) * bins).astype(int), bins - 1)
    counts = np.bincount(ring.ravel(), minlength=bins)
    return np.log(np.bincount(ring.ravel(), power.ravel(), bins) / np.maximum(counts, 1) + 1e-8)


def _spectra(data: DetectionData, config: SpectrumConfig) -> np.ndarray:
    """Float64 `[N, bins]` of every picture of a split."""
    return np.stack([spectrum(data.dataset[index].image, config.size, config.bins) for index in range(len(data))])
