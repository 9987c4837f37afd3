"""The blocks of CodeFormer: VQGAN's, under the release's names, the transformer's layer, and the fusion of encoder and generator."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from generators.networks.state import count
from generators.networks.upsample import UpsamplingConv
from generators.networks.vq.vqgan import AttnBlock

SLOPE = 0.2


class ResidualBlock(nn.Module):
    """VQGAN's residual block, whose 1x1 shortcut is called `conv_out` here."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.norm1, self.conv1 = _norm(before), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = _norm(after), nn.Conv2d(after, after, 3, padding=1)
        if before != after:
            self.conv_out = nn.Conv2d(before, after, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.silu(self.norm1(x), inplace=True))
        y = self.conv2(F.silu(self.norm2(y), inplace=True))
        return y.add_(self.conv_out(x) if hasattr(self, "conv_out") else x)


class Downsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest upsampling and the convolution after it, as one (see `generators.networks.upsample`)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = UpsamplingConv(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class TransformerLayer(nn.Module):
    """Attention and a feed-forward network, each after a norm; the place of a token is added to queries and keys alone."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        values = self.norm1(tokens)
        asking = values + places
        tokens = tokens + self.self_attn(asking, asking, values, need_weights=False)[0]
        return tokens + self.linear2(F.gelu(self.linear1(self.norm2(tokens))))


class Fusion(nn.Module):
    """Features of the generator, scaled and shifted by what they and the encoder's features say together (the paper's equation 5)."""

    def __init__(self, channels: int):
        super().__init__()
        self.encode_enc = ResidualBlock(2 * channels, channels)
        self.scale, self.shift = _map(channels), _map(channels)

    def forward(self, encoded: torch.Tensor, decoded: torch.Tensor, weight: float) -> torch.Tensor:
        both = self.encode_enc(torch.cat([encoded, decoded], 1))
        return decoded + weight * (decoded * self.scale(both) + self.shift(both))


def build_blocks(state: Mapping[str, torch.Tensor], side: str, resample: type[Downsample | Upsample]) -> nn.Module:
    """The numbered blocks of the "encoder" or the "generator" as a module with a list `blocks`; what each is comes from its tensors.

    Raises KeyError with the name of a tensor that is not there.
    """
    module = nn.Module()
    module.blocks = nn.ModuleList(
        _block(state, f"{side}.blocks.{place}", resample) for place in range(count(state, rf"{side}\.blocks\.(\d+)\."))
    )
    return module


def _block(state: Mapping[str, torch.Tensor], name: str, resample: type[Downsample | Upsample]) -> nn.Module:
    if f"{name}.norm1.weight" in state:
        after, before = state[f"{name}.conv1.weight"].shape[:2]
        return ResidualBlock(before, after)
    if f"{name}.q.weight" in state:
        return AttnBlock(len(state[f"{name}.q.weight"]))
    if f"{name}.conv.weight" in state:
        return resample(len(state[f"{name}.conv.weight"]))
    weight = state[f"{name}.weight"]
    return _norm(len(weight)) if weight.ndim == 1 else nn.Conv2d(weight.shape[1], len(weight), 3, padding=1)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


def _map(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(SLOPE), nn.Conv2d(channels, channels, 3, padding=1))
