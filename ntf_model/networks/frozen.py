"""A linear classifier on the features of a network that does not learn."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn


class FrozenFeatures(nn.Module):
    """`model` gives features `[N, width]`; `fc` makes one logit `[N, 1]` of them. Only `fc` learns."""

    def __init__(self, model: nn.Module, width: int):
        super().__init__()
        self.model = model.requires_grad_(False)
        self.fc = nn.Linear(width, 1)

    @abstractmethod
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """`[N, width]`, without gradients."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(images))
