"""SRVGGNetCompact, Real-ESRGAN's small networks for video and for general scenes: plain convolutions at the small size, then pixel shuffle.

The picture itself, enlarged by nearest neighbours, is added at the end. Tensors carry the names of the releases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from generators.errors import CheckpointError
from generators.networks.state import load_exactly


class SRVGGNetCompact(nn.Module):
    """`forward(x)`: RGB float `[N, 3, H, W]` in [0, 1] to `[N, 3, scale * H, scale * W]`, not clamped.

    `activation` is "prelu" as in all releases, "relu" or "leakyrelu".
    """

    multiple = 1

    def __init__(self, scale: int = 4, num_feat: int = 64, num_conv: int = 32, activation: str = "prelu", num_in_ch: int = 3):
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = []
        before = num_in_ch
        for _ in range(num_conv + 1):
            layers += [nn.Conv2d(before, num_feat, 3, padding=1), _activation(activation, num_feat)]
            before = num_feat
        self.body = nn.ModuleList([*layers, nn.Conv2d(num_feat, num_in_ch * scale**2, 3, padding=1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = x
        for layer in self.body:
            features = layer(features)
        return F.pixel_shuffle(features, self.scale) + F.interpolate(x, scale_factor=self.scale, mode="nearest")

    @classmethod
    def from_state(
        cls, state: Mapping[str, torch.Tensor], source: str = "the checkpoint", activation: str = "leakyrelu"
    ) -> SRVGGNetCompact:
        """The network of a state dict; widths, depth and scale are read off it. Raises CheckpointError if it is no SRVGGNetCompact.

        `activation` is used where the file has no weights for one.
        """
        places = sorted(
            int(key.split(".")[1]) for key in state if key.startswith("body.") and key.endswith(".weight") and key.count(".") == 2
        )
        first = state.get("body.0.weight")
        if first is None or first.ndim != 4 or len(places) < 2 or places[-1] % 2:
            raise CheckpointError(
                f"{source} is no SRVGGNetCompact", "It should have body.0.weight to body.N.weight, as realesr-general-x4v3 has"
            )
        scale = math.isqrt(len(state[f"body.{places[-1]}.weight"]) // first.shape[1])
        kind = "prelu" if "body.1.weight" in state else activation
        with torch.device("meta"):
            network = cls(scale, len(first), places[-1] // 2 - 1, kind, first.shape[1])
        return load_exactly(network.to_empty(device="cpu"), state, source)


def _activation(kind: str, channels: int) -> nn.Module:
    if kind == "prelu":
        return nn.PReLU(channels)
    return nn.ReLU() if kind == "relu" else nn.LeakyReLU(0.1)
