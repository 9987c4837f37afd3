"""RRDBNet (Wang et al., "ESRGAN", ECCVW 2018, section 3.1), the network of Real-ESRGAN (Wang et al., ICCVW 2021).

The trunk always enlarges four times. For a scale of 2 or 1 the picture first gives each block of 2x2 or 4x4 pixels as channels.
Tensors carry the names of BasicSR.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from generators.errors import CheckpointError
from generators.networks.state import count, load_exactly

SCALES = {1: 4, 2: 2, 4: 1}  # by which the input is made smaller for each scale of the network
RESIDUAL_SCALE = 0.2
SLOPE = 0.2


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all before it gave; the sum with the input is damped."""

    def __init__(self, channels: int, growth: int):
        super().__init__()
        for index in range(5):
            after = growth if index < 4 else channels
            self.add_module(f"conv{index + 1}", nn.Conv2d(channels + index * growth, after, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = x
        for index in range(1, 5):
            new = F.leaky_relu(self.get_submodule(f"conv{index}")(seen), SLOPE, inplace=True)
            seen = torch.cat([seen, new], 1)
        return torch.add(x, self.conv5(seen), alpha=RESIDUAL_SCALE)


class RRDB(nn.Module):
    """Three dense blocks in a damped residual."""

    def __init__(self, channels: int, growth: int):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(channels, growth) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.add(x, self.rdb3(self.rdb2(self.rdb1(x))), alpha=RESIDUAL_SCALE)


class RRDBNet(nn.Module):
    """`forward(x)`: RGB float `[N, 3, H, W]` in [0, 1] to `[N, 3, scale * H, scale * W]`, not clamped.

    H and W must be multiples of `multiple`.
    """

    def __init__(
        self, scale: int = 4, num_feat: int = 64, num_block: int = 23, num_grow_ch: int = 32, num_in_ch: int = 3, num_out_ch: int = 3
    ):
        super().__init__()
        self.scale = scale
        self.multiple = SCALES[scale]
        self.conv_first = nn.Conv2d(num_in_ch * self.multiple**2, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(num_feat, num_grow_ch) for _ in range(num_block)))
        self.conv_body, self.conv_up1, self.conv_up2, self.conv_hr = (nn.Conv2d(num_feat, num_feat, 3, padding=1) for _ in range(4))
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.conv_first(F.pixel_unshuffle(x, self.multiple))
        features = features + self.conv_body(self.body(features))
        for convolution in (self.conv_up1, self.conv_up2):
            features = F.leaky_relu(convolution(F.interpolate(features, scale_factor=2, mode="nearest")), SLOPE, inplace=True)
        return self.conv_last(F.leaky_relu(self.conv_hr(features), SLOPE, inplace=True))

    @classmethod
    def from_state(cls, state: Mapping[str, torch.Tensor], source: str = "the checkpoint") -> RRDBNet:
        """The network of a state dict; widths, depth and scale are read off it. Raises CheckpointError if it is no RRDBNet."""
        first, growth = state.get("conv_first.weight"), state.get("body.0.rdb1.conv1.weight")
        if first is None or growth is None:
            raise CheckpointError(f"{source} is no RRDBNet", "It should have conv_first.weight and body.0.rdb1.conv1.weight")
        colours = len(state["conv_last.bias"]) if "conv_last.bias" in state else 3
        scales = {colours * smaller**2: scale for scale, smaller in SCALES.items()}
        if first.shape[1] not in scales:
            raise CheckpointError(
                f"{source}: conv_first takes {first.shape[1]} channels", f"An RRDBNet takes {', '.join(str(width) for width in scales)}"
            )
        blocks = count(state, r"body\.(\d+)\.")
        with torch.device("meta"):
            network = cls(scales[first.shape[1]], len(first), blocks, len(growth), colours, colours)
        return load_exactly(network.to_empty(device="cpu"), state, source)
