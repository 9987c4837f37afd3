"""A linear classifier on frozen features: logistic regression, its strength of regularisation chosen on validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from torch import nn

from ntf_model.errors import InputError

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # scikit-learn's C


class LinearProbe(NamedTuple):
    """`weight` float64 `[C]` and `bias` of the logit of fake, the features' standardisation folded in; what validation says of it."""

    weight: np.ndarray
    bias: float
    strength: float
    validation_ap: float
    validation_accuracy: float

    def copy_to(self, layer: nn.Linear) -> None:
        """Sets a layer `[1, C]` to this classifier."""
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.weight[None]))
            layer.bias.fill_(self.bias)


def fit_probe(
    features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, truth: np.ndarray, strengths: Sequence[float] = STRENGTHS
) -> LinearProbe:
    """The logistic regression on `features` `[N, C]` with the best AP, and then accuracy, on `held_out` `[M, C]`; both classes count alike.

    Where `truth` has one class only, there is no AP, and accuracy chooses. Raises InputError if `labels` have one class only.
    """
    if len(np.unique(labels)) < 2:
        raise InputError("a probe needs real and fake pictures to start from", "Train on both")
    is_measured = len(np.unique(truth)) == 2
    mean, std = features.mean(0), features.std(0) + 1e-6
    trials = []
    for strength in strengths:
        fitted = LogisticRegression(C=strength, max_iter=2000, class_weight="balanced").fit((features - mean) / std, labels)
        scores = fitted.decision_function((held_out - mean) / std)
        weight = fitted.coef_[0] / std
        ap = float(average_precision_score(truth, scores)) if is_measured else 0.0
        accuracy = float(np.mean((scores > 0) == truth))
        trials.append(LinearProbe(weight, float(fitted.intercept_[0] - weight @ mean), strength, ap, accuracy))
    return max(trials, key=lambda trial: (trial.validation_ap, trial.validation_accuracy))
