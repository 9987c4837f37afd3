"""A linear classifier on frozen features, chosen on validation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ntf_model.encoders.probing import STRENGTHS, fit_probe
from ntf_model.errors import InputError


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features with a scale and a mean of their own, of which the first tells the classes apart and the rest say nothing."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], count)
    return rng.normal(5, 3, (2 * count, 30)) + labels[:, None] * [4, *[0] * 29], labels


def test_the_strength_with_the_best_validation_ap_is_taken() -> None:
    """Which one that is differs from draw to draw."""
    chosen = []
    for seed in range(3):
        (features, labels), (held_out, truth) = drawn(20, seed), drawn(100, seed + 50)
        alone = [fit_probe(features, labels, held_out, truth, [strength]) for strength in STRENGTHS]
        probe = fit_probe(features, labels, held_out, truth)
        assert probe.validation_ap == max(other.validation_ap for other in alone) > min(other.validation_ap for other in alone)
        chosen.append(probe.strength)
    assert len(set(chosen)) > 1


def test_a_layer_gets_the_standardisation_folded_in() -> None:
    (features, labels), (held_out, truth) = drawn(40, 0), drawn(40, 1)
    probe, layer = fit_probe(features, labels, held_out, truth), nn.Linear(30, 1).double()
    probe.copy_to(layer)
    logits = layer(torch.from_numpy(held_out))[:, 0].detach().numpy()
    assert np.allclose(logits, held_out @ probe.weight + probe.bias)
    assert np.mean((logits > 0) == truth) == probe.validation_accuracy > 0.6
    assert probe.weight.argmax() == 0


def test_classes_that_are_missing() -> None:
    features, labels = drawn(10, 0)
    with pytest.raises(InputError, match="needs real and fake"):
        fit_probe(features[:10], labels[:10], features, labels)
    only_reals = fit_probe(features, labels, features[:10], labels[:10])
    assert only_reals.validation_ap == 0
    assert only_reals.validation_accuracy == np.mean(features[:10] @ only_reals.weight + only_reals.bias <= 0)
