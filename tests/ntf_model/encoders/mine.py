"""An encoder as a user would write it: `mine:build`."""

from __future__ import annotations

import torch
from torch import nn


class Mine(nn.Module):
    """Strided convolutions and a mean, with colours of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.mean, self.std = 12, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 12, 3, 2))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.body(pixels).mean((2, 3))


def build() -> nn.Module:
    return Mine()


def no_module() -> str:
    return "nothing"


def fails() -> nn.Module:
    raise RuntimeError("out of clay")
