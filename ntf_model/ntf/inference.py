"""A trained network on whole pictures: crops in, P(fake) and features out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from ntf_model.data.data import DetectionData, DetectionSplits
from ntf_model.data.images import corner_crops
from ntf_model.data.loader import batches_of
from ntf_model.encoders.probing import fit_probe
from ntf_model.ntf.augment import to_tensor
from ntf_model.ntf.config import NTFConfig
from ntf_model.ntf.network import DetectionNetwork, TraceNetwork

BATCH = 64  # crops worked on at once


class Prediction(NamedTuple):
    """For N pictures: P(fake) float64 `[N]`; unit features z float32 `[N, projection_dim]`; the encoder's embedding float32 `[N, dim]`."""

    probability: np.ndarray
    features: np.ndarray
    embedding: np.ndarray


def crop_tensor(images: Sequence[np.ndarray], size: int, count: int = 1) -> torch.Tensor:
    """All crops of all pictures: uint8 `[N * count, 3, size, size]`, the crops of a picture one after the other."""
    stacked = np.stack([crop for image in images for crop in corner_crops(image, size, count)])
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))


@torch.inference_mode()
def predict(network: DetectionNetwork, images: Sequence[np.ndarray], config: NTFConfig, device: torch.device) -> Prediction:
    """The prediction for pictures of any sizes, `uint8` RGB `[H, W, 3]`. Logits and features are averaged over `config.test_crops`."""
    network.eval()
    logits, features, embeddings = [], [], []
    together = max(1, BATCH // config.test_crops)
    for start in range(0, len(images), together):
        pixels = crop_tensor(images[start : start + together], network.encoder.crop, config.test_crops)
        embedding = network.embed(to_tensor(pixels, network.encoder.mean, network.encoder.std, device))
        z, logit = network.heads(embedding)
        z = network.standardise(z)
        logits.append(_over_crops(logit, config.test_crops))
        features.append(F.normalize(_over_crops(F.normalize(z, dim=1), config.test_crops), dim=1))
        embeddings.append(_over_crops(embedding, config.test_crops))
    if not logits:
        return Prediction(np.empty(0), np.empty((0, 0), np.float32), np.empty((0, 0), np.float32))
    return Prediction(
        torch.cat(logits).double().sigmoid().cpu().numpy(), torch.cat(features).cpu().numpy(), torch.cat(embeddings).cpu().numpy()
    )


def predict_data(network: DetectionNetwork, data: DetectionData, config: NTFConfig, device: torch.device) -> Prediction:
    """The prediction for every picture of a split."""
    parts = [predict(network, [item.image for item in items], config, device) for items in batches_of(data, BATCH)]
    return Prediction(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def start_as_probe(network: DetectionNetwork, splits: DetectionSplits, config: NTFConfig, device: torch.device) -> None:
    """Sets the classifier to what the frozen probe of the same encoder is (`ntf_model.encoders.probing`), in place; with
    `stage2.freeze_encoder`, to the same on the projection that it reads then.

    Fine-tuning that starts there does not bend the encoder's features while the classifier is still random (Kumar et al. 2022, LP-FT).
    Raises InputError if a class is missing in training.
    """
    train, validation = (classifier_inputs(network, data, config, device) for data in splits[:2])
    fit_probe(train, splits.train.labels, validation, splits.validation.labels).copy_to(network.classifier)


@torch.inference_mode()
def classifier_inputs(network: DetectionNetwork, data: DetectionData, config: NTFConfig, device: torch.device) -> np.ndarray:
    """What the classifier reads of every picture, the mean over its crops: float64 `[N, C]`."""
    network.eval()
    parts = []
    for items in batches_of(data, max(1, BATCH // config.test_crops)):
        pixels = crop_tensor([item.image for item in items], network.encoder.crop, config.test_crops)
        read = network.read(network.embed(to_tensor(pixels, network.encoder.mean, network.encoder.std, device)))
        parts.append(_over_crops(read, config.test_crops).double().cpu().numpy())
    return np.concatenate(parts)


@torch.inference_mode()
def trace_features(network: TraceNetwork, data: DetectionData, config: NTFConfig, device: torch.device) -> torch.Tensor:
    """z_hom of every picture's centre crop by the frozen stage-1 network: unit float32 `[N, projection_dim]` on `device`."""
    network.eval()
    parts = []
    for items in batches_of(data, BATCH):
        pixels = crop_tensor([item.image for item in items], network.encoder.crop)
        hom, _ = network(to_tensor(pixels, network.encoder.mean, network.encoder.std, device))
        parts.append(F.normalize(hom.float(), dim=1))
    return torch.cat(parts)


def _over_crops(values: torch.Tensor, count: int) -> torch.Tensor:
    return values.float().reshape(-1, count, *values.shape[1:]).mean(1)
