"""The natural trace as a memory of real features, and a classifier that starts as a probe of the encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from torch import nn

from ntf_model.errors import InputError

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of regularisation, scikit-learn's C
FOLDS = 4


def prototypes(features: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """The centres of `count` groups of unit features `[N, d]` (k-means), normalised: `[min(count, N), d]`."""
    if count <= 1 or len(features) <= count:
        return F.normalize(features.mean(0, keepdim=True), dim=1) if count <= 1 else features
    centres = KMeans(count, n_init=1, random_state=seed).fit(features.double().cpu().numpy()).cluster_centers_
    return F.normalize(torch.from_numpy(centres).to(features), dim=1)


def start_as_probe(classifier: nn.Linear, embeddings: np.ndarray, labels: np.ndarray) -> None:
    """Sets `classifier` (one output) to a logistic regression on standardised embeddings `[N, dim]`, the standardisation folded in.

    The strength of its regularisation comes from cross-validation on these pictures alone. Fine-tuning that starts there does not bend the
    encoder's features while the classifier is still random (Kumar et al. 2022, LP-FT). Raises InputError if there is one class only.
    """
    if len(np.unique(labels)) < 2:
        raise InputError("a probe needs real and fake pictures to start from", "Set stage2.start_as_probe=false")
    mean, std = embeddings.mean(0), embeddings.std(0) + 1e-6
    folds = min(FOLDS, int(np.bincount(labels).min()))
    options: dict[str, Any] = {"class_weight": "balanced", "max_iter": 500, "l1_ratios": (0.0,), "use_legacy_attributes": False}
    if folds > 1:
        fitted: Any = LogisticRegressionCV(Cs=STRENGTHS, cv=folds, scoring="neg_log_loss", **options)
    else:  # a class of one picture cannot be held out
        fitted = LogisticRegression(C=STRENGTHS[0], class_weight="balanced", max_iter=500)
    fitted.fit((embeddings - mean) / std, labels)
    weight = fitted.coef_[0] / std
    with torch.no_grad():
        classifier.weight.copy_(torch.from_numpy(weight[None]))
        classifier.bias.fill_(float(fitted.intercept_[0] - weight @ mean))
