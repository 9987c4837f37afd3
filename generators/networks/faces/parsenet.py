"""ParseNet, the face parser of facexlib, which GFPGAN and CodeFormer use to find where a restored face goes.

Tensors carry the names of the released `parsing_parsenet.pth`, a bare state dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from generators.errors import CheckpointError
from generators.networks.state import count, load_exactly

INPUT_SIZE = 512  # what the released network was trained at
FACE_LABELS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15)  # what belongs to the face: not 0, 14 and 16 to 18
SLOPE = 0.2


class Norm(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


class ConvLayer(nn.Module):
    """A 3x3 convolution with reflected borders; before it nearest upsampling where `up`, after it a norm and an activation where asked.

    A convolution before a norm has no bias.
    """

    def __init__(self, before: int, after: int, *, up: bool = False, down: bool = False, norm: bool = False, activation: bool = False):
        super().__init__()
        self.conv2d = nn.Conv2d(before, after, 3, stride=2 if down else 1, bias=not norm)
        if norm:
            self.norm = Norm(after)
        self.up, self.activation = up, activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = self.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"))
        if hasattr(self, "norm"):
            x = self.norm(x)
        return F.leaky_relu(x, SLOPE, inplace=True) if self.activation else x


class ResidualBlock(nn.Module):
    """`resample` is "up", "down" or None."""

    def __init__(self, before: int, after: int, resample: str | None):
        super().__init__()
        up, down = resample == "up", resample == "down"
        if resample or before != after:
            self.shortcut_func = ConvLayer(before, after, up=up, down=down)
        self.conv1 = ConvLayer(before, after, up=up, norm=True, activation=True)
        self.conv2 = ConvLayer(after, after, down=down, norm=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.shortcut_func(x) if hasattr(self, "shortcut_func") else x
        return self.conv2(self.conv1(x)) + shortcut


class ParseNet(nn.Module):
    """`forward(faces)`: RGB faces `[N, 3, S, S]` in [-1, 1] to logits `[N, classes, S, S]`.

    `widths` are the channels of the encoder from its first layer to its last.
    """

    def __init__(self, widths: list[int], depth: int, classes: int):
        super().__init__()
        steps = list(pairwise(widths))
        self.encoder = nn.Sequential(ConvLayer(3, widths[0]), *(ResidualBlock(*step, "down") for step in steps))
        self.body = nn.Sequential(*(ResidualBlock(widths[-1], widths[-1], None) for _ in range(depth)))
        self.decoder = nn.Sequential(*(ResidualBlock(after, before, "up") for before, after in reversed(steps)))
        self.out_img_conv = ConvLayer(widths[0], 3)
        self.out_mask_conv = ConvLayer(widths[0], classes)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return self.out_mask_conv(self.features(faces))

    def features(self, faces: torch.Tensor) -> torch.Tensor:
        """What both heads look at."""
        encoded = self.encoder(faces)
        return self.decoder(encoded + self.body(encoded))

    @classmethod
    def from_state(cls, state: Mapping[str, torch.Tensor], source: str = "the checkpoint") -> ParseNet:
        """The network of a state dict, all sizes read off it. Raises CheckpointError if it is no ParseNet."""
        if "encoder.0.conv2d.weight" not in state or "out_mask_conv.conv2d.bias" not in state:
            raise CheckpointError(f"{source} is no ParseNet", "It should have encoder.0.conv2d.weight, as parsing_parsenet.pth has")
        downs = count(state, r"encoder\.(\d+)\.") - 1
        first = [f"encoder.{index}.conv1.conv2d.weight" for index in range(1, downs + 1)]
        missing = [name for name in first if name not in state]
        if missing:
            raise CheckpointError(f"{source} lacks the tensor {missing[0]} of a ParseNet", "It is not whole: fetch it again")
        widths = [len(state["encoder.0.conv2d.weight"]), *(len(state[name]) for name in first)]
        network = cls(widths, count(state, r"body\.(\d+)\."), len(state["out_mask_conv.conv2d.bias"]))
        return load_exactly(network, state, source)
