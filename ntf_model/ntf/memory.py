"""The natural trace as a memory of real features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans


def prototypes(features: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """The centres of `count` groups of unit features `[N, d]` (k-means), normalised: `[min(count, N), d]`."""
    if count <= 1 or len(features) <= count:
        return F.normalize(features.mean(0, keepdim=True), dim=1) if count <= 1 else features
    centres = KMeans(count, n_init=1, random_state=seed).fit(features.double().cpu().numpy()).cluster_centers_
    return F.normalize(torch.from_numpy(centres).to(features), dim=1)
